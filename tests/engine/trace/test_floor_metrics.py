"""The shares of the floor that a trace tells: which steps count, and what has no value."""

from dataclasses import replace

import pytest

from engine.protocol import Calibrated, Family, ShapeDefined, StepEnded
from engine.trace.metrics import Measured, summary
from engine.trace.phases import StepKind
from engine.trace.shapes import DraftShape, ModelShape
from engine.trace.store import Trace
from tests.engine.trace.building import MS, T0, started, step, trace_of
from tests.engine.trace.test_floor import MIB, calibration

MACHINE = Calibrated(T0, 0, calibration(rungs=((MIB, 1e9),)), "measured")


def floored(wall_ms: int, floor_ms: float, moved_mb: float, **others: object) -> StepEnded:
    """A step of so many ms that ended just now, with its floor."""
    stamps = (0,) * 7 + (wall_ms * MS,)
    event = step([T0], stamps=stamps, **others)  # type: ignore[arg-type]
    return replace(event, moved_bytes=int(moved_mb * 1e6), floor_ns=int(floor_ms * MS), calibration=0)


def measured(trace: Trace) -> tuple[Measured, Measured]:
    found = summary(trace)
    return found["floor_share"], found["mbu"]


def test_medians_over_decode_steps() -> None:
    # 1 MB in 10, 5 and 4 ms at 1 GB/s: 0.1, 0.2, 0.25
    steps = [floored(10, 2, 1), floored(5, 2, 1), floored(4, 2, 1)]
    share, mbu = measured(trace_of(MACHINE, started(), *steps))
    assert (share.value, share.count) == (pytest.approx(0.4), 3)
    assert (mbu.value, mbu.count) == (pytest.approx(0.2), 3)


def test_prefill_and_steps_before_a_calibration_do_not_count() -> None:
    before = step([T0], stamps=(0,) * 7 + (10 * MS,))
    prefill = floored(10, 9, 1, kind=StepKind.PREFILL, prompt_tokens=5)
    share, mbu = measured(trace_of(MACHINE, started(), before, prefill, floored(10, 2, 1)))
    assert (share.value, share.count) == (pytest.approx(0.2), 1)
    assert (mbu.value, mbu.count) == (pytest.approx(0.1), 1)


def test_without_a_calibration_there_is_no_value() -> None:
    share, mbu = measured(trace_of(started(), step([T0])))
    assert share.value is None
    assert mbu.value is None
    assert share.count == mbu.count == 0


def test_a_step_that_took_no_time_has_no_share() -> None:
    share, mbu = measured(trace_of(MACHINE, started(), floored(0, 2, 1)))
    assert share.value is None
    assert mbu.value is None


def test_steps_of_an_encoder_alone_count() -> None:
    encoded = floored(10, 2, 1, kind=StepKind.ENCODE)
    alone = trace_of(MACHINE, started(), encoded, family=Family.ENCODER)
    assert measured(alone)[0].value == pytest.approx(0.2)
    feeds = trace_of(MACHINE, started(), encoded, family=Family.ENCODER_DECODER)
    assert measured(feeds)[0].value is None


def test_a_draft_model_leaves_no_bandwidth_to_be_told() -> None:
    shape = ModelShape(decoder=(), draft=DraftShape(decoder=()))
    verify = floored(10, 2, 1, kind=StepKind.VERIFY, drafted=3)
    share, mbu = measured(trace_of(ShapeDefined(T0, 0, shape), MACHINE, started(), verify))
    assert share.value == pytest.approx(0.2)
    assert mbu.value is None


def test_a_model_on_several_devices_has_a_floor_and_no_bandwidth() -> None:
    shape = ModelShape(decoder=(), embed_device="cuda:0", head_device="cuda:1")
    share, mbu = measured(trace_of(ShapeDefined(T0, 0, shape), MACHINE, started(), floored(10, 2, 1)))
    assert share.value == pytest.approx(0.2)
    assert mbu.value is None


def test_each_step_is_held_against_its_own_calibration() -> None:
    second = Calibrated(T0, 1, calibration(rungs=((MIB, 2e9),)), "measured")
    later = replace(floored(10, 2, 1), calibration=1)
    _, mbu = measured(trace_of(MACHINE, second, started(), floored(10, 2, 1), later))
    assert mbu.value == pytest.approx((0.1 + 0.05) / 2)


def test_intensity_needs_no_calibration() -> None:
    steps = [replace(step([T0]), moved_bytes=1_000_000, operations=n * 500_000) for n in (1, 2, 4)]
    prefill = replace(step([T0], kind=StepKind.PREFILL), moved_bytes=1_000_000, operations=10**9)
    found = summary(trace_of(started(), prefill, *steps, step([T0])))["intensity"]
    assert (found.value, found.count) == (pytest.approx(1.0), 3)
    assert summary(trace_of(started(), step([T0])))["intensity"].value is None
