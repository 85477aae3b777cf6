"""Settings, from the switchboard to the engine and back."""

from dataclasses import replace

import numpy as np
import pytest

from engine.protocol import (
    Alternate,
    AlternationStarted,
    Change,
    LayoutDefined,
    MeasureSameness,
    ProbeTraining,
    SettingChange,
    SettingsChanged,
    SettingsProbed,
    StepEnded,
    StopAlternating,
)
from engine.trace.alternation import is_second
from engine.trace.phases import StepKind
from gui.conductor import Conductor
from gui.panels.training_probe import TrainingProbe
from tests.gui import synthetic
from tests.gui.building import ScriptedHost
from tests.gui.conducting import ATTENTION, loaded, ready, say
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def test_a_switch_is_wished_for_and_shown_when_it_is_in_force(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    board = conductor.window.switchboard
    segments = board.rows["attention"].control
    segments.buttons[1].click()  # type: ignore[attr-defined]
    assert host.sent[-1] == Change((("attention", "sdpa"),))
    assert segments.buttons[0].isChecked(), "the engine has not said so yet"  # type: ignore[attr-defined]
    effective = tuple(sorted({**dict(loaded().effective), "attention": "sdpa"}.items()))
    change = SettingChange("attention", "sdpa", "sdpa")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, effective))
    assert segments.buttons[1].isChecked()  # type: ignore[attr-defined]


def switched(conductor: Conductor, host: ScriptedHost) -> None:
    """The model is loaded and its attention kernel was switched."""
    ready(conductor, host)
    effective = tuple(sorted({**dict(loaded().effective), "attention": "sdpa"}.items()))
    change = SettingChange("attention", "sdpa", "sdpa")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, effective))


def test_the_last_change_can_be_tried_with_one_key(conductor: Conductor, host: ScriptedHost) -> None:
    conductor.window.actions_["alternate"].trigger()
    assert "change a setting first" in conductor.window.messages.messages()[0].sentence
    switched(conductor, host)
    conductor.window.actions_["alternate"].trigger()
    assert host.sent[-1] == Alternate("attention", "eager")
    conductor.window.actions_["compare"].trigger()
    assert host.sent[-1] == MeasureSameness((("attention", "eager"),))


def test_turns_are_shown_beside_the_setting_and_end_when_they_are_decided(
    conductor: Conductor, host: ScriptedHost
) -> None:
    switched(conductor, host)
    now, other = reversed(conductor.engine.trace.configurations[:2])
    events = list(synthetic.events(200, synthetic.Shape(layers=4)))
    layouts = [event for event in events if isinstance(event, LayoutDefined)]
    steps = [event for event in events if isinstance(event, StepEnded) and event.kind is StepKind.DECODE]
    turns = [
        replace(
            step,
            configuration=2 if is_second(turn) else 1,
            stamps=twice(step) if is_second(turn) else step.stamps,
        )
        for turn, step in enumerate(steps[:150])
    ]
    begin = AlternationStarted(0, 60, "attention", "sdpa", "eager", 1, (1, 2), (now, other))
    say(conductor, host, *layouts, begin, *turns[:20])
    experiment = conductor.window.switchboard.rows["attention"].experiment
    assert experiment.turns.text() == "A/B: 9 of 64 pairs"
    assert experiment.alternate.isChecked()
    assert StopAlternating() not in host.sent
    say(conductor, host, *turns[20:])
    while conductor.engine.drain():  # a frame takes as many as it has time for
        pass
    conductor.show_numbers()
    assert host.sent[-1] == StopAlternating()
    assert "of eager, faster" in experiment.turns.text()


def test_a_training_step_is_asked_for_with_its_options(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    probe = conductor.window.switchboard.findChild(TrainingProbe)
    probe.mixed.setChecked(True)
    probe.accumulate.setValue(3)
    probe.run.click()
    assert host.sent[-1] == ProbeTraining(mixed=True, accumulate=3)


def twice(step: StepEnded) -> bytes:
    """The stamps of a step that takes twice as long."""
    stamps = np.frombuffer(step.stamps, np.int64)
    return (2 * stamps - stamps[0]).tobytes()


def test_a_refused_switch_says_why(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    change = SettingChange("attention", "sdpa", "eager", "it is broken today")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, loaded().effective))
    row = conductor.window.switchboard.rows["attention"]
    assert "it is broken today" in row._refusal.text()
    assert row._refusal.isVisibleTo(row)
    assert "it is broken today" in conductor.window.messages.messages()[0].sentence


def test_what_is_impossible_is_off_with_its_reason(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    board = conductor.window.switchboard
    row = board.rows["attention"]
    flash = row.control.buttons[2]  # type: ignore[attr-defined]
    assert not flash.isEnabled()
    assert flash.toolTip() == "needs a GPU"
    row.control.pointed.emit(2)  # type: ignore[attr-defined]
    assert "needs a GPU" in board.explanation
    assert "needs a GPU" in row.explanation


def test_sampling_numbers_are_off_while_greedy(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    board = conductor.window.switchboard
    assert not board.rows["temperature"].control.isEnabled()
    effective = tuple(sorted({**dict(loaded().effective), "decoding": "sample"}.items()))
    change = SettingChange("decoding", "sample", "sample")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, effective))
    assert board.rows["temperature"].control.isEnabled()
    board.rows["temperature"].control.setValue(0.7)  # type: ignore[attr-defined]
    assert host.sent[-1] == Change((("temperature", 0.7),))


def test_what_was_tried_later_is_shown_on_the_switchboard(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host, 0)
    board = conductor.window.switchboard
    row = board.rows["attention"]
    facts = conductor.engine.loaded.settings if conductor.engine.loaded else ()
    say(conductor, host, SettingsProbed(0, facts))
    assert board.rows["attention"] is row  # nothing new, nothing made anew
    refused = replace(
        ATTENTION, choices=(ATTENTION.choices[0], replace(ATTENTION.choices[1], reason="it cannot"))
    )
    say(conductor, host, SettingsProbed(0, (refused, *facts[1:])))
    assert "it cannot" in board.rows["attention"].explanation
    assert board.rows["attention"]._value == "eager"
