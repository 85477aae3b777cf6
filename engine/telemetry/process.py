"""Sensors as a front end has them: a process of its own reads them, so that neither the engine nor the window does.

A thread would share the interpreter lock with whoever draws, or with the engine itself; what is read here is about
both of them.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol

from engine.hosts import read_frame, write_frame
from engine.protocol import DeviceFacts, TelemetryEnded, TelemetrySampled
from engine.telemetry.sensors import EVERY_S, Watch

Sample = TelemetrySampled | TelemetryEnded


class Telemetry(Protocol):
    """Where samples come from."""

    def watch(self, engine: int | None, devices: tuple[DeviceFacts, ...] = ()) -> None:
        """Read from now on about this engine (its process id; None: there is none) and the devices it can use."""
        ...

    def look(self, somebody: bool) -> None:
        """Whether anybody looks at what is read: nothing is while nobody does."""
        ...

    def receive(self) -> list[Sample]:
        """All samples since the last call, without waiting."""
        ...

    def stop(self) -> None:
        """End, and wait for that."""
        ...


class TelemetryProcess:
    """Starts the process that reads sensors, tells it what to read, and takes its samples."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._watch = Watch(os.getpid(), every_s=every_s)
        self._every_s: float = every_s
        self._process: subprocess.Popen[bytes] | None = None
        self._samples: deque[Sample] = deque()
        self._reader: threading.Thread | None = None
        self._asked_to_end = False

    def start(self) -> None:
        """Start the process; returns at once."""
        environment = dict(os.environ)
        root = str(Path(__file__).resolve().parent.parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.telemetry"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, name="telemetry", daemon=True)
        self._reader.start()
        self._order(self._watch)

    def watch(self, engine: int | None, devices: tuple[DeviceFacts, ...] = ()) -> None:
        """Read from now on about this engine and these devices."""
        named = tuple((facts.device, facts.identity) for facts in devices if facts.device != "cpu")
        self._order(Watch(os.getpid(), engine, named, self._watch.every_s))

    def look(self, somebody: bool) -> None:
        """Read, or rest while nobody looks."""
        every_s = self._every_s if somebody else None
        if every_s != self._watch.every_s:
            self._order(Watch(self._watch.front, self._watch.engine, self._watch.devices, every_s))

    def receive(self) -> list[Sample]:
        """All samples since the last call; a TelemetryEnded is the last."""
        taken: list[Sample] = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._samples.popleft())
        return taken

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the process, by force after `timeout_s`."""
        self._asked_to_end = True
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        assert process.stdout is not None
        process.stdout.close()

    def _order(self, watch: Watch) -> None:
        self._watch = watch
        if self._process is None or self._process.stdin is None:
            return
        with contextlib.suppress(OSError, ValueError):  # it is gone: the reading thread says so
            write_frame(self._process.stdin, pickle.dumps(watch))

    def _read(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        while (frame := read_frame(process.stdout)) is not None:
            self._samples.append(pickle.loads(frame))
        code = process.wait()
        if not self._asked_to_end:
            sentence = (
                f"Sensors are not read any more: the process that reads them ended (exit code {code})."
                " Start the program again to see them; everything else goes on."
            )
            self._samples.append(TelemetryEnded(perf_counter_ns(), sentence))
