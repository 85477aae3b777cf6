"""The cycle model: times of decode steps over their context, or of prefill over its length, with fit and residuals."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPoint, QPointF, QRect, Qt, Slot
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPen, QPolygonF, QResizeEvent
from PySide6.QtWidgets import QWidget

from gui import theme as themes
from gui import units
from gui.charts.chart import EMPTY, Chart
from gui.charts.painting import draw_text, fill_rects, text_width, translucent, unique_pixels
from gui.charts.segments import Segments
from gui.charts.tips import fit_tip
from gui.cycle_view import (
    TOO_FEW_DECODED,
    TOO_FEW_READ,
    CycleKind,
    CycleModels,
    CycleView,
    Float,
    Series,
    ends,
)
from gui.navigation import Navigation
from gui.view_state import ticks
from gui.view_texts import shared_widths

LEFT, RIGHT, HEADER, BOTTOM, GAP = 56, 18, 34, 38, 10
RESIDUALS = 0.26  # of the height below the header
LIVE_INTERVAL_NS = 2_000_000_000  # fits change slowly, and are not free
REACH = 9  # pixels
DOT = 3
TITLES = {CycleKind.DECODE: "context, tokens", CycleKind.PREFILL: "tokens read by a step"}


class CycleModelChart(Chart):
    """Above, what was measured with the fit of each configuration; below, how far each step lies off its fit."""

    accessible_name = "Cycle model"
    accessible_description = (
        "Wall time of decode steps over their context, or of prefill steps over their length, with a fit of each"
        " configuration, the fit of their floors, and how far steps lie off."
    )

    def __init__(
        self,
        navigation: Navigation,
        parent: QWidget | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(navigation, parent)
        self._clock = clock
        self.kind = CycleKind.DECODE
        self._reset()
        self._segments = Segments("Cycle model of", [kind.value for kind in CycleKind], self)
        self._segments.chosen.connect(self._kind_chosen)
        self.setMinimumSize(190, 120)

    @Slot(int)
    def _kind_chosen(self, place: int) -> None:
        self.show_kind(list(CycleKind)[place])

    def show_kind(self, kind: CycleKind) -> None:
        """Show decode or prefill."""
        self.kind = kind
        self._segments.show_chosen(list(CycleKind).index(kind))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the control at the right end of the header."""
        self._segments.adjustSize()
        right = self.width() - RIGHT - self._segments.width()
        self._segments.move(right, (HEADER - self._segments.height()) // 2)

    def take_view(self, other: Chart) -> None:
        """See Chart."""
        if isinstance(other, CycleModelChart):
            self.show_kind(other.kind)

    # ------------------------------------------------------------ state

    def _reset(self) -> None:
        self._models = CycleModels()
        self.view = CycleView(self.kind, ())
        self.ends = ends(self.view)  # how far the axes reach: tokens, ns, and residuals (a share)
        self._seen: tuple[object, ...] = ()
        self._number = 0
        self._changed_ns = -LIVE_INTERVAL_NS

    def _prepare(self) -> None:
        count, selected = len(self._trace.steps), self._navigation.selected
        chosen = (self.kind, selected)
        seen = (*chosen, count)
        if seen == self._seen or not count:
            return
        now = self._clock()
        if chosen == self._seen[:2] and now - self._changed_ns < LIVE_INTERVAL_NS:
            return
        self._seen, self._changed_ns = seen, now
        shown = selected if selected is not None and selected < count else count - 1
        self.view = self._models.view(self._trace, self.kind, shown)
        self.ends = ends(self.view)
        self._number += 1

    def _frame_state(self) -> tuple[object, ...]:
        return self.kind, self._number

    def _empty_sentence(self) -> str:
        if not len(self._trace.steps):
            return EMPTY
        if any(len(series.step) for series in self.view.series):
            return ""
        return TOO_FEW_DECODED if self.kind is CycleKind.DECODE else TOO_FEW_READ

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        return QRect()  # it is drawn anew as often as it is fitted

    # ------------------------------------------------------------ geometry

    def plot_rect(self) -> QRect:
        """Where times are drawn, in widget coordinates."""
        height = max(2, self.height() - HEADER - BOTTOM - GAP)
        top = round(height * (1 - RESIDUALS))
        return QRect(LEFT, HEADER, max(1, self.width() - LEFT - RIGHT), max(1, top))

    def residual_rect(self) -> QRect:
        """Where residuals are drawn."""
        plot = self.plot_rect()
        top = plot.bottom() + 1 + GAP
        return QRect(plot.x(), top, plot.width(), max(1, self.height() - BOTTOM - top))

    def _empty_area(self) -> QRect:
        return self.plot_rect()

    def _x(self, tokens: npt.ArrayLike) -> Float:
        plot = self.plot_rect()
        places: Float = plot.x() + np.asarray(tokens, np.float64) / self.ends[0] * plot.width()
        return places

    def _y(self, ns: npt.ArrayLike) -> Float:
        plot = self.plot_rect()
        places: Float = plot.bottom() + 1 - np.asarray(ns, np.float64) / self.ends[1] * plot.height()
        return places

    def _off_y(self, off: npt.ArrayLike) -> Float:
        area = self.residual_rect()
        share = np.clip(np.asarray(off, np.float64) / self.ends[2], -1, 1)
        places: Float = area.y() + area.height() / 2 * (1 - share)
        return places

    # ------------------------------------------------------------ drawing

    def _color(self, series: Series) -> QColor:
        return QColor(self._theme.series[series.number % len(self._theme.series)])

    def _draw(self, painter: QPainter) -> None:
        plot, area = self.plot_rect(), self.residual_rect()
        painter.fillRect(plot, QColor(self._theme.plot))
        if self._empty_sentence():
            return
        painter.fillRect(area, QColor(self._theme.plot))
        self._draw_axes(painter, plot, area)
        self._draw_header(painter)
        painter.setClipRect(plot)
        for series in self.view.series:
            self._draw_points(painter, series)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for series in self.view.series:
            self._draw_lines(painter, series)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
        painter.setClipping(False)
        if not self.view.fits:
            words = TOO_FEW_DECODED if self.kind is CycleKind.DECODE else TOO_FEW_READ
            line = QRect(plot.left() + 8, plot.top() + 4, plot.width() - 16, 18)
            draw_text(painter, line, words, self._theme.muted, themes.text_font(12))

    def _draw_axes(self, painter: QPainter, plot: QRect, area: QRect) -> None:
        end, ceiling, far = self.ends
        grid, numbers, words = QColor(self._theme.grid), themes.number_font(11), themes.text_font(11)
        right, centre = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignHCenter
        size, unit = units.time_unit(ceiling)
        for tick in ticks(0.0, ceiling, max(2, plot.height() // 36)):
            y = round(float(self._y(tick)))
            painter.fillRect(plot.x(), min(y, plot.bottom()), plot.width(), 1, grid)
            place = QRect(0, y - 8, LEFT - 8, 16)
            text = f"{tick / size:g}" if tick else "0"
            draw_text(painter, place, text, self._theme.muted, numbers, right)
        draw_text(painter, QRect(0, HEADER - 26, LEFT - 8, 16), unit, self._theme.faint, words, right)
        for off in (-far, 0.0, far):
            y = round(float(self._off_y(off)))
            painter.fillRect(area.x(), min(y, area.bottom()), area.width(), 1, grid)
            near = area.height() < 34 and off
            if not near:
                text = f"{off * 100:+.0f} %" if off else "fit"
                top = min(max(y - 8, area.top() - 3), area.bottom() - 13)
                draw_text(painter, QRect(0, top, LEFT - 8, 16), text, self._theme.muted, numbers, right)
        for tick in ticks(0.0, end, max(2, plot.width() // 110)):
            x = round(float(self._x(tick)))
            painter.fillRect(x, area.bottom() + 1, 1, 4, QColor(self._theme.border))
            place = QRect(x - 40, area.bottom() + 5, 80, 15)
            draw_text(painter, place, f"{tick:,.0f}", self._theme.muted, numbers, centre)
        painter.fillRect(area.x(), area.bottom() + 1, area.width(), 1, QColor(self._theme.border))
        place = QRect(plot.x(), area.bottom() + 20, plot.width(), 15)
        draw_text(painter, place, TITLES[self.kind], self._theme.faint, words, right)

    def _draw_header(self, painter: QPainter) -> None:
        font, x, end = themes.text_font(11), LEFT, self._segments.x() - 12
        known = {series.number: series for series in self.view.series}
        widths = shared_widths([text_width(series.label, 11) for series in known.values()], end - x)
        for series, width in zip(known.values(), widths, strict=True):
            if x + width + 20 > end:
                break
            painter.fillRect(x, HEADER // 2 - 4, 9, 9, self._color(series))
            area = QRect(x + 14, 0, width + 2, HEADER)
            draw_text(painter, area, series.label, self._theme.muted, font)
            x += width + 30
        lines = "line: fit · band: median residual" if self.view.fits else ""
        if any(len(series.floor_x) for series in self.view.series):
            lines = " · ".join(filter(None, (lines, "floor:")))
        if not lines or x + text_width(lines, 11) + 30 > end:
            return
        floor = lines.endswith("floor:")
        area = QRect(x, 0, end - x - (24 if floor else 0), HEADER)
        draw_text(painter, area, lines, self._theme.faint, font, Qt.AlignmentFlag.AlignRight)
        if floor:
            painter.fillRect(end - 18, HEADER // 2, 16, 2, QColor(self._theme.floor))

    def _draw_points(self, painter: QPainter, series: Series) -> None:
        x, color = self._x(series.x), translucent(self._color(series), 0.5)
        self._dots(painter, x, self._y(np.minimum(series.wall_ns, self.ends[1])), color)
        known = np.isfinite(series.off)
        painter.save()
        painter.setClipRect(self.residual_rect())
        self._dots(painter, x[known], self._off_y(series.off[known]), color)
        painter.restore()

    def _dots(self, painter: QPainter, x: Float, y: Float, color: QColor) -> None:
        left, top = unique_pixels(x - DOT // 2, y - DOT // 2)
        fill_rects(painter, left, top, left + DOT, top + DOT, color)

    def _draw_lines(self, painter: QPainter, series: Series) -> None:
        if len(series.floor_x):
            self._line(painter, series.floor_x, series.floor_ns, QPen(QColor(self._theme.plot), 4.5))
            self._line(painter, series.floor_x, series.floor_ns, QPen(QColor(self._theme.floor), 2))
        if len(series.line_x):
            color = self._color(series)
            upper = self._points(series.line_x, series.line_ns + series.band_ns)
            lower = self._points(series.line_x, series.line_ns - series.band_ns)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(translucent(color, 0.28))
            painter.drawPolygon(QPolygonF([*upper, *reversed(lower)]))
            self._line(painter, series.line_x, series.line_ns, QPen(QColor(self._theme.plot), 4.5))
            self._line(painter, series.line_x, series.line_ns, QPen(color, 2.2))

    def _line(self, painter: QPainter, x: Float, ns: Float, pen: QPen) -> None:
        painter.setPen(pen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(self._points(x, ns)))

    def _points(self, x: Float, ns: Float) -> list[QPointF]:
        places = zip(self._x(x).tolist(), self._y(ns).tolist(), strict=True)
        return [QPointF(px, py) for px, py in places]

    def _overlay_state(self) -> tuple[object, ...]:
        return (self._navigation.selected,)

    def _draw_overlay(self, painter: QPainter, area: QRect) -> None:
        selected = self._navigation.selected
        if selected is None or self._empty_sentence():
            return
        for series in self.view.series:
            for place in np.flatnonzero(series.step == selected).tolist():
                at = QPointF(float(self._x(series.x[place])), float(self._y(series.wall_ns[place])))
                painter.setPen(QPen(QColor(self._theme.selection), 1.4))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawEllipse(at, 5, 5)

    # ------------------------------------------------------------ mouse

    def point_at(self, at: QPoint) -> tuple[Series, int] | None:
        """The point nearest to a place, within reach: of which configuration, and which of its steps."""
        best, found = float(REACH), None
        below = self.residual_rect().contains(at)
        for series in self.view.series:
            y = self._off_y(series.off) if below else self._y(series.wall_ns)
            distance = np.hypot(self._x(series.x) - at.x(), y - at.y())
            distance[~np.isfinite(distance)] = np.inf
            if len(distance) and distance.min() <= best:
                best, found = float(distance.min()), (series, int(distance.argmin()))
        return found

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say what is under the pointer."""
        found = self.point_at(event.position().toPoint())
        text = (
            fit_tip(self._trace, int(found[0].step[found[1]]), float(found[0].off[found[1]])) if found else ""
        )
        self._show_tip(event.globalPosition().toPoint(), text)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Choose the step that was clicked; a click on the chosen one lets go of it."""
        found = self.point_at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and found is not None:
            step = int(found[0].step[found[1]])
            self._navigation.select(None if step == self._navigation.selected else step)
