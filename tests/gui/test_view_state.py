"""Scales, pooling and stacking by hand arithmetic and against plain definitions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.protocol import Family
from engine.trace.phases import PHASE_COUNT, Phase, Role
from engine.trace.store import NO_LATENCY
from gui import view_state as view
from tests.gui import readers, synthetic


def test_bucket_size_is_the_least_power_of_two_that_fits() -> None:
    assert [view.bucket_size(span, 100) for span in (8, 100, 101, 200, 201, 1600)] == [1, 1, 2, 2, 4, 16]


def test_steps_lie_on_whole_pixels_from_the_left_edge() -> None:
    scale = view.StepScale(first=100, last=200, left=50, width=250)
    assert scale.x([100, 101, 102, 200]).tolist() == [50, 52, 55, 300]
    assert scale.step_at(50) == 100
    assert scale.step_at(300) == 200
    assert scale.bucket == 1


@example(first=0.0, span=15.0, width=69)  # 69 / 4.6 is a little more than 15
@given(st.floats(0, 5000), st.floats(8, 50_000), st.integers(50, 2000))
def test_every_pixel_belongs_to_the_column_drawn_there(first: float, span: float, width: int) -> None:
    scale = view.StepScale(first, first + span, 56, width)
    for x in (56, 56 + width // 3, 56 + width - 1):
        bucket = scale.bucket_at(x)
        assert scale.x(bucket * scale.bucket) <= x < scale.x((bucket + 1) * scale.bucket)


def test_buckets_on_screen_are_anchored_at_step_zero() -> None:
    scale = view.StepScale(first=37, last=437, left=0, width=100)
    assert scale.bucket == 4
    assert scale.buckets(count=1000) == range(9, 110)
    assert scale.buckets(count=50) == range(9, 13)
    assert len(scale.buckets(count=10)) == 0


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.sampled_from([1, 2, 4, 8, 64]))
def test_the_slowest_step_stands_for_its_bucket(values: list[int], size: int) -> None:
    wall = np.array(values, np.int64)
    buckets = range(math.ceil(len(values) / size))
    found = view.slowest(wall, size, buckets)
    assert [int(wall[i]) for i in found] == [max(values[i * size : (i + 1) * size]) for i in buckets]
    assert [int(i) // size for i in found] == list(buckets)


def test_a_bucket_keeps_its_steps_when_the_view_moves() -> None:
    wall = np.random.default_rng(1).integers(0, 1000, 100)
    whole = view.slowest(wall, 8, range(13))
    assert view.slowest(wall, 8, range(3, 9)).tolist() == whole[3:9].tolist()


def test_stacks_sum_to_the_wall_time_of_a_real_step() -> None:
    trace = synthetic.trace(100, synthetic.Shape(layers=3))
    columns = view.strip_columns(trace, 8, range(13))
    assert columns.edges_ns.shape == (13, PHASE_COUNT + 1)
    assert (columns.edges_ns[:, 0] == 0).all()
    assert (columns.edges_ns[:, -1] == trace.steps.wall_ns[columns.step]).all()
    assert (np.diff(columns.edges_ns, axis=1) == trace.steps.phases_ns[columns.step]).all()
    assert columns.prefill.tolist() == [True] + [False] * 12
    assert (columns.begin[-1], columns.end[-1]) == (96, 100)


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 16]), st.sampled_from(list(Role)))
def test_map_cells_are_the_largest_of_their_bucket(count: int, size: int, role: Role) -> None:
    trace = synthetic.trace(count, synthetic.Shape(layers=2, chunks=1))
    cells = view.map_columns(trace, role, size, range(math.ceil(count / size)))
    values = trace.steps.layers_ns[:, :, role]
    expected = [values[i : i + size].max(axis=0).tolist() for i in range(0, count, size)]
    assert cells.tolist() == expected


def test_ceilings_are_nice_and_hold_still() -> None:
    assert [view.nice_ceiling(v) for v in (0.9, 1.0, 1.01, 7, 8.1, 130)] == pytest.approx(
        [0.9 / 0.9, 1, 1.2, 8, 10, 150]
    )
    assert view.held_ceiling(10, 9) == 10
    assert view.held_ceiling(10, 5) == 10
    assert view.held_ceiling(10, 4.9) == 5
    assert view.held_ceiling(10, 10.1) == 12


def test_ticks_are_multiples_of_one_two_or_five() -> None:
    assert view.ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert view.ticks(3, 7, 4) == [3, 4, 5, 6, 7]
    assert view.ticks(0, 0.03, 3) == pytest.approx([0, 0.01, 0.02, 0.03])
    assert view.ticks(5, 5, 3) == [5]


def test_what_is_usual_leaves_out_prefill_and_single_spikes() -> None:
    kinds = np.array([0] * 4 + [1] * 200, np.int8)
    values = np.array([10_000] * 4 + [100] * 199 + [5_000], np.int64)
    assert view.usual_ns(values, kinds) == 100
    assert view.usual_ns(values[-10:], kinds[-10:]) == 100
    assert view.usual_ns(values[:4], kinds[:4]) == 10_000
    assert view.usual_ns(values[:0], kinds[:0]) == 0


def test_latency_columns_leave_out_steps_without_latency() -> None:
    trace = synthetic.trace(40, synthetic.Shape(layers=2, chunks=5, spike_every=0))
    series = view.ArrivalSeries()
    numbers = view.configuration_numbers(trace)
    series.update(trace, numbers)
    assert series.steps.tolist() == list(range(5, 40))  # chunks yield nothing, the first arrival has no gap
    columns = series.columns(trace, numbers, 8, range(5))
    itl = trace.steps.itl_ns
    assert columns.low.tolist() == [itl[5:8].min(), *(itl[i : i + 8].min() for i in (8, 16, 24, 32))]
    assert columns.high.tolist() == [itl[5:8].max(), *(itl[i : i + 8].max() for i in (8, 16, 24, 32))]
    assert columns.median[-1] == np.median(itl[5:40])
    assert NO_LATENCY not in columns.low


def test_rolling_quantiles_never_mix_configurations() -> None:
    trace = synthetic.trace(100, synthetic.Shape(layers=2, chunks=1, mark_every=25, spike_every=0))
    numbers = view.configuration_numbers(trace)
    assert numbers.tolist() == [0, 1, 0, 2]
    series = view.ArrivalSeries()
    series.update(trace, numbers)
    itl = trace.steps.itl_ns
    at = int(np.searchsorted(series.steps, 30))
    assert series.rolling[at, 0] == np.median(itl[25:31])
    assert math.isnan(series.rolling[at, 1])  # a 95th percentile of six values says nothing
    back = int(np.searchsorted(series.steps, 60))
    assert series.rolling[back, 0] == np.median(np.concatenate((itl[1:25], itl[50:61])))
    assert series.rolling[back, 1] == pytest.approx(
        np.percentile(np.concatenate((itl[1:25], itl[50:61])), 95)
    )


def test_series_grow_as_if_made_at_once() -> None:
    events = list(synthetic.events(90, synthetic.Shape(layers=2, chunks=2, mark_every=20)))
    trace = synthetic.Trace(synthetic.loaded(2))
    grown, whole = view.ArrivalSeries(), view.ArrivalSeries()
    for event in events:
        trace.append(event)
        grown.update(trace, view.configuration_numbers(trace))
    whole.update(trace, view.configuration_numbers(trace))
    assert grown.steps.tolist() == whole.steps.tolist()
    assert np.array_equal(grown.rolling, whole.rolling, equal_nan=True)


def test_a_series_serves_for_a_trace_of_fewer_or_more_of_the_same_steps() -> None:
    shape = synthetic.Shape(layers=2, chunks=2, mark_every=20)
    series = view.ArrivalSeries()
    for steps in (60, 30, 0, 45, 90):
        trace = synthetic.Trace(synthetic.loaded(2))
        trace.extend(list(synthetic.events(90, shape))[: steps + steps // 20 + 2])
        anew, numbers = view.ArrivalSeries(), view.configuration_numbers(trace)
        series.update(trace, numbers)
        anew.update(trace, numbers)
        assert series.steps.tolist() == anew.steps.tolist()
        assert np.array_equal(series.rolling, anew.rolling, equal_nan=True)


def test_unattributed_time_is_on_top() -> None:
    assert view.STACK[-1] is Phase.UNATTRIBUTED
    assert sorted(view.STACK) == list(Phase)


def test_steps_of_a_model_that_only_reads_are_its_normal_steps() -> None:
    trace = readers.trace()
    assert view.strip_columns(trace, 1, range(2)).prefill.tolist() == [False, False]
    trace.model = replace(readers.facts(), family=Family.ENCODER_DECODER)
    assert view.strip_columns(trace, 1, range(2)).prefill.tolist() == [True, True]


def test_the_latency_of_a_model_that_only_reads_is_the_time_a_sequence() -> None:
    trace = readers.trace()
    series, numbers = view.ArrivalSeries(), view.configuration_numbers(trace)
    series.update(trace, numbers)
    assert series.steps.tolist() == [0, 1]
    assert series.columns(trace, numbers, 1, range(2)).high.tolist() == [4_000_000, 8_000_000]
    assert view.lengths(trace, slice(0, 2)).tolist() == [7, 5], "with padding"
