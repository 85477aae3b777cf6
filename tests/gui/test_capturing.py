"""Capturing a step in depth: asked for, shown, saved, refused."""

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QContextMenuEvent
from PySide6.QtWidgets import QApplication, QMenu, QWidget
from pytestqt.qtbot import QtBot

from engine.protocol import (
    CaptureStep,
    EngineState,
    Failed,
    Generate,
    StateChanged,
    StepEnded,
)
from gui.conductor import Conductor
from tests.gui import synthetic
from tests.gui.building import ScriptedHost
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import ready, say

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def test_k_captures_the_chosen_step_again_or_else_the_next(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host)
    window = conductor.window
    window.navigation.select(7)
    qtbot.keyClick(window, Qt.Key.Key_K)
    assert host.sent[-1] == CaptureStep(7)
    window.navigation.select(None)
    qtbot.keyClick(window, Qt.Key.Key_K)  # all is over: the newest
    assert host.sent[-1] == CaptureStep(59)
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    qtbot.keyClick(window, Qt.Key.Key_K)
    assert host.sent[-1] == CaptureStep()


def test_k_begins_a_generation_where_there_is_none(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host, 0)
    conductor.window.prompt.set_text("Hello")
    qtbot.keyClick(conductor.window, Qt.Key.Key_K)
    generate, capture = host.sent[-2:]
    assert isinstance(generate, Generate)
    assert generate.paused
    assert capture == CaptureStep()


def test_in_a_trace_that_was_cleared_the_engine_is_told_its_own_number_of_a_step(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host, 0)
    conductor.engine.clear()
    say(conductor, host, *list(synthetic.events(60, synthetic.Shape(layers=4)))[0:1])
    later = [e for e in synthetic.events(60, synthetic.Shape(layers=4)) if isinstance(e, StepEnded)][40:]
    say(conductor, host, *later)
    conductor.window.navigation.select(3)
    qtbot.keyClick(conductor.window, Qt.Key.Key_K)
    assert host.sent[-1] == CaptureStep(43)


def test_a_capture_is_shown_and_saved_where_the_user_says(
    conductor: Conductor, host: ScriptedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(conductor, host)
    window, target = conductor.window, tmp_path / "step.json"
    assert not window.docks["kernels"].isVisible()
    window.actions_["save_capture"].trigger()
    assert "was not captured" in window.messages.messages()[0].sentence
    say(conductor, host, synthetic.capture(conductor.engine.trace, 30))
    assert window.navigation.selected == 30
    assert window.docks["kernels"].isVisible()
    assert window.kernels.table.isVisible()
    conductor.frame()
    assert window.timeline._lanes is not None
    asked: list[str] = []

    def choose(parent: QWidget, title: str, suggested: str, kinds: str) -> tuple[str, str]:
        asked.append(Path(suggested).name)
        return str(target), kinds

    monkeypatch.setattr("gui.capturing.QFileDialog.getSaveFileName", choose)
    window.kernels.export_button.click()
    assert asked == ["step-30.trace.json"]
    assert '"traceEvents"' in target.read_text()
    assert "perfetto" in window.messages.messages()[0].sentence
    target = tmp_path / "nowhere" / "step.json"
    window.actions_["save_capture"].trigger()
    assert window.messages.messages()[0].sentence.startswith(f"There is no directory '{target.parent}'")


def test_a_refused_capture_offers_the_next_step(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    refused = Failed(0, "Step 3 ran under other settings: capture the next step instead.", command="capture")
    say(conductor, host, StateChanged(0, EngineState.PAUSED), refused)
    message = conductor.window.messages.messages()[0]
    message.action_button.click()
    assert host.sent[-1] == CaptureStep()
    assert not conductor.window.messages.messages()
    say(conductor, host, StateChanged(0, EngineState.READY), refused)  # then there is no next one
    assert not hasattr(conductor.window.messages.messages()[0], "action_button")


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_a_menu_over_a_step_is_about_it(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    strip = conductor.window.strip
    at = strip.column_rect(20).center()
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, at, strip.mapToGlobal(at))
    QApplication.sendEvent(strip, event)
    menu = strip.findChild(QMenu)
    assert menu is not None
    chosen = conductor.window.navigation.selected
    assert chosen in range(19, 22)
    next(action for action in menu.actions() if "Capture" in action.text()).trigger()
    assert host.sent[-1] == CaptureStep(chosen)
    menu.close()
