"""The token strip: one stacked bar a step, a fixed colour a phase, prefill hatched, the floor as a line across the
bars, a reference as a dashed one, marks as lines with their text.
"""

import numpy as np
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QBrush, QColor, QPainter

from engine.trace.phases import Phase
from gui.charts.painting import Int32, fill_floor, fill_rects, translucent
from gui.charts.reference_overlay import Pen, draw_columns, raised_ceiling
from gui.charts.referenced_plot import ReferencedPlot
from gui.charts.tips import beside_tip, step_tip
from gui.view_state import HEADROOM, STACK, StripColumns, strip_columns, usual_step_ns, visible_slice

GAP_FROM = 4.0  # columns at least this wide (pixels) leave one pixel between them
CAP = 3  # height of the sign that a bar goes on above the axis


class TokenStrip(ReferencedPlot):
    """Every step as a bar of its phases, from the bottom in the order of STACK; unattributed time on top."""

    header = 4
    mark_rows = 2
    reference_on_top = True  # else bars that are higher would hide it
    accessible_name = "Token strip"
    accessible_description = (
        "One stacked bar a step: how its wall time divides into phases; a line across it is its floor."
    )

    def _needed_ceiling(self) -> float:
        rows = visible_slice(self.device_scale(), len(self._trace.steps))
        needed = HEADROOM * usual_step_ns(self._trace, rows)
        if not self._overlay.is_drawn:
            return needed
        return raised_ceiling(needed, self._overlay.usual_wall(self.device_scale(), self._device_plot()))

    def _draw_data(self, painter: QPainter, buckets: range) -> None:
        scale, plot = self.device_scale(), self._device_plot()
        columns = strip_columns(self._trace, scale.bucket, buckets)
        if not len(columns.step):
            return
        painter.save()
        self._to_device(painter)
        painter.setClipRect(plot)
        left, end = scale.x(columns.begin), scale.x(columns.end)
        right = end - 1 if scale.bucket * scale.pixels_per_step >= GAP_FROM else end
        self._draw_stacks(painter, plot, columns, left, right)
        self._draw_floor(painter, plot, columns, left, end)
        painter.restore()

    def _draw_floor(
        self, painter: QPainter, plot: QRect, columns: StripColumns, left: Int32, right: Int32
    ) -> None:
        """A level over each column, where it is known and on the axis: side by side they are a step line."""
        known = (columns.floor_ns > 0) & (columns.floor_ns <= self._ceiling)
        heights = np.round(columns.floor_ns[known] / self._ceiling * plot.height())
        y = (plot.bottom() + 1 - heights).astype(np.int32)
        width = max(2, round(2 * self.devicePixelRatioF()))
        fill_floor(painter, left[known], right[known], y, width, self._theme)

    def _draw_stacks(
        self, painter: QPainter, plot: QRect, columns: StripColumns, left: Int32, right: Int32
    ) -> None:
        bottom = plot.bottom() + 1
        heights = np.minimum(columns.edges_ns / self._ceiling, 1.0) * plot.height()
        y = (bottom - np.round(heights)).astype(np.int32)
        for place, phase in enumerate(STACK):
            if (
                columns.edges_ns[-1, place] == columns.edges_ns[-1, place + 1]
                and not (y[:, place] > y[:, place + 1]).any()
            ):
                continue
            fill_rects(painter, left, y[:, place + 1], right, y[:, place], self._theme.color(phase))
        base = np.full(len(left), bottom, np.int32)
        unattributed = STACK.index(Phase.UNATTRIBUTED)
        self._hatch(
            painter, left, y[:, unattributed + 1], right, y[:, unattributed], Qt.BrushStyle.Dense5Pattern
        )
        hatched = columns.prefill
        if hatched.any():
            self._hatch(
                painter,
                left[hatched],
                y[hatched, -1],
                right[hatched],
                base[hatched],
                Qt.BrushStyle.BDiagPattern,
            )
        cut = columns.edges_ns[:, -1] > self._ceiling
        if cut.any():
            top = np.full(int(cut.sum()), plot.top(), np.int32)
            fill_rects(painter, left[cut], top, right[cut], top + CAP, QColor(self._theme.selection))

    def _draw_reference(self, painter: QPainter, area: QRect) -> None:
        """How high the bars of the reference usually were at the same places."""
        scale = self.device_scale()
        width = max(1, round(self.devicePixelRatioF()))
        pen = Pen(width, QColor(self._theme.text), QColor(self._theme.plot))
        draw_columns(
            painter, scale, self._device_plot(), self._overlay.walls(scale, area), self._ceiling, pen
        )

    def _hatch(
        self, painter: QPainter, left: Int32, top: Int32, right: Int32, bottom: Int32, style: Qt.BrushStyle
    ) -> None:
        fill_rects(painter, left, top, right, bottom, QBrush(translucent(self._theme.plot, 0.7), style))

    def _tip(self, at: QPoint) -> str:
        step = self._step_under(at.x())
        if step is None:
            return ""
        wall_ns, _ = self._overlay.at(step)
        return step_tip(self._trace, step, self._theme) + beside_tip(
            self._overlay.reference, wall_ns, self._theme
        )
