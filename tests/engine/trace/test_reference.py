"""What is kept of a trace as a reference, and where it lies over another one: by hand."""

from dataclasses import replace

import numpy as np
import pytest

from engine.protocol import Family
from engine.trace.export import excerpt_of
from engine.trace.reference import (
    NOWHERE,
    Beginnings,
    Course,
    Reference,
    Series,
    context_curve,
    first_token,
    reference_of,
)
from engine.trace.store import Trace
from tests.engine.trace.building import changed, encode_step, ended, started, step, trace_of
from tests.engine.trace.runs import generation
from tests.gui import readers

EAGER = (("precision", "float32"), ("attention", "eager"))


def reference(trace: Trace, first: int = 0, last: int | None = None) -> Reference:
    return reference_of(excerpt_of(trace, first, last), "a name")


def course(trace: Trace, first: int = 0, last: int | None = None) -> Course:
    found = reference(trace, first, last).course
    assert found is not None
    return found


# ---------------------------------------------------------------- what is kept


def test_offsets_count_from_the_step_of_the_first_token() -> None:
    found = course(trace_of(*generation([10, 20, 60], chunks=2)))
    assert found.walls.offset.tolist() == [-1, 0, 1, 2, 3]
    assert found.walls.value_ns.tolist() == [50, 50, 10, 20, 60]
    assert found.usual_walls.offset.tolist() == [1, 2, 3]
    assert found.usual_walls.value_ns.tolist() == [10, 15, 20]
    assert found.usual_latencies.offset.tolist() == [1, 2, 3]
    assert found.usual_latencies.value_ns.tolist() == [10, 15, 20]


def test_the_longest_generation_is_drawn_and_of_equals_the_latest() -> None:
    trace = trace_of(
        *generation([1, 2]), ended(), *generation([3, 4, 5], 1), ended(1), *generation([6, 7, 8], 2)
    )
    found = reference(trace)
    assert found.generations == 3
    assert found.course is not None
    assert found.course.walls.value_ns.tolist() == [50, 6, 7, 8]
    assert found.course.usual_walls.value_ns.tolist() == [3.5, 4, 4.5], (
        "medians go on from the generations before"
    )


def test_a_stretch_keeps_its_place_in_the_generation() -> None:
    found = course(trace_of(*generation(list(range(10, 100, 10)))), 4, 6)
    assert found.walls.offset.tolist() == [4, 5, 6]
    assert found.walls.value_ns.tolist() == [40, 50, 60]
    assert found.usual_latencies.value_ns.tolist() == [40, 45, 50], "of the stretch alone"


def test_a_step_captured_in_depth_is_in_no_line() -> None:
    found = reference(trace_of(*generation([10, 9000, 30], captured=[1])))
    assert found.course is not None
    assert found.course.walls.offset.tolist() == [0, 1, 3]
    assert found.course.usual_walls.value_ns.tolist() == [10, 20]
    assert found.time_ns.tolist() == [10, 30]


def test_without_a_token_there_is_no_place_to_lay_it() -> None:
    assert reference(trace_of(started(), step(), step())).course is None


def test_medians_are_of_the_same_configuration() -> None:
    fast = generation([10, 10, 30])[1:]
    slow = [replace(each, configuration=1) for each in generation([100, 100, 300], chunks=0)[1:]]
    found = course(trace_of(started(), *fast, changed(1, EAGER), *slow))
    assert found.usual_walls.value_ns.tolist() == [10, 10, 10, 100, 100, 100]


def test_it_is_compared_under_the_settings_of_most_of_its_steps() -> None:
    few, most = generation([10, 20]), generation([40, 50, 60], context=7, configuration=1)[1:]
    found = reference(trace_of(*few, changed(1, EAGER), *most))
    assert found.configurations == (EAGER, (("precision", "float32"),))
    assert found.time_ns.tolist() == [40, 50, 60]
    assert found.work.tolist() == [7, 8, 9]
    assert len(found.curves) == 2


def test_what_is_measured_is_of_these_steps() -> None:
    trace = trace_of(*generation([10, 20, 30, 40]))
    assert reference(trace).measured["itl_p50"].value == 25
    assert reference(trace, 3, 4).measured["itl_p50"].value == 35
    assert reference(trace, 3, 4).steps == "steps 3 to 4 of 5"


def test_it_is_a_copy() -> None:
    trace = trace_of(*generation([10, 20, 30]))
    found = course(trace)
    trace.extend(generation([7] * 2000, 1))  # columns grow
    assert found.walls.value_ns.tolist() == [50, 10, 20, 30]


