"""The chart of the cycle model without Qt: fits and residuals of traces made by a known law, and their words."""

from dataclasses import replace

import numpy as np
import pytest

from engine.protocol import StepEnded
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from gui import units
from gui.cycle_view import (
    FORMULA,
    MOST_POINTS,
    TOO_FEW_DECODED,
    TOO_FEW_READ,
    CycleKind,
    CycleModels,
    ends,
    signed,
)
from tests.engine.trace.building import T0, started, step, trace_of
from tests.engine.trace.test_cycle_model import textbook
from tests.gui import synthetic

PREFILL = StepKind.PREFILL


def prefill(tokens: int, wall_ns: float) -> StepEnded:
    """A prompt that was read in one piece."""
    stamps = (0,) * 7 + (round(wall_ns),)
    return step([T0], stamps=stamps, kind=PREFILL, prompt_tokens=tokens, context_length=tokens + 1)


def read(tokens: int) -> StepEnded:
    """1 ms, 20 µs a token and 50 ns a pair."""
    return prefill(tokens, 1e6 + 20_000 * tokens + 50 * tokens * (tokens + 1) / 2)


def view_of(trace: Trace, kind: CycleKind = CycleKind.DECODE, shown: int | None = None):  # type: ignore[no-untyped-def]
    return CycleModels().view(trace, kind, shown)


def test_a_textbook_trace_lies_on_its_line() -> None:
    view = view_of(trace_of(started(), *textbook(range(100, 400))))
    (series,) = view.series
    assert series.label == "as started"
    assert series.line_x.tolist() == [100, 399]
    assert series.line_ns == pytest.approx([62_300, 63_197], rel=1e-4)
    assert np.abs(series.off).max() < 1e-3
    assert view.fits
    assert view.rows[-1][0] == "T of a token"
    assert view.rows[0][:2] == ("T_layer", "50.0 µs")
    by_name = {row[0]: row for row in view.rows}
    assert by_name["T_attention"][2] == "+3.00 µs"  # for 1,000 tokens
    assert "holds" in view.sentences[0]
    assert "does not" not in view.sentences[0]


def test_the_formula_holds_the_coefficients_that_were_measured() -> None:
    trace = synthetic.trace(300, synthetic.Shape(layers=8, chunks=1))
    view = view_of(trace)
    assert view.formula[0] == FORMULA
    for symbol, line in (("T_layer", 1), ("T_attention", 2), ("T_sample", 3), ("V", 4)):
        constant = next(row[1] for row in view.rows if row[0] == symbol)
        assert constant in view.formula[line]


def test_single_steps_lie_off_the_fit() -> None:
    events = textbook(range(100, 400))
    slow = step([T0], stamps=(0, 0, 0, 0, 0, 0, 0, 126_000), context_length=250)
    view = view_of(trace_of(started(), *events, slow))
    assert view.series[0].off[-1] == pytest.approx(126_000 / 62_750 - 1, rel=0.01)


def test_too_few_steps_are_points_without_a_line() -> None:
    view = view_of(trace_of(started(), *textbook(range(100, 105))))
    assert len(view.series[0].step) == 5
    assert not view.fits
    assert np.isnan(view.series[0].off).all()
    assert view.sentences == (TOO_FEW_DECODED,)
    assert view_of(Trace()).series == ()


def test_each_configuration_has_its_own_fit_and_the_shown_one_is_told() -> None:
    trace = synthetic.trace(400, synthetic.Shape(layers=4, mark_every=200, chunks=1))
    view = view_of(trace, shown=50)
    assert [series.label for series in view.series] == ["as started", "attention sdpa"]
    assert view.title == "SETTINGS: as started"
    assert view_of(trace, shown=350).title == "SETTINGS: attention sdpa"
    assert view.series[1].line_ns[0] < view.series[0].line_ns[0]


