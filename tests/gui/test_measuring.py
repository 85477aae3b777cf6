"""This machine is measured on request, and what came of it is said."""

from dataclasses import replace
from time import perf_counter_ns

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from engine.protocol import (
    Calibrate,
    Calibrated,
    EngineEnded,
    Failed,
    FloorBeaten,
    Progress,
)
from gui.conductor import Conductor
from gui.panels.roofline import MEASURING
from tests.gui import synthetic
from tests.gui.building import ScriptedHost
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import ready, say, sentences

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def told(number: int, origin: str = "measured", reason: str = "", spread: float = 0.01) -> Calibrated:
    return Calibrated(0, number, replace(synthetic.CALIBRATION, spread=spread), origin, reason)


def test_this_machine_is_measured_on_request(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    qtbot.keyClick(conductor.window, Qt.Key.Key_M, Qt.KeyboardModifier.ControlModifier)
    assert host.sent[-1] == Calibrate()
    conductor.window.arrangement.show("roofline")
    panel = conductor.window.roofline
    assert panel.measure.text() == MEASURING
    assert not panel.measure.isEnabled()
    begun = Progress(perf_counter_ns() - 10**9, "calibrating this machine", None)
    say(conductor, host, begun)
    conductor.show_numbers()
    assert conductor.window.progress.isVisible()
    say(conductor, host, told(0))
    conductor.show_numbers()
    assert not conductor.window.progress.isVisible()
    assert panel.measure.text() == "Measure again"
    assert "memory 10.0 GB/s" in sentences(conductor)[0]
    panel.measure.click()
    assert host.sent[-1] == Calibrate()
    assert conductor.engine.is_calibrating


def test_a_refused_measurement_says_why_and_can_be_asked_for_again(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    conductor.measuring.calibrate()
    say(
        conductor,
        host,
        Failed(0, "A generation would disturb the calibration: stop it first.", "", "calibrate"),
    )
    assert sentences(conductor) == ["A generation would disturb the calibration: stop it first."]
    assert not conductor.engine.is_calibrating
    conductor.measuring.calibrate()
    assert sentences(conductor) == []
    say(conductor, host, told(0, spread=0.2))
    assert "20.0 % apart" in sentences(conductor)[0]


def test_what_is_remembered_or_measured_while_idle_is_not_announced(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    say(conductor, host, told(0, "remembered"), told(1, reason="nothing was known of this machine"))
    assert sentences(conductor) == []


def test_a_measurement_that_was_asked_for_is_not_answered_by_a_remembered_one(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    conductor.measuring.calibrate()
    say(conductor, host, told(0, "remembered"))
    assert conductor.engine.is_calibrating
    host.events.append(EngineEnded(0, "The engine ended unexpectedly."))
    conductor.frame()
    assert not conductor.engine.is_calibrating


def test_a_beaten_floor_is_never_hidden(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    say(conductor, host, told(0, "remembered"), FloorBeaten(0, 30, 300_000, 420_000))
    (message,) = conductor.window.messages.messages()
    assert message.sentence.startswith("Step 30 took 300 µs, less than its floor of 420 µs")
    message.action_button.click()
    assert host.sent[-1] == Calibrate()
    say(conductor, host, FloorBeaten(0, 31, 300_000, 420_000))
    say(conductor, host, told(1, reason="a step had beaten its floor"))
    assert len(sentences(conductor)) == 1
    assert "measured again, since a step had beaten its floor" in sentences(conductor)[0]
