"""Commands become what a host is told, events a trace and signals; an engine that dies leaves the trace."""

from dataclasses import replace

import pytest
from PySide6.QtWidgets import QApplication

from engine.hosts import USE_AGAIN
from engine.protocol import (
    DEVICE_LOST,
    CancelLoad,
    Change,
    Choice,
    CountTokens,
    EngineEnded,
    EngineState,
    Event,
    Failed,
    Generate,
    Load,
    LoadCancelled,
    Pause,
    Prompt,
    SettingFacts,
    SettingsChanged,
    StateChanged,
    StepEnded,
    TokensCounted,
)
from engine.trace.store import Trace
from gui.engine_thread import EngineThread
from gui.load_watch import PATIENCE_NS
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost


class Clock:
    """Stands still until it is wound."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(qapp: QApplication, hosts: Hosts, clock: Clock) -> EngineThread:
    return EngineThread(hosts("process"), hosts, clock=clock)


@pytest.fixture
def given_up(engine: EngineThread) -> list[str]:
    """The models whose loads were given up, as the engine thread tells it."""
    found: list[str] = []
    engine.load_cancelled.connect(lambda event: found.append(event.model))
    return found


def hear(engine: EngineThread, host: ScriptedHost, *events: Event) -> None:
    host.events = list(events)
    engine.drain()


LOADING, EMPTY = StateChanged(0, EngineState.LOADING), StateChanged(0, EngineState.EMPTY)


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
    monkeypatch.setattr("gui.engine_events.BUDGET_NS", 0)
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


def test_a_model_that_is_to_lie_elsewhere_is_loaded_anew_and_generates_again(
    engine: EngineThread, hosts: Hosts
) -> None:
    engine.load("tiny", "cuda:0", (("threads", 1),))
    loaded = synthetic.loaded(4)
    choices = (Choice("cuda:0", ""), Choice("cpu", ""), Choice("split", "", "There is one device."))
    placement = SettingFacts("placement", "placement", "", "choice", "cuda:0", choices)
    effective = (*loaded.effective, ("placement", "cuda:0"))
    loaded = replace(loaded, settings=(*loaded.settings, placement), effective=effective)
    hear(engine, hosts.opened[0], EMPTY, LOADING, loaded, StateChanged(0, EngineState.READY))
    engine.generate(Generate(Prompt("again"), 8))
    hear(engine, hosts.opened[0], StateChanged(0, EngineState.RUNNING))
    sent = hosts.opened[0].sent
    engine.change((("placement", "split"),))  # impossible: the engine says why
    engine.change((("placement", "cuda:0"),))  # it lies there
    assert [type(command) for command in sent[-2:]] == [Change, Change]
    engine.change((("placement", "cpu"), ("top_k", 5)))
    assert sent[-1] == Load("tiny", "cpu", (("threads", 1), ("top_k", 5)))
    hear(engine, hosts.opened[0], LOADING, loaded, StateChanged(0, EngineState.READY))
    assert sent[-1] == Generate(Prompt("again"), 8)


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
    engine.generate(Generate(Prompt("hello")))
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
    assert hosts.opened[1].sent[-1] == Generate(Prompt("hello")), "what ran goes on"


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


def test_a_cancelled_load_is_given_up_by_the_engine_itself(
    engine: EngineThread, hosts: Hosts, given_up: list[str]
) -> None:
    engine.load("big", "cpu", (("precision", "bfloat16"),))
    hear(engine, hosts.opened[0], LOADING)
    engine.cancel_load()
    assert hosts.opened[0].sent[-1] == CancelLoad()
    assert engine.is_cancelling
    assert engine.wanted_model == "big", "until it is given up"
    hear(engine, hosts.opened[0], LoadCancelled(0, "big"), EMPTY)
    assert given_up == ["big"]
    assert not engine.is_loading
    assert engine.wanted_model == ""
    assert len(hosts.opened) == 1, "its process goes on"
    engine.load_again()
    assert hosts.opened[0].sent[-1] == Load("big", "cpu", (("precision", "bfloat16"),))


def test_an_engine_process_that_does_not_listen_is_ended(
    engine: EngineThread, hosts: Hosts, clock: Clock, given_up: list[str]
) -> None:
    engine.load("big")
    hear(engine, hosts.opened[0], LOADING)
    engine.cancel_load()
    engine.drain()
    clock.now_ns = PATIENCE_NS - 1
    engine.drain()
    assert len(hosts.opened) == 1
    clock.now_ns = PATIENCE_NS
    engine.drain()
    assert hosts.opened[0].ended == "killed"
    assert hosts.opened[1].started
    assert hosts.opened[1].sent == [], "without the model"
    assert given_up == ["big"]
    assert engine.state is EngineState.STARTING
    clock.now_ns *= 5
    hear(engine, hosts.opened[1], EMPTY)
    assert len(hosts.opened) == 2
    engine.load_again()
    assert hosts.opened[1].sent == [Load("big")]


def test_an_answer_that_waits_is_heard_before_patience_ends(
    engine: EngineThread, hosts: Hosts, clock: Clock, given_up: list[str]
) -> None:
    engine.load("big")
    hear(engine, hosts.opened[0], LOADING)
    engine.cancel_load()
    engine.drain()
    clock.now_ns = 10 * PATIENCE_NS  # the window was busy with something else
    hear(engine, hosts.opened[0], LoadCancelled(0, "big"), EMPTY)
    assert given_up == ["big"]
    assert hosts.opened[0].ended == ""


def test_an_engine_thread_is_waited_for(qapp: QApplication, hosts: Hosts, clock: Clock) -> None:
    engine = EngineThread(hosts("thread"), hosts, clock=clock)
    notes: list[str] = []
    engine.noted.connect(notes.append)
    engine.load("big")
    hear(engine, hosts.opened[0], LOADING)
    engine.cancel_load()
    for _ in range(4):
        engine.drain()
        clock.now_ns += PATIENCE_NS
    assert len(hosts.opened) == 1
    assert hosts.opened[0].ended == ""
    assert len(notes) == 1, "said once"
    assert "cannot be interrupted" in notes[0]
    hear(engine, hosts.opened[0], LoadCancelled(0, "big"), EMPTY)
    assert not engine.is_cancelling


def test_a_second_load_replaces_the_first(
    engine: EngineThread, hosts: Hosts, clock: Clock, given_up: list[str]
) -> None:
    engine.load("first")
    hear(engine, hosts.opened[0], LOADING)
    engine.load("second", "cpu")
    assert hosts.opened[0].sent == [Load("first"), Load("second", "cpu")], "the engine cancels by itself"
    assert engine.wanted_model == "second"
    hear(engine, hosts.opened[0], LoadCancelled(0, "first"), EMPTY, LOADING)
    assert engine.wanted_model == "second"
    assert engine.is_loading
    assert given_up == [], "nobody asked to be told"
    clock.now_ns = 9 * PATIENCE_NS
    engine.drain()
    hear(engine, hosts.opened[0], synthetic.loaded(4), StateChanged(0, EngineState.READY))
    assert not engine.is_loading
    assert len(hosts.opened) == 1


def test_a_first_load_that_hangs_does_not_keep_the_second_waiting(
    engine: EngineThread, hosts: Hosts, clock: Clock
) -> None:
    engine.load("first")
    hear(engine, hosts.opened[0], LOADING)
    engine.load("second")
    engine.drain()
    clock.now_ns = PATIENCE_NS
    engine.drain()
    assert hosts.opened[0].ended == "killed"
    assert hosts.opened[1].sent == [Load("second")]


def test_a_load_is_cancelled_while_the_engine_still_starts(
    engine: EngineThread, hosts: Hosts, clock: Clock, given_up: list[str]
) -> None:
    engine.adopt(Load("big"))
    engine.cancel_load()
    clock.now_ns = 9 * PATIENCE_NS
    engine.drain()
    assert hosts.opened[0].sent == [CancelLoad()]
    assert hosts.opened[0].ended == "", "importing takes its time, another engine would have to do it again"
    hear(engine, hosts.opened[0], EMPTY, LOADING, LoadCancelled(0, "big"), EMPTY)
    assert given_up == ["big"]


def test_a_cancel_that_comes_too_late_says_so_and_keeps_the_model(
    engine: EngineThread, hosts: Hosts, given_up: list[str]
) -> None:
    notes: list[str] = []
    engine.noted.connect(notes.append)
    engine.load("big")
    hear(engine, hosts.opened[0], LOADING)
    engine.cancel_load()
    hear(engine, hosts.opened[0], synthetic.loaded(4), StateChanged(0, EngineState.READY))
    assert "ready before" in notes[0]
    assert engine.wanted_model == "big"
    assert given_up == []


def test_there_is_nothing_to_cancel_without_a_load(engine: EngineThread, hosts: Hosts) -> None:
    engine.cancel_load()
    assert hosts.opened[0].sent == []
    engine.load("missing")
    hear(engine, hosts.opened[0], LOADING, Failed(0, "There is none.", command="load"), EMPTY)
    engine.cancel_load()
    assert hosts.opened[0].sent == [Load("missing")]


def test_an_engine_that_dies_while_it_gives_up_comes_back_empty(engine: EngineThread, hosts: Hosts) -> None:
    engine.load("big")
    hear(engine, hosts.opened[0], LOADING)
    engine.cancel_load()
    hear(engine, hosts.opened[0], EngineEnded(0, "It was killed."))
    assert not engine.is_loading
    engine.restart()
    assert hosts.opened[1].sent == []


def test_the_length_of_a_prompt_is_asked_and_told(engine: EngineThread, hosts: Hosts) -> None:
    told: list[TokensCounted] = []
    engine.tokens_counted.connect(told.append)
    question = CountTokens(7, Prompt("hello"))
    engine.count_tokens(question)
    assert hosts.opened[0].asked == [question]
    answer = TokensCounted(0, 7, 2, 1024)
    hear(engine, hosts.opened[0], answer)
    assert told == [answer]
    hear(engine, hosts.opened[0], EngineEnded(0, "gone"))
    engine.count_tokens(question)  # nobody is there to answer, and nobody complains


LOST = EngineEnded(
    30_000_000_000, f"The device failed.{USE_AGAIN}", DEVICE_LOST, "CUDA error: device-side assert triggered"
)


def later(steps: int = 5) -> list[Event]:
    """What another engine says of the same model: it counts anew."""
    loaded = synthetic.loaded(4)
    return [
        replace(loaded, at_ns=33_200_000_000),
        *synthetic.events(steps, synthetic.Shape(layers=4, seed=8)),
    ]


def test_an_engine_whose_device_failed_is_replaced_and_the_trace_has_a_gap(
    engine: EngineThread, hosts: Hosts
) -> None:
    notes: list[str] = []
    ended: list[EngineEnded] = []
    engine.noted.connect(notes.append)
    engine.engine_ended.connect(ended.append)
    engine.load("some-model", "cuda:0", (("precision", "bfloat16"),))
    engine.change((("attention", "eager"),))
    hear(engine, hosts.opened[0], *loaded_events(), LOST)
    wanted = (("attention", "eager"), ("precision", "bfloat16"))
    assert hosts.opened[1].sent == [Load("some-model", "cuda:0", wanted)]
    trace = engine.trace
    spans = trace.spans(19)
    hear(engine, hosts.opened[1], *later(), SettingsChanged(0, 5, (), 1, 1, (("attention", "sdpa"),)))
    assert engine.trace is trace
    assert len(trace.steps) == 25
    (gap,) = trace.gaps
    assert (gap.step, gap.event.reason, gap.event.gap_ns) == (20, "The device failed.", 3_200_000_000)
    assert trace.spans(19) == spans, "layouts of the lost engine are still known"
    assert [record.started.generation for record in trace.generations] == [0, 1]
    assert (trace.generations[0].first_step, trace.generations[1].first_step) == (0, 20)
    assert trace.steps.configuration[19] == 0
    assert trace.steps.configuration[20] == gap.event.configuration == 1
    assert trace.configuration == (("attention", "sdpa"),)
    assert trace.marks[-1].event.step == 25
    assert "what was measured before is kept" in notes[0]
    assert not ended


def test_what_the_replacement_has_otherwise_is_said(engine: EngineThread, hosts: Hosts) -> None:
    notes: list[str] = []
    engine.noted.connect(notes.append)
    engine.load("some-model")
    before = (("detail", "layer"), ("placement", "cuda:0"), ("precision", "bfloat16"))
    first = replace(synthetic.loaded(4), effective=before)
    hear(engine, hosts.opened[0], first, *loaded_events()[1:], LOST)
    now = (("detail", "step"), ("placement", "cpu"), ("precision", "bfloat16"))
    hear(engine, hosts.opened[1], replace(first, at_ns=33_200_000_000, effective=now))
    assert "with the same settings but for placement cpu, and what was measured" in notes[0]
    assert engine.trace.gaps[0].event.effective == now


def test_a_device_that_fails_again_at_once_is_not_tried_for_ever(engine: EngineThread, hosts: Hosts) -> None:
    ended: list[EngineEnded] = []
    engine.engine_ended.connect(ended.append)
    engine.load("some-model", "cuda:0")
    hear(engine, hosts.opened[0], *loaded_events(), LOST)
    hear(engine, hosts.opened[1], replace(synthetic.loaded(4), at_ns=33_200_000_000), LOST)
    assert len(hosts.opened) == 2
    assert ended == [LOST]
    assert engine.state is None
    engine.restart()  # the user's wish is another matter
    hear(engine, hosts.opened[2], *later(), LOST)
    assert len(hosts.opened) == 4


def test_a_device_that_fails_while_a_model_is_loaded_is_told(engine: EngineThread, hosts: Hosts) -> None:
    ended: list[EngineEnded] = []
    engine.engine_ended.connect(ended.append)
    engine.load("some-model", "cuda:0")
    hear(engine, hosts.opened[0], LOADING, Failed(0, "The device failed.", command="load"), LOST)
    assert ended == [LOST]
    assert len(hosts.opened) == 1


def test_an_engine_in_this_process_whose_device_failed_goes_on_in_another(
    qapp: QApplication, hosts: Hosts, clock: Clock
) -> None:
    engine = EngineThread(hosts("thread"), hosts, clock=clock)
    engine.load("some-model", "cuda:0")
    hear(engine, hosts.opened[0], *loaded_events(), LOST)
    assert [host.place for host in hosts.opened] == ["thread", "process"]
    hear(engine, hosts.opened[1], *later())
    assert len(engine.trace.gaps) == 1
    assert engine.trace.marks[-1].event.step == 20
    assert engine.place == "process"


def test_another_model_than_the_lost_one_begins_a_trace(engine: EngineThread, hosts: Hosts) -> None:
    engine.load("some-model", "cuda:0")
    hear(engine, hosts.opened[0], *loaded_events(), LOST)
    other = synthetic.loaded(6)
    hear(engine, hosts.opened[1], other)
    assert engine.trace.model == other.model
    assert len(engine.trace.steps) == 0
    assert engine.trace.gaps == []
