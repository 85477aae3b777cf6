"""Pinning a reference in the window: by key, from the screen, from a file; and that it stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from engine.protocol import EngineState, Event, Load, StateChanged
from engine.trace.reference import Reference
from gui.conductor import Conductor
from gui.panels.message_bar import Kind
from tests.engine.trace.building import APART, WHOLE, loaded
from tests.engine.trace.recording.sessions import STARTED, written
from tests.engine.trace.runs import generation
from tests.gui import readers, synthetic
from tests.gui.building import Hosts, ScriptedHost, build, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)

SHAPE = synthetic.Shape(layers=2)


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost()


@pytest.fixture
def window(host: ScriptedHost, qapp: QApplication) -> Iterator[Conductor]:
    yield from shown(build(host, Hosts(), load=Load("demo", "cpu")), qapp)


def say(window: Conductor, host: ScriptedHost, *events: Event) -> None:
    host.events += events
    window.frame()


def run(window: Conductor, host: ScriptedHost, steps: int) -> None:
    say(
        window, host, synthetic.loaded(2), StateChanged(0, EngineState.READY), *synthetic.events(steps, SHAPE)
    )
    while window.engine.drain():
        pass
    window.frame()


def pinned(window: Conductor) -> Reference | None:
    return window.pinning.references.reference


def is_shown(window: Conductor, reference: Reference | None) -> bool:
    parts = window.window
    return (
        parts.strip._overlay.reference is reference
        and parts.latency._overlay.reference is reference
        and parts.legend._reference is reference
        and parts.measurements._beside.isVisible() is (reference is not None)
        and parts.actions_["unpin"].isEnabled() is (reference is not None)
    )


def test_a_key_pins_and_another_one_unpins(window: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    run(window, host, 100)
    assert is_shown(window, None)
    with qtbot.waitSignal(window.pinning.references.changed):
        qtbot.keyClick(window.window, Qt.Key.Key_H)
    reference = pinned(window)
    assert reference is not None
    assert reference.steps == "all 100 steps"
    assert is_shown(window, reference)
    window.frame()
    qtbot.keyClick(window.window, Qt.Key.Key_H, Qt.KeyboardModifier.ShiftModifier)
    assert is_shown(window, None)


def test_it_stays_when_all_is_cleared_and_when_another_model_comes(
    window: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    run(window, host, 100)
    with qtbot.waitSignal(window.pinning.references.changed):
        window.pinning.pin()
    reference = pinned(window)
    window.engine.clear()
    assert len(window.engine.trace.steps) == 0
    assert is_shown(window, reference)
    say(window, host, readers.loaded())
    assert is_shown(window, reference)
    run(window, host, 30)
    window.show_numbers()
    assert is_shown(window, reference)
    assert window.window.measurements._beside._table.texts()[1][1] != "–"


def test_what_is_on_screen_is_pinned(window: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    run(window, host, 200)
    window.window.navigation.show_range(50.5, 90.2)
    with qtbot.waitSignal(window.pinning.references.changed):
        window.window.actions_["pin_screen"].trigger()
    reference = pinned(window)
    assert reference is not None
    assert reference.steps == "steps 50 to 90 of 200"


def test_nothing_measured_is_told(window: Conductor, host: ScriptedHost) -> None:
    window.pinning.pin()
    (message,) = window.window.messages.messages()
    assert message.sentence == "There are no steps to pin as a reference: run a prompt first."
    assert is_shown(window, None)


def test_a_session_is_chosen_and_a_broken_one_told(
    window: Conductor, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.cyclograph", tmp_path / "bad.cyclograph"
    written(good, [STARTED, loaded(), APART, WHOLE, *generation([10, 20, 30])])
    bad.write_text("<h1>no session</h1>")
    asked: list[str] = []
    answers = iter([str(bad), str(good), ""])

    def ask(_parent: object, _title: str, place: str, _kinds: str) -> tuple[str, str]:
        asked.append(place)
        return next(answers), ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", ask)
    with qtbot.waitSignal(window.pinning.references.failed):
        window.window.actions_["pin_session"].trigger()
    (message,) = window.window.messages.messages()
    assert message.kind is Kind.ERROR
    assert message.sentence.startswith("'bad.cyclograph' is no session of Cyclograph")
    with qtbot.waitSignal(window.pinning.references.changed):
        window.window.actions_["pin_session"].trigger()
    reference = pinned(window)
    assert reference is not None
    assert reference.name == "good"
    assert is_shown(window, reference)
    assert not window.window.messages.messages(), "what was wrong before is over"
    window.window.actions_["pin_session"].trigger()  # the dialog is closed without an answer
    assert pinned(window) is reference
    assert asked[1:] == [str(tmp_path)] * 2


def test_the_numbers_have_room(window: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    run(window, host, 100)
    dock = window.window.docks["measurements"]
    before = dock.height()
    with qtbot.waitSignal(window.pinning.references.changed):
        window.pinning.pin()
    qtbot.waitUntil(lambda: dock.height() > before)
    assert dock.height() <= 0.6 * window.window.height()


def test_closing_gives_up_what_is_being_read(window: Conductor, tmp_path: Path) -> None:
    path = written(tmp_path / "a.cyclograph", [STARTED, loaded(), APART, WHOLE, *generation([10] * 500)])
    window.pinning.references.pin_file(path)
    window.stop()
    assert pinned(window) is None
