"""The step timeline: one step with every span that was stamped, nested, and the ledger that sums to its
wall time. On a device it has two lanes: what the host launched, and what the device ran.
"""

import time
from collections.abc import Callable

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QRect, Qt
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QWheelEvent
from PySide6.QtWidgets import QWidget

from engine.protocol import KernelsCaptured
from engine.trace.lanes import lanes, verdict_of
from engine.trace.ledger import Span
from engine.trace.phases import LABELS, Phase
from gui import theme as themes
from gui import units
from gui.charts.chart import EMPTY, Chart
from gui.charts.device_lane import DeviceLane, LanePlace
from gui.charts.kernel_lanes import KernelLanes, Place
from gui.charts.painting import Int32, draw_text, fill_rects, text_width, translucent
from gui.charts.step_plot import LEFT, RIGHT
from gui.charts.tips import entry_tip, parts_tip, span_tip
from gui.navigation import Navigation
from gui.view_state import ticks
from gui.view_texts import (
    clock_words,
    fitting_ledger,
    group_spans,
    is_frame,
    ledger,
    span_labels,
    step_sentence,
)

SENTENCE, LEDGER, BOTTOM = 26, 26, 22
ROW_MOST, ROW_LEAST, GROUP_ROW = 48, 14, 18
CAPTURED_MOST, CAPTURED_LEAST = 20, 12  # rows of a captured step
LIVE_INTERVAL_NS = 200_000_000  # the newest step changes at most five times a second, so that it can be read
CLOSEST_NS = 500.0
LANES_GAP = 3  # pixels between spans and the lanes of a capture
NARROWEST = 14  # pixels in which a label can be
LEAST_HEIGHT = 120
GAP_FROM = 4  # spans this wide (pixels) leave one pixel between them


