"""What all charts do: draw, stay still when nothing changed, draw only what is new exactly as if drawn at once."""

from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication, QToolButton, QWidget

from engine.protocol import Family, LayoutDefined, StepEnded
from engine.trace.phases import Phase, Role
from engine.trace.store import Trace
from gui import theme as themes
from gui.charts import colormap, cycle_model, roofline
from gui.charts.chart import Chart
from gui.charts.cycle_model import CycleModelChart
from gui.charts.latency import LatencyChart
from gui.charts.layer_map import LayerMap
from gui.charts.legend import PhaseLegend
from gui.charts.roofline import RooflineChart
from gui.charts.step_plot import StepPlot
from gui.charts.step_timeline import StepTimeline
from gui.charts.token_strip import TokenStrip
from gui.navigation import LatencyAxis, Navigation
from gui.view_state import strip_columns
from tests.gui import readers, synthetic
from tests.gui.charts.looking import (
    Clock,
    Make,
    Tips,
    assert_grows_as_drawn_at_once,
    center_of,
    click,
    color,
    mouse,
    pixels,
    wheel,
)

STEP_PLOTS: list[type[StepPlot]] = [TokenStrip, LatencyChart, LayerMap]
ALL: list[type[Chart]] = [*STEP_PLOTS, StepTimeline, PhaseLegend, RooflineChart, CycleModelChart]


# ---------------------------------------------------------------- all charts


@pytest.mark.parametrize("kind", ALL)
def test_an_empty_trace_draws_without_harm(make: Make, kind: type[Chart]) -> None:
    chart = make(kind)
    chart.refresh()
    assert not chart.refresh()
    assert pixels(chart).shape == (260, 800)


@pytest.mark.parametrize("kind", STEP_PLOTS)
def test_an_empty_chart_shows_no_scale(make: Make, kind: type[StepPlot]) -> None:
    chart = make(kind)
    assert isinstance(chart, StepPlot)
    chart.refresh()
    plot = chart.plot_rect()
    left_of_plot = pixels(chart)[: plot.bottom() - 20, : plot.left()]
    assert set(left_of_plot.ravel().tolist()) == {QColor(themes.DARK.surface).rgb()}


@pytest.mark.parametrize("kind", ALL)
def test_nothing_is_drawn_when_nothing_changed(make: Make, kind: type[Chart], navigation: Navigation) -> None:
    trace = synthetic.trace(120, synthetic.Shape(layers=4))
    chart = make(kind, trace)
    assert chart.refresh()
    assert not chart.refresh()
    trace.append(synthetic.GenerationStarted(9, 0, 0, "", (), 1))  # a new boundary, no step yet
    chart.refresh()
    assert not chart.refresh()
    chart.set_theme(themes.LIGHT)
    assert chart.refresh()
    assert not chart.refresh()


@pytest.mark.parametrize("kind", ALL)
def test_a_theme_changes_the_ground(make: Make, kind: type[Chart]) -> None:
    chart = make(kind, synthetic.trace(30, synthetic.Shape(layers=2)))
    for theme in (themes.LIGHT, themes.DARK):
        chart.set_theme(theme)
        chart.refresh()
        assert pixels(chart)[2, 2] == QColor(theme.surface).rgb()


@pytest.mark.parametrize("kind", ALL)
def test_a_hidden_chart_does_nothing(make: Make, kind: type[Chart]) -> None:
    chart = make(kind, synthetic.trace(30, synthetic.Shape(layers=2)))
    chart.hide()
    assert not chart.refresh()
    chart.show()
    assert chart.refresh()


@pytest.mark.parametrize("kind", ALL)
def test_charts_can_be_named(make: Make, kind: type[Chart]) -> None:
    assert make(kind).accessibleName() not in ("", "Chart")


