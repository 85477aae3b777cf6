"""The telemetry chart: what the machine did meanwhile, a lane a quantity, over the same steps as the other charts.

Only what is sampled has a lane: a sensor that is not there has none, rather than a line at zero.
"""

import numpy as np
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QColor, QPainter

from gui import theme as themes
from gui.charts.painting import Int32, draw_text, fill_rects, text_width
from gui.charts.step_plot import LEFT, StepPlot
from gui.charts.tips import telemetry_tip
from gui.telemetry_view import Lane, Series, lane_words, lanes, line_columns, places
from gui.view_state import Float, held_ceiling, visible_slice

GAP = 4  # pixels between lanes
WORDS = 15  # height of a lane's words
ROOMY = 28  # a lane at least this high has its words above its line, others have them over its beginning
MOST_COVERED = 0.6  # of a lane's width, by its words
NOT_SAMPLED = "No sensors are read: nothing is known of the machine."
SOON = "The first sample comes in a moment."


class TelemetryChart(StepPlot):
    """Memory, utilization, power, temperature and clock, those that this machine tells."""

    header = 4
    accessible_name = "Telemetry"
    accessible_description = (
        "What the machine did while steps were made: a lane each for what its sensors say."
    )

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self._lanes: list[Lane] = []
        self._ceilings: dict[str, float] = {}
        self._seen = -1
        self._sampled = True

    # ------------------------------------------------------------ state

    def _reset(self) -> None:
        super()._reset()
        self._lanes, self._ceilings, self._seen = [], {}, -1

    def _samples(self) -> int:
        return len(self._trace.telemetry) + len(self._trace.telemetry.engine)

    def _prepare(self) -> None:
        if self._samples() == self._seen:
            return
        self._seen = self._samples()
        self._lanes = lanes(self._trace)
        self._ceilings = {
            lane.title: held_ceiling(self._ceilings.get(lane.title, 0.0), lane.ceiling)
            for lane in self._lanes
        }

    def _frame_state(self) -> tuple[object, ...]:
        return *super()._frame_state(), self._seen

    def _empty_sentence(self) -> str:
        if super()._empty_sentence():
            return super()._empty_sentence()
        telemetry = self._trace.telemetry
        if self._lanes:
            return ""
        return telemetry.ended or (SOON if self._sampled else NOT_SAMPLED)

    def set_sampled(self, sampled: bool) -> None:
        """Whether anything reads sensors at all; else the chart says so."""
        self._sampled = sampled

    # ------------------------------------------------------------ drawing

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        """What is new comes with the next sample."""
        return QRect()

    def lane_rect(self, place: int) -> QRect:
        """Where a lane is drawn, in widget coordinates."""
        plot, count = self.plot_rect(), max(1, len(self._lanes))
        top = plot.top() + place * (plot.height() + GAP) // count
        end = plot.top() + (place + 1) * (plot.height() + GAP) // count - GAP
        return QRect(plot.left(), top, plot.width(), max(1, end - top))

    def _line_rect(self, place: int) -> QRect:
        """The part of a lane in which its line is drawn."""
        area = self.lane_rect(place)
        return area.adjusted(0, WORDS, 0, 0) if area.height() >= ROOMY else area

    def _draw_grid(self, painter: QPainter, area: QRect) -> None:
        for place in range(1, len(self._lanes)):
            gap = QRect(area.x(), self.lane_rect(place).top() - GAP, area.width(), GAP)
            painter.fillRect(gap, QColor(self._theme.surface))

    def _draw_y_axis(self, painter: QPainter, plot: QRect) -> None:
        self._draw_grid(painter, plot)
        font = themes.number_font(11)
        for place, lane in enumerate(self._lanes):
            area = self._line_rect(place)
            top = QRect(0, area.top() - 4, LEFT - 6, 16)
            words = lane.text(self._ceilings[lane.title])
            draw_text(painter, top, _short(words), self._theme.muted, font, Qt.AlignmentFlag.AlignRight)

    def _draw_data(self, painter: QPainter, buckets: range) -> None:
        painter.save()
        self._to_device(painter)
        painter.setClipRect(self._device_plot())
        for place, lane in enumerate(self._lanes):
            for number in reversed(range(len(lane.series))):
                self._draw_series(painter, place, lane, number)
        painter.restore()
        for place, lane in enumerate(self._lanes):
            self._draw_words(painter, self.lane_rect(place), lane)

    def _color(self, number: int) -> QColor:
        return QColor(self._theme.series[number % len(self._theme.series)])

    def _draw_series(self, painter: QPainter, place: int, lane: Lane, number: int) -> None:
        """A step line: each value holds until the next. What shares a pixel column spans it from least to largest."""
        left, right, values = self._on_screen(lane.series[number])
        if not len(left):
            return
        columns = line_columns(left, right, self._y(place, lane, values))
        thick = max(1, round(self.devicePixelRatioF()))
        level = columns.right - columns.left > thick  # else the riser covers it
        fill_rects(
            painter,
            np.concatenate((columns.left, columns.left[level])),
            np.concatenate((columns.top, columns.last[level])),
            np.concatenate((np.minimum(columns.left + thick, columns.right), columns.right[level])),
            np.concatenate((columns.bottom + thick, columns.last[level] + thick)),
            self._color(number),
        )

    def _on_screen(self, series: Series) -> tuple[Int32, Int32, Float]:
        """Of the samples on screen: left and right edges in device pixels, and values."""
        scale, steps = self.device_scale(), self._trace.steps
        rows = visible_slice(scale, len(steps))
        begin_ns, end_ns = (
            steps.begin_ns[rows.start],
            steps.begin_ns[rows.stop - 1] + steps.wall_ns[rows.stop - 1],
        )
        first, end = np.searchsorted(series.at_ns, (begin_ns, end_ns)).tolist()
        chosen = slice(max(0, first - 1), end)  # the one before the first holds until that
        at = places(self._trace, series.at_ns[chosen])
        ends = np.append(at[1:], min(rows.stop, len(steps))) if len(at) else at
        values = series.values[chosen]
        seen = (ends > at) & (at >= 0) & np.isfinite(values)
        left = scale.x(at[seen])
        return left, np.maximum(scale.x(ends[seen]), left + 1), values[seen]

    def _y(self, place: int, lane: Lane, values: Float) -> Int32:
        ratio, area = self.devicePixelRatioF(), self._line_rect(place)
        ceiling = self._ceilings[lane.title]
        share = np.clip((values - lane.floor) / (ceiling - lane.floor), 0.0, 1.0)
        bottom, height = round((area.bottom() + 1) * ratio), area.height() * ratio
        return (bottom - 1 - np.round(share * (height - 2))).astype(np.int32)

    def _draw_words(self, painter: QPainter, area: QRect, lane: Lane) -> None:
        x, font = area.left() + 4, themes.text_font(11)
        end = area.left() + round(area.width() * (1.0 if area.height() >= ROOMY else MOST_COVERED))
        for words, number in lane_words(lane):
            width = text_width(words, 11)
            swatch = 12 if number >= 0 and len(lane.series) > 1 else 0
            if x + swatch + width > end:
                return
            box = QRect(x - 4, area.top(), swatch + width + 14, min(WORDS, area.height()))
            painter.fillRect(box, QColor(self._theme.plot))
            if swatch:
                painter.fillRect(x, box.center().y() - 3, 8, 8, self._color(number))
            color = self._theme.muted if number < 0 else self._theme.text
            draw_text(painter, QRect(x + swatch, box.top(), width + 2, box.height()), words, color, font)
            x += swatch + width + 10

    # ------------------------------------------------------------ mouse

    def _tip(self, at: QPoint) -> str:
        step = self._step_under(at.x())
        return "" if step is None else telemetry_tip(self._trace, step)


def _short(words: str) -> str:
    """A value on the axis, where there is little room: without a space before its unit, and without a zero."""
    number, _, unit = words.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{unit}"
