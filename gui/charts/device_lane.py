"""The device's lane of a step: its spans as the device ran them, below those that the host launched."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QBrush, QColor, QPainter

from engine.trace.lanes import Lanes, Stretch, Verdict
from engine.trace.ledger import Span
from engine.trace.phases import Phase
from gui import theme as themes
from gui import units
from gui.charts.painting import Int32, draw_text, fill_rects, text_width, translucent
from gui.charts.tips import heading, span_tip
from gui.theme import Theme
from gui.view_texts import is_frame, span_labels, verdict_sentence

CAPTION = 18
_LEAST_LABEL = 14  # pixels in which a label can be


@dataclass(frozen=True, slots=True)
class LanePlace:
    """Where the lane is: left to right pixels, the top of its caption, the height of a row, where a time lies."""

    left: int
    right: int
    top: int
    row: int
    x: Callable[[float], int]


class DeviceLane:
    """Draws one step's lane and says what is under a point. `rows`: how deep its spans nest."""

    def __init__(self, lanes: Lanes, found: Verdict) -> None:
        self.lanes = lanes
        self.rows = 1 + max((span.depth for span in lanes.ran), default=0)
        self._verdict = found

    def span_rect(self, span: Span, place: LanePlace) -> QRect:
        """Where a span is drawn; at least one pixel wide."""
        left, right = place.x(span.begin_ns), place.x(span.begin_ns + span.duration_ns)
        top = place.top + CAPTION + span.depth * place.row
        return QRect(left, top, max(1, right - left), place.row - 1)

    def stretch_rect(self, stretch: Stretch, place: LanePlace) -> QRect:
        """Where a stretch of waiting is drawn, over all rows."""
        left, right = place.x(stretch.begin_ns), place.x(stretch.begin_ns + stretch.duration_ns)
        return QRect(left, place.top + CAPTION, right - left, self.rows * place.row - 1)

    def draw(self, painter: QPainter, place: LanePlace, theme: Theme) -> None:
        """The caption with the verdict, spans, and over them where the device waited or had nothing to do."""
        caption = QRect(place.left, place.top, place.right - place.left, CAPTION)
        painter.fillRect(place.left, place.top, place.right - place.left, 1, QColor(theme.border))
        draw_text(painter, caption, verdict_sentence(self._verdict), theme.muted, themes.text_font(11))
        boxes = self._boxes(place)
        frames = np.array([is_frame(span) for span in self.lanes.ran], np.bool_)
        phases = np.array([span.name.phase for span in self.lanes.ran])
        _fill(painter, boxes[frames], QColor(theme.hover))
        own_time = boxes[frames] + np.array([0, place.row, 0, place.row], np.int32)
        _fill(painter, own_time, theme.color(Phase.NORM))
        for phase in np.unique(phases[~frames]):
            _fill(painter, boxes[~frames & (phases == phase)], theme.color(Phase(int(phase))))
        self._draw_waiting(painter, place, theme)
        self._draw_labels(painter, boxes, place, theme)

    def _boxes(self, place: LanePlace) -> Int32:
        """Left, top, right, bottom (right and bottom outside) of all spans: (spans, 4)."""
        rects = [self.span_rect(span, place) for span in self.lanes.ran]
        boxes = [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in rects]
        return np.array(boxes, np.int32).reshape(-1, 4)

    def _draw_labels(self, painter: QPainter, boxes: Int32, place: LanePlace, theme: Theme) -> None:
        font = themes.text_font(11)
        for span, (left, top, right, bottom) in zip(self.lanes.ran, boxes.tolist(), strict=True):
            area = QRect(
                max(left, place.left), top, min(right, place.right) - max(left, place.left), bottom - top
            )
            if area.width() < _LEAST_LABEL:
                continue
            label = next((t for t in span_labels(span) if text_width(t, 11) <= area.width() - 6), "")
            if label:
                ground = QColor(theme.hover) if is_frame(span) else theme.color(span.name.phase)
                draw_text(painter, area, label, themes.ink(ground), font, Qt.AlignmentFlag.AlignHCenter)

    def _draw_waiting(self, painter: QPainter, place: LanePlace, theme: Theme) -> None:
        rects = [self.stretch_rect(stretch, place) for stretch in self.lanes.starved]
        boxes = np.array([(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in rects], np.int32)
        hatch = QBrush(translucent(theme.plot, 0.75), Qt.BrushStyle.BDiagPattern)
        _fill(painter, boxes.reshape(-1, 4), hatch)
        for stretch in self.lanes.idle:
            area = self.stretch_rect(stretch, place)
            painter.setPen(QColor(theme.border))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(area.adjusted(0, 0, -1, -1))
            words = f"idle {units.duration(stretch.duration_ns)}"
            shown = next((text for text in (words, "idle") if text_width(text, 11) < area.width() - 6), "")
            draw_text(painter, area, shown, theme.faint, themes.text_font(11), Qt.AlignmentFlag.AlignHCenter)

    def height(self, row: int) -> int:
        """Pixels that the lane takes with rows of a height."""
        return CAPTION + self.rows * row

    def tip(self, at: QPoint, place: LanePlace) -> str:
        """What the tooltip at a point says; "" beside the lane."""
        if place.top <= at.y() < place.top + CAPTION:
            return heading(self._verdict.bound.value) + self._verdict.reason
        if not place.top + CAPTION <= at.y() < place.top + self.height(place.row):
            return ""
        near = [span for span in self.lanes.ran if self.span_rect(span, place).contains(at)]
        waits = next((s for s in self.lanes.starved if self.stretch_rect(s, place).contains(at)), None)
        wait = (
            f"<br>up to {units.duration(waits.most_ns)} here the device waited for the next launch"
            if waits is not None
            else ""
        )
        if near:
            span = min(near, key=lambda span: span.duration_ns)
            return span_tip(span, self.lanes.times.wall_ns, "as the device ran it") + wait
        idle = next((s for s in self.lanes.idle if self.stretch_rect(s, place).contains(at)), None)
        if idle is not None:
            return heading("idle") + f"nothing of the step to run for {units.duration(idle.duration_ns)}"
        return wait.removeprefix("<br>")


def _fill(painter: QPainter, boxes: Int32, brush: QColor | QBrush) -> None:
    fill_rects(painter, boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3], brush)
