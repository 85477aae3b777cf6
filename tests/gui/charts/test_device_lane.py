"""The two lanes of a step on a device: what is drawn where, and which clock the words name."""

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QColor

from engine.protocol import EngineReplaced
from engine.trace.lanes import lanes
from engine.trace.phases import Phase
from gui import theme as themes
from gui.charts.step_timeline import StepTimeline
from gui.charts.tips import step_tip
from gui.charts.token_strip import TokenStrip
from gui.navigation import Navigation
from gui.view_texts import clock_words, mark_sentences
from tests.gui import synthetic
from tests.gui.charts.looking import Clock, Make, Tips, color, mouse, pixels


@pytest.mark.parametrize("launch_bound", [False, True])
def test_the_devices_spans_are_where_it_ran_them(make: Make, launch_bound: bool) -> None:
    trace = synthetic.on_device(20, launch_bound, layers=2)
    chart = make(StepTimeline, trace, clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    both, lane = lanes(trace, 19), chart.lane_rect()
    assert both is not None
    assert chart._device is not None
    place, picture = chart._device_place(), pixels(chart)
    seen = 0
    for span in both.ran:
        box = chart._device.span_rect(span, place)
        assert box.left() == pytest.approx(
            lane.left() + span.begin_ns / both.times.wall_ns * lane.width(), abs=1
        )
        assert box.top() > chart.span_rect(both.launched[-1]).bottom()
        if span.depth == 1 and box.width() > 6 and not launch_bound:
            assert picture[box.bottom() - 2, box.left() + 2] == color(span.name.phase)
            seen += 1
    assert seen >= 4 or launch_bound


def test_waiting_for_launches_is_hatched_and_idle_time_is_empty(make: Make) -> None:
    trace = synthetic.on_device(20, launch_bound=True, layers=2)
    chart = make(StepTimeline, trace, clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    assert chart._device is not None
    both, place, picture = chart._device.lanes, chart._device_place(), pixels(chart)
    wide = max(both.starved, key=lambda stretch: stretch.duration_ns)
    area = chart._device.stretch_rect(wide, place)
    found = picture[area.top() + 2 : area.bottom() - 2, area.left() + 3 : area.right() - 3]
    assert len({int(pixel) for pixel in found.ravel()}) > 1
    idle = max(both.idle, key=lambda stretch: stretch.duration_ns)
    area = chart._device.stretch_rect(idle, place)
    empty = picture[area.bottom() - 4, area.left() + 2 : area.right() - 2]
    assert {int(pixel) for pixel in empty} == {QColor(themes.DARK.plot).rgb()}


def test_tips_say_which_clock_and_how_long_the_device_may_have_waited(make: Make, tips: Tips) -> None:
    trace = synthetic.on_device(20, launch_bound=True, layers=2)
    chart = make(StepTimeline, trace, clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    assert chart._device is not None
    both, place = chart._device.lanes, chart._device_place()
    head = next(span for span in both.ran if span.name.phase is Phase.HEAD)
    mouse(chart, QEvent.Type.MouseMove, chart._device.span_rect(head, place).center())
    assert "as the device ran it" in tips.shown
    assert "up to" in tips.shown
    launched = next(span for span in both.launched if span.name.phase is Phase.HEAD)
    mouse(chart, QEvent.Type.MouseMove, chart.span_rect(launched).center())
    assert "as the host launched it" in tips.shown
    caption = chart._device.span_rect(head, place).center()
    caption.setY(place.top + 4)
    mouse(chart, QEvent.Type.MouseMove, caption)
    assert "launch-bound" in tips.shown
    idle = chart._device.stretch_rect(both.idle[-1], place)
    mouse(chart, QEvent.Type.MouseMove, idle.center())
    assert "nothing of the step to run" in tips.shown


def test_the_words_say_by_which_clock_phases_are_told(make: Make) -> None:
    device = synthetic.on_device(3)
    assert "device's clock" in clock_words(device, 1)
    assert "device's clock" in step_tip(device, 1, themes.DARK)
    device.steps.device_offset[1] = -1
    assert "when it was launched" in clock_words(device, 1)
    assert clock_words(synthetic.trace(3), 1) == ""
    chart = make(StepTimeline, synthetic.trace(3), clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    assert chart._device is None  # one clock, one lane, as ever


def test_a_timeline_zooms_into_both_lanes(make: Make) -> None:
    trace = synthetic.on_device(20, layers=2)
    chart = make(StepTimeline, trace, clock=Clock())
    assert isinstance(chart, StepTimeline)
    chart.refresh()
    chart._begin, chart._end = 1_000_000.0, 1_000_500.0
    assert chart.refresh()
    pixels(chart)
    mouse(chart, QEvent.Type.MouseButtonDblClick, chart.lane_rect().center(), Qt.MouseButton.LeftButton)
    assert (chart._begin, chart._end) == (0, trace.steps.wall_ns[19])


def test_a_gap_is_a_mark_with_its_reason(make: Make, navigation: Navigation) -> None:
    trace = synthetic.on_device(20)
    trace.append(EngineReplaced(0, 20, "The device failed.", 3_200_000_000, 1, ()))
    chart = make(TokenStrip, trace)
    chart.refresh()
    assert isinstance(chart, TokenStrip)
    assert [mark.text for marks in chart._marks.values() for mark in marks] == ["engine replaced"]
    assert mark_sentences(trace.gaps[0]) == ["The device failed.", "another engine went on after 3.20 s"]
