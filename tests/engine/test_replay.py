"""A recording as a host: it says what was said, when it was said, and refuses what needs a model."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.protocol import (
    Calibrate,
    Calibrated,
    Change,
    Command,
    CountTokens,
    EngineEnded,
    EngineState,
    Event,
    Failed,
    Generate,
    GenerationStarted,
    Join,
    ListModels,
    Load,
    LookUp,
    ModelLoaded,
    NoteTaken,
    Pause,
    Prompt,
    Resume,
    Shutdown,
    SingleStep,
    StateChanged,
    StepEnded,
    Stop,
    TelemetrySampled,
    TokensCounted,
)
from engine.replay import ALL_AT_ONCE, LONGEST_WAIT_NS, ReplayHost, Timeline
from engine.trace.recording import read_session
from tests.engine.trace import building
from tests.engine.trace.building import MS, T0, started, step
from tests.engine.trace.recording.sessions import (
    CALIBRATION,
    LOADED,
    STARTED,
    assert_same,
    fold,
    rich,
    written,
)

PATIENCE_S = 20.0


class Clock:
    """Stands still unless it is told."""

    def __init__(self) -> None:
        self.now_ns = 500

    def __call__(self) -> int:
        return self.now_ns

    def pass_ms(self, ms: float) -> None:
        self.now_ns += round(ms * MS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def steady(count: int, every_ms: int = 10) -> list[Event]:
    """Steps of 4 ms that end every so many ms, the first of them 10 ms after the prompt."""
    events: list[Event] = [STARTED, replace(LOADED, at_ns=T0), building.APART, started()]
    for number in range(count):
        end = T0 + (10 + number * every_ms) * MS
        stamps = [end - 4 * MS + k * MS // 2 for k in range(7)] + [end]
        events.append(step([end - MS], stamps=stamps))
    return [*events, building.ended()]


@pytest.fixture
def play(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., ReplayHost]]:
    """Opens a recording of some events, and waits until it is read."""
    hosts: list[ReplayHost] = []

    def open(events: list[Event], **how: object) -> ReplayHost:
        path = written(tmp_path / f"{len(hosts)}.cyclograph", events)
        host = ReplayHost(path, clock=clock, **how)  # type: ignore[arg-type]
        hosts.append(host)
        host.start()
        deadline = time.monotonic() + PATIENCE_S
        while not host._is_read:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return host

    yield open
    for host in hosts:
        host.stop()


def told(events: list[Event]) -> list[Event]:
    """Without the states of the host."""
    return [event for event in events if not isinstance(event, StateChanged)]


def states(events: list[Event]) -> list[EngineState]:
    return [event.state for event in events if isinstance(event, StateChanged)]


def steps(events: list[Event]) -> int:
    return sum(isinstance(event, StepEnded) for event in events)


def test_all_at_once_it_says_everything_and_makes_the_same_trace(play: Callable[..., ReplayHost]) -> None:
    events = rich()
    host = play(events, speed=ALL_AT_ONCE)
    said = host.receive()
    ending = events[-1]
    assert isinstance(ending, EngineEnded)
    assert told(said)[:-1] == [e for e in events[:-1] if not isinstance(e, StateChanged)]
    assert told(said)[-1] == Failed(ending.at_ns, f"In the recording: {ending.sentence}", ending.report)
    assert_same(fold(told(said)), fold(events))
    assert states(said) == [EngineState.LOADING, EngineState.RUNNING, EngineState.PAUSED]
    assert (host.position, host.step_count) == (steps(events), steps(events))
    assert host.receive() == []


def test_a_long_recording_comes_in_portions(
    play: Callable[..., ReplayHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.replay.TOGETHER", 10)
    host = play(steady(35), speed=ALL_AT_ONCE)
    counts = []
    while not host.is_paused:
        counts.append(steps(host.receive()))
    assert counts == [8, 10, 10, 7]


@pytest.mark.parametrize("speed", [1.0, 4.0, 0.25])
def test_steps_come_when_they_came_then(play: Callable[..., ReplayHost], clock: Clock, speed: float) -> None:
    host = play(steady(20), speed=speed)
    first = told(host.receive())
    assert [type(event) for event in first[:2]] == [type(STARTED), ModelLoaded]
    assert any(isinstance(event, GenerationStarted) for event in first)
    assert steps(first) == 0
    clock.pass_ms(9.9 / speed)
    assert steps(host.receive()) == 0
    clock.pass_ms(0.2 / speed)
    assert steps(host.receive()) == 1
    clock.pass_ms(30 / speed)
    assert steps(host.receive()) == 3
    assert host.position == 4
    assert host.position_ns == 40 * MS
    assert host.length_ns == 200 * MS


def test_the_speed_changes_without_a_jump(play: Callable[..., ReplayHost], clock: Clock) -> None:
    host = play(steady(100))
    clock.pass_ms(200)
    host.receive()
    assert host.position == 20
    host.speed = 10.0
    assert steps(host.receive()) == 0
    clock.pass_ms(10.1)
    assert steps(host.receive()) == 10
    host.speed = 0.1
    clock.pass_ms(100.5)
    assert steps(host.receive()) == 1


def test_pause_and_resume(play: Callable[..., ReplayHost], clock: Clock) -> None:
    host = play(steady(20))
    clock.pass_ms(50)
    host.receive()
    host.send(Pause())
    assert states(host.receive()) == [EngineState.PAUSED]
    clock.pass_ms(1000)
    assert host.receive() == []
    host.send(Resume())
    assert states(host.receive()) == [EngineState.RUNNING]
    clock.pass_ms(10.1)
    assert steps(host.receive()) == 1


def test_single_steps_with_what_was_said_about_them(play: Callable[..., ReplayHost]) -> None:
    host = play(rich(), paused=True)
    first = host.receive()
    assert states(first)[-1] is EngineState.PAUSED
    assert steps(first) == 0
    said = told(first)
    for count in range(1, 6):
        host.send(SingleStep())
        said += told(host.receive())
        assert (steps(said), host.position) == (count, count)
    assert said == [e for e in read_session(host._path).events(5) if not isinstance(e, StateChanged)]


def test_at_the_end_it_goes_on_from_the_beginning(play: Callable[..., ReplayHost], clock: Clock) -> None:
    host = play(steady(3))
    clock.pass_ms(1000)
    assert states(host.receive())[-1] is EngineState.PAUSED
    host.send(Resume())
    again = host.receive()
    assert [type(event) for event in told(again)[:2]] == [type(STARTED), ModelLoaded]
    assert steps(again) == 0
    clock.pass_ms(1000)
    assert steps(host.receive()) == 3


@pytest.mark.parametrize("wanted", [0, 1, 7, 16, 31, 99])
def test_wherever_it_is_set_what_comes_next_belongs_there(
    play: Callable[..., ReplayHost], wanted: int
) -> None:
    events = rich()
    host = play(events, speed=ALL_AT_ONCE)
    host.receive()
    trace = host.seek(wanted)
    assert host.position == len(trace.steps) == min(wanted, host.step_count)
    if host.position < host.step_count:
        host.resume()
        for event in told(host.receive()):
            trace.append(event)
        assert_same(trace, fold(events))


def test_it_can_be_set_to_a_time(play: Callable[..., ReplayHost], clock: Clock) -> None:
    host = play(steady(20))
    host.receive()
    assert len(host.seek_ns(54 * MS).steps) == 5
    assert steps(host.receive()) == 0
    clock.pass_ms(10.1)
    assert steps(host.receive()) == 1
    assert len(host.seek_ns(0).steps) == 0
    assert len(host.seek_ns(10**18).steps) == 20


def test_samples_of_the_machine_do_not_stretch_a_silence(tmp_path: Path) -> None:
    events = steady(3)
    ended_ns = T0 + 30 * MS
    quiet = [TelemetrySampled(ended_ns + k * 250 * MS, 5, 2, cpu=0.5) for k in range(1, 241)]
    late = T0 + 60_000 * MS + 30 * MS
    again = step([late + MS], stamps=[late + k for k in range(8)], generation=1)
    path = written(tmp_path / "a.cyclograph", [*events, *quiet, started(1, late), again])
    timeline = Timeline(read_session(path))
    assert timeline.due_ns[-1] == pytest.approx(30 * MS + LONGEST_WAIT_NS, rel=1e-3)
    assert (timeline.due_ns[1:] >= timeline.due_ns[:-1]).all()
    said = list(timeline.events(0, len(timeline)))
    sampled = [due for due, event in zip(timeline.due_ns.tolist(), said, strict=True) if event in quiet]
    assert sampled[:3] == [30 * MS + k * 250 * MS for k in (1, 2, 3)]
    assert sampled[-1] == 30 * MS + LONGEST_WAIT_NS


def test_what_came_before_the_first_prompt_is_not_waited_for(tmp_path: Path) -> None:
    loaded = replace(LOADED, at_ns=T0 - 50_000 * MS)
    asides = [Calibrated(T0 - k * 10_000 * MS, 0, CALIBRATION, "measured") for k in (4, 3)]
    path = written(tmp_path / "a.cyclograph", [STARTED, loaded, *asides, *steady(3)[2:]])
    assert Timeline(read_session(path)).due_ns[-1] == 30 * MS


def test_it_opens_at_its_end_with_the_whole_trace(play: Callable[..., ReplayHost], clock: Clock) -> None:
    host = play(rich(), paused=True, at_end=True)
    said = host.receive()
    assert [type(event) for event in told(said)] == [type(STARTED), ModelLoaded]
    assert (host.position, host.position_ns) == (host.step_count, host.length_ns)
    whole = host.seek(host.step_count)
    assert_same(whole, fold(rich()))
    assert host.seek(host.step_count) is whole
    assert host.receive() == []


def test_what_is_shared_with_the_whole_trace_is_as_if_it_were_not(play: Callable[..., ReplayHost]) -> None:
    host = play(rich(), paused=True, at_end=True)
    host.receive()
    whole, events = host.seek(host.step_count), rich()
    for count in range(host.step_count):
        shared = host.seek(count)
        assert np.shares_memory(shared.steps.wall_ns, whole.steps.wall_ns) == (count > 0)
        assert_same(shared, host.session.trace(count))
        host.step(host.step_count)
        shared.extend(told(host.receive()))
        assert_same(shared, whole)
    assert_same(whole, fold(events))  # which nobody has written into


def test_long_silence_is_not_waited_for(tmp_path: Path) -> None:
    late = T0 + 3_600_000 * MS
    events = [
        *steady(3),
        started(1, late),
        step([late + MS], stamps=[late + k for k in range(8)], generation=1),
    ]
    timeline = Timeline(read_session(written(tmp_path / "a.cyclograph", events)))
    assert int(timeline.due_ns[-1]) == 30 * MS + LONGEST_WAIT_NS + 7
    assert (timeline.due_ns[1:] >= timeline.due_ns[:-1]).all()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (Generate(Prompt("a")), "generate anything new"),
        (Join(Prompt("a")), "take another sequence"),
        (Change(()), "change a setting"),
        (Stop(), "end what ran then"),
        (Load("demo"), "load a model"),
        (Calibrate(), "measure this machine"),
        (ListModels(), "list models"),
    ],
)
def test_what_needs_a_model_is_refused_with_a_sentence(
    play: Callable[..., ReplayHost], command: Command, words: str
) -> None:
    host = play(steady(1))
    host.receive()
    host.send(command)
    (failed,) = host.receive()
    assert isinstance(failed, Failed)
    assert (
        failed.sentence == f"This is a recording, which cannot {words}: that takes a window with an engine."
    )


def test_questions_get_no_answer_or_the_reason(play: Callable[..., ReplayHost]) -> None:
    host = play(steady(1))
    host.receive()
    host.send(LookUp(1, "a model"))
    assert host.receive() == []
    host.send(CountTokens(7, Prompt("a")))
    (answer,) = host.receive()
    assert isinstance(answer, TokensCounted)
    assert (answer.request, answer.reason) == (7, "a recording has no model to count with")


def test_it_ends_when_it_is_told_and_says_so_once(play: Callable[..., ReplayHost]) -> None:
    host = play(steady(5))
    host.receive()
    host.send(Shutdown())
    host.stop()
    host.kill()
    assert [type(event) for event in host.receive()] == [EngineEnded]
    assert host.receive() == []


def test_a_file_that_cannot_be_read_ends_it_with_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.cyclograph").write_text("no session")
    host = ReplayHost(tmp_path / "a.cyclograph")
    host.start()
    host._thread.join()
    said = host.receive()
    assert [type(event) for event in said] == [StateChanged, Failed, EngineEnded]
    assert isinstance(said[1], Failed)
    assert said[1].sentence == "'a.cyclograph' is no session of Cyclograph: choose another file."
    with pytest.raises(RuntimeError, match="still being read"):
        host.seek(1)
    host.stop()


def test_a_note_that_is_taken_belongs_to_the_recording_and_shifts_nothing(
    play: Callable[..., ReplayHost],
) -> None:
    host = play(steady(20), speed=ALL_AT_ONCE, paused=True)
    due_ns = host.length_ns
    host.seek(10)
    host.take_note(NoteTaken(10**15, 4, "behind"))
    host.take_note(NoteTaken(10**15, 15, "ahead"))
    assert host.length_ns == due_ns
    assert host.position == 10
    host.resume()
    said = [event for event in host.receive() if isinstance(event, StepEnded | NoteTaken)]
    assert [event.index for event in said if isinstance(event, StepEnded)] == list(range(10, 20))
    (place,) = [place for place, event in enumerate(said) if isinstance(event, NoteTaken)]
    assert (said[place], said[place - 1].index) == (NoteTaken(10**15, 15, "ahead"), 15)
    assert [note.step for note in host.seek(16).notes] == [4, 15]
    assert [note.step for note in host.seek(15).notes] == [4]


@pytest.mark.parametrize("stand", [0, 4, 5, 6, 19])
def test_a_note_that_was_there_is_replaced_and_removed_wherever_it_stands(
    play: Callable[..., ReplayHost], stand: int
) -> None:
    host = play([*steady(20), NoteTaken(10**15, 4, "old")], speed=ALL_AT_ONCE, paused=True)
    for text in ("new", ""):
        trace = host.seek(stand)
        host.take_note(NoteTaken(1, 4, text))
        trace.append(NoteTaken(1, 4, text))  # as whoever shows it does
        assert host.position == stand
        host.resume()
        trace.extend(host.receive())
        host.pause()
        assert len(trace.steps) == 20
        assert [note.event.text for note in trace.notes] == [text] * bool(text)
        assert [note.event.text for note in host.seek(20).notes] == [text] * bool(text)
