"""A recording in its window: played, stepped, scrubbed; what needs a model is not there, or refused with a sentence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from engine.protocol import EngineState, Event, MemorySampled, ModelLoaded, SettingsProbed
from engine.replay import ALL_AT_ONCE
from engine.trace.recording import read_session
from engine.trace.recording.changing import change_metadata
from gui.replay import LIVE_ONLY, Replay
from gui.replays import Replays
from tests.engine.trace.recording.sessions import assert_same, written
from tests.gui import replaying
from tests.gui.panels.test_switchboard import SETTINGS

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)

STEPS = 60


def with_settings(events: list[Event]) -> list[Event]:
    """The model has settings; what is possible is found out behind its loading."""
    changed = [
        replace(event, settings=SETTINGS[:2]) if isinstance(event, ModelLoaded) else event for event in events
    ]
    place = next(place for place, event in enumerate(changed) if isinstance(event, ModelLoaded))
    return [*changed[: place + 1], SettingsProbed(2, SETTINGS), *changed[place + 1 :]]


@pytest.fixture
def replays(tmp_path: Path, qapp: QApplication) -> Iterator[Replays]:
    made = replaying.keeper(tmp_path)
    yield made
    replaying.closed(made, qapp)


@pytest.fixture
def replay(replays: Replays, tmp_path: Path, qtbot: QtBot) -> Replay:
    path = written(tmp_path / "a.cyclograph", with_settings(replaying.session(STEPS)))
    replays.show(path)
    (made,) = replays.replays
    qtbot.waitUntil(lambda: replaying.is_open(made), timeout=replaying.PATIENCE_MS)
    made.conductor.frame()
    made.conductor.stop()  # frames are drawn by the tests from here on
    return made


def texts(replay: Replay) -> tuple[str, str]:
    return replay.transport.steps.text(), replay.window.heading.text


def test_it_opens_at_its_end_showing_all_of_it(replay: Replay) -> None:
    window, engine = replay.window, replay.engine
    assert texts(replay) == (f"step {STEPS} of {STEPS}", "PAUSED")
    assert_same(engine.trace, read_session(replay.path).trace())
    assert (window.navigation.first, window.navigation.count) == (0, STEPS)
    assert window.navigation.last >= STEPS
    assert "Recording" in window.windowTitle()
    assert replay.path.name in window.windowTitle()
    assert replay.transport.slider.value() >= replay.transport.slider.maximum() - 1
    assert window.text.view.toPlainText()
    assert list(window.switchboard.rows) == [facts.key for facts in SETTINGS]  # as they were found out later


def test_space_plays_from_the_beginning_and_pauses(replay: Replay, qtbot: QtBot) -> None:
    replay.engine.set_speed(20.0)
    QTest.keyClick(replay.window, Qt.Key.Key_Space)
    replay.conductor.frame()
    assert texts(replay)[1] == "PLAYING"
    assert replay.window.actions_["run"].text() == "Pause"
    assert len(replay.engine.trace.steps) < STEPS

    def ended() -> bool:
        replay.conductor.frame()
        return replay.engine.state is EngineState.PAUSED

    qtbot.waitUntil(ended, timeout=replaying.PATIENCE_MS)
    assert texts(replay) == (f"step {STEPS} of {STEPS}", "PAUSED")
    assert replay.window.actions_["run"].text() == "Play"
    assert_same(replay.engine.trace, read_session(replay.path).trace())


def test_a_pause_holds_it(replay: Replay) -> None:
    replay.engine.seek(10)
    replay.conductor.running.run_or_pause()
    replay.conductor.frame()
    replay.conductor.running.run_or_pause()
    replay.conductor.frame()
    held = len(replay.engine.trace.steps)
    assert 10 <= held < STEPS
    replay.conductor.frame()
    assert len(replay.engine.trace.steps) == held
    assert_same(replay.engine.trace, read_session(replay.path).trace(held))


def test_steps_on_and_back_by_key(replay: Replay) -> None:
    replay.engine.seek(30)
    replay.conductor.frame()
    QTest.keyClick(replay.window, Qt.Key.Key_N)
    replay.conductor.frame()
    assert texts(replay)[0] == "step 31 of 60"
    for _ in range(3):
        QTest.keyClick(replay.window, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    replay.conductor.frame()
    assert texts(replay)[0] == "step 28 of 60"
    QTest.keyClick(replay.window, Qt.Key.Key_N)  # in one frame with a step back
    QTest.keyClick(replay.window, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(replay.window, Qt.Key.Key_N)
    replay.conductor.frame()
    assert_same(replay.engine.trace, read_session(replay.path).trace(len(replay.engine.trace.steps)))
    assert texts(replay)[0] == "step 29 of 60"


def test_scrubbing_replaces_the_trace_once_a_frame_and_keeps_the_view(replay: Replay) -> None:
    moved: list[int] = []
    replay.engine.moved.connect(lambda trace: moved.append(len(trace.steps)))
    navigation = replay.window.navigation
    navigation.show_range(5, 25)
    navigation.select(7)
    for ticks in range(0, replay.transport.slider.maximum(), 7):
        replay.transport.slider.setValue(ticks)
    replay.transport.slider.setValue(replay.transport.slider.maximum() // 2)
    assert moved == []
    replay.conductor.frame()
    (count,) = moved
    assert 0 < count < STEPS
    assert_same(replay.engine.trace, read_session(replay.path).trace(count))
    assert (navigation.first, navigation.last, navigation.selected) == (5, 25, 7)
    replay.engine.seek(3)
    replay.conductor.frame()
    assert navigation.selected is None  # it is not there any more
    replay.engine.seek(-1)
    replay.conductor.frame()
    assert len(replay.engine.trace.steps) == 0


def test_wherever_it_is_set_it_goes_on_as_if_live(replay: Replay, qtbot: QtBot) -> None:
    whole = read_session(replay.path).trace()
    for step in (0, 24, 25, 26, 59):
        replay.engine.seek(step)
        replay.engine.single_step()
        replay.conductor.frame()
        trace = replay.engine.trace
        assert len(trace.steps) == step + 1
        np.testing.assert_array_equal(trace.steps.itl_ns, whole.steps.itl_ns[: step + 1])
        assert_same(trace, read_session(replay.path).trace(step + 1))


def test_what_was_in_force_there_is_shown(replay: Replay) -> None:
    trace = replay.engine.trace
    mark = trace.marks[0]
    key = mark.event.changes[0].key
    shown: list[str] = []
    replay.window.switchboard.show_configuration = lambda values: shown.append(str(dict(values)[key]))  # type: ignore[method-assign]
    replay.engine.seek(mark.step)
    replay.conductor.frame()
    replay.engine.seek(mark.step - 1)
    replay.conductor.frame()
    before = dict(trace.configurations[mark.before])[key]
    assert shown == [str(mark.event.changes[0].effective), str(before)]


def test_all_at_once_shows_the_end(replay: Replay) -> None:
    replay.engine.seek(10)
    replay.conductor.running.run_or_pause()
    replay.conductor.frame()
    assert replay.engine.state is EngineState.RUNNING
    replay.engine.set_speed(ALL_AT_ONCE)
    replay.conductor.frame()
    assert texts(replay) == (f"step {STEPS} of {STEPS}", "PAUSED")
    replay.engine.seek(10)
    replay.conductor.running.run_or_pause()
    replay.conductor.frame()
    assert texts(replay) == (f"step {STEPS} of {STEPS}", "PAUSED")


def test_what_needs_a_model_is_not_offered(replay: Replay) -> None:
    window = replay.window
    for name in LIVE_ONLY:
        assert not window.actions_[name].isVisible(), name
        assert not window.actions_[name].isEnabled(), name
    assert window.docks["prompt"].isHidden()
    window.arrangement.reset()
    assert window.docks["prompt"].isHidden()
    assert window.actions_["step_back"].isVisible()
    wished: list[object] = []
    window.switchboard.change_requested.connect(wished.append)
    row = window.switchboard.rows["cuda_graphs"]
    row.control.buttons[1].click()
    assert wished == []
    assert "training step" not in window.switchboard.families


@pytest.mark.parametrize(
    ("name", "words"),
    [("restart", "load a model"), ("calibrate", "measure this machine"), ("stop", "end what ran then")],
)
def test_what_is_asked_for_all_the_same_is_refused_with_a_sentence(
    replay: Replay, name: str, words: str
) -> None:
    getattr(replay.engine, name)()
    replay.conductor.frame()
    (message,) = replay.window.messages.messages()
    assert (
        message.sentence == f"This is a recording, which cannot {words}: that takes a window with an engine."
    )
    assert not replay.engine.is_calibrating
    assert texts(replay)[1] == "PAUSED"


def test_what_this_machine_does_now_is_nothing_of_the_recording(replay: Replay) -> None:
    before = len(replay.engine.trace.memory)
    replay.engine.observe(MemorySampled(1, 1, 1, 1))
    assert len(replay.engine.trace.memory) == before


def test_what_a_stranger_wrote_is_no_markup(replays: Replays, tmp_path: Path, qtbot: QtBot) -> None:
    events = [
        replace(event, model=replace(event.model, name="<b>bold</b>"))
        if isinstance(event, ModelLoaded)
        else event
        for event in replaying.session(5)
    ]
    path = written(tmp_path / "<i>a</i>.cyclograph".replace("/", "_"), events)
    change_metadata(path, {"title": "<img src='a.png'>"})
    replays.show(path)
    (replay,) = replays.replays
    qtbot.waitUntil(lambda: replaying.is_open(replay), timeout=replaying.PATIENCE_MS)
    parts = [part for part in replay.window.findChildren(QWidget) if part.toolTip()]
    tips = [part.toolTip() for part in parts if "<" in part.toolTip()]
    assert any("&lt;img src" in tip for tip in tips)
    assert any("&lt;b&gt;bold" in tip for tip in tips)
    assert not any("<img" in tip or "<b>" in tip for tip in tips)
    assert "<img src='a.png'>" in replay.window.windowTitle()  # which shows it as it is
