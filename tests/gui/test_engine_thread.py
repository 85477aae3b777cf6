"""Commands become what a host is told, events a trace and signals; an engine that dies leaves the trace."""

import pytest
from PySide6.QtWidgets import QApplication

from engine.protocol import (
    Change,
    EngineEnded,
    EngineState,
    Event,
    Failed,
    Generate,
    Load,
    Pause,
    SettingsChanged,
    StateChanged,
    StepEnded,
)
from engine.trace.store import Trace
from gui.engine_thread import EngineThread
from tests.gui import synthetic
from tests.gui.building import Hosts


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def engine(qapp: QApplication, hosts: Hosts) -> EngineThread:
    return EngineThread(hosts("process"), hosts)


def loaded_events(steps: int = 20) -> list[Event]:
    return [synthetic.loaded(4), *synthetic.events(steps, synthetic.Shape(layers=4))]


def test_events_are_folded_into_a_trace_and_told_in_order(engine: EngineThread, hosts: Hosts) -> None:
    told: list[str] = []
    engine.trace_replaced.connect(lambda _: told.append("trace"))
    engine.model_loaded.connect(lambda _: told.append("model"))
    engine.generation_started.connect(lambda _: told.append("generation"))
    hosts.opened[0].events = loaded_events()
    assert engine.drain()
    assert told == ["trace", "model", "generation"]
    assert len(engine.trace.steps) == 20
    assert not engine.drain()


def test_a_burst_is_spread_over_several_calls(
    engine: EngineThread, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gui.engine_thread.BUDGET_NS", 0)
    hosts.opened[0].events = loaded_events(500)
    engine.drain()
    assert 0 < len(engine.trace.steps) < 500
    for _ in range(20):
        engine.drain()
    assert len(engine.trace.steps) == 500


def test_a_step_that_makes_no_sense_is_told_and_left_out(engine: EngineThread, hosts: Hosts) -> None:
    failures: list[Failed] = []
    engine.failed.connect(failures.append)
    broken = StepEnded(0, 0, synthetic.StepKind.DECODE, 0, 77, b"", 0, 1, 0)
    hosts.opened[0].events = [*loaded_events(3), broken, StateChanged(0, EngineState.READY)]
    engine.drain()
    assert len(failures) == 1
    assert len(engine.trace.steps) == 3
    assert engine.state is EngineState.READY


def test_a_dead_engine_leaves_the_trace_and_restarts_with_model_and_settings(
    engine: EngineThread, hosts: Hosts
) -> None:
    ended: list[EngineEnded] = []
    engine.engine_ended.connect(ended.append)
    engine.load("some-model", "cpu", (("precision", "bfloat16"),))
    engine.change((("attention", "eager"),))
    hosts.opened[0].events = [*loaded_events(), EngineEnded(0, "It was killed.", -9, "report")]
    engine.drain()
    assert [e.sentence for e in ended] == ["It was killed."]
    assert engine.state is None
    assert len(engine.trace.steps) == 20
    engine.restart()
    assert len(hosts.opened) == 2
    wanted = (("attention", "eager"), ("precision", "bfloat16"))
    assert hosts.opened[1].sent == [Load("some-model", "cpu", wanted)]
    assert len(engine.trace.steps) == 20, "the old trace stays until the model is loaded"


def test_commands_to_a_dead_engine_are_answered_with_a_sentence(engine: EngineThread, hosts: Hosts) -> None:
    failures: list[Failed] = []
    engine.failed.connect(failures.append)
    hosts.opened[0].events = [EngineEnded(0, "gone")]
    engine.drain()
    engine.pause()
    assert "not running" in failures[0].sentence
    assert Pause() not in hosts.opened[0].sent


def test_another_place_restarts_the_engine_and_leaves_a_mark(engine: EngineThread, hosts: Hosts) -> None:
    notes: list[str] = []
    marks: list[SettingsChanged] = []
    engine.noted.connect(notes.append)
    engine.settings_changed.connect(marks.append)
    engine.load("some-model")
    engine.generate(Generate("hello"))
    hosts.opened[0].events = [*loaded_events(), StateChanged(0, EngineState.RUNNING)]
    engine.drain()
    engine.change((("engine_place", "thread"),))
    assert hosts.opened[0].ended == "killed"
    assert [h.place for h in hosts.opened] == ["process", "thread"]
    hosts.opened[1].events = [synthetic.loaded(4)]
    engine.drain()
    assert engine.place == "thread"
    assert [c.key for c in marks[0].changes] == ["engine_place"]
    assert marks[0].switch_ns > 0
    assert "this process" in notes[0]
    assert len(engine.trace.marks) == 1
    assert hosts.opened[1].sent[-1] == Generate("hello"), "what ran goes on"


def test_the_place_it_already_has_changes_nothing(engine: EngineThread, hosts: Hosts) -> None:
    engine.change((("engine_place", "process"), ("threads", 2)))
    assert len(hosts.opened) == 1
    assert hosts.opened[0].sent == [Change((("threads", 2),))]


def test_clear_begins_a_trace_that_understands_the_steps_to_come(engine: EngineThread, hosts: Hosts) -> None:
    shape = synthetic.Shape(layers=4, mark_every=5)
    events = list(synthetic.events(30, shape))
    hosts.opened[0].events = [synthetic.loaded(4), *events[:20]]
    engine.drain()
    before: Trace = engine.trace
    engine.clear()
    assert engine.trace is not before
    assert len(engine.trace.steps) == 0
    hosts.opened[0].events = events[20:]
    engine.drain()
    assert len(engine.trace.steps) > 0
    assert max(engine.trace.steps.configuration) < len(engine.trace.configurations)


def test_shutting_down_stops_the_host(engine: EngineThread, hosts: Hosts) -> None:
    engine.shut_down()
    assert hosts.opened[0].ended == "stopped"


def test_an_unknown_place_is_refused(engine: EngineThread) -> None:
    with pytest.raises(ValueError, match="cloud"):
        engine.restart("cloud")
