"""The latency chart: ITL of every arrival with rolling median and p95, coloured by configuration; or
against context. For a model that only reads: the time a sequence of every step.
"""

import numpy as np
from PySide6.QtCore import QPoint, QRect, Qt, Slot
from PySide6.QtGui import QColor, QPainter, QResizeEvent
from PySide6.QtWidgets import QWidget

from engine.trace.store import Steps, Trace
from gui import theme as themes
from gui.charts.context_scatter import ContextScatter
from gui.charts.painting import Int32, draw_text, fill_floor, fill_rects, text_width, translucent
from gui.charts.reference_overlay import Pen, draw_columns, draw_swatch, raised_ceiling
from gui.charts.referenced_plot import ReferencedPlot
from gui.charts.segments import Segments
from gui.charts.step_plot import HEADER, RIGHT
from gui.charts.tips import beside_tip, latency_tip, reference_tip
from gui.navigation import LatencyAxis, Navigation
from gui.view_state import (
    HEADROOM,
    ArrivalSeries,
    Float,
    LatencyColumns,
    configuration_numbers,
    latency_ns,
    only_reads,
    usual_ns,
    visible_slice,
)
from gui.view_texts import LONGEST_LABEL, configuration_labels, shared_widths

WRITES = "Inter-token latency of each arrival, with rolling median, 95th percentile, and the floor."
READS = "Time a sequence of each step, with rolling median, 95th percentile, and the floor."
SECOND_TOKEN = "The first latency comes with the second token."
DOTS_FROM = 5  # steps this wide (pixels) are drawn as dots
CAP = 3