class StepTimeline(Chart):
    """The selected step, or the newest when none is selected. Zoom and pan in time with wheel and drag.

    Of a step that was captured in depth: the run under the profiler, its operations and kernels below its spans.
    """

    accessible_name = "Step timeline"
    accessible_description = (
        "The spans of one step in time, nested: every layer, attention, MLP, sampling and text."
    )

    def __init__(
        self,
        navigation: Navigation,
        parent: QWidget | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(navigation, parent)
        self._clock = clock
        self._reset()
        self._pressed: tuple[int, float, int] | None = (
            None  # x, what of the step was on screen, y in the rows
        )

    # ------------------------------------------------------------ state

    @property
    def step(self) -> int | None:
        """The step that is shown."""
        return self._step

    def _reset(self) -> None:
        self.setMinimumHeight(LEAST_HEIGHT)
        self._step: int | None = None
        self._spans: list[Span] = []
        self._rows = 1  # how deep spans nest
        self._places = np.zeros((0, 3))  # begin, end (ns) and depth of each span
        self._wall_ns = 1
        self._device: DeviceLane | None = None
        self._begin, self._end = 0.0, 1.0  # what of the step is on screen, ns from its begin
        self._event: KernelsCaptured | None = None
        self._lanes: KernelLanes | None = None
        self._lowered = 0  # pixels by which rows that do not fit are moved up
        self._hovered: Span | None = None
        self._entry: int | None = None  # of the capture, under the pointer
        self._changed_ns = -LIVE_INTERVAL_NS

    def _prepare(self) -> None:
        count = len(self._trace.steps)
        selected = self._navigation.selected
        wanted = selected if selected is not None else (count - 1 if count else None)
        if wanted is None or wanted >= count:
            return
        if wanted == self._step and self._trace.captures.get(wanted) is self._event:
            return
        now = self._clock()
        if selected is None and now - self._changed_ns < LIVE_INTERVAL_NS:
            return
        self._changed_ns = now
        self._show(wanted)

    def _show(self, step: int) -> None:
        zoomed = (self._begin, self._end) != (0.0, float(self._wall_ns))
        self._step, self._hovered, self._entry = step, None, None
        capture = self._trace.capture(step)
        self._event = capture.event if capture else None
        self._lanes = KernelLanes(capture) if capture else None
        self._spans = capture.layout.spans(capture.stamps) if capture else self._trace.spans(step)
        self._rows = 1 + max((s.depth for s in self._spans), default=0)
        places = [(s.begin_ns, s.begin_ns + s.duration_ns, s.depth) for s in self._spans]
        self._places = np.array(places, np.float64).reshape(-1, 3)
        self._wall_ns = max(1, capture.wall_ns if capture else int(self._trace.steps.wall_ns[step]))
        both = lanes(self._trace, step) if capture is None else None
        self._device = (
            DeviceLane(both, verdict_of(self._trace, step, both.times)) if both is not None else None
        )
        self.setMinimumHeight(max(self.minimumHeight(), self._least_height()))
        self._scroll_to(self._lowered)
        if not zoomed or self._begin >= self._wall_ns:
            self._begin, self._end = 0.0, float(self._wall_ns)

    def take_view(self, other: Chart) -> None:
        """Show the same step, as far zoomed."""
        assert isinstance(other, StepTimeline)
        if other._step is not None:
            self._show(other._step)
            self._begin, self._end = other._begin, other._end
            self._changed_ns = self._clock()

    def _frame_state(self) -> tuple[object, ...]:
        return self._step, self._begin, self._end, self._navigation.layer, self._event, self._lowered

    def _overlay_state(self) -> tuple[object, ...]:
        return self._hovered, self._entry

    def _empty_sentence(self) -> str:
        return EMPTY if self._step is None else ""

    # ------------------------------------------------------------ geometry

    def lane_rect(self) -> QRect:
        """Where spans are drawn."""
        top = SENTENCE + LEDGER
        return QRect(LEFT, top, max(1, self.width() - LEFT - RIGHT), max(1, self.height() - top - BOTTOM))

    def _empty_area(self) -> QRect:
        return self.lane_rect()

    def span_rect(self, span: Span) -> QRect:
        """Where a span is drawn, in widget coordinates; at least one pixel wide."""
        left, right = self._x(span.begin_ns), self._x(span.begin_ns + span.duration_ns)
        row = self._row_height()
        return QRect(left, self._top() + span.depth * row, max(1, right - left), row - 1)

    def _top(self) -> int:
        """Where the first row of spans is."""
        return self.lane_rect().top() + GROUP_ROW - self._lowered

    def _place(self) -> Place:
        """Where the lanes of a capture are."""
        lane, row = self.lane_rect(), self._row_height()
        pixels = lane.width() / (self._end - self._begin)
        top = self._top() + self._rows * row + LANES_GAP
        return Place(
            lane.left(), lane.right() + 1, top, row, lambda ns: (ns - self._begin) * pixels + lane.left()
        )

    def entry_rect(self, entry: int) -> QRect:
        """Where an entry of the capture is drawn."""
        assert self._lanes is not None
        return self._lanes.rect(entry, self._place())

    def _x(self, ns: float) -> int:
        lane = self.lane_rect()
        return lane.left() + round((ns - self._begin) / (self._end - self._begin) * lane.width())

    def _ns_at(self, x: float) -> float:
        lane = self.lane_rect()
        return self._begin + (x - lane.left()) / lane.width() * (self._end - self._begin)

    def _row_height(self) -> int:
        room, rows = self.lane_rect().height() - GROUP_ROW, self._rows
        if self._lanes is not None:
            rows += self._lanes.rows
            return min(CAPTURED_MOST, max(CAPTURED_LEAST, (room - LANES_GAP) // rows))
        if self._device is not None:
            room, rows = room - self._device.height(0), rows + self._device.rows
        return min(ROW_MOST, max(ROW_LEAST, room // rows))

    def _least_height(self) -> int:
        """The height that all rows need, so that no lane is out of sight."""
        if self._device is None:
            return LEAST_HEIGHT
        rows = GROUP_ROW + self._rows * ROW_LEAST + self._device.height(ROW_LEAST)
        return SENTENCE + LEDGER + rows + BOTTOM

    def _device_place(self) -> LanePlace:
        """Where the device's lane is: below the host's."""
        lane, row = self.lane_rect(), self._row_height()
        top = self._top() + self._rows * row
        return LanePlace(lane.left(), lane.right() + 1, top, row, self._far_x)

    def _far_x(self, ns: float) -> int:
        """As `_x`; far outside of the lane it does not matter where."""
        return min(max(self._x(ns), -10_000), 30_000)

    def _scroll_to(self, pixels: float) -> None:
        """Move the rows up by so much, as far as they do not fit."""
        rows = self._rows + (self._lanes.rows if self._lanes else 0)
        hidden = GROUP_ROW + LANES_GAP + rows * self._row_height() - self.lane_rect().height()
        self._lowered = max(0, min(round(pixels), hidden)) if self._lanes else 0

    # ------------------------------------------------------------ drawing

    def _draw(self, painter: QPainter) -> None:
        lane = self.lane_rect()
        painter.fillRect(lane, QColor(self._theme.plot))
        if self._step is None:
            return
        sentence = QRect(LEFT, 0, lane.width(), SENTENCE)
        draw_text(
            painter,
            sentence,
            self._sentence(),
            self._theme.text,
            themes.text_font(13, True),
        )
        self._draw_ledger(painter, QRect(LEFT, SENTENCE, lane.width(), LEDGER))
        self._draw_axis(painter, lane)
        self._draw_lane_labels(painter, lane)
        painter.setClipRect(lane)
        self._draw_groups(painter, lane)
        painter.setClipRect(lane.adjusted(0, GROUP_ROW, 0, 0))
        self._draw_spans(painter)
        if self._lanes is not None:
            self._lanes.draw(painter, self._place(), self._theme)
        if self._device is not None:
            self._device.draw(painter, self._device_place(), self._theme)
        painter.setClipping(False)

    def _sentence(self) -> str:
        assert self._step is not None
        if self._event is not None and self._event.again:
            return f"step {self._step} · done again under the profiler · {units.duration(self._wall_ns)}"
        return step_sentence(self._trace, self._step)

    def _draw_lane_labels(self, painter: QPainter, lane: QRect) -> None:
        font, right = themes.text_font(11), Qt.AlignmentFlag.AlignRight
        painter.setClipRect(QRect(0, lane.top(), LEFT, lane.height()))
        place = self._place()
        labels = [(lane.top() - self._lowered, "host")]
        if self._lanes is not None:
            labels += [(place.top + line * place.row, text) for line, text in self._lanes.labels]
        if self._device is not None:
            labels.append((self._device_place().top, "device"))
        for top, text in labels:
            height = min(20, lane.height()) if self._lanes is None else place.row
            draw_text(painter, QRect(0, top, LEFT - 8, height), text, self._theme.muted, font, right)
        painter.setClipping(False)

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        return QRect()  # other steps than the one shown change nothing here

    def _draw_ledger(self, painter: QPainter, area: QRect) -> None:
        assert self._step is not None
        entries = ledger(self._trace, self._step, self._lanes.capture if self._lanes else None)
        left = float(area.x())
        for entry in entries:
            right = left + entry.share * area.width()
            bar = QRect(round(left), area.y(), round(right) - round(left), 4)
            painter.fillRect(bar, self._theme.color(entry.phase))
            left = right
        x = area.x()
        clock = clock_words(self._trace, self._step) if self._lanes is None else ""
        total = f"= {units.duration(self._wall_ns)}{clock}"
        room = area.width() - text_width(total, 11, numbers=True) - 10
        for label, phase, width in fitting_ledger(entries, room, lambda t: text_width(t, 11)):
            color = self._theme.phases[phase] if phase is not None else self._theme.faint
            painter.fillRect(x, area.y() + 12, 8, 8, QColor(color))
            draw_text(
                painter,
                QRect(x + 12, area.y() + 7, width + 2, 18),
                label,
                self._theme.muted,
                themes.text_font(11),
            )
            x += width + 24
        end = QRect(x, area.y() + 7, area.right() - x, 18)
        draw_text(painter, end, total, self._theme.text, themes.number_font(11))

    def _draw_axis(self, painter: QPainter, lane: QRect) -> None:
        size, unit = units.time_unit(self._end)
        font = themes.number_font(11)
        painter.fillRect(lane.x(), lane.bottom() + 1, lane.width(), 1, QColor(self._theme.border))
        for tick in ticks(self._begin / size, self._end / size, max(2, lane.width() // 110)):
            x = self._x(tick * size)
            painter.fillRect(x, lane.top(), 1, lane.height() + 4, QColor(self._theme.grid))
            area = QRect(x - 40, lane.bottom() + 5, 80, 15)
            if area.right() <= self.width() - 30:
                draw_text(painter, area, f"{tick:g}", self._theme.muted, font, Qt.AlignmentFlag.AlignHCenter)
        area = QRect(self.width() - RIGHT - 60, lane.bottom() + 5, 60, 15)
        draw_text(painter, area, unit, self._theme.faint, themes.text_font(11), Qt.AlignmentFlag.AlignRight)

    def _draw_groups(self, painter: QPainter, lane: QRect) -> None:
        font = themes.text_font(11)
        for group in group_spans(self._spans):
            left, right = self._x(group.begin_ns), self._x(group.end_ns)
            area = QRect(left, lane.top() + 1, max(1, right - left - 1), GROUP_ROW - 3)
            painter.fillRect(area, QColor(self._theme.hover))
            words = f"{group.name} {units.duration(group.end_ns - group.begin_ns)}"
            shown = next((t for t in (words, group.name) if text_width(t, 11) < area.width() - 6), "")
            draw_text(
                painter, area.intersected(lane), shown, self._theme.muted, font, Qt.AlignmentFlag.AlignHCenter
            )

    def _draw_spans(self, painter: QPainter) -> None:
        boxes = self._boxes()
        phases = np.array([s.name.phase for s in self._spans])
        frames = np.array([is_frame(s) for s in self._spans], np.bool_)
        self._draw_boxes(painter, boxes[frames], QColor(self._theme.hover))
        # what of a layer is in none of its parts is its own time: it shows between them, in their row
        own_time = boxes[frames] + np.array([0, self._row_height(), 0, self._row_height()], np.int32)
        self._draw_boxes(painter, own_time, self._theme.color(Phase.NORM))
        for phase in np.unique(phases[~frames]):
            chosen = boxes[~frames & (phases == phase)]
            self._draw_boxes(painter, chosen, self._theme.color(Phase(int(phase))))
        self._draw_labels(painter, boxes)
        layer = self._navigation.layer
        if layer is not None:
            painter.setPen(QColor(self._theme.selection))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            for span in self._spans:
                if span.name.layer == layer and span.depth == 0:
                    row = self.span_rect(span)
                    painter.drawRect(row.adjusted(0, 0, -1, -1))

    def _draw_boxes(self, painter: QPainter, boxes: Int32, color: QColor) -> None:
        fill_rects(painter, boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3], color)

    def _boxes(self) -> Int32:
        """Left, top, right, bottom (right and bottom outside) of all spans, as `span_rect` has them: (spans, 4)."""
        lane, row = self.lane_rect(), self._row_height()
        pixels = lane.width() / (self._end - self._begin)
        # far outside of the lane it does not matter where; a QRect holds only 32 bits
        x = np.clip(np.rint((self._places[:, :2] - self._begin) * pixels), -10_000, 30_000) + lane.left()
        right = np.maximum(x[:, 1], x[:, 0] + 1)
        right -= right - x[:, 0] >= GAP_FROM
        top = self._top() + self._places[:, 2] * row
        return np.stack((x[:, 0], top, right, top + row - 1), axis=1).astype(np.int32)

    def _draw_labels(self, painter: QPainter, boxes: Int32) -> None:
        lane = self.lane_rect()
        painter.setFont(themes.text_font(11))
        left = np.maximum(boxes[:, 0], lane.left())
        widths = np.minimum(boxes[:, 2], lane.right() + 1) - left
        for i in np.flatnonzero(widths >= NARROWEST).tolist():
            span = self._spans[i]
            box = QRect(int(left[i]), int(boxes[i, 1]), int(widths[i]), int(boxes[i, 3] - boxes[i, 1]))
            label = next((t for t in span_labels(span) if text_width(t, 11) <= box.width() - 6), "")
            if label:
                ground = QColor(self._theme.hover) if is_frame(span) else self._theme.color(span.name.phase)
                painter.setPen(themes.ink(ground))
                painter.drawText(box, Qt.AlignmentFlag.AlignCenter, label)

    def _draw_overlay(self, painter: QPainter, area: QRect) -> None:
        if self._hovered is not None:
            painter.setClipRect(self.lane_rect())
            painter.fillRect(self.span_rect(self._hovered), translucent(self._theme.selection, 0.25))
        elif self._entry is not None:
            painter.setClipRect(self.lane_rect())
            painter.fillRect(self.entry_rect(self._entry), translucent(self._theme.selection, 0.35))

    # ------------------------------------------------------------ mouse

    def span_at(self, at: QPoint) -> Span | None:
        """The span under a point; the shortest one where several share a pixel."""
        if not self.lane_rect().contains(at):
            return None
        near = [s for s in self._spans if self.span_rect(s).contains(at)]
        if not near:  # the own time of a layer lies in the row of its parts
            above = QPoint(at.x(), at.y() - self._row_height())
            near = [s for s in self._spans if is_frame(s) and self.span_rect(s).contains(above)]
        return min(near, key=lambda s: s.duration_ns) if near else None

    def entry_at(self, at: QPoint) -> int | None:
        """The entry of the capture under a point."""
        if self._lanes is None or not self.lane_rect().contains(at):
            return None
        return self._lanes.at(at.x(), at.y(), self._place())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Pan while the button is held, else say what is under the pointer."""
        at = event.position().toPoint()
        if self._pressed and event.buttons() & Qt.MouseButton.LeftButton:
            x, begin, y = self._pressed
            self._scroll_to(y - at.y())
            self._move_to(begin - (at.x() - x) / self.lane_rect().width() * (self._end - self._begin))
            return
        self._entry = self.entry_at(at)
        self._hovered = self.span_at(at) if self._entry is None else None
        self._show_tip(event.globalPosition().toPoint(), self._tip(at))

    def _tip(self, at: QPoint) -> str:
        if self._hovered is not None:
            how = "as the host launched it" if self._device is not None else ""
            return span_tip(self._hovered, self._wall_ns, how)
        if self._entry is not None and self._lanes is not None:
            return entry_tip(self._lanes.capture, self._entry)
        lane = self.lane_rect()
        if self._device is not None and lane.contains(at) and at.y() >= self._device_place().top:
            return self._device.tip(at, self._device_place())
        if at.y() < lane.top() and self._step is not None:
            return parts_tip(self._trace, self._step)
        inside = lane.contains(at) and GROUP_ROW <= at.y() - lane.top() < GROUP_ROW + self._row_height()
        return LABELS[Phase.UNATTRIBUTED] if inside and 0 <= self._ns_at(at.x()) <= self._wall_ns else ""

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin to pan."""
        if event.button() == Qt.MouseButton.LeftButton:
            at = event.position().toPoint()
            self._pressed = (at.x(), self._begin, at.y() + self._lowered)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End panning."""
        self._pressed = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show the whole step."""
        self._begin, self._end = 0.0, float(self._wall_ns)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom in time about the pointer."""
        if self._step is not None and event.angleDelta().y():
            center = self._ns_at(event.position().x())
            span = self._end - self._begin
            wanted = min(max(span * 0.8 ** (event.angleDelta().y() / 120), CLOSEST_NS), float(self._wall_ns))
            begin = center - (center - self._begin) * wanted / span
            self._end = self._begin + wanted
            self._move_to(begin)
        event.accept()

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is under the pointer any more."""
        self._hovered = self._entry = None

    def _move_to(self, begin: float) -> None:
        span = self._end - self._begin
        self._begin = min(max(begin, 0.0), max(0.0, self._wall_ns - span))
        self._end = self._begin + span
