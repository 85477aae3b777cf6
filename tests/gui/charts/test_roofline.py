"""The roofline as it is drawn, and what it says where the pointer is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint
from PySide6.QtGui import QColor

from engine.protocol import Calibrated, StepEnded
from engine.trace.floor import Part
from engine.trace.phases import Phase
from engine.trace.store import Trace
from gui import theme as themes
from gui.charts.chart import EMPTY, Chart
from gui.charts.roofline import NO_ROOFS, UNKNOWN, RooflineChart, roof_label
from gui.navigation import Navigation
from tests.gui import synthetic
from tests.gui.charts.looking import Tips, click, color, mouse, pixels

FLOORED = synthetic.Shape(layers=8, floors=True, chunks=2)
Make = Callable[..., Chart]


def drawn(make: Make, trace: Trace, **options: object) -> RooflineChart:
    chart = make(RooflineChart, trace, **options)
    assert isinstance(chart, RooflineChart)
    chart.refresh()
    return chart


def place_of(chart: RooflineChart, part: Part | None) -> QPoint:
    assert chart.view is not None
    place = next(place for place in chart.view.places if place.part is part)
    return chart._at(place.intensity, place.rate).toPoint()


@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT], ids=lambda t: t.name)
def test_parts_have_the_colours_of_their_phases(
    make: Make, theme: themes.Theme, navigation: Navigation
) -> None:
    chart = drawn(make, synthetic.trace(60, FLOORED))
    chart.set_theme(theme)
    navigation.select(40)
    chart.refresh()
    picture = pixels(chart)
    for part, phase in ((Part.ATTENTION, Phase.ATTENTION), (Part.MLP, Phase.MLP), (Part.HEAD, Phase.HEAD)):
        at = place_of(chart, part)
        around = picture[at.y() - 3 : at.y() + 4, at.x() - 3 : at.x() + 4]
        assert (around == color(phase, theme)).any()


def test_the_roof_in_use_is_drawn_where_bandwidth_times_intensity_is(
    make: Make, navigation: Navigation
) -> None:
    chart = drawn(make, synthetic.trace(60, FLOORED))
    assert chart.view is not None
    roof = next(roof for roof in chart.view.roofs if roof.in_use)
    x, y = chart.scales()
    low, corner = x.low, chart.view.peak / roof.bytes_per_s
    at = float(np.sqrt(max(low, y.low / roof.bytes_per_s) * corner))  # half way along the slope
    on_it = QPoint(round(float(x.place(at))), round(float(y.place(at * roof.bytes_per_s))))
    picture = pixels(chart)[on_it.y() - 2 : on_it.y() + 3, on_it.x() - 2 : on_it.x() + 3]
    assert (picture == QColor(themes.DARK.text).rgb()).any()
    assert chart.roof_at(on_it) == roof


def test_hovering_tells_steps_parts_and_roofs(make: Make, navigation: Navigation, tips: Tips) -> None:
    chart = drawn(make, synthetic.trace(60, FLOORED))
    navigation.select(40)
    chart.refresh()
    assert chart.view is not None
    mouse(chart, QEvent.Type.MouseMove, place_of(chart, Part.HEAD))
    assert "of step 40" in tips.shown
    assert "that are possible there" in tips.shown
    assert "calibration 0" in tips.shown
    prefill = int(chart.view.step[0])
    x, y = chart.scales()
    at = QPoint(round(float(x.place(chart.view.intensity[0]))), round(float(y.place(chart.view.rate[0]))))
    assert chart.step_at(at) == prefill
    mouse(chart, QEvent.Type.MouseMove, at)
    assert "bound by compute" in tips.shown
    memory = chart._roof_line(chart.view, chart.view.roofs[-1]).pointAt(0.7).toPoint()
    mouse(chart, QEvent.Type.MouseMove, memory)
    assert "beyond all caches" in tips.shown
    mouse(chart, QEvent.Type.MouseMove, QPoint(1, 1))
    assert tips.shown == ""


def test_a_click_chooses_a_step_and_another_lets_go(make: Make, navigation: Navigation) -> None:
    chart = drawn(make, synthetic.trace(60, FLOORED))
    assert chart.view is not None
    x, y = chart.scales()
    at = QPoint(round(float(x.place(chart.view.intensity[0]))), round(float(y.place(chart.view.rate[0]))))
    click(chart, at)
    assert navigation.selected == 0
    chart.refresh()
    click(chart, place_of(chart, None))
    assert navigation.selected is None


def test_roofs_show_before_there_are_steps(make: Make, navigation: Navigation) -> None:
    trace = Trace(synthetic.loaded(8, floors=True))
    chart = drawn(make, trace)
    assert chart._empty_sentence() == EMPTY
    trace.append(Calibrated(0, 0, synthetic.CALIBRATION, "measured"))
    assert chart.refresh()
    assert chart._empty_sentence() == ""
    assert (pixels(chart) == QColor(themes.DARK.text).rgb()).any()


def test_what_is_missing_is_said(make: Make, navigation: Navigation) -> None:
    unknown = drawn(make, synthetic.trace(20, synthetic.Shape(layers=2)))
    assert unknown._empty_sentence() == UNKNOWN
    trace = Trace(synthetic.loaded(8, floors=True))
    for event in synthetic.events(20, FLOORED):
        if isinstance(event, StepEnded):
            event = replace(event, floor_ns=0, calibration=-1)
        if not isinstance(event, Calibrated):
            trace.append(event)
    bare = drawn(make, trace)
    assert bare._empty_sentence() == ""
    assert bare.view is not None
    assert not bare.view.roofs
    assert "measure this machine" in NO_ROOFS
    assert len(set(pixels(bare)[40:60, 70:300].ravel().tolist())) > 3, "the sentence stands there"


def test_roofs_are_named() -> None:
    from gui.roofline_view import levels

    names = [roof_label(roof) for roof in levels(synthetic.CALIBRATION, 20_000_000)]
    assert names == ["1.00 MiB in caches 40.0 GB/s", "16.0 MiB in caches 20.0 GB/s", "memory 10.0 GB/s"]


def test_another_trace_begins_anew(make: Make, navigation: Navigation) -> None:
    chart = drawn(make, synthetic.trace(60, FLOORED))
    assert chart.view is not None
    navigation.reset()
    chart.set_trace(Trace())
    chart.refresh()
    assert chart._empty_sentence() == EMPTY