class LatencyChart(ReferencedPlot):
    """Gaps between arrivals. Time in which the user held the engine is in none of them, so a pause is no
    spike.
    """

    accessible_name = "Latency"
    accessible_description = WRITES

    def __init__(self, navigation: Navigation, parent: QWidget | None = None) -> None:
        super().__init__(navigation, parent)
        self._source: Steps | None = None  # what the series was found of
        self._reset()
        self._segments = Segments("Latency against", ["step", "context"], self)
        self._segments.chosen.connect(self._axis_chosen)
        navigation.latency_axis_changed.connect(self._axis_changed)

    @Slot(int)
    def _axis_chosen(self, place: int) -> None:
        self._navigation.set_latency_axis(list(LatencyAxis)[place])

    @Slot(str)
    def _axis_changed(self, axis: str) -> None:
        self._segments.show_chosen(list(LatencyAxis).index(LatencyAxis(axis)))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the control at the right end of the header."""
        self._place_segments()

    def _place_segments(self) -> None:
        self._segments.adjustSize()
        self._segments.move(
            self.width() - RIGHT - self._segments.width(), (HEADER - self._segments.height()) // 2
        )

    # ------------------------------------------------------------ state

    @property
    def _by_context(self) -> bool:
        return self._navigation.latency_axis is LatencyAxis.CONTEXT

    def _reset(self) -> None:
        super()._reset()
        if self._trace.steps.source is not self._source:  # else the same steps are looked at elsewhere
            self._source, self._series = self._trace.steps.source, ArrivalSeries()
        self._numbers = configuration_numbers(self._trace)
        self._scatter = ContextScatter()
        self._legend = QRect()  # where it says which reference there is

    def set_trace(self, trace: Trace) -> None:
        """Draw another trace from now on, in the words of its model."""
        super().set_trace(trace)
        reads = only_reads(trace)
        self.setAccessibleDescription(READS if reads else WRITES)
        self._segments.set_label(
            list(LatencyAxis).index(LatencyAxis.CONTEXT), "length" if reads else "context"
        )
        self._place_segments()

    def _prepare(self) -> None:
        if len(self._numbers) != max(1, len(self._trace.configurations)):
            self._numbers = configuration_numbers(self._trace)
        self._series.update(self._trace, self._numbers)
        super()._prepare()
        if self._by_context:
            self._scatter.fit(self._trace, self._device_plot(), self._ceiling)

    @property
    def _has_floor(self) -> bool:
        return bool(self._trace.steps.floor_ns.any())

    def _needed_ceiling(self) -> float:
        steps, arrivals = self._trace.steps, self._series.steps
        if not self._by_context:
            rows = visible_slice(self.device_scale(), len(steps))
            arrivals = arrivals[np.searchsorted(arrivals, rows.start) : np.searchsorted(arrivals, rows.stop)]
        arrivals = arrivals[:: 1 + len(arrivals) // 8192]
        needed = HEADROOM * usual_ns(latency_ns(self._trace, arrivals), steps.kind[arrivals])
        if self._by_context or not self._overlay.is_drawn:
            return needed
        return raised_ceiling(needed, self._overlay.usual_latency(self.device_scale(), self._device_plot()))

    def _frame_state(self) -> tuple[object, ...]:
        if self._by_context:
            scales = self._ceiling, self._scatter.context_end
            return LatencyAxis.CONTEXT, *scales, len(self._numbers), self._overlay.reference
        return LatencyAxis.STEP, len(self._numbers), self._has_floor, *super()._frame_state()

    def _empty_sentence(self) -> str:
        if super()._empty_sentence():
            return super()._empty_sentence()
        if len(self._series.steps):
            return ""
        return "The first latency comes with the first step." if only_reads(self._trace) else SECOND_TOKEN

    # ------------------------------------------------------------ drawing

    def _color(self, number: int) -> QColor:
        return QColor(self._theme.series[number % len(self._theme.series)])

    def _draw_header(self, painter: QPainter, area: QRect) -> None:
        font = themes.text_font(11)
        x, end = area.x(), self._segments.x() - 12
        self._legend = QRect()
        if not self._empty_sentence():
            x = self._draw_reference_label(painter, x, end)
            labels = configuration_labels(self._trace.configurations)
            widths = shared_widths([text_width(label, 11) for label in labels], end - x)
            for number, (label, width) in enumerate(zip(labels, widths, strict=True)):
                if x + width + 20 > end:
                    break
                painter.fillRect(x, area.center().y() - 4, 9, 9, self._color(number))
                draw_text(painter, QRect(x + 14, 0, width + 2, HEADER), label, self._theme.muted, font)
                x += width + 30
        reads = only_reads(self._trace)
        what = "time a sequence" if reads else "ITL"
        over = "length of the inputs, padding included" if reads else "context length"
        lines = "thick: median of 64 · thin: p95 of 64" + (" · level: floor" if self._has_floor else "")
        words = f"{what} by {over}" if self._by_context else f"{what} · {lines}"
        rest = QRect(x, 0, end - x, HEADER)
        if rest.width() > text_width(words, 11):
            draw_text(painter, rest, words, self._theme.faint, font, Qt.AlignmentFlag.AlignRight)

    def _draw_reference_label(self, painter: QPainter, x: int, end: int) -> int:
        """Say what the dashed line is, from x on; where the next label may begin."""
        reference = self._overlay.reference
        if reference is None or not self._overlay.is_drawn:
            return x
        text = f"reference: {reference.name}"
        width = min(text_width(text, 11), LONGEST_LABEL, max(0, end - x - 20))
        draw_swatch(painter, QRect(x, 0, 12, HEADER), self._theme)
        draw_text(painter, QRect(x + 17, 0, width + 2, HEADER), text, self._theme.muted, themes.text_font(11))
        self._legend = QRect(x, 0, width + 19, HEADER)
        return x + width + 35

    def _draw_reference(self, painter: QPainter, area: QRect) -> None:
        width, reference = max(1, round(self.devicePixelRatioF())), self._overlay.reference
        pen = Pen(2 * width, QColor(self._theme.muted))
        if self._by_context and reference is not None:
            self._scatter.draw_curves(painter, reference.curves, pen)
            return
        scale = self.device_scale()
        columns = self._overlay.latencies(scale, area)
        draw_columns(painter, scale, self._device_plot(), columns, self._ceiling, pen)

    def _draw_x_axis(self, painter: QPainter, plot: QRect) -> None:
        if self._by_context:
            self._scatter.draw_axis(painter, plot, self._theme)
        else:
            super()._draw_x_axis(painter, plot)

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        if not self._by_context:
            return super()._draw_newest(painter, drawn)
        self._draw_points(painter, int(np.searchsorted(self._series.steps, drawn)))
        return self.plot_rect()

    def _draw_points(self, painter: QPainter, begin: int) -> None:
        painter.save()
        self._to_device(painter)
        painter.setClipRect(self._device_plot())
        arrivals = self._series.steps[begin:]
        numbers = self._numbers[self._trace.steps.configuration[arrivals]]
        for number in np.unique(numbers):
            color = translucent(self._color(int(number)), 0.75)
            self._scatter.draw_points(painter, self._trace, arrivals[numbers == number], color)
        painter.restore()

    def _draw_data(self, painter: QPainter, buckets: range) -> None:
        if self._by_context:
            self._draw_points(painter, 0)
            return
        scale, plot = self.device_scale(), self._device_plot()
        joined = range(max(0, buckets.start - 1), buckets.stop)  # a line begins where the column before ended
        columns = self._series.columns(self._trace, self._numbers, scale.bucket, joined)
        if not len(columns.begin):
            return
        painter.save()
        self._to_device(painter)
        clip_left = int(scale.x(buckets.start * scale.bucket))
        painter.setClipRect(plot.intersected(QRect(clip_left, plot.y(), plot.width(), plot.height())))
        left, right = scale.x(columns.begin), scale.x(columns.end)
        right = np.maximum(right, left + 1)
        self._draw_arrivals(painter, plot, columns, left, right)
        thin = max(1, round(self.devicePixelRatioF()))
        self._draw_floor(painter, columns, left, right, 2 * thin)
        self._draw_line_of(painter, columns, columns.p95, left, right, thin)
        self._draw_line_of(painter, columns, columns.median, left, right, 2 * thin)
        painter.restore()

    def _draw_floor(
        self, painter: QPainter, columns: LatencyColumns, left: Int32, right: Int32, width: int
    ) -> None:
        known = (columns.floor > 0) & (columns.floor <= self._ceiling)
        y = self._y(columns.floor[known])  # type: ignore[arg-type]
        fill_floor(painter, left[known], right[known], y, width, self._theme)

    def _y(self, values: Float) -> Int32:
        plot = self._device_plot()
        share = np.minimum(np.asarray(values, np.float64) / self._ceiling, 1.0)
        return (plot.bottom() + 1 - np.round(share * plot.height())).astype(np.int32)

    def _draw_arrivals(
        self, painter: QPainter, plot: QRect, columns: LatencyColumns, left: Int32, right: Int32
    ) -> None:
        top, bottom = self._y(columns.high), self._y(columns.low)  # type: ignore[arg-type]
        alpha = 0.45
        if self.device_scale().pixels_per_step >= DOTS_FROM:
            middle = (left + right) // 2
            left, right, top, bottom, alpha = middle - 1, middle + 2, top - 1, bottom + 2, 0.8
        else:
            bottom = np.maximum(bottom, top + 2)
        cut = columns.high > self._ceiling
        for number in np.unique(columns.configuration):
            own = columns.configuration == number
            color = translucent(self._color(int(number)), alpha)
            fill_rects(painter, left[own], top[own], right[own], bottom[own], color)
        if cut.any():
            tops = np.full(int(cut.sum()), plot.top(), np.int32)
            fill_rects(painter, left[cut], tops, right[cut], tops + CAP, QColor(self._theme.selection))

    def _draw_line_of(
        self, painter: QPainter, columns: LatencyColumns, values: Float, left: Int32, right: Int32, width: int
    ) -> None:
        """A step line: each column begins at the value before, where that is next to it and of the same
        configuration.
        """
        known = np.isfinite(values)
        y = self._y(np.where(known, values, 0.0))
        before = np.concatenate((y[:1], y[:-1]))
        apart = (columns.begin[1:] != columns.end[:-1]) | ~known[:-1]
        apart |= columns.configuration[1:] != columns.configuration[:-1]
        before[1:][apart] = y[1:][apart]
        riser = np.minimum(left + width, right)
        for number in np.unique(columns.configuration[known]):
            own = known & (columns.configuration == number)
            color = self._color(int(number))
            level = y[own]
            fill_rects(painter, left[own], level, right[own], level + width, color)
            top, bottom = np.minimum(before, y)[own], np.maximum(before, y)[own]
            fill_rects(painter, left[own], top, riser[own], bottom + width, color)

    def _draw_overlay(self, painter: QPainter, area: QRect) -> None:
        if not self._by_context:
            super()._draw_overlay(painter, area)
            return
        for step, alpha in ((self._navigation.hovered, 0.5), (self._navigation.selected, 1.0)):
            if step is not None and not self._empty_sentence():
                self._draw_ring(painter, step, translucent(self._theme.selection, alpha))

    def _draw_ring(self, painter: QPainter, step: int, color: QColor) -> None:
        place = self._scatter.place(self._trace, step)
        if place is None:
            return
        ratio = self.devicePixelRatioF()
        painter.setPen(color)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawEllipse(QPoint(round(place[0] / ratio), round(place[1] / ratio)), 5, 5)

    # ------------------------------------------------------------ mouse

    def _step_under(self, x: float) -> int | None:
        return None if self._by_context else super()._step_under(x)

    def _tip(self, at: QPoint) -> str:
        step = self._point_under(at) if self._by_context else self._step_under(at.x())
        if self._by_context:
            self._navigation.hover(step)
        if step is None:
            return ""
        _, median_ns = self._overlay.at(step)
        beside = beside_tip(self._overlay.reference, median_ns, self._theme, "rolling median ")
        return latency_tip(self._trace, step) + beside

    def _mark_tip(self, at: QPoint) -> str:
        if self._overlay.reference is not None and self._legend.contains(at):
            return reference_tip(self._overlay.reference, self._trace.configuration, self._theme)
        return "" if self._by_context else super()._mark_tip(at)

    def _point_under(self, at: QPoint) -> int | None:
        ratio = self.devicePixelRatioF()
        return self._scatter.nearest(
            self._trace, self._series.steps, at.x() * ratio, at.y() * ratio, 10 * ratio
        )

    def _clicked(self, at: QPoint) -> None:
        if not self._by_context:
            super()._clicked(at)
            return
        self._navigation.select(self._point_under(at))

    def _drag(self, at: QPoint) -> None:
        if not self._by_context:
            super()._drag(at)
