"""What sensors and captures say in a session file: all of it comes back; what no machine says is left out."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.protocol import (
    DeviceSample,
    Event,
    KernelsCaptured,
    MemorySampled,
    TelemetryEnded,
    TelemetrySampled,
)
from engine.trace.recording import read_session
from engine.trace.recording.recorded import RecordedSession
from tests.engine.trace import building
from tests.engine.trace.building import MS, T0, started, step
from tests.engine.trace.recording.sessions import LOADED, STARTED, assert_same, fold, numbered, written

GPU = DeviceSample(
    "cuda:0", 1 << 30, 1 << 36, 0.9, 312.5, 1e6, 61.0, 1.9e9, 2.6e9, ("power cap",), ((77, None), (78, 5))
)
TELEMETRY = TelemetrySampled(
    *(T0 + MS, 90_000, 16, 0.5, 2.5, 0.25, 0.01, 3.5, 1 << 31, 1 << 32, 1 << 36, 3.1e9, -4.5, 12.5, True),
    *(False, "gdb", (GPU, replace(GPU, device="cuda:1")), ("A sensor is missing.",)),
)
MEMORY = MemorySampled(T0 + MS, 1 << 30, 1 << 28, 1 << 20, 1 << 29, 1 << 30, 1 << 31, 1 << 30)
ENTRIES = [("op", 0, 1, 5, -1), ("inner", 0, 2, 2, -1), ("kernel", 1, 2, 2, 0)]
CAPTURE = building.kernels(ENTRIES, lanes=("host", "stream 7"))


def session(path: Path, *events: Event) -> RecordedSession:
    return read_session(written(path / "a.cyclograph", numbered(head(*events))))


def head(*events: Event) -> list[Event]:
    return [STARTED, LOADED, building.APART, started(), step(), step(captured=True), *events, step()]


def left_out(path: Path, *events: Event) -> str:
    found = session(path, *events)
    assert len(found.steps) == 3
    found.trace()
    (notice,) = found.notices
    return notice


def test_everything_that_was_sampled_and_captured_comes_back_and_makes_the_same_trace(tmp_path: Path) -> None:
    later = replace(TELEMETRY, at_ns=T0 + 9 * MS, debugger="", throttled=None)
    events = numbered(head(TELEMETRY, MEMORY, CAPTURE, later, TelemetryEnded(T0 + 10 * MS, "It died.")))
    found = read_session(written(tmp_path / "a.cyclograph", events))
    assert found.notices == ()
    assert list(found.events()) == events
    trace = found.trace()
    assert_same(trace, fold(events))
    assert trace.telemetry.devices["cuda:1"]["power_w"].tolist() == [312.5, 312.5]
    capture = trace.capture(1)
    assert capture is not None
    assert capture.depth.tolist() == [0, 1, 0]


@pytest.mark.parametrize("last", [1, 20, 57, 200])
def test_warnings_stand_where_they_stood_however_the_steps_are_folded(tmp_path: Path, last: int) -> None:
    events: list[Event] = [STARTED, LOADED, building.APART, started()]
    for number in range(200):
        at_ns = T0 + number * 50 * MS
        throttled = ("too hot",) if 40 < number < 90 else ()
        events.append(step(stamps=[at_ns + 6 * k for k in range(8)]))
        events.append(
            replace(TELEMETRY, at_ns=at_ns, devices=(replace(GPU, throttled=throttled, others=None),))
        )
    for place, event in enumerate(events):
        if type(event).__name__ == "StepEnded":
            events[place] = replace(event, index=(place - 4) // 2)
    found = read_session(written(tmp_path / "a.cyclograph", events))
    assert found.notices == ()
    assert_same(found.trace(last), fold(list(found.events(last))))
    assert bool([mark for mark in found.trace(last).warnings if mark.warning.about == "cuda:0"]) == (
        last > 49
    )


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"processors": 0},
            {"cpu": -0.1},
            {"cpu": 3.0},
            {"load": 1e300},
            {"temperature_c": -500.0},
            {"clock_hz": -1.0},
        ),
        *({"engine_bytes": -1}, {"energy_j": 1e300}, {"memory_used_bytes": 2**61}),
        {"devices": (GPU, GPU)},
        {"devices": (replace(GPU, power_w=-1.0),)},
        {"devices": (replace(GPU, utilization=90.0),)},
        {"devices": (replace(GPU, memory_used_bytes=-5),)},
        {"devices": tuple(replace(GPU, device=str(number)) for number in range(65))},
        {"devices": (replace(GPU, others=((1, None),) * 5000),)},
    ],
)
def test_what_no_sensor_says_is_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "that no sensor says" in left_out(tmp_path, TELEMETRY, replace(TELEMETRY, **changes))


def test_devices_are_bounded_over_all_samples(tmp_path: Path) -> None:
    samples = [replace(TELEMETRY, devices=(replace(GPU, device=str(number)),)) for number in range(70)]
    assert "Left out: 6 × events of the kind TelemetrySampled" in left_out(tmp_path, *samples)


def test_memory_is_counted_from_nothing_on(tmp_path: Path) -> None:
    assert "that no sensor says" in left_out(tmp_path, replace(MEMORY, device_peak_bytes=-1))


@pytest.mark.parametrize("sample", [TELEMETRY, MEMORY])
def test_samples_do_not_run_backwards(tmp_path: Path, sample: TelemetrySampled | MemorySampled) -> None:
    assert "whose times run backwards" in left_out(tmp_path, sample, replace(sample, at_ns=T0))


def spoiled(field: str, place: int, value: int, kind: type = np.int64) -> KernelsCaptured:
    values = np.frombuffer(getattr(CAPTURE, field), kind).copy()
    values[place] = value
    return replace(CAPTURE, **{field: values.tobytes()})


@pytest.mark.parametrize(
    "capture",
    [
        *(spoiled("duration_ns", 0, -1), spoiled("duration_ns", 0, 2**62)),
        *(spoiled("begin_ns", 2, 2**62), spoiled("begin_ns", 0, -(2**62)), spoiled("begin_ns", 2, 0)),
        *(spoiled("stamps", -1, 2**62), spoiled("stamps", 3, 2**40), spoiled("stamps", 0, -1)),
        *(spoiled("name", 0, 9, np.uint32), spoiled("lane", 0, 9, np.uint32)),
        *(spoiled("launched_by", 2, 3, np.int32), spoiled("launched_by", 2, -2, np.int32)),
        *(replace(CAPTURE, host_lanes=-1), replace(CAPTURE, host_lanes=3), replace(CAPTURE, layout=7)),
        *(replace(CAPTURE, lane=CAPTURE.lane[:4]), replace(CAPTURE, stamps=b"")),
        replace(CAPTURE, lanes=tuple(map(str, range(5000)))),
    ],
)
def test_a_capture_that_does_not_hang_together_is_left_out(tmp_path: Path, capture: KernelsCaptured) -> None:
    assert "events of the kind KernelsCaptured" in left_out(tmp_path, capture)


def test_those_who_read_with_sql_find_them_by_column(tmp_path: Path) -> None:
    path = written(tmp_path / "a.cyclograph", numbered(head(TELEMETRY, MEMORY, CAPTURE)))
    with closing(sqlite3.connect(path)) as connection:
        captures = connection.execute("SELECT step, again, entries, lanes FROM captures").fetchall()
        devices = connection.execute("SELECT device, power_w, utilization FROM device_telemetry").fetchall()
        memory = connection.execute("SELECT process_bytes, device_peak_bytes FROM memory").fetchall()
        machine = connection.execute("SELECT processors, memory_total_bytes FROM telemetry").fetchall()
    assert captures == [(1, 0, 3, '["host","stream 7"]')]
    assert devices == [("cuda:0", 312.5, 0.9), ("cuda:1", 312.5, 0.9)]
    assert memory == [(1 << 30, 1 << 30)]
    assert machine == [(16, 1 << 36)]