def test_floors_are_fitted_as_well() -> None:
    view = view_of(synthetic.trace(100, synthetic.Shape(layers=4, floors=True)))
    assert len(view.series[0].floor_x) == 2
    assert (view.series[0].floor_ns < view.series[0].line_ns).all()
    assert view.rows[-1][0] == "its floor"
    assert len(view_of(synthetic.trace(100, synthetic.Shape(layers=4))).series[0].floor_x) == 0


def test_models_are_made_anew_only_where_steps_came() -> None:
    events = list(synthetic.events(500, synthetic.Shape(layers=2, mark_every=200, chunks=1)))
    trace = Trace(synthetic.loaded(2))
    trace.extend(events[:-50])
    models = CycleModels()
    models.view(trace, CycleKind.DECODE, None)
    before = dict(models._decode)
    trace.extend(events[-50:])
    models.view(trace, CycleKind.DECODE, None)
    assert models._decode[0] is before[0]
    assert models._decode[2] is not before[2]


def test_many_points_are_thinned_out() -> None:
    view = view_of(synthetic.trace(MOST_POINTS + 500, synthetic.Shape(layers=1)))
    assert len(view.series[0].step) <= MOST_POINTS


def test_prefill_is_linear_and_quadratic() -> None:
    view = view_of(trace_of(started(), *map(read, range(20, 420, 20))), CycleKind.PREFILL)
    (series,) = view.series
    assert series.line_x[0] == 20
    assert series.line_ns[-1] == pytest.approx(1e6 + 20_000 * 400 + 50 * 400 * 401 / 2, rel=1e-3)
    assert np.abs(series.off).max() < 1e-3
    rows = {name: others for name, *others in view.rows}
    assert rows["each step"] == ["1.00 ms", ""]
    assert rows["1,000 tokens (linear)"] == ["+20.0 ms", ""]
    assert rows["1,000,000 pairs (quadratic)"] == ["+50.0 ms", ""]
    assert "30.8 % are quadratic" in view.sentences[0]
    assert "P·20.0 µs" in view.formula[1]
    total = sum(1e6 + 20_000 * n + 50 * n * (n + 1) / 2 for n in range(20, 420, 20))
    told = units.duration(total)
    assert view.sentences[1].startswith(f"The formula holds for them: {told} by the fit, {told} measured")


def test_prefill_stands_beside_what_its_floors_come_to() -> None:
    steps = [
        replace(read(n), floor_ns=round(5e5 + 10_000 * n + 20 * n * (n + 1) / 2)) for n in range(20, 420, 20)
    ]
    view = view_of(trace_of(started(), *steps), CycleKind.PREFILL)
    assert [len(row) for row in view.rows] == [len(view.headings)] * 4
    assert [row[2] for row in view.rows] == ["500 µs", "+10.0 ms", "+20.0 ms", ""]


def test_a_quadratic_term_that_does_not_show_is_not_told() -> None:
    linear = [prefill(n, 1e6 + 20_000 * n - 10 * n * (n + 1) / 2) for n in range(20, 420, 20)]
    view = view_of(trace_of(started(), *linear), CycleKind.PREFILL)
    assert "No quadratic term shows" in view.sentences[0]


def test_prompts_of_few_lengths_are_not_fitted() -> None:
    view = view_of(trace_of(started(), read(20), read(40)), CycleKind.PREFILL)
    assert view.sentences == (TOO_FEW_READ,)
    assert len(view.series[0].step) == 2


def test_axes_reach_what_is_usual_and_no_stall() -> None:
    stall = step([T0], stamps=(0,) * 7 + (90_000_000,), context_length=300)
    view = view_of(trace_of(started(), *textbook(range(100, 400)), stall))
    tokens, wall_ns, off = ends(view)
    assert tokens >= 400
    assert 63_000 < wall_ns < 200_000
    assert 0.05 <= off < 1
    assert ends(view_of(Trace()))[1] > 0


def test_signs() -> None:
    assert signed(3_000) == "+3.00 µs"
    assert signed(-3_000) == "−3.00 µs"