def test_a_model_that_only_reads_begins_with_its_first_result() -> None:
    found = reference(readers.trace())
    assert found.reads
    assert found.course is not None
    assert found.course.usual_latencies.offset.tolist() == [0, 1]


def test_warm_up_is_in_no_comparison() -> None:
    found = reference(trace_of(*generation([900] * 3 + [100] * 97)))
    assert found.time_ns.tolist() == [100] * 97
    assert found.work.tolist() == list(range(3, 100))


# ---------------------------------------------------------------- by context


def test_medians_by_context_in_bins_of_eight() -> None:
    curve = context_curve(np.arange(100, 124), np.array([10] * 8 + [20] * 7 + [900] + [30] * 8))
    assert curve.begin.tolist() == [100, 108, 116]
    assert curve.end.tolist() == [108, 116, 124]
    assert curve.median_ns.tolist() == [10, 20, 30], "one stall moves no median"


def test_bins_that_hold_nothing_are_left_out() -> None:
    curve = context_curve(np.array([1] * 8 + [2] * 8 + [31] * 8 + [32] * 8), np.arange(32))
    assert curve.begin.tolist() == [1, 25]
    assert curve.end.tolist() == [9, 33]
    assert curve.median_ns.tolist() == [7.5, 23.5]


def test_few_latencies_are_one_bin_and_many_at_most_64() -> None:
    assert context_curve(np.array([5, 9]), np.array([10, 30])).median_ns.tolist() == [20]
    assert len(context_curve(np.arange(20_000), np.ones(20_000, np.int64)).begin) == 64
    assert len(context_curve(np.full(100, 3), np.ones(100, np.int64)).begin) == 1


def test_contexts_as_large_as_a_number_can_be_are_no_harm() -> None:
    curve = context_curve(np.array([0] * 300 + [2**62] * 300), np.array([10] * 300 + [20] * 300))
    assert curve.median_ns.tolist() == [10, 20]
    assert (curve.begin < curve.end).all()


# ---------------------------------------------------------------- laying over


def test_where_a_generation_got_its_first_token() -> None:
    trace = trace_of(*generation([1], chunks=3), ended(), started(1), step(), step([9]))
    assert first_token(trace, trace.generations[0]) == 2
    assert first_token(trace, trace.generations[1]) == 5
    reads = trace_of(started(), encode_step(5), encode_step(6), family=Family.ENCODER)
    assert first_token(reads, reads.generations[0]) == 0
    assert first_token(trace_of(started()), trace_of(started()).generations[0]) is None


def test_each_row_has_an_offset_in_its_generation() -> None:
    trace = trace_of(*generation([1, 1], chunks=2), ended(), *generation([1, 1], 1))
    beginnings = Beginnings()
    beginnings.update(trace)
    assert beginnings.offsets(np.arange(9)).tolist() == [-1, 0, 1, 2, 0, 1, 2, 3, 4], (
        "also behind the last step"
    )
    assert beginnings.begin_of(np.arange(9)).tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 4]
    assert beginnings.counts == (2, 2)


def test_it_is_kept_up_as_the_trace_grows() -> None:
    events = [
        *generation([1, 1], chunks=3),
        ended(),
        started(1),
        ended(1),
        *generation([1], 2, chunks=2),
        step([9]),
    ]
    trace, grown = trace_of(), Beginnings()
    for event in events:
        trace.append(event)
        grown.update(trace)
    at_once = Beginnings()
    at_once.update(trace)
    rows = np.arange(len(trace.steps) + 3)
    assert (
        grown.offsets(rows).tolist()
        == at_once.offsets(rows).tolist()
        == [-2, -1, 0, 1, 2, -1, 0, 1, 2, 3, 4, 5]
    )
    assert grown.counts == at_once.counts == (3, 2)


def test_before_a_first_token_nothing_has_a_place() -> None:
    beginnings = Beginnings()
    assert beginnings.offsets(np.arange(2)).tolist() == [NOWHERE] * 2
    beginnings.update(trace_of(started(), step(), step()))
    assert beginnings.offsets(np.arange(2)).tolist() == [NOWHERE] * 2
    assert beginnings.counts == (1, 0)


@pytest.mark.parametrize(
    ("offset", "value"), [(2, None), (3, 30), (4, 30), (5, 50), (6, None), (NOWHERE, None)]
)
def test_the_value_at_an_offset_is_the_latest_by_then(offset: int, value: float | None) -> None:
    (found,) = Series(np.array([3, 5]), np.array([30.0, 50.0])).at(np.array([offset]))
    assert np.isnan(found) if value is None else found == value


def test_a_series_of_nothing_has_no_value() -> None:
    assert np.isnan(Series(np.zeros(0, np.int64), np.zeros(0)).at(np.arange(3))).all()
