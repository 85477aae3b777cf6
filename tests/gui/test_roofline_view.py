"""The roofline without Qt: where points and roofs lie, by hand arithmetic."""

from dataclasses import replace

import pytest

from engine.protocol import Calibrated, SettingsChanged, ShapeDefined, StepEnded
from engine.trace.floor import Part
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from gui.roofline_view import (
    LABEL_GAP,
    MOST_POINTS,
    LogScale,
    label_column,
    levels,
    roofline,
    x_range,
    y_range,
)
from tests.gui import synthetic

FLOORED = synthetic.Shape(layers=8, floors=True, chunks=2)


def test_points_are_operations_over_bytes_and_time() -> None:
    trace = synthetic.trace(60, FLOORED)
    view = roofline(trace, slice(10, 20), 15)
    steps = trace.steps
    assert view.step.tolist() == list(range(10, 20))
    assert view.intensity[5] == pytest.approx(steps.operations[15] / steps.moved_bytes[15])
    assert view.rate[5] == pytest.approx(steps.operations[15] * 1e9 / steps.wall_ns[15])
    assert view.kinds == [StepKind.DECODE]
    assert view.under_roofs.all()
    assert roofline(trace, slice(0, 60), 15).kinds == [StepKind.PREFILL, StepKind.DECODE]


def test_the_shown_step_and_its_parts_lie_under_what_their_floors_allow() -> None:
    trace = synthetic.trace(60, FLOORED)
    view = roofline(trace, slice(0, 60), 40)
    assert [place.part for place in view.places] == [None, Part.ATTENTION, Part.MLP, Part.HEAD]
    whole = view.places[0]
    share = trace.steps.floor_ns[40] / trace.steps.wall_ns[40]
    assert whole.rate / whole.roof == pytest.approx(share)
    mlp = view.places[2]
    assert mlp.intensity == pytest.approx(0.5)
    assert mlp.roof == pytest.approx(0.5 * 40e9)  # 9 MB are read as fast as the smallest working set


def test_roofs_are_levels_of_memory() -> None:
    found = levels(synthetic.CALIBRATION, 9_000_000)
    assert [(roof.bytes_per_s, roof.is_memory, roof.in_use) for roof in found] == [
        (40e9, False, True),
        (10e9, True, False),
    ]
    found = levels(synthetic.CALIBRATION, 20_000_000)
    assert [(roof.bytes_per_s, roof.in_use) for roof in found] == [(40e9, False), (20e9, True), (10e9, False)]
    assert [roof.in_use for roof in levels(synthetic.CALIBRATION, 2**30)] == [False, True]
    assert not any(roof.in_use for roof in levels(synthetic.CALIBRATION, 0))


def test_levels_that_are_alike_are_one_line() -> None:
    alike = replace(synthetic.CALIBRATION, rungs=((2**20, 10.5e9), (2**24, 10.2e9), (2**29, 10e9)))
    (only,) = levels(alike, 2**25)
    assert only.is_memory
    assert only.in_use


def test_without_a_calibration_there_are_points_and_no_roofs() -> None:
    made = Trace(synthetic.loaded(8, floors=True))
    events = (e for e in synthetic.events(30, FLOORED) if not isinstance(e, Calibrated))
    made.extend([replace(e, floor_ns=0, calibration=-1) if isinstance(e, StepEnded) else e for e in events])
    view = roofline(made, slice(0, 30), 20)
    assert len(view.step) == 30
    assert view.roofs == ()
    assert view.peak == 0
    assert {place.roof for place in view.places} == {0.0}


def test_steps_of_another_calibration_are_told_apart() -> None:
    trace = synthetic.trace(30, FLOORED)
    last = next(e for e in reversed(list(synthetic.events(30, FLOORED))) if isinstance(e, StepEnded))
    faster = replace(synthetic.CALIBRATION, rates=(("float32", 100e9),))
    trace.extend([Calibrated(0, 1, faster, "measured"), replace(last, calibration=1)])
    view = roofline(trace, slice(0, 31), 30)
    assert view.told is not None
    assert view.told.number == 1
    assert view.under_roofs.tolist() == [False] * 30 + [True]
    assert roofline(trace, slice(0, 31), 5).told.number == 0  # type: ignore[union-attr]
    assert roofline(trace, slice(0, 31), None).told.number == 1  # type: ignore[union-attr]


