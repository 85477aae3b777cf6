"""The ledger of two clocks, by hand arithmetic: what the device ran, what only the host did, and nothing twice."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol import Calibrated, EngineReplaced, EngineState, StateChanged, StepEnded
from engine.trace.calibration import Calibration
from engine.trace.continuation import Continuation
from engine.trace.device_ledger import LATENCY_MOST_NS, NO_TIME, checked, device_gaps, device_spans, phases_ns
from engine.trace.lanes import Bound, LaneTimes, Verdict, lanes, least_ns, verdict, verdict_of
from engine.trace.ledger import END, Layout
from engine.trace.phases import PHASE_COUNT, Phase, Role, SpanName, StepKind
from engine.trace.store import Trace
from tests.engine.trace.building import MS, loaded, started

NAMES = (
    SpanName(Phase.ATTENTION, 0, "attn"),
    SpanName(Phase.MLP, 0, "mlp"),
    SpanName(Phase.TRANSFER, -1, "token to host"),
)
LAYOUT = Layout(NAMES, (1, END, 2, END, 3, END))
#: launched within 6, waited for until 100, done at 104
HOST = np.array([0, 1, 3, 3, 5, 6, 100, 104], np.int64) * 1_000
DEVICE = np.array([4, 5, 45, 46, 96, NO_TIME, NO_TIME, NO_TIME], np.int64)
DEVICE[DEVICE != NO_TIME] *= 1_000


def step(host: np.ndarray, device: np.ndarray | None, index: int = 0) -> StepEnded:
    stamps = b"" if device is None else device.astype(np.int64).tobytes()
    return StepEnded(
        index, 0, StepKind.DECODE, 0, 0, host.astype(np.int64).tobytes(), 0, 1, 0, device_stamps=stamps
    )


def trace_of(*steps: StepEnded) -> Trace:
    from engine.protocol import LayoutDefined

    trace = Trace(loaded())
    trace.extend([LayoutDefined(0, NAMES, LAYOUT.codes), started(), *steps])
    return trace


def test_what_the_device_ran_is_its_phases_and_only_the_rest_is_the_hosts() -> None:
    ledger = phases_ns(LAYOUT, HOST, device_gaps(LAYOUT, HOST, DEVICE))
    assert {phase.name: int(ledger[phase]) for phase in Phase if ledger[phase]} == {
        "ATTENTION": 40_000 + 2_000,  # and what the host launched of it before the device was there (1 to 3)
        "MLP": 50_000 + 1_000,  # 3 to 4
        "TRANSFER": 4_000,  # 96 to 100; from 6 to 96 the device ran
        "UNATTRIBUTED": 1_000 + 1_000 + 1_000 + 4_000,  # host 0–1; device 4–5, 45–46; host 100–104
    }
    assert ledger.sum() == 104_000


def test_a_step_that_runs_on_counts_in_the_wall_time_in_which_it_ran() -> None:
    later = np.where(DEVICE == NO_TIME, NO_TIME, DEVICE + 50_000)  # until 146, the host is done at 104
    second_host = HOST + 104_000
    second = np.where(DEVICE == NO_TIME, NO_TIME, DEVICE + 142_000)  # from 146 on: right behind it
    trace = trace_of(step(HOST, later), step(second_host, second, 1))
    phases = trace.steps.phases_ns
    assert (phases.sum(axis=1) == trace.steps.wall_ns).all()
    # of the first step's MLP, 96 to 146, 8 µs lie in its own wall time and 42 in that of the second
    assert phases[0, Phase.MLP] == 8_000 + 2_000  # and what the host alone did of it
    assert phases[1, Phase.MLP] == 42_000 + 20_000  # its own begins at 188
    assert trace.steps.layers_ns[0, 0].tolist() == [40_000, 50_000, 0]  # a layer's time is all that it ran


def test_a_step_without_device_times_behind_one_that_runs_on_still_sums() -> None:
    later = np.where(DEVICE == NO_TIME, NO_TIME, DEVICE + 50_000)
    trace = trace_of(step(HOST, later), step(HOST + 104_000, None, 1))
    assert trace.steps.device_offset.tolist() == [0, -1]
    assert trace.device_stamps(1) is None
    assert lanes(trace, 1) is None
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()


gaps = st.lists(st.integers(0, 10**7), min_size=8, max_size=8)


@given(gaps, gaps, st.integers(-(10**7), 10**7), st.lists(st.booleans(), min_size=8, max_size=8))
def test_the_ledger_sums_whatever_the_device_says(
    host_gaps: list[int], device_gaps_: list[int], begin: int, there: list[bool]
) -> None:
    host = 10**9 + np.cumsum(host_gaps)
    times = np.where(there, 10**9 + begin + np.cumsum(device_gaps_), NO_TIME)
    trace = trace_of(step(host, times), step(host + (host[-1] - host[0]), times + host[-1] * 0, 1))
    phases = trace.steps.phases_ns
    assert (phases.sum(axis=1) == trace.steps.wall_ns).all()
    assert (phases >= 0).all()
    assert phases.shape == (2, PHASE_COUNT)


def test_stamps_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="7 device stamps, its layout 8"):
        checked(LAYOUT, DEVICE[1:].tobytes())
    with pytest.raises(ValueError, match="back in time"):
        checked(LAYOUT, DEVICE[::-1].astype(np.int64).tobytes())
    with pytest.raises(ValueError, match="back in time"):
        checked(LAYOUT, np.full(8, -5, np.int64).tobytes())
    assert checked(LAYOUT, b"") is None
    assert checked(LAYOUT, np.full(8, NO_TIME, np.int64).tobytes()) is None


def test_spans_of_the_device_lie_where_it_ran_them() -> None:
    spans = device_spans(LAYOUT, HOST, DEVICE)
    assert [(s.name.phase, s.begin_ns, s.duration_ns) for s in spans] == [
        (Phase.ATTENTION, 5_000, 40_000),
        (Phase.MLP, 46_000, 50_000),
    ]


def test_lanes_of_a_step_that_is_bound_by_its_device() -> None:
    both = lanes(trace_of(step(HOST, DEVICE)), 0)
    assert both is not None
    assert (both.times.begin_ns, both.times.end_ns, both.times.device_ns) == (4_000, 96_000, 92_000)
    assert (both.times.waiting_ns, both.times.launching_ns, both.times.wall_ns) == (94_000, 5_000, 104_000)
    assert [(s.begin_ns, s.duration_ns) for s in both.idle] == [(0, 4_000), (96_000, 8_000)]
    # a launch takes 4 µs to get there: what was launched until 1 is there at 5, what until 3 at 7
    assert [(s.begin_ns, s.most_ns) for s in both.starved] == [(4_000, 1_000), (5_000, 2_000)]
    found = verdict(both.times)
    assert found.bound is Bound.DEVICE
    assert "Without a calibration" in found.reason


def test_lanes_of_a_step_that_is_bound_by_its_launches() -> None:
    host = np.array([0, 10, 40, 45, 90, 95, 97, 100], np.int64) * 1_000
    device = np.array([3, 13, 43, 48, 93, NO_TIME, NO_TIME, NO_TIME], np.int64)
    device[device != NO_TIME] *= 1_000
    both = lanes(trace_of(step(host, device)), 0)
    assert both is not None
    assert sum(s.most_ns for s in both.starved) == both.times.device_ns == 90_000
    found = verdict(both.times, 1e6, 1e6)
    assert found.bound is Bound.LAUNCH
    assert "0.09 ms" in found.reason


def test_a_launch_is_never_taken_to_need_longer_than_any_does() -> None:
    far = np.where(DEVICE == NO_TIME, NO_TIME, DEVICE + 10 * MS)
    gaps = device_gaps(LAYOUT, HOST, far)
    assert (gaps.launched_ns == HOST[1:5] + LATENCY_MOST_NS).all()
    assert (gaps.waited_ns == 0).all()


def test_before_a_step_that_was_launched_early_the_device_is_not_idle() -> None:
    later = np.where(DEVICE == NO_TIME, NO_TIME, DEVICE + 50_000)
    second = np.where(DEVICE == NO_TIME, NO_TIME, DEVICE + 142_000)
    both = lanes(trace_of(step(HOST, later), step(HOST + 104_000, second, 1)), 1)
    assert both is not None
    assert both.idle == ()


def _times(device_ns: int = 10 * MS) -> LaneTimes:
    return LaneTimes(0, device_ns, 0, 8 * MS, MS, 11 * MS)


@pytest.mark.parametrize(
    ("bytes_ms", "operations_ms", "bound", "word"),
    [
        (7.5, 0.4, Bound.MEMORY, "moving its bytes takes at least 7.50 ms"),
        (0.4, 7.5, Bound.COMPUTE, "its operations takes at least 7.50 ms"),
        (2.0, 1.0, Bound.DEVICE, "far from what the device can do"),
    ],
)
def test_a_device_bound_step_is_told_by_what_its_bytes_and_operations_take(
    bytes_ms: float, operations_ms: float, bound: Bound, word: str
) -> None:
    found = verdict(_times(), bytes_ms * MS, operations_ms * MS)
    assert isinstance(found, Verdict)
    assert found.bound is bound
    assert word in found.reason


def test_a_lost_engine_leaves_a_mark_and_closes_what_was_open() -> None:
    from engine.protocol import AlternationStarted

    trace = trace_of(step(HOST, DEVICE))
    trace.append(AlternationStarted(0, 1, "precision", "a", "b", 1, (0, 1), ((), ())))
    now = (("precision", "bfloat16"),)
    trace.append(EngineReplaced(5, 1, "The device failed.", 3 * MS, 2, now))
    (gap,) = trace.gaps
    assert (gap.step, gap.text) == (1, "engine replaced")
    assert trace.configuration == now
    assert trace.alternations[0].ended is not None
    assert trace.steps.layers_ns[0, 0, Role.ATTENTION] == 40_000


def test_what_bytes_and_operations_take_is_of_the_calibration_that_the_floor_stands_on() -> None:
    # 100 GB/s and 1 TFLOP/s: 5 MB take 50 µs, 10 MFLOP take 10 µs
    found = Calibration("p", "cuda:0", 1, "", 0.0, ((1 << 30, 1e11),), (("bfloat16", 1e12),), 0.0)
    event = replace(
        step(HOST, DEVICE), moved_bytes=5_000_000, operations=10_000_000, floor_ns=50_000, calibration=3
    )
    trace = trace_of()
    trace.append(Calibrated(0, 3, found, "measured"))
    trace.append(event)
    assert least_ns(trace, 0) == (pytest.approx(50_000), pytest.approx(10_000))
    both = lanes(trace, 0)
    assert both is not None
    assert verdict_of(trace, 0, both.times).bound is Bound.MEMORY
    # 80 MFLOP at the precision's own rate, which is half of the fastest: the floor says so
    trace.append(replace(event, index=1, operations=80_000_000, floor_ns=160_000))
    assert least_ns(trace, 1) == (pytest.approx(50_000), pytest.approx(160_000))
    assert verdict_of(trace, 1, both.times).bound is Bound.COMPUTE
    trace.append(replace(event, index=2, calibration=-1, floor_ns=0))
    assert least_ns(trace, 2) == (None, None)


def test_another_engine_counts_anew_and_the_trace_goes_on() -> None:
    trace = trace_of(step(HOST, DEVICE), step(HOST + 200_000, None, 1))
    found = Calibration("p", "cuda:0", 1, "", 0.0, ((1 << 30, 1e11),), (("bfloat16", 1e12),), 0.0)
    trace.append(Calibrated(0, 0, found, "measured"))
    again = Continuation(trace, loaded(), "The device failed.", 0)
    assert again.replaced.step == 2
    told = again(Calibrated(0, 0, found, "measured"))
    assert isinstance(told, Calibrated)
    assert told.number == 1
    moved = again(replace(step(HOST, None), calibration=0))
    assert isinstance(moved, StepEnded)
    assert (moved.index, moved.generation, moved.layout, moved.configuration) == (2, 1, 1, 1)
    assert moved.calibration == 1
    without = again(step(HOST, None))
    assert isinstance(without, StepEnded)
    assert without.calibration == -1  # none stays none
    state = StateChanged(0, EngineState.READY)
    assert again(state) is state
