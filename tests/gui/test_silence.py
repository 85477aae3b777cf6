"""A generation of which no step ends for long is told, and taken back once one does."""

import pytest

from engine.protocol import EngineState, Progress, StateChanged
from gui.conductor import Conductor
from gui.silence import LEAST_NS, Silence
from tests.gui import synthetic
from tests.gui.building import ScriptedHost
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import loaded, say, sentences

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.fixture
def silence(conductor: Conductor, host: ScriptedHost) -> Silence:
    first = list(synthetic.events(20, synthetic.Shape(layers=4)))
    say(conductor, host, loaded(), *first, StateChanged(0, EngineState.RUNNING))
    made = Silence(conductor.engine, conductor.window.messages)
    made.look(0)
    return made


def is_said(conductor: Conductor) -> bool:
    return any("No step has ended for" in sentence for sentence in sentences(conductor))


def test_long_silence_is_said_once_and_taken_back(
    conductor: Conductor, host: ScriptedHost, silence: Silence
) -> None:
    silence.look(LEAST_NS - 1)
    assert not is_said(conductor)
    silence.look(LEAST_NS)
    assert is_said(conductor)
    conductor.window.messages.withdraw("silence")  # the user knows
    silence.look(2 * LEAST_NS)
    assert not is_said(conductor)
    say(conductor, host, StateChanged(0, EngineState.PAUSED))
    silence.look(3 * LEAST_NS)
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    silence.look(4 * LEAST_NS)
    silence.look(5 * LEAST_NS)
    assert is_said(conductor)
    say(conductor, host, StateChanged(0, EngineState.READY))
    silence.look(5 * LEAST_NS + 1)
    assert not is_said(conductor)


def test_work_between_two_steps_is_no_silence(
    conductor: Conductor, host: ScriptedHost, silence: Silence
) -> None:
    say(conductor, host, Progress(0, "compiling the step", None))
    silence.look(LEAST_NS)
    silence.look(3 * LEAST_NS)
    assert not is_said(conductor)


def test_models_of_long_steps_are_waited_for_longer(conductor: Conductor, silence: Silence) -> None:
    walls = conductor.engine.trace.steps.wall_ns
    walls[-1] = LEAST_NS // 2
    silence.look(9 * LEAST_NS)
    assert not is_said(conductor)
    silence.look(10 * LEAST_NS)
    assert is_said(conductor)
