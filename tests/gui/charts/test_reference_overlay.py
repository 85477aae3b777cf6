"""A reference under the data of the charts: where it lies, what it is not, and what it costs the picture."""

from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, QRect
from PySide6.QtGui import QColor

from engine.protocol import Event
from engine.trace.export import excerpt_of
from engine.trace.reference import Reference, reference_of
from engine.trace.store import Trace
from gui import theme as themes
from gui.charts.chart import Chart
from gui.charts.latency import LatencyChart
from gui.charts.legend import PhaseLegend
from gui.charts.painting import dashes
from gui.charts.picture import image_of
from gui.charts.reference_overlay import ReferenceColumns, ReferenceOverlay, raised_ceiling, usual
from gui.charts.referenced_plot import ReferencedPlot
from gui.charts.token_strip import TokenStrip
from gui.navigation import LatencyAxis, Navigation
from gui.view_state import StepScale
from tests.engine.trace.building import ended, trace_of
from tests.engine.trace.runs import generation
from tests.gui import readers, synthetic
from tests.gui.charts.looking import Make, Tips, assert_grows_as_drawn_at_once, center_of, mouse, pixels

PLOTS: list[type[ReferencedPlot]] = [TokenStrip, LatencyChart]
SHAPE = synthetic.Shape(layers=2, chunks=2, spike_every=0)
SLOW = replace(SHAPE, layers=3, seed=9)


def reference(trace: Trace, name: str = "before lunch") -> Reference:
    return reference_of(excerpt_of(trace), name)


