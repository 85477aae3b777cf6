"""The cycle model as it is drawn, and what it says where the pointer is."""

from collections.abc import Callable

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint
from PySide6.QtGui import QColor

from engine.trace.store import Trace
from gui import theme as themes
from gui.charts.chart import EMPTY, Chart
from gui.charts.cycle_model import CycleModelChart
from gui.cycle_view import TOO_FEW_READ, CycleKind
from gui.navigation import Navigation
from tests.gui import readers, synthetic
from tests.gui.charts.looking import Tips, click, mouse, pixels

FLOORED = synthetic.Shape(layers=8, floors=True, chunks=1, spike_every=0)
Make = Callable[..., Chart]


def drawn(make: Make, trace: Trace, **options: object) -> CycleModelChart:
    chart = make(CycleModelChart, trace, **options)
    assert isinstance(chart, CycleModelChart)
    chart.refresh()
    return chart


def at_step(chart: CycleModelChart, place: int) -> QPoint:
    series = chart.view.series[0]
    return QPoint(round(float(chart._x(series.x[place]))), round(float(chart._y(series.wall_ns[place]))))


@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT], ids=lambda t: t.name)
def test_fit_and_floor_lie_where_they_are(make: Make, theme: themes.Theme, navigation: Navigation) -> None:
    chart = drawn(make, synthetic.trace(300, FLOORED))
    chart.set_theme(theme)
    chart.refresh()
    picture, series = pixels(chart), chart.view.series[0]
    middle = series.line_x.mean()
    for ns, wanted in ((series.line_ns.mean(), theme.series[0]), (series.floor_ns.mean(), theme.floor)):
        x, y = round(float(chart._x(middle))), round(float(chart._y(ns)))
        assert (picture[y - 2 : y + 3, x - 2 : x + 3] == QColor(wanted).rgb()).any()


def test_residuals_are_drawn_about_the_fit(make: Make, navigation: Navigation) -> None:
    chart = drawn(make, synthetic.trace(300, FLOORED))
    area, ground = chart.residual_rect(), QColor(themes.DARK.plot).rgb()
    assert area.top() > chart.plot_rect().bottom()
    seen = pixels(chart)[area.top() : area.bottom(), area.left() + 60 : area.right() - 60] != ground
    upper, lower = np.array_split(seen.sum(axis=1), 2)
    assert upper.sum() > 50
    assert lower.sum() > 50


def test_configurations_have_colours_of_their_own(make: Make, navigation: Navigation) -> None:
    chart = drawn(make, synthetic.trace(400, synthetic.Shape(layers=4, mark_every=200, chunks=1)))
    seen = set(pixels(chart).ravel().tolist())
    for number in (0, 1):
        assert QColor(themes.DARK.series[number]).rgb() in seen


def test_prefill_is_chosen_by_a_button(make: Make, navigation: Navigation) -> None:
    chart = drawn(make, synthetic.trace(300, FLOORED))
    before = pixels(chart)
    chart._segments._group.button(1).click()
    assert chart.kind is CycleKind.PREFILL
    assert chart.refresh()
    assert not np.array_equal(before, pixels(chart))
    assert chart.view.sentences == (TOO_FEW_READ,)
    twin = chart.twin()
    twin.take_view(chart)
    assert isinstance(twin, CycleModelChart)
    assert twin.kind is CycleKind.PREFILL
    twin.deleteLater()


def test_hovering_says_how_far_off_the_fit(make: Make, navigation: Navigation, tips: Tips) -> None:
    chart = drawn(make, synthetic.trace(40, FLOORED))
    found = chart.point_at(at_step(chart, 20))
    assert found is not None
    series, place = found
    mouse(chart, QEvent.Type.MouseMove, at_step(chart, 20))
    off = series.off[place]
    assert f"{abs(off):.1%} {'above' if off >= 0 else 'below'} the fit" in tips.shown
    assert "MBU" in tips.shown
    area = chart.residual_rect()
    below = QPoint(round(float(chart._x(series.x[5]))), round(float(chart._off_y(series.off[5]))))
    assert area.contains(below)
    assert chart.point_at(below) is not None
    mouse(chart, QEvent.Type.MouseMove, QPoint(1, 1))
    assert tips.shown == ""


def test_a_click_chooses_a_step(make: Make, navigation: Navigation) -> None:
    chart = drawn(make, synthetic.trace(40, FLOORED))
    click(chart, at_step(chart, 20))
    assert navigation.selected is not None
    assert chart.refresh(), "a ring is drawn around it"
    click(chart, at_step(chart, 20))
    assert navigation.selected is None


def test_what_is_missing_is_said(make: Make, navigation: Navigation) -> None:
    assert drawn(make, Trace())._empty_sentence() == EMPTY
    assert "16 decode steps" in drawn(make, readers.trace())._empty_sentence()