def test_steps_whose_work_is_not_known_are_left_out() -> None:
    view = roofline(synthetic.trace(30, synthetic.Shape(layers=2)), slice(0, 30), 20)
    assert len(view.step) == 0
    assert view.shown is None
    assert view.places == ()
    assert x_range(view)[0] < x_range(view)[1]


def test_many_steps_are_thinned_out_but_the_newest_stay() -> None:
    trace = synthetic.trace(MOST_POINTS + 900, synthetic.Shape(layers=1, floors=True))
    view = roofline(trace, slice(0, len(trace.steps)), None)
    assert MOST_POINTS / 2 <= len(view.step) <= MOST_POINTS
    assert view.step[-64:].tolist() == list(range(len(trace.steps) - 64, len(trace.steps)))


def test_axes_hold_everything() -> None:
    view = roofline(synthetic.trace(60, FLOORED), slice(0, 60), 40)
    low, high = x_range(view)
    assert low < view.intensity.min()
    assert high > max(view.intensity.max(), view.peak / 10e9)
    low, high = y_range(view)
    assert low < view.rate.min()
    assert high > view.peak


def test_a_logarithmic_axis() -> None:
    scale = LogScale(0.1, 1000.0, 50, 400)
    assert scale.place([0.1, 1.0, 10.0, 1000.0]).tolist() == pytest.approx([50, 150, 250, 450])
    assert scale.ticks() == pytest.approx([0.1, 1, 10, 100, 1000])
    assert scale.value(250) == pytest.approx(10)
    up = LogScale(1.0, 100.0, 300, -200)
    assert up.place(10.0) == pytest.approx(200)


def test_labels_stand_in_a_column_beside_all_points_in_their_order() -> None:
    points = [(100.0, 50.0), (109.0, 54.0), (100.0, 53.0)]
    places = label_column(points, [80, 80, 70], 0, 400, 300, 16)
    assert {x for x, _ in places} == {109 + LABEL_GAP}
    assert [y for _, y in places] == [50, 82, 66]
    assert label_column([], [], 0, 400, 300, 16) == []


def test_labels_without_room_at_the_right_stand_left_of_all_points() -> None:
    places = label_column([(390.0, 50.0), (380.0, 90.0)], [60, 40], 0, 400, 300, 16)
    assert [x + 60 for x, _ in places] == [380 - LABEL_GAP] * 2


def test_labels_of_points_near_the_bottom_are_moved_up() -> None:
    points = [(100.0, 280.0), (100.0, 299.0), (100.0, 299.0)]
    rows = [y for _, y in label_column(points, [80] * 3, 0, 400, 300, 16)]
    assert rows == [260, 276, 292]


def test_each_precision_has_its_own_rate() -> None:
    trace = synthetic.trace(30, FLOORED)
    last = next(e for e in reversed(list(synthetic.events(30, FLOORED))) if isinstance(e, StepEnded))
    halved = replace(synthetic.model_shape(8), computes=("bfloat16",))
    change = SettingsChanged(0, 30, (), 0, 1, (("precision", "bfloat16"),))
    trace.extend([change, ShapeDefined(0, 1, halved), replace(last, configuration=1)])
    before, after = roofline(trace, slice(0, 31), 5), roofline(trace, slice(0, 31), 30)
    assert (before.peak_kind, before.peak) == ("float32", 200e9)
    assert (after.peak_kind, after.peak) == ("bfloat16", 100e9)
    assert before.under_roofs.tolist() == [True] * 30 + [False]
    assert after.under_roofs.tolist() == [False] * 30 + [True]


def test_what_was_not_measured_has_no_roofs() -> None:
    trace = synthetic.trace(5, FLOORED)
    other = replace(synthetic.CALIBRATION, rates=(("bfloat16", 100e9),))
    trace.append(Calibrated(0, 0, other, "measured"))
    view = roofline(trace, slice(0, 5), 4)
    assert (view.peak_kind, view.peak, view.roofs) == ("", 0.0, ())
