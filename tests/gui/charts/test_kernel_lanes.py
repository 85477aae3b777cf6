"""A captured step in the timeline: its operations and kernels under its spans, each where and what it was."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtWidgets import QApplication

from engine.protocol import StepEnded
from engine.trace.phases import Phase
from engine.trace.store import Trace
from gui.charts import chart as chart_module
from gui.charts.step_timeline import StepTimeline
from gui.charts.token_strip import TokenStrip
from gui.navigation import Navigation
from tests.gui import synthetic
from tests.gui.charts.looking import Tips, color, mouse, pixels, wheel
from tests.gui.conftest import on_screen, settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

ROW = 12


@pytest.fixture
def trace() -> Trace:
    return synthetic.trace(20, synthetic.Shape(layers=2))


@pytest.fixture
def timeline(qapp: QApplication, trace: Trace) -> Iterator[StepTimeline]:
    navigation = Navigation()
    made = StepTimeline(navigation)
    made.resize(1400, 260)
    made.show()
    made.set_trace(trace)
    navigation.trace_grew(len(trace.steps))
    navigation.select(ROW)
    made.refresh()
    yield from on_screen(made, qapp)


def test_lanes_appear_when_a_step_is_captured_and_go_with_it(timeline: StepTimeline, trace: Trace) -> None:
    assert timeline._lanes is None
    before = pixels(timeline)
    trace.append(synthetic.capture(trace, ROW))
    assert timeline.refresh()
    assert timeline._lanes is not None
    assert (pixels(timeline) != before).any()
    timeline._navigation.select(ROW + 1)
    timeline.refresh()
    assert timeline._lanes is None


def test_every_entry_is_drawn_in_the_colour_of_its_phase_where_it_was(
    timeline: StepTimeline, trace: Trace
) -> None:
    trace.append(synthetic.capture(trace, ROW, device=True))
    timeline.refresh()
    capture, picture = trace.capture(ROW), pixels(timeline)
    assert capture is not None
    lane, wall = timeline.lane_rect(), capture.wall_ns
    tops = set()
    for entry in range(len(capture)):
        box = timeline.entry_rect(entry)
        assert box.left() == pytest.approx(lane.left() + capture.begin_ns[entry] / wall * lane.width(), abs=1)
        assert timeline.lane_rect().contains(box)
        phase, level = Phase(int(capture.phase[entry])), int(capture.depth[entry])
        tops.add(box.top())
        if level == 0 and box.width() > 6:
            assert picture[box.bottom(), box.left() + 1] == color(phase)
        assert timeline.entry_at(box.center()) is not None
    assert len(tops) == 3  # two levels of operations, and what the device ran
    assert max(box.bottom() for box in map(timeline.span_rect, timeline._spans)) < min(tops)
    assert [text for _, text in timeline._lanes.labels] == ["ops", "cuda:0 #7"]  # type: ignore[union-attr]


def test_hovering_an_entry_says_all_of_it(
    timeline: StepTimeline, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tips = Tips()
    monkeypatch.setattr(chart_module, "QToolTip", tips)
    trace.append(synthetic.capture(trace, ROW, device=True))
    timeline.refresh()
    capture = trace.capture(ROW)
    assert capture is not None
    kernel = int(np.flatnonzero(capture.is_device & (capture.phase == Phase.MLP))[0])
    mouse(timeline, QEvent.Type.MouseMove, timeline.entry_rect(kernel).center())
    assert "gemm&lt;float&gt;" in tips.shown
    assert "MLP, layer 0" in tips.shown
    assert f"duration {capture.duration_ns[kernel] / 1000:,.3f} µs" in tips.shown
    assert "launched by aten::mm, 2.00 µs before" in tips.shown
    assert timeline.refresh()
    mouse(timeline, QEvent.Type.MouseMove, timeline.span_rect(timeline._spans[1]).center())
    assert "gemm" not in tips.shown


def test_names_are_read_where_there_is_room(timeline: StepTimeline, trace: Trace) -> None:
    trace.append(synthetic.capture(trace, ROW))
    timeline.refresh()
    capture = trace.capture(ROW)
    assert capture is not None
    widest = int(capture.duration_ns.argmax())
    ground = color(Phase(int(capture.phase[widest])))
    wheel(timeline, timeline.entry_rect(widest).center(), 8)
    timeline.refresh()
    box = timeline.entry_rect(widest).intersected(timeline.lane_rect())
    assert box.width() > 200
    inside = pixels(timeline)[box.top() : box.bottom(), box.left() + 1 : box.right()]
    assert (inside == ground).sum() > 0.9 * inside.size
    assert (inside != ground).sum() > 40


def test_rows_that_do_not_fit_are_dragged_into_view(timeline: StepTimeline, trace: Trace) -> None:
    trace.append(synthetic.capture(trace, ROW, device=True))
    timeline.resize(900, 125)
    timeline.refresh()
    capture = trace.capture(ROW)
    assert capture is not None
    kernel = int(np.flatnonzero(capture.is_device)[0])
    assert timeline.entry_rect(kernel).bottom() > timeline.lane_rect().bottom()
    at = timeline.lane_rect().center()
    mouse(timeline, QEvent.Type.MouseButtonPress, at, Qt.MouseButton.LeftButton)
    mouse(timeline, QEvent.Type.MouseMove, at - QPoint(0, 90), Qt.MouseButton.LeftButton)
    mouse(timeline, QEvent.Type.MouseButtonRelease, at - QPoint(0, 90))
    assert timeline.refresh()
    assert timeline.entry_rect(kernel).bottom() <= timeline.lane_rect().bottom()


def test_a_step_that_was_done_again_shows_that_run(timeline: StepTimeline, trace: Trace) -> None:
    event = synthetic.capture(trace, ROW - 1, again=True)  # the times of another step stand for the other run
    trace.append(replace(event, step=ROW))
    timeline.refresh()
    assert timeline._wall_ns == trace.steps.wall_ns[ROW - 1]
    assert "done again under the profiler" in timeline._sentence()


def strip_of(trace: Trace) -> TokenStrip:
    strip = TokenStrip(Navigation())
    strip.resize(900, 240)
    strip.show()
    strip.set_trace(trace)
    strip._navigation.trace_grew(len(trace.steps))
    strip.refresh()
    return strip


def test_a_captured_step_is_hatched_and_marked_in_the_strip(qapp: QApplication) -> None:
    shape = synthetic.Shape(layers=2, chunks=1, spike_every=0)
    strips, plain = [], synthetic.trace(40, shape)
    for captured in (False, True):
        trace = Trace(synthetic.loaded(2))
        for event in synthetic.events(40, shape):
            chosen = captured and isinstance(event, StepEnded) and event.index == 20
            trace.append(replace(event, captured=True) if chosen else event)  # type: ignore[arg-type]
        strips.append(strip_of(trace))
    before, after = map(pixels, strips)
    changed = np.argwhere(before != after)
    bar = strips[0].column_rect(20)
    assert len(changed) > 20
    assert set(changed[:, 1]) <= set(range(bar.left(), bar.right() + 1))  # the bar itself, hatched
    strips[0]._trace.append(synthetic.capture(plain, 20))
    assert strips[0].refresh()
    assert [mark.text for mark in strips[0]._marks[20]] == ["captured"]
    assert (pixels(strips[0]) != before).any()
    for strip in strips:
        strip.close()
        strip.deleteLater()
    settle(qapp)
