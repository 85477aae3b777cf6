"""Where an engine lives: a process of its own (the default) or a thread of this one. The same Session runs in both.

A front end sends commands and receives events; it never learns where they come from. The process is the default
because threads of one Python process share the interpreter lock, and a window that draws would slow the model down
that it measures; it also contains a crash, an out-of-memory kill or a poisoned device.
"""

import contextlib
import importlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from time import perf_counter_ns
from typing import IO, Protocol

from engine.protocol import DEVICE_LOST, Command, EngineEnded, Event, Failed, Shutdown
from engine.spawning import spawn_engine

LENGTH = struct.Struct("<Q")  # a frame: its length, then that many bytes of pickle
REPORT_BYTES = 64 * 1024  # how much of what a dying engine printed is kept

#: What to do when an engine ended with its device, unless another one goes on by itself.
USE_AGAIN = " Restart the engine to use the device again."


class DeviceLost(Exception):
    """An engine ends since its process cannot use the device any more. Its text: what happened, a sentence."""


class Host(Protocol):
    """An engine, wherever it lives."""

    place: str

    def start(self) -> None:
        """Start the engine; returns at once. Commands may be sent before it is up."""
        ...

    def send(self, command: Command) -> None:
        """Hand over a command. Does nothing when the engine is gone (an EngineEnded says so)."""
        ...

    def receive(self) -> list[Event]:
        """All events since the last call, in order, without waiting. The last one ever is an EngineEnded."""
        ...

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the engine to end, wait for it, and end it by force where that is possible."""
        ...

    def kill(self) -> None:
        """End the engine at once, where that is possible."""
        ...


def open_host(place: str = "process") -> Host:
    """A host of the named kind, not started. Raises ValueError for a place that does not exist."""
    if place == "process":
        return ProcessHost()
    if place == "thread":
        return ThreadHost()
    raise ValueError(f"An engine lives in a process or in a thread, not in '{place}'.")


def write_frame(stream: IO[bytes], payload: bytes) -> None:
    """Write one frame and flush it. Raises OSError when the other end is gone."""
    stream.write(LENGTH.pack(len(payload)) + payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Read one frame, waiting for it; None at the end of the stream (also in the middle of a frame)."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(header)
    payload = stream.read(length)
    return payload if len(payload) == length else None


class ProcessHost:
    """An engine in a process of its own, spoken to over its standard input and output."""

    place = "process"

    def __init__(self, spawned: "subprocess.Popen[bytes] | None" = None) -> None:
        """`spawned`: a process that was started before (`engine.spawning`); None: `start` starts one."""
        self._process = spawned
        self._events: deque[Event] = deque()
        self._printed = bytearray()
        self._threads: list[threading.Thread] = []
        self._asked_to_end = False
        self._sending = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id, once there is a process."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Spawn the process, unless it is there, and the threads that read what it says."""
        self._process = self._process or spawn_engine()
        for work in (self._read_events, self._read_prints):
            thread = threading.Thread(target=work, name=f"engine-{work.__name__.strip('_')}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def send(self, command: Command) -> None:
        """Hand over a command."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("The engine was not started.")
        if isinstance(command, Shutdown):
            self._asked_to_end = True
        # A closed pipe means that the engine is gone, which the reading thread reports with its reason.
        with self._sending, contextlib.suppress(OSError, ValueError):
            write_frame(self._process.stdin, pickle.dumps(command))

    def receive(self) -> list[Event]:
        """All events since the last call."""
        return drain(self._events)

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the process, by force after `timeout_s`."""
        if self._process is None:
            return
        self.send(Shutdown())
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._join()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is None:
            return
        self._asked_to_end = True
        self._process.kill()
        self._join()

    def _join(self) -> None:
        assert self._process is not None
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _read_events(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while (frame := read_frame(self._process.stdout)) is not None:
            self._events.extend(pickle.loads(frame))
        code = self._process.wait()
        self._threads[1].join()
        report = self._printed.decode("utf-8", "replace")
        sentence = "" if self._asked_to_end else ending_sentence(code)
        self._events.append(EngineEnded(perf_counter_ns(), sentence, code, report))

    def _read_prints(self) -> None:
        """Keep the end of what the engine prints: where it dies, that says why."""
        assert self._process is not None
        assert self._process.stderr is not None
        while chunk := self._process.stderr.read1(8192):  # type: ignore[attr-defined]
            self._printed += chunk
            del self._printed[:-REPORT_BYTES]


class ThreadHost:
    """An engine in a thread of this process: it shares the interpreter lock with whoever started it."""

    place = "thread"

    def __init__(self) -> None:
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._events: deque[Event] = deque()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the thread; it imports torch."""
        self._thread.start()

    def send(self, command: Command) -> None:
        """Hand over a command."""
        self._commands.put(command)

    def receive(self) -> list[Event]:
        """All events since the last call."""
        return drain(self._events)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the thread to end and wait until it has: a thread inside torch cannot be ended by force."""
        if self._thread.ident is None:
            return
        self.send(Shutdown())
        self._thread.join()

    def kill(self) -> None:
        """A thread cannot be killed; this asks it to end and waits."""
        self.stop()

    def _run(self) -> None:
        sentence, report, code = "", "", None
        try:
            # By name: this module must not know torch.
            runtime = importlib.import_module("engine.runtime.session")
            runtime.run_session(self._commands, self._events.append, place=self.place)
        except DeviceLost as lost:
            sentence, code = f"{lost} What was measured is kept.", DEVICE_LOST
        except Exception as error:
            sentence, report = f"The engine failed: {error}. Restart it to go on.", repr(error)
            self._events.append(Failed(perf_counter_ns(), sentence, report))
        self._events.append(EngineEnded(perf_counter_ns(), sentence, code, report))


def ending_sentence(code: int) -> str:
    """Why an engine process that nobody asked to end is gone, in words, from its exit code."""
    if code == DEVICE_LOST:
        return f"The device failed and took its engine process with it; what was measured is kept.{USE_AGAIN}"
    if code == -signal.SIGTERM:
        return "The engine process was terminated from outside; what was measured is kept. Restart the engine to go on."
    if os.name == "posix" and code == -signal.SIGKILL:
        return (
            "The engine process was killed, by hand or because memory ran out; what was measured is kept."
            " Restart the engine, with a smaller model if memory was short."
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"The engine process crashed ({name}); what was measured is kept. Restart the engine to go on."
    return f"The engine process ended by itself (exit code {code}); what was measured is kept. Restart it to go on."


def drain(events: "deque[Event]") -> list[Event]:
    """Take all events that wait, in order; more may come meanwhile."""
    drained: list[Event] = []
    with contextlib.suppress(IndexError):
        while True:
            drained.append(events.popleft())
    return drained


def batch(events: Sequence[Event]) -> bytes:
    """Events as one frame's payload."""
    return pickle.dumps(list(events), protocol=pickle.HIGHEST_PROTOCOL)