@pytest.mark.parametrize("kind", STEP_PLOTS)
@pytest.mark.parametrize("span", [64.0, 512.0, 3000.0])
def test_growing_draws_the_same_as_drawing_at_once(
    make: Make, kind: type[StepPlot], navigation: Navigation, span: float
) -> None:
    events = list(synthetic.events(int(span) - 5, synthetic.Shape(layers=3, chunks=2, mark_every=400)))
    trace = Trace(synthetic.loaded(3))
    chart = make(kind, trace)
    navigation.show_range(0, span)
    assert_grows_as_drawn_at_once(chart, navigation, trace, events)


@pytest.mark.parametrize("kind", STEP_PLOTS)
def test_steps_lie_on_the_same_pixels_in_all_charts(make: Make, kind: type[StepPlot]) -> None:
    trace = synthetic.trace(200, synthetic.Shape(layers=3))
    strip, other = make(TokenStrip, trace), make(kind, trace)
    assert isinstance(strip, StepPlot)
    assert isinstance(other, StepPlot)
    assert strip.device_scale() == other.device_scale()


# ---------------------------------------------------------------- mouse on charts over steps


@pytest.mark.parametrize("kind", STEP_PLOTS)
def test_a_click_chooses_the_step_and_another_lets_go(
    make: Make, kind: type[StepPlot], navigation: Navigation
) -> None:
    chart = make(kind, synthetic.trace(60, synthetic.Shape(layers=3)))
    assert isinstance(chart, StepPlot)
    chart.refresh()
    click(chart, center_of(chart, 40))
    assert navigation.selected == 40
    assert chart.refresh()
    click(chart, center_of(chart, 40))
    assert navigation.selected is None


@pytest.mark.parametrize("kind", STEP_PLOTS)
def test_dragging_pans_and_does_not_choose(make: Make, kind: type[StepPlot], navigation: Navigation) -> None:
    chart = make(kind, synthetic.trace(2000, synthetic.Shape(layers=1)))
    assert isinstance(chart, StepPlot)
    first = navigation.first
    begin = chart.plot_rect().center()
    mouse(chart, QEvent.Type.MouseButtonPress, begin, Qt.MouseButton.LeftButton)
    mouse(chart, QEvent.Type.MouseMove, begin + QPoint(100, 0), Qt.MouseButton.LeftButton)
    mouse(chart, QEvent.Type.MouseButtonRelease, begin + QPoint(100, 0))
    assert navigation.first == pytest.approx(first - 100 / chart.scale().pixels_per_step)
    assert navigation.selected is None
    assert not navigation.follow


def test_the_wheel_zooms_about_the_pointer(make: Make, navigation: Navigation) -> None:
    chart = make(TokenStrip, synthetic.trace(400, synthetic.Shape(layers=1)))
    assert isinstance(chart, StepPlot)
    navigation.show_range(100, 300)
    at = QPoint(chart.scale().x(150).item(), 150)
    under = chart.scale().step_at(at.x())
    wheel(chart, at, 3)
    assert navigation.span == pytest.approx(200 * 0.8**3)
    assert chart.scale().step_at(at.x()) == pytest.approx(under)


def test_a_double_click_shows_all_and_follows(make: Make, navigation: Navigation) -> None:
    chart = make(TokenStrip, synthetic.trace(1000, synthetic.Shape(layers=1)))
    navigation.show_range(100, 200)
    mouse(chart, QEvent.Type.MouseButtonDblClick, QPoint(300, 150), Qt.MouseButton.LeftButton)
    assert navigation.follow
    assert (navigation.first, navigation.last) == (0, 1024)


def test_hovering_says_which_step(make: Make, navigation: Navigation, tips: Tips) -> None:
    chart = make(TokenStrip, synthetic.trace(60, synthetic.Shape(layers=2)))
    assert isinstance(chart, TokenStrip)
    chart.refresh()
    mouse(chart, QEvent.Type.MouseMove, center_of(chart, 33))
    assert navigation.hovered == 33
    assert "step 33 · decode" in tips.shown
    assert "attention" in tips.shown
    QApplication.sendEvent(chart, QEvent(QEvent.Type.Leave))
    assert navigation.hovered is None


