"""Recordings open in windows of their own, beside the live one, which goes on; what cannot be opened is said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from engine.protocol import EngineState, StateChanged
from engine.trace.recording.shelf import Shelf
from gui.conductor import Conductor
from gui.panels.message_bar import Kind
from gui.replays import Replays
from gui.settings_store import SettingsStore
from tests.gui import replaying
from tests.gui.building import Hosts, ScriptedHost, build, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost(events=[*replaying.session(20), StateChanged(1, EngineState.RUNNING)])


@pytest.fixture
def live(qapp: QApplication, host: ScriptedHost) -> Iterator[Conductor]:
    yield from shown(build(host, Hosts()), qapp)


@pytest.fixture
def replays(live: Conductor, tmp_path: Path, qapp: QApplication) -> Iterator[Replays]:
    made = replaying.keeper(tmp_path)
    made.serve(live.window, None)
    yield made
    replaying.closed(made, qapp)


def test_several_are_open_beside_the_live_window_which_goes_on(
    live: Conductor, host: ScriptedHost, replays: Replays, tmp_path: Path, qtbot: QtBot
) -> None:
    for name, steps in (("a", 30), ("b", 40)):
        replays.show(replaying.recording(tmp_path / f"{name}.cyclograph", steps))
    qtbot.waitUntil(lambda: all(map(replaying.is_open, replays.replays)), timeout=replaying.PATIENCE_MS)
    assert [len(replay.engine.trace.steps) for replay in replays.replays] == [30, 40]
    host.events += replaying.session(25)[2:]
    live.frame()
    assert (host.ended, live.engine.state) == ("", EngineState.RUNNING)
    assert len(live.engine.trace.steps) == 45
    replays.replays[0].window.close()
    assert [replay.path.name for replay in replays.replays] == ["b.cyclograph"]
    assert replays.replays[0].window.isVisible()
    assert live.window.isVisible()


def test_one_that_is_open_is_not_opened_again(replays: Replays, tmp_path: Path) -> None:
    path = replaying.recording(tmp_path / "a.cyclograph")
    first = replays.open(path)
    assert replays.open(tmp_path / "." / "a.cyclograph") is first
    first.window.close()
    again = replays.open(path)
    assert again is not None
    assert again is not first


def test_the_dialog_opens_what_is_chosen(
    live: Conductor, replays: Replays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = replaying.recording(tmp_path / "a.cyclograph")
    chosen = iter(["", str(path)])
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (next(chosen), ""))
    control = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    QTest.keyClick(live.window, Qt.Key.Key_O, control)
    assert replays.replays == []
    QTest.keyClick(live.window, Qt.Key.Key_O, control)
    assert [replay.path for replay in replays.replays] == [path]


def test_what_is_no_session_is_said_and_opens_no_window(
    live: Conductor, replays: Replays, tmp_path: Path
) -> None:
    (tmp_path / "a.cyclograph").write_text("no session")
    replays.show(tmp_path / "a.cyclograph")
    assert replays.replays == []
    (message,) = live.window.messages.messages()
    assert message.kind is Kind.ERROR
    assert message.sentence == "'a.cyclograph' is no session of Cyclograph: choose another file."


def test_one_that_turns_out_to_be_damaged_closes_and_is_said_where_it_was_opened(
    live: Conductor, replays: Replays, tmp_path: Path, qtbot: QtBot
) -> None:
    path = replaying.recording(tmp_path / "a.cyclograph")
    content = bytearray(path.read_bytes())
    content[16_384 : 16_384 + 40] = bytes(40)  # the second page
    path.write_bytes(content)
    replays.show(path)
    qtbot.waitUntil(lambda: bool(live.window.messages.messages()), timeout=replaying.PATIENCE_MS)
    assert replays.replays == []
    (message,) = live.window.messages.messages()
    assert "a.cyclograph" in message.sentence
    assert "Traceback" not in message.sentence


def test_a_theme_is_that_of_all_windows_and_is_remembered(
    live: Conductor, tmp_path: Path, qapp: QApplication
) -> None:
    store = SettingsStore.of_file(tmp_path / "window.ini")
    replays = Replays(SettingsStore.of_file(tmp_path / "replay.ini"), store, Shelf(tmp_path))
    replays.attach(live.window)
    try:
        replay = replays.open(replaying.recording(tmp_path / "a.cyclograph"))
        assert replay is not None
        assert replay.window.theme is live.window.theme
        replay.window.switch_theme()
        assert live.window.theme.name == replay.window.theme.name == store.theme == "light"
        live.window.switch_theme()
        assert live.window.theme.name == replay.window.theme.name == store.theme == "dark"
    finally:
        replaying.closed(replays, qapp)


def test_layouts_of_the_two_kinds_of_window_are_remembered_apart(tmp_path: Path, qapp: QApplication) -> None:
    store, own = (SettingsStore.of_file(tmp_path / name) for name in ("window.ini", "replay.ini"))
    replays = Replays(own, store, Shelf(tmp_path))
    try:
        replay = replays.open(replaying.recording(tmp_path / "a.cyclograph"))
        assert replay is not None
        replay.window.close()
        assert own.layout is not None
        assert store.layout is None
    finally:
        replaying.closed(replays, qapp)
