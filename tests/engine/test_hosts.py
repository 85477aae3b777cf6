"""Hosts with real engines: a process and a thread behave the same, and a dead process says why."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import hosts
from engine.hosts import Host, ProcessHost, ending_sentence, open_host
from engine.protocol import (
    EngineEnded,
    EngineStarted,
    EngineState,
    Event,
    Generate,
    GenerationEnded,
    Load,
    ModelLoaded,
    Pause,
    Prompt,
    StateChanged,
    StepEnded,
)
from engine.trace.store import Trace
from tests.engine.runtime.live_models import family_checkpoint

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


def wait_for(host: Host, events: list[Event], done: Callable[[Event], bool]) -> Event:
    """Receive until an event is there for which `done` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for event in host.receive():
            events.append(event)
        for event in events:
            if done(event):
                return event
        time.sleep(0.005)
    raise AssertionError(f"waited in vain; events: {[type(event).__name__ for event in events]}")


@pytest.fixture(params=["process", "thread"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    host = open_host(request.param)
    yield host
    host.stop()


def test_an_engine_generates_wherever_it_lives(host: Host, llama: Path) -> None:
    host.start()
    host.send(Load(str(llama), "cpu"))
    host.send(Generate(Prompt("你好, wörld"), 6))
    events: list[Event] = []
    wait_for(host, events, lambda event: isinstance(event, GenerationEnded))
    loaded = next(event for event in events if isinstance(event, ModelLoaded))
    trace = Trace(loaded)
    trace.extend(events)
    assert len(trace.tokens) == 6
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()
    assert dict(loaded.effective)["engine_place"] == host.place
    host.stop()
    ended = [event for event in host.receive() if isinstance(event, EngineEnded)]
    assert [event.sentence for event in ended] == [""]


def test_the_engine_process_does_not_import_qt(llama: Path) -> None:
    host = ProcessHost()
    host.start()
    events: list[Event] = []
    started = wait_for(host, events, lambda event: isinstance(event, EngineStarted))
    assert isinstance(started, EngineStarted)
    assert started.pid == host.pid != os.getpid()
    if sys.platform == "linux":
        assert "libQt6" not in Path(f"/proc/{host.pid}/maps").read_text()
    host.stop()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_a_killed_process_says_so_and_what_was_measured_stays(llama: Path) -> None:
    host = ProcessHost()
    host.start()
    host.send(Load(str(llama), "cpu"))
    host.send(Generate(Prompt("abc"), 200))
    events: list[Event] = []
    wait_for(host, events, lambda event: isinstance(event, StepEnded) and event.index >= 10)
    assert host.pid is not None
    os.kill(host.pid, signal.SIGKILL)
    ended = wait_for(host, events, lambda event: isinstance(event, EngineEnded))
    assert isinstance(ended, EngineEnded)
    assert "killed" in ended.sentence
    assert ended.exit_code == -signal.SIGKILL
    host.send(Pause())  # nobody is there: no error, the EngineEnded has said it
    host.stop()
    trace = Trace(next(event for event in events if isinstance(event, ModelLoaded)))
    trace.extend(events)
    assert len(trace.steps) >= 11


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_a_crashed_process_leaves_a_report(llama: Path) -> None:
    host = ProcessHost()
    host.start()
    events: list[Event] = []
    wait_for(host, events, lambda event: isinstance(event, StateChanged) and event.state is EngineState.EMPTY)
    assert host.pid is not None
    os.kill(host.pid, signal.SIGSEGV)
    ended = wait_for(host, events, lambda event: isinstance(event, EngineEnded))
    assert isinstance(ended, EngineEnded)
    assert "SIGSEGV" in ended.sentence
    assert "Segmentation fault" in ended.report
    host.stop()


def test_loading_is_cancelled_by_ending_the_process() -> None:
    host = ProcessHost()
    host.start()
    host.send(Load("llama-30m", "cpu"))
    host.kill()
    assert isinstance(host.receive()[-1], EngineEnded)


def test_an_engine_ends_when_its_front_end_is_gone() -> None:
    host = ProcessHost()
    host.start()
    events: list[Event] = []
    wait_for(host, events, lambda event: isinstance(event, StateChanged) and event.state is EngineState.EMPTY)
    assert host._process is not None
    assert host._process.stdin is not None
    host._process.stdin.close()  # as the death of the window would
    assert host._process.wait(PATIENCE_S) == 0
    host.kill()


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="moon"):
        open_host("moon")


@pytest.mark.parametrize("code", [1, 3, -6, -9, -11, -15])
def test_every_ending_has_a_sentence(code: int) -> None:
    sentence = ending_sentence(code)
    assert sentence.endswith(".")
    assert "measured is kept" in sentence


def test_frames_survive_a_pipe_and_a_torn_frame_is_the_end() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as out, os.fdopen(reading, "rb") as back:
        hosts.write_frame(out, b"one")
        hosts.write_frame(out, b"")
        out.write(hosts.LENGTH.pack(100) + b"torn")
        out.close()
        assert hosts.read_frame(back) == b"one"
        assert hosts.read_frame(back) == b""
        assert hosts.read_frame(back) is None