def plotted(plot: ReferencedPlot, theme: themes.Theme = themes.DARK) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels in the plot that a reference alone has coloured."""
    plot.refresh()
    area = plot.plot_rect()
    inside = pixels(plot)[area.top() : area.bottom() + 1, area.left() : area.right() + 1]
    color = QColor(theme.text if isinstance(plot, TokenStrip) else theme.muted).rgb()
    return np.nonzero(inside == color)


# ---------------------------------------------------------------- dashes


def test_dashes_lie_on_a_grid_of_the_picture() -> None:
    which, left, right = dashes(np.array([0, 9, 20]), np.array([9, 20, 20]), 4, 3)
    assert which.tolist() == [0, 0, 1, 1]
    assert left.tolist() == [0, 7, 9, 14]
    assert right.tolist() == [4, 9, 11, 18]


def test_a_line_in_parts_has_the_dashes_of_the_whole() -> None:
    def drawn(left: list[int], right: list[int]) -> set[int]:
        _, begin, end = dashes(np.array(left), np.array(right), 5, 2)
        return {x for a, b in zip(begin.tolist(), end.tolist(), strict=True) for x in range(a, b)}

    assert drawn([3], [97]) == drawn([3, 10, 11, 50], [10, 11, 50, 97])


# ---------------------------------------------------------------- scales


@pytest.mark.parametrize(
    ("values", "ceiling"), [([50.0], 100), ([200.0], 250), ([9_000.0], 400), ([np.nan], 100)]
)
def test_a_reference_may_raise_the_axis_but_not_flatten_what_is_measured(
    values: list[float], ceiling: float
) -> None:
    found = np.array(values)
    nothing = np.zeros(1, np.int64)
    wanted = usual(ReferenceColumns(nothing, nothing, found, np.zeros(1, np.bool_)))
    assert raised_ceiling(100, wanted) == ceiling


def test_values_lie_where_each_generation_got_its_first_token() -> None:
    shape = replace(SHAPE, generation_steps=40)
    overlay = ReferenceOverlay()
    overlay.reference = pinned = reference(synthetic.trace(30, SHAPE))
    trace = synthetic.trace(100, shape)
    overlay.update(trace)
    scale = StepScale(0, 100, 0, 1000)
    columns = overlay.walls(scale, plot_area(scale))
    known = columns.begin[np.isfinite(columns.values)].tolist()
    assert known == [*range(2, 30), *range(42, 70), *range(82, 101)], "from the first decode step on"
    assert pinned.course is not None
    usual = pinned.course.usual_walls.value_ns
    assert columns.values[2:30].tolist() == columns.values[42:70].tolist() == usual.tolist()
    assert not columns.joins[2]
    assert columns.joins[3:30].all()


def plot_area(scale: StepScale) -> QRect:
    return QRect(scale.left, 0, scale.width, 100)


def test_many_steps_share_a_column_as_in_the_charts() -> None:
    overlay = ReferenceOverlay()
    overlay.reference = reference(synthetic.trace(20_000, replace(SHAPE, generation_steps=20_000)))
    overlay.update(synthetic.trace(10, SHAPE))
    scale = StepScale(0, 20_000, 0, 700)
    assert len(overlay.latencies(scale, plot_area(scale)).values) <= 702


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("kind", PLOTS)
@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT], ids=lambda theme: theme.name)
def test_a_slower_reference_is_a_dashed_line_above(
    make: Make, kind: type[ReferencedPlot], theme: themes.Theme
) -> None:
    plot = make(kind, synthetic.trace(60, SHAPE))
    assert isinstance(plot, ReferencedPlot)
    plot.set_theme(theme)
    assert not len(plotted(plot, theme)[0])
    plot.set_reference(reference(synthetic.trace(200, SLOW)))
    rows, columns = plotted(plot, theme)
    share = len(set(columns.tolist())) / plot.plot_rect().width()
    assert 0.4 < share < 0.75, "dashes: four pixels of seven, also behind the latest step"
    assert rows.max() < plot.plot_rect().height() * 0.9


@pytest.mark.parametrize("kind", PLOTS)
def test_without_a_reference_the_picture_is_as_before(make: Make, kind: type[ReferencedPlot]) -> None:
    plot = make(kind, synthetic.trace(60, SHAPE))
    assert isinstance(plot, ReferencedPlot)
    plot.refresh()
    before = pixels(plot)
    plot.set_reference(reference(synthetic.trace(200, SLOW)))
    assert plot.refresh()
    assert not plot.refresh(), "nothing is drawn when nothing changed"
    assert not np.array_equal(before, pixels(plot))
    plot.set_reference(None)
    plot.set_trace(plot._trace)  # so that the scale is found anew
    plot.refresh()
    assert np.array_equal(before, pixels(plot))


@pytest.mark.parametrize("kind", PLOTS)
def test_it_stays_when_the_trace_becomes_another_one(make: Make, kind: type[ReferencedPlot]) -> None:
    plot = make(kind, synthetic.trace(60, SHAPE))
    assert isinstance(plot, ReferencedPlot)
    plot.set_reference(reference(synthetic.trace(200, SLOW)))
    plot.set_trace(Trace(synthetic.loaded(2)))
    plot.refresh()
    plot.set_trace(synthetic.trace(60, SHAPE))
    assert len(plotted(plot)[0])


@pytest.mark.parametrize("kind", PLOTS)
@pytest.mark.parametrize("span", [64.0, 512.0, 3000.0])
@pytest.mark.parametrize("longer", [False, True])
def test_growing_draws_the_same_as_drawing_at_once(
    make: Make, kind: type[ReferencedPlot], navigation: Navigation, span: float, longer: bool
) -> None:
    shape = replace(SHAPE, generation_steps=int(span / 2.5), mark_every=400)
    events: list[Event] = list(synthetic.events(int(span * 0.9), shape))
    trace = Trace(synthetic.loaded(2))
    plot = make(kind, trace)
    assert isinstance(plot, ReferencedPlot)
    plot.set_reference(reference(synthetic.trace(int(span / (1 if longer else 6)), SLOW)))
    navigation.show_range(0, span)
    assert_grows_as_drawn_at_once(plot, navigation, trace, events)


@pytest.mark.parametrize("kind", PLOTS)
def test_what_only_reads_is_not_laid_under_what_writes(make: Make, kind: type[ReferencedPlot]) -> None:
    plot = make(kind, synthetic.trace(60, SHAPE))
    assert isinstance(plot, ReferencedPlot)
    plot.refresh()
    before = pixels(plot)
    plot.set_reference(reference(readers.trace()))
    plot.refresh()
    assert np.array_equal(before, pixels(plot))


def test_by_context_it_lies_at_its_contexts(make: Make, navigation: Navigation) -> None:
    navigation.set_latency_axis(LatencyAxis.CONTEXT)
    chart = make(LatencyChart, synthetic.trace(400, SHAPE))
    assert isinstance(chart, LatencyChart)
    assert not len(plotted(chart)[0])
    chart.set_reference(reference(synthetic.trace(200, SLOW)))
    _, columns = plotted(chart)
    width, end = chart.plot_rect().width(), chart._scatter.context_end
    contexts = columns / width * end
    assert 512 - 10 < contexts.min() < 560
    assert 650 < contexts.max() < 712 + 10


def test_contexts_beyond_the_axis_are_cut_off(make: Make, navigation: Navigation) -> None:
    navigation.set_latency_axis(LatencyAxis.CONTEXT)
    chart = make(LatencyChart, synthetic.trace(100, SHAPE))
    assert isinstance(chart, LatencyChart)
    near, far = (generation([2_000_000] * 20, number, context=c) for number, c in ((0, 550), (1, 2**60)))
    chart.set_reference(reference(trace_of(*near, ended(), *far)))
    _, columns = plotted(chart)
    assert columns.max() < chart.plot_rect().width()


# ---------------------------------------------------------------- words


def test_the_tip_says_what_it_had_at_the_same_place(make: Make, tips: Tips) -> None:
    pinned = reference(synthetic.trace(200, SLOW), "<b>mine</b>")
    assert pinned.course is not None
    for kind, series, words in (
        (TokenStrip, pinned.course.walls, "&lt;b&gt;mine&lt;/b&gt;: "),
        (LatencyChart, pinned.course.usual_latencies, "&lt;b&gt;mine&lt;/b&gt;: rolling median "),
    ):
        plot = make(kind, synthetic.trace(60, SHAPE))
        assert isinstance(plot, ReferencedPlot)
        plot.set_reference(pinned)
        plot.refresh()
        mouse(plot, QEvent.Type.MouseMove, center_of(plot, 21))
        (value,) = series.at(np.array([20]))
        assert f"{words}{value / 1e6:.2f} ms at the same place" in tips.shown
        mouse(plot, QEvent.Type.MouseMove, center_of(plot, 0))
        assert "rolling median" not in tips.shown


def test_the_legends_say_which_reference_it_is(make: Make, tips: Tips) -> None:
    pinned = reference(synthetic.trace(200, SLOW), "<i>mine</i>")
    chart = make(LatencyChart, synthetic.trace(60, SHAPE))
    assert isinstance(chart, LatencyChart)
    chart.refresh()
    assert chart._legend.isEmpty()
    chart.set_reference(pinned)
    chart.refresh()
    mouse(chart, QEvent.Type.MouseMove, chart._legend.center())
    assert "&lt;i&gt;mine&lt;/i&gt;" in tips.shown
    assert "synthetic · 124 M parameters, bfloat16, random weights · on cpu" in tips.shown
    assert "the same settings as here" in tips.shown
    legend = make(PhaseLegend, synthetic.trace(60, SHAPE))
    assert isinstance(legend, PhaseLegend)
    legend.refresh()
    assert "reference" not in [label for _, label in legend._entries()]
    legend.set_reference(pinned)
    legend.refresh()
    _, label, x, _, row = legend._places(legend.width())[-1]
    assert label == "reference"
    mouse(legend, QEvent.Type.MouseMove, QPoint(x + 4, 3 + row * 22 + 8))
    assert "&lt;i&gt;mine&lt;/i&gt;" in tips.shown


@pytest.mark.parametrize("kind", [*PLOTS, PhaseLegend])
def test_a_picture_of_a_chart_has_its_reference(make: Make, kind: type[Chart]) -> None:
    chart = make(kind, synthetic.trace(60, SHAPE))
    assert isinstance(chart, ReferencedPlot | PhaseLegend)
    without = image_of(chart, chart.size(), themes.DARK)
    chart.set_reference(reference(synthetic.trace(200, SLOW)))
    chart.refresh()
    assert image_of(chart, chart.size(), themes.DARK) != without
