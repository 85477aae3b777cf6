"""Latency against context length: where the points of the latency chart lie when x is the context."""

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QPainter

from engine.trace.ledger import Int64
from engine.trace.reference import ContextCurve
from engine.trace.store import NO_LATENCY, Trace
from gui import theme as themes
from gui.charts.painting import Int32, draw_text, fill_rects
from gui.charts.reference_overlay import Pen, draw_dashed
from gui.theme import Theme
from gui.view_state import held_ceiling, latency_ns, lengths, only_reads, ticks

RIGHT_TITLE = 90
DOT = 2


class ContextScatter:
    """The scale of that picture, in device pixels. Points that share a pixel are drawn once."""

    def __init__(self) -> None:
        self.context_end = 0.0
        self._plot = QRect(0, 0, 1, 1)
        self._ceiling = 1.0
        self._longest, self._seen = 0, 0
        self._title = ""

    def fit(self, trace: Trace, plot: QRect, ceiling: float) -> None:
        """Take over the size of the plot and its y scale, and let x reach the longest context."""
        newest = lengths(trace, slice(self._seen, len(trace.steps)))
        self._longest = max(self._longest, int(newest.max())) if len(newest) else self._longest
        self._seen += len(newest)
        self._title = "tokens a sequence" if only_reads(trace) else "context, tokens"
        self.context_end = held_ceiling(self.context_end, float(max(16, self._longest)))
        self._plot, self._ceiling = plot, ceiling

    def places(self, trace: Trace, arrivals: Int64) -> tuple[Int32, Int32]:
        """The pixels (x, y) of some arrivals."""
        plot = self._plot
        x = plot.x() + lengths(trace, arrivals) / self.context_end * (plot.width() - DOT)
        share = np.minimum(latency_ns(trace, arrivals) / self._ceiling, 1.0)
        y = plot.bottom() - share * (plot.height() - DOT)
        return x.astype(np.int32), y.astype(np.int32)

    def place(self, trace: Trace, step: int) -> tuple[int, int] | None:
        """The pixel of one step; None if it has no latency."""
        row = np.array([step])
        if step >= len(trace.steps) or latency_ns(trace, row)[0] == NO_LATENCY:
            return None
        x, y = self.places(trace, row)
        return int(x[0]), int(y[0])

    def draw_points(self, painter: QPainter, trace: Trace, arrivals: Int64, color: QColor) -> None:
        """Draw some arrivals in one colour, in device pixels."""
        x, y = self.places(trace, arrivals)
        if len(x) > 2000:
            taken = np.zeros((self._plot.height() + 2, self._plot.width() + 2), np.bool_)
            taken[y - self._plot.y(), x - self._plot.x()] = True
            rows, columns = np.nonzero(taken)
            x = (columns + self._plot.x()).astype(np.int32)
            y = (rows + self._plot.y()).astype(np.int32)
        fill_rects(painter, x, y, x + DOT, y + DOT, color)

    def draw_curves(self, painter: QPainter, curves: Sequence[ContextCurve], pen: Pen) -> None:
        """Draw the medians of a reference by context as step lines, in device pixels."""
        plot = self._plot
        for curve in curves:
            share = curve.median_ns / self._ceiling
            known = (share <= 1) & (curve.begin < self.context_end)
            joins = np.append(False, (curve.begin[1:] == curve.end[:-1]) & known[:-1])[known]
            left, right = (
                (plot.x() + np.clip(edges[known] / self.context_end, 0, 1) * (plot.width() - DOT)).astype(
                    np.int32
                )
                for edges in (curve.begin, curve.end)
            )
            y = (plot.bottom() - share[known] * (plot.height() - DOT)).astype(np.int32)
            draw_dashed(painter, left, np.maximum(right, left + 1), y, joins, pen)

    def nearest(self, trace: Trace, arrivals: Int64, x: float, y: float, reach: float) -> int | None:
        """The arrival drawn nearest to a pixel, if it is within reach."""
        if not len(arrivals):
            return None
        xs, ys = self.places(trace, arrivals)
        distance = np.hypot(xs - x, ys - y)
        found = int(distance.argmin())
        return int(arrivals[found]) if distance[found] <= reach else None

    def draw_axis(self, painter: QPainter, plot: QRect, theme: Theme) -> None:
        """Draw the context axis below the plot, in widget coordinates."""
        font = themes.number_font(11)
        painter.fillRect(plot.x(), plot.bottom() + 1, plot.width(), 1, QColor(theme.border))
        for tick in ticks(0.0, self.context_end, max(2, plot.width() // 110)) if self.context_end else []:
            x = plot.x() + round(tick / self.context_end * plot.width())
            painter.fillRect(x, plot.bottom() + 1, 1, 4, QColor(theme.border))
            area = QRect(x - 40, plot.bottom() + 5, 80, 15)
            if area.right() <= plot.right() - RIGHT_TITLE + 40:
                draw_text(painter, area, f"{tick:,.0f}", theme.muted, font, Qt.AlignmentFlag.AlignHCenter)
        area = QRect(plot.right() - RIGHT_TITLE, plot.bottom() + 5, RIGHT_TITLE, 15)
        words = themes.text_font(11)
        draw_text(painter, area, self._title, theme.faint, words, Qt.AlignmentFlag.AlignRight)
