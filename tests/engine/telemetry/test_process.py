"""The process that reads sensors: it samples, rests while nobody looks, ends with its front end, and may die."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from engine.protocol import DeviceFacts, TelemetryEnded, TelemetrySampled
from engine.telemetry.process import Sample, TelemetryProcess

PATIENCE_S = 20.0


@pytest.fixture
def telemetry() -> Iterator[TelemetryProcess]:
    made = TelemetryProcess(every_s=0.05)
    made.start()
    yield made
    made.stop()


def some(telemetry: TelemetryProcess, count: int) -> list[Sample]:
    taken: list[Sample] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(taken) < count and time.monotonic() < deadline:
        taken += telemetry.receive()
        time.sleep(0.01)
    assert len(taken) >= count
    return taken


def test_it_samples_the_engine_on_the_clock_of_its_steps(telemetry: TelemetryProcess) -> None:
    some(telemetry, 1)
    begin_ns = time.perf_counter_ns()
    telemetry.watch(os.getpid(), (DeviceFacts("cpu", "a processor", 1, 1),))
    time.sleep(0.2)
    samples = [
        s for s in some(telemetry, 2) if isinstance(s, TelemetrySampled) and s.engine_bytes is not None
    ]
    assert samples
    assert all(begin_ns < s.at_ns < time.perf_counter_ns() for s in samples)
    assert samples[-1].engine_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    assert all(s.took_ns > 0 for s in samples)
    assert samples[-1].devices == ()


def test_it_rests_while_nobody_looks(telemetry: TelemetryProcess) -> None:
    some(telemetry, 1)
    telemetry.look(False)
    time.sleep(0.15)
    telemetry.receive()
    time.sleep(0.2)
    assert telemetry.receive() == []
    telemetry.look(True)
    some(telemetry, 1)


def test_one_that_dies_says_so_once(telemetry: TelemetryProcess) -> None:
    some(telemetry, 1)
    assert telemetry._process is not None
    telemetry._process.kill()
    deadline = time.monotonic() + PATIENCE_S
    taken: list[Sample] = []
    while not any(isinstance(s, TelemetryEnded) for s in taken) and time.monotonic() < deadline:
        taken += telemetry.receive()
    ended = taken[-1]
    assert isinstance(ended, TelemetryEnded)
    assert "Start the program again" in ended.sentence
    telemetry.look(False)  # nobody is there to hear it
    assert telemetry.receive() == []


def test_it_ends_when_told_and_knows_neither_torch_nor_qt() -> None:
    telemetry = TelemetryProcess(every_s=0.05)
    telemetry.start()
    process = telemetry._process
    telemetry.stop()
    assert process is not None
    assert process.returncode == 0
    code = (
        "import sys, engine.telemetry.__main__; print([m for m in ('torch', 'PySide6') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