# ---------------------------------------------------------------- token strip


def test_the_strip_shows_phases_in_their_colours_and_order(make: Make, navigation: Navigation) -> None:
    chart = make(TokenStrip, synthetic.trace(60, synthetic.Shape(layers=8)))
    assert isinstance(chart, TokenStrip)
    chart.refresh()
    x = center_of(chart, 30).x()
    column = pixels(chart)[chart.plot_rect().top() : chart.plot_rect().bottom() + 1, x][::-1].tolist()
    found = [column.index(color(p)) for p in (Phase.ATTENTION, Phase.MLP, Phase.NORM, Phase.HEAD)]
    assert found == sorted(found)


def test_bar_heights_are_proportional_to_time(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(60, synthetic.Shape(layers=8))
    chart = make(TokenStrip, trace)
    assert isinstance(chart, TokenStrip)
    chart.refresh()
    plot, x = chart.plot_rect(), center_of(chart, 30).x()
    column = pixels(chart)[plot.top() : plot.bottom() + 1, x]
    expected = int(trace.steps.phases_ns[30, Phase.MLP]) / chart._ceiling * plot.height()
    assert int((column == color(Phase.MLP)).sum()) == pytest.approx(expected, abs=1)


def test_a_spike_among_pooled_steps_stays_visible(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(6000, synthetic.Shape(layers=1, generation_steps=10_000, spike_every=2999))
    chart = make(TokenStrip, trace)
    assert isinstance(chart, TokenStrip)
    navigation.show_all()
    chart.refresh()
    plot = chart.plot_rect()
    caps = pixels(chart)[plot.top(), :] == QColor(themes.DARK.selection).rgb()
    for spike in (2998, 5997):
        assert caps[chart.column_rect(spike).center().x()]
    assert chart._step_under(chart.column_rect(2998).center().x()) == 2998


def test_prefill_does_not_flatten_decode(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(60, synthetic.Shape(layers=8))
    chart = make(TokenStrip, trace)
    assert isinstance(chart, TokenStrip)
    chart.refresh()
    assert trace.steps.wall_ns[0] > 5 * trace.steps.wall_ns[30]
    assert chart._ceiling < 3 * trace.steps.wall_ns[30]


def test_marks_tell_what_changed_on_hover(make: Make, navigation: Navigation) -> None:
    chart = make(TokenStrip, synthetic.trace(60, synthetic.Shape(layers=1, mark_every=25)))
    assert isinstance(chart, TokenStrip)
    chart.refresh()
    x = int(chart.scale().x(25))
    assert "attention → sdpa" in chart._mark_tip(QPoint(x + 1, chart.plot_rect().center().y()))
    assert "the switch took 120 µs" in chart._mark_tip(QPoint(x + 20, 12))
    assert chart._mark_tip(QPoint(x - 30, chart.plot_rect().center().y())) == ""
    line = pixels(chart)[10, :]
    assert len(set(line[x : x + 80].tolist())) > 3  # its text


# ---------------------------------------------------------------- the floor

FLOORED = synthetic.Shape(layers=8, floors=True)
FLOOR = QColor(themes.DARK.floor).rgb()


def test_the_floor_is_a_line_across_the_bar_at_its_height(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(60, FLOORED)
    chart = make(TokenStrip, trace)
    assert isinstance(chart, TokenStrip)
    chart.refresh()
    plot, x = chart.plot_rect(), center_of(chart, 30).x()
    column = pixels(chart)[plot.top() : plot.bottom() + 1, x]
    rows = np.flatnonzero(column == FLOOR)
    wanted = plot.height() - int(trace.steps.floor_ns[30]) / chart._ceiling * plot.height()
    assert len(rows) == 2
    assert rows.mean() == pytest.approx(wanted, abs=1.5)
    assert column[rows[0] - 1] == column[rows[1] + 1] == QColor(themes.DARK.plot).rgb(), "it is set off"


@pytest.mark.parametrize("kind", [TokenStrip, LatencyChart])
@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT], ids=lambda t: t.name)
def test_pooled_columns_and_moved_views_show_the_floor_too(
    make: Make, kind: type[StepPlot], theme: themes.Theme, navigation: Navigation
) -> None:
    trace = synthetic.trace(6000, synthetic.Shape(layers=8, floors=True, spike_every=0))
    chart = make(kind, trace)
    assert isinstance(chart, StepPlot)
    chart.set_theme(theme)
    for first, last in ((0, 6000), (3000, 3100), (20.5, 90.5)):
        navigation.show_range(first, last)
        chart.refresh()
        plot = chart.plot_rect()
        seen = pixels(chart)[plot.top() : plot.bottom() + 1, plot.left() + 5 : plot.right() - 5]
        columns = (seen == QColor(theme.floor).rgb()).any(axis=0)
        assert columns.mean() > 0.9


def test_a_pooled_column_shows_the_floor_of_the_step_that_it_shows() -> None:
    trace = synthetic.trace(64, FLOORED)
    columns = strip_columns(trace, 8, range(8))
    assert columns.floor_ns.tolist() == trace.steps.floor_ns[columns.step].tolist()


@pytest.mark.parametrize("kind", [TokenStrip, LatencyChart])
def test_without_a_floor_there_is_no_line(make: Make, kind: type[StepPlot], navigation: Navigation) -> None:
    chart = make(kind, synthetic.trace(60, synthetic.Shape(layers=8, spike_every=0)))
    assert isinstance(chart, StepPlot)
    chart.refresh()
    plot = chart.plot_rect()
    assert not (pixels(chart)[plot.top() + 4 : plot.bottom() + 1, plot.left() :] == FLOOR).any()


def test_the_floor_grows_with_the_picture(make: Make, navigation: Navigation) -> None:
    events = list(synthetic.events(70, synthetic.Shape(layers=3, floors=True)))
    trace = Trace(synthetic.loaded(3, floors=True))
    strip = make(TokenStrip, trace)
    navigation.show_range(0, 64)
    for event in events:
        trace.append(event)
        navigation.count = len(trace.steps)
        strip.refresh()
    grown = pixels(strip)
    strip.set_theme(themes.DARK)
    strip.refresh()
    assert np.array_equal(grown, pixels(strip))


def test_the_legend_names_the_floor_and_says_what_it_is(make: Make, tips: Tips) -> None:
    chart = make(PhaseLegend, synthetic.trace(20, FLOORED))
    assert isinstance(chart, PhaseLegend)
    chart.refresh()
    assert chart._entries()[-1] == (None, "floor")
    _, _, x, _, row = chart._places(chart.width())[-1]
    mouse(chart, QEvent.Type.MouseMove, QPoint(x + 4, 10 + 22 * row))
    assert "least time" in tips.shown
    assert (pixels(chart) == FLOOR).any()
    plain = make(PhaseLegend, synthetic.trace(20, synthetic.Shape(layers=2)))
    assert isinstance(plain, PhaseLegend)
    plain.refresh()
    assert (None, "floor") not in plain._entries()


def test_tips_tell_the_floor(make: Make, tips: Tips, navigation: Navigation) -> None:
    trace = synthetic.trace(60, FLOORED)
    strip, latency, timeline = (make(kind, trace) for kind in (TokenStrip, LatencyChart, StepTimeline))
    for chart in (strip, latency):
        assert isinstance(chart, StepPlot)
        chart.refresh()
        mouse(chart, QEvent.Type.MouseMove, center_of(chart, 30))
        assert "of the step · MBU" in tips.shown
    timeline.refresh()
    mouse(timeline, QEvent.Type.MouseMove, QPoint(200, 10))
    for word in ("attention", "head", "FLOP/byte", "calibration 0: cpu, 1 thread"):
        assert word in tips.shown


# ---------------------------------------------------------------- latency


def test_latency_is_coloured_by_configuration(make: Make, navigation: Navigation) -> None:
    chart = make(LatencyChart, synthetic.trace(90, synthetic.Shape(layers=2, mark_every=30)))
    assert isinstance(chart, LatencyChart)
    chart.refresh()
    plot = chart.plot_rect()
    seen = pixels(chart)[plot.top() : plot.bottom() + 1]
    for number, (begin, end) in {0: (5, 29), 1: (31, 59)}.items():
        part = seen[:, int(chart.scale().x(begin)) : int(chart.scale().x(end))]
        other = QColor(themes.DARK.series[1 - number]).rgb()
        assert (part == QColor(themes.DARK.series[number]).rgb()).any()
        assert not (part == other).any()


def test_latency_against_context(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(90, synthetic.Shape(layers=2, generation_steps=45))
    chart = make(LatencyChart, trace)
    assert isinstance(chart, LatencyChart)
    chart.refresh()
    navigation.set_latency_axis(LatencyAxis.CONTEXT)
    assert chart.refresh()
    place = chart._scatter.place(trace, 70)
    assert place is not None
    click(chart, QPoint(*place))
    assert navigation.selected is not None
    same = trace.steps.context_length[navigation.selected] - trace.steps.context_length[70]
    assert abs(int(same)) <= 4
    assert chart._scatter.place(trace, 0) is None  # a chunk of the prompt has no latency
    buttons = chart._segments.findChildren(QWidget)
    assert [b.isChecked() for b in buttons if hasattr(b, "isChecked")] == [False, True]


# ---------------------------------------------------------------- layer map


def test_map_cells_have_the_colour_of_their_time(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(60, synthetic.Shape(layers=4))
    chart = make(LayerMap, trace)
    assert isinstance(chart, LayerMap)
    chart.refresh()
    table = colormap.lookup("viridis")
    for step, layer in ((10, 0), (33, 3), (59, 2)):
        value = int(trace.steps.layers_ns[step, layer, Role.ATTENTION])
        at = QPoint(center_of(chart, step).x(), chart._layer_rect(layer).center().y())
        expected = int(table[min(255, int(value / chart._ceiling * 255))])
        assert int(pixels(chart)[at.y(), at.x()]) == expected


def test_a_click_on_a_cell_chooses_step_and_layer(make: Make, navigation: Navigation) -> None:
    chart = make(LayerMap, synthetic.trace(60, synthetic.Shape(layers=4)))
    assert isinstance(chart, LayerMap)
    chart.refresh()
    at = QPoint(center_of(chart, 20).x(), chart._layer_rect(2).center().y())
    click(chart, at)
    assert (navigation.selected, navigation.layer) == (20, 2)
    assert "layer 2 · step 20" in chart._tip(at)
    click(chart, at)
    assert (navigation.selected, navigation.layer) == (None, None)


def test_the_role_is_chosen_by_a_button(make: Make, navigation: Navigation) -> None:
    chart = make(LayerMap, synthetic.trace(60, synthetic.Shape(layers=4)))
    assert isinstance(chart, LayerMap)
    chart.refresh()
    before = pixels(chart)
    chart._segments._group.button(1).click()
    assert navigation.role is Role.MLP
    assert chart.refresh()
    assert not np.array_equal(before, pixels(chart))


def test_a_map_without_layers_says_why(make: Make, navigation: Navigation) -> None:
    trace = Trace(synthetic.loaded(4))
    trace.extend(list(synthetic.events(20, synthetic.Shape(layers=0))))
    chart = make(LayerMap, trace)
    chart.refresh()
    assert "choose the detail" in chart._empty_sentence()


def test_a_map_of_what_these_layers_have_not_says_what_they_have(make: Make, navigation: Navigation) -> None:
    plan, *events = synthetic.events(20, synthetic.Shape(layers=4))
    assert isinstance(plan, LayoutDefined)
    names = tuple(
        replace(name, phase=Phase.MIXER) if name.phase is Phase.ATTENTION else name for name in plan.names
    )
    trace = Trace(synthetic.loaded(4))
    trace.extend([replace(plan, names=names), *events])
    chart = make(LayerMap, trace)
    chart.refresh()
    assert chart._empty_sentence() == "Nothing in these layers counts as attention: choose MLP or rest."
    navigation.set_role(Role.MLP)
    chart.refresh()
    assert chart._empty_sentence() == ""


def test_colour_maps_rise_in_lightness() -> None:
    for name in ("viridis", "cividis"):
        lights = [QColor(int(c)).lightnessF() for c in colormap.lookup(name)[[0, 128, 255]]]
        assert lights == sorted(lights)


# ---------------------------------------------------------------- step timeline


def test_the_timeline_shows_the_selected_step_else_the_newest(make: Make, navigation: Navigation) -> None:
    clock = Clock()
    trace = synthetic.trace(60, synthetic.Shape(layers=4))
    chart = make(StepTimeline, trace, clock=clock)
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    assert chart.step == 59
    navigation.select(12)
    assert chart.refresh()
    assert chart.step == 12


def test_the_newest_step_changes_slowly_enough_to_be_read(make: Make, navigation: Navigation) -> None:
    clock = Clock()
    events = list(synthetic.events(62, synthetic.Shape(layers=4)))
    trace = Trace(synthetic.loaded(4))
    trace.extend(events[:-2])
    chart = make(StepTimeline, trace, clock=clock)
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    trace.append(events[-2])
    navigation.trace_grew(61)
    assert not chart.refresh()
    clock.now += 250_000_000
    assert chart.refresh()
    assert chart.step == 60


def test_every_span_is_where_its_time_is(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(20, synthetic.Shape(layers=2))
    chart = make(StepTimeline, trace, clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    lane, wall = chart.lane_rect(), int(trace.steps.wall_ns[19])
    picture = pixels(chart)
    for span in trace.spans(19):
        box = chart.span_rect(span)
        assert box.left() == pytest.approx(lane.left() + span.begin_ns / wall * lane.width(), abs=1)
        if span.depth == 1 and box.width() > 6:
            assert picture[box.bottom() - 2, box.left() + 2] == color(span.name.phase)
            assert chart.span_at(box.center()) == span


def test_a_timeline_zooms_in_time_and_back(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(20, synthetic.Shape(layers=2))
    chart = make(StepTimeline, trace, clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    at = chart.lane_rect().center()
    under = chart._ns_at(at.x())
    wheel(chart, at, 5)
    assert chart.refresh()
    assert chart._ns_at(at.x()) == pytest.approx(under, rel=1e-6)
    begin = chart._begin
    mouse(chart, QEvent.Type.MouseButtonPress, at, Qt.MouseButton.LeftButton)
    mouse(chart, QEvent.Type.MouseMove, at - QPoint(50, 0), Qt.MouseButton.LeftButton)
    mouse(chart, QEvent.Type.MouseButtonRelease, at - QPoint(50, 0))
    assert chart._begin > begin
    mouse(chart, QEvent.Type.MouseButtonDblClick, at, Qt.MouseButton.LeftButton)
    assert (chart._begin, chart._end) == (0, trace.steps.wall_ns[19])


def test_hovering_a_span_gives_exact_times(make: Make, navigation: Navigation, tips: Tips) -> None:
    trace = synthetic.trace(20, synthetic.Shape(layers=2))
    chart = make(StepTimeline, trace, clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    span = next(s for s in trace.spans(19) if s.name.phase is Phase.ATTENTION)
    mouse(chart, QEvent.Type.MouseMove, chart.span_rect(span).center())
    assert "layer 0 · attention" in tips.shown
    assert f"duration {span.duration_ns / 1000:,.3f} µs" in tips.shown
    assert chart.refresh()


# ---------------------------------------------------------------- legend


def test_the_legend_lists_only_phases_that_occur(make: Make, navigation: Navigation) -> None:
    trace = synthetic.trace(20, synthetic.Shape(layers=2))
    chart = make(PhaseLegend, trace)
    assert isinstance(chart, PhaseLegend)
    assert chart.refresh()
    assert Phase.ATTENTION in chart.phases()
    assert Phase.BACKWARD not in chart.phases()
    seen = set(pixels(chart).ravel().tolist())
    assert color(Phase.MLP) in seen
    assert color(Phase.BACKWARD) not in seen
    assert chart.heightForWidth(200) > chart.heightForWidth(2000)


def test_the_legend_says_which_steps_are_hatched(make: Make, tips: Tips) -> None:
    shape = synthetic.Shape(layers=2)
    trace = synthetic.trace(20, shape)
    chart = make(PhaseLegend, trace)
    assert isinstance(chart, PhaseLegend)
    chart.refresh()
    assert chart._entries()[-1] == (None, "prefill step (hatched)")
    last = next(e for e in reversed(list(synthetic.events(20, shape))) if isinstance(e, StepEnded))
    trace.extend([replace(last, captured=True)])
    assert chart.refresh()
    assert chart._entries()[-1] == (None, "prefill or captured step (hatched)")
    _, _, x, _, row = chart._places(chart.width())[-1]
    mouse(chart, QEvent.Type.MouseMove, QPoint(x + 4, 10 + 22 * row))
    assert "captured: a step that ran under the profiler" in tips.shown


# ---------------------------------------------------------------- plots of all steps


@pytest.mark.parametrize(
    ("kind", "interval_ns"),
    [(RooflineChart, roofline.LIVE_INTERVAL_NS), (CycleModelChart, cycle_model.LIVE_INTERVAL_NS)],
)
def test_plots_of_all_steps_follow_now_and_then_and_a_choice_at_once(
    make: Make, navigation: Navigation, kind: type[Chart], interval_ns: int
) -> None:
    clock = Clock()
    shape = synthetic.Shape(layers=8, floors=True, chunks=2)
    events = list(synthetic.events(61, shape))
    trace = Trace(synthetic.loaded(8, floors=True))
    trace.extend(events[:-1])
    chart = make(kind, trace, clock=clock)
    assert chart.refresh()
    trace.append(events[-1])
    navigation.trace_grew(61)
    assert not chart.refresh()
    clock.now += interval_ns
    assert chart.refresh()
    navigation.select(3)
    assert chart.refresh(), "what the user chooses shows at once"


# ---------------------------------------------------------------- models that only read


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("axis", LatencyAxis)
def test_a_trace_without_tokens_is_drawn(
    make: Make, kind: type[Chart], axis: LatencyAxis, navigation: Navigation, tips: Tips
) -> None:
    navigation.set_latency_axis(axis)
    chart = make(kind, readers.trace())
    assert chart.refresh()
    shown = set(pixels(chart).ravel().tolist())
    if kind is LatencyChart:
        assert QColor(themes.DARK.series[0]).rgb() in shown
        assert not chart._empty_sentence()
        assert "sequence" in chart.accessibleDescription()
        names = [button.text() for button in chart.findChildren(QToolButton)]
        assert names == ["step", "length"], "a sequence that is only read has no context"
    if kind is PhaseLegend:
        assert isinstance(chart, PhaseLegend)
        assert not any("hatched" in label for _, label in chart._entries())
    if isinstance(chart, TokenStrip):
        mouse(chart, QEvent.Type.MouseMove, center_of(chart, 0))
        assert "2 sequences · 10 tokens · 4 padding" in tips.shown


def test_the_encoder_of_a_model_that_writes_is_hatched(make: Make) -> None:
    trace = readers.trace()
    trace.model = replace(readers.facts(), family=Family.ENCODER_DECODER)
    legend = make(PhaseLegend, trace)
    assert isinstance(legend, PhaseLegend)
    legend.refresh()
    assert legend._entries()[-1] == (None, "encoder step (hatched)")
