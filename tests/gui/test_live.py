"""The real window on the real engine in its own process, as a user would use it."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.hosts import open_host
from engine.protocol import EngineState, Generate, Load, Progress, Prompt, SettingChange
from gui.conductor import Conductor
from gui.panels.message_bar import Kind
from tests.gui.building import build, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

PATIENCE_MS = 90_000  # importing torch on a busy machine
LOAD = Load("llama-30m", "cpu", (("threads", 1),))


@pytest.fixture
def conductor(qapp: QApplication) -> Iterator[Conductor]:
    host = open_host("process")
    host.start()
    host.send(LOAD)
    made = build(host, open_host, load=LOAD, autorun=Generate(Prompt("The night train"), 6, False))
    yield from shown(made, qapp)


@pytest.fixture
def until(qtbot: QtBot, conductor: Conductor) -> Callable[[Callable[[], bool]], None]:
    """Waits, with the window alive, until something holds."""

    def wait(condition: Callable[[], bool]) -> None:
        qtbot.waitUntil(condition, timeout=PATIENCE_MS)

    return wait


def reached(conductor: Conductor, state: EngineState | None) -> Callable[[], bool]:
    return lambda: conductor.engine.state is state


def generations(conductor: Conductor) -> int:
    return sum(g.ended is not None for g in conductor.engine.trace.generations)


def test_load_run_switch_pause_step_stop_kill_and_load_again(
    conductor: Conductor, until: Callable[[Callable[[], bool]], None], qtbot: QtBot
) -> None:
    window, engine = conductor.window, conductor.engine
    until(lambda: generations(conductor) == 1)  # it loads and runs by itself
    assert len(engine.trace.tokens) == 6
    assert window.heading.text == "READY"
    greedy = engine.trace.tokens.id.tolist()
    window.prompt.set_text("The night train left the harbour.")
    until(lambda: window.prompt.length.text.endswith(" of 8,191 tokens"))
    assert int(window.prompt.length.text.split()[0]) > 5

    window.prompt.set_text("The night train")
    window.prompt.set_limit(400, False)
    qtbot.keyClick(window, Qt.Key.Key_Space)
    until(lambda: len(engine.trace.tokens) > 30)
    assert window.heading.text == "RUNNING"
    assert engine.trace.tokens.id[6:12].tolist() == greedy

    engine.change((("attention", "eager"),))  # in mid-generation
    until(lambda: len(engine.trace.marks) == 1)
    assert dict(engine.trace.configuration)["attention"] == "eager"
    until(lambda: window.switchboard.rows["attention"]._value == "eager")

    qtbot.keyClick(window, Qt.Key.Key_Space)
    until(reached(conductor, EngineState.PAUSED))
    paused_at = len(engine.trace.steps)
    qtbot.keyClick(window, Qt.Key.Key_N)
    until(lambda: len(engine.trace.steps) == paused_at + 1)
    qtbot.wait(200)
    assert len(engine.trace.steps) == paused_at + 1
    assert engine.state is EngineState.PAUSED

    qtbot.keyClick(window, Qt.Key.Key_X)
    until(reached(conductor, EngineState.READY))
    assert engine.trace.generations[-1].ended is not None
    assert engine.trace.generations[-1].ended.reason == "stopped"
    assert not window.messages.messages()
    conductor.show_numbers()
    assert window.measurements.measured["itl_p50"].value is not None
    assert " %" in window.meter._instrument.text()

    qtbot.keyClick(window, Qt.Key.Key_Space)  # kill it while it runs
    until(lambda: generations(conductor) == 2 and engine.state is EngineState.RUNNING)
    assert engine.started is not None
    os.kill(engine.started.pid, signal.SIGKILL)
    until(reached(conductor, None))
    measured = len(engine.trace.steps)
    assert measured > paused_at
    (message,) = [m for m in window.messages.messages() if m.kind is Kind.ERROR]
    assert "killed" in message.sentence

    message.action_button.click()  # the same model again, with the settings that were asked for
    assert len(engine.trace.steps) == measured
    until(reached(conductor, EngineState.READY))
    assert len(engine.trace.steps) == 0
    assert dict(engine.trace.configuration)["attention"] == "eager"
    conductor.running.run_or_pause()
    until(lambda: len(engine.trace.tokens) > 3)
    engine.stop()


def test_a_draft_that_is_loaded_in_mid_generation_is_shown_given_up_and_loaded_again(
    conductor: Conductor, until: Callable[[Callable[[], bool]], None], qtbot: QtBot
) -> None:
    window, engine = conductor.window, conductor.engine
    until(lambda: generations(conductor) == 1)
    until(reached(conductor, EngineState.READY))
    heard: list[Progress] = []
    engine.progress.connect(heard.append)
    changes: list[SettingChange] = []
    engine.settings_changed.connect(lambda event: changes.extend(event.changes))
    window.prompt.set_limit(4000, False)
    conductor.running.generate()
    until(lambda: len(engine.trace.tokens) > 10)

    draft = (("draft_model", "llama-30m"), ("speculation", "draft"))
    engine.change(draft)
    engine.give_up_switch()
    until(lambda: len(changes) == 2)
    assert [change.effective for change in changes] == ["", "off"]
    assert all("was given up" in change.reason for change in changes[:1])
    assert engine.state is EngineState.RUNNING
    assert not window.progress.isVisible()

    changes.clear()
    heard.clear()
    engine.change(draft)
    until(lambda: len(changes) == 2)
    assert [change.reason for change in changes] == ["", ""]
    assert {progress.stage for progress in heard} >= {"make random weights"}
    until(lambda: int(engine.trace.steps.accepted.sum()) > 0)
    conductor.show_numbers()
    assert not window.progress.isVisible()
    assert window.heading.text == "RUNNING"
    engine.stop()
    until(reached(conductor, EngineState.READY))
    assert not window.progress.isVisible()
