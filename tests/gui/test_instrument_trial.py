"""The instrument measured by itself: turns of marks, then turns of drawing; what they showed goes into the trace."""

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication

from engine.protocol import (
    Alternate,
    AlternationEnded,
    AlternationStarted,
    EngineState,
    Failed,
    Generate,
    StateChanged,
    StopAlternating,
)
from engine.trace.alternation import is_second
from engine.trace.observer import DISPLAY, compare_turns, part_compared
from engine.trace.store import Trace
from gui.conductor import Conductor
from gui.instrument_trial import TURN_NS, DisplayTurns, InstrumentTrial, Stage
from tests.engine.trace.building import APART, MS, T0, loaded, started, step, trace_of
from tests.gui.building import Hosts, ScriptedHost, build
from tests.gui.conducting import ready, say, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

DRAWN_NS, STILL_NS = 20_600_000, 20_000_000


@pytest.fixture
def host() -> ScriptedHost:
    return ScriptedHost()


@pytest.fixture
def conductor(qapp: QApplication, host: ScriptedHost) -> Iterator[Conductor]:
    yield from shown(build(host, Hosts()), qapp)


def decode(begin_ns: int, wall_ns: int) -> object:
    return step((begin_ns + wall_ns,), stamps=(begin_ns, *[begin_ns + 1] * 6, begin_ns + wall_ns))


def steps_in_turns(turns: int, first_ns: int = T0) -> tuple[Trace, list[int]]:
    """Steps of some turns of 200 ms: while the window draws they take 3 % longer; a drift slows all of them down."""
    trace = trace_of(started())
    borders = [first_ns + turn * 200 * MS for turn in range(turns + 1)]
    at = first_ns
    while at < borders[-1]:
        turn = (at - first_ns) // (200 * MS)
        wall = round((STILL_NS if is_second(turn) else DRAWN_NS) * (1 + at / first_ns / 50))
        trace.append(decode(at, wall))  # type: ignore[arg-type]
        at += wall + 100_000
    return trace, borders


def test_turns_are_those_of_a_b_b_a_and_as_long_as_some_steps() -> None:
    turns = DisplayTurns(0)
    still = [turns.is_still(now_ns, 1e6) for now_ns in range(0, 9 * TURN_NS, TURN_NS)]
    assert still == [False, True, True, False, False, True, True, False, False]
    slow = DisplayTurns(0)
    assert not slow.is_still(2 * TURN_NS, TURN_NS)
    assert slow.is_still(3 * TURN_NS, TURN_NS)


def test_what_drawing_does_is_told_from_drift() -> None:
    trace, borders = steps_in_turns(4 * 64)
    effect, pairs = compare_turns(trace, borders)
    assert pairs == 128
    assert effect.ratio == pytest.approx(DRAWN_NS / STILL_NS, rel=0.003)
    assert effect.low is not None
    assert effect.low > 1.02


def test_too_few_turns_give_no_number_and_turns_without_steps_are_none() -> None:
    trace, borders = steps_in_turns(20)
    effect, pairs = compare_turns(trace, borders)
    assert (effect.ratio, pairs) == (None, 10)
    gap = [*borders, *(borders[-1] + n * 200 * MS for n in range(1, 41))]  # the user has paused
    assert compare_turns(trace, gap)[1] == 10
    assert compare_turns(trace_of(), [T0])[1] == 0


def test_a_whole_trial(conductor: Conductor, host: ScriptedHost) -> None:
    say(conductor, host, loaded(effective=(("detail", "layer"),)), APART, StateChanged(0, EngineState.READY))
    said: list[str] = []
    trial = InstrumentTrial(conductor.engine, conductor.running.generate, said.append, T0)
    assert not trial.frame(T0)
    assert isinstance(host.sent[-1], Generate)  # none ran
    trial.frame(T0)
    assert sum(isinstance(command, Generate) for command in host.sent) == 1  # one is on its way
    say(conductor, host, StateChanged(0, EngineState.RUNNING), started(), decode(T0, STILL_NS))
    trial.frame(T0)
    assert host.sent[-1] == Alternate("detail", "step")
    trial.frame(T0)
    assert sum(isinstance(command, Alternate) for command in host.sent) == 1
    effective = ((("detail", "layer"),), (("detail", "step"),))
    say(conductor, host, AlternationStarted(0, 1, "detail", "layer", "step", 1, (0, 1), effective))
    trial.frame(T0)
    assert trial.progress.startswith("measuring marks: 0 of 64")
    say(conductor, host, AlternationEnded(0, 1, 0))
    at = T0 + 10**9
    trial.frame(at)
    assert trial.stage is Stage.DISPLAY
    still_frames = frames = 0
    end_of_step = at
    while trial.stage is Stage.DISPLAY and frames < 20_000:
        at += 33 * MS
        frames += 1
        still = trial.frame(at)
        still_frames += still
        while end_of_step < at:
            wall = STILL_NS if still else DRAWN_NS
            conductor.engine.observe(decode(end_of_step, wall))  # type: ignore[arg-type]
            end_of_step += wall
    assert 0.4 < still_frames / frames < 0.6
    found = part_compared(conductor.engine.trace, DISPLAY)
    assert found is not None
    assert found.ratio == pytest.approx(1.03, abs=0.005)
    assert found.pairs == 64  # decided at the first look
    (sentence,) = said
    assert "drawing 1.0" in sentence
    assert "marks: too few turns" in sentence
    assert "A against A, " in sentence  # beside what it is held against


def test_one_key_begins_it_and_stops_it(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    conductor.window.actions_["instrument"].trigger()
    conductor.frame()
    conductor.show_numbers()
    assert isinstance(host.sent[-1], Generate)
    assert conductor.window.meter._instrument.text().startswith("measuring marks")
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    effective = ((("detail", "layer"),), (("detail", "step"),))
    say(conductor, host, AlternationStarted(0, 1, "detail", "layer", "step", 1, (0, 1), effective))
    conductor.window.actions_["instrument"].trigger()
    assert isinstance(host.sent[-1], StopAlternating)
    conductor.show_numbers()
    assert conductor.window.meter._instrument.text().startswith("instrument")


def test_without_marks_it_goes_on_to_drawing(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    conductor.window.actions_["instrument"].trigger()
    say(conductor, host, StateChanged(0, EngineState.RUNNING), APART, started(7), decode(10**12, 10**6))
    conductor.frame()
    assert host.sent[-1] == Alternate("detail", "step")
    say(conductor, host, Failed(0, "'detail' is step already: choose another value.", "", "alternate"))
    assert conductor.measuring.trial is not None
    assert conductor.measuring.trial.stage is Stage.DISPLAY


def test_a_still_window_does_nothing_at_all(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)

    class Still:
        stage = Stage.DISPLAY
        progress = "…"

        def frame(self, now_ns: int) -> bool:
            return True

    conductor.measuring.trial = Still()  # type: ignore[assignment]
    host.events = [StateChanged(0, EngineState.PAUSED)]
    before = len(conductor.engine.trace.steps)
    conductor.frame()
    assert host.events  # not taken
    conductor.measuring.trial = None
    conductor.frame()
    assert not host.events
    assert len(conductor.engine.trace.steps) == before


def test_nothing_is_measured_without_an_engine_that_runs(conductor: Conductor) -> None:
    conductor.measuring.measure_instrument()
    assert conductor.measuring.trial is None
    assert "load a model" in conductor.window.messages.messages()[0].sentence


def test_another_model_ends_it(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    conductor.measuring.measure_instrument()
    ready(conductor, host, 0)
    conductor.frame()
    conductor.show_numbers()
    assert conductor.measuring.trial is None
