"""The telemetry chart: what the machine did meanwhile, a lane a quantity, over the same steps as the other charts.

Only what is sampled has a lane: a sensor that is not there has none, rather than a line at zero.
"""

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QColor, QPainter

from gui import theme as themes
from gui.charts.painting import Int32, draw_text, fill_rects, text_width
from gui.charts.step_plot import LEFT, StepPlot
from gui.charts.tips import telemetry_tip
from gui.telemetry_view import Lane, Spans, lane_words, lanes, line_columns, spans
from gui.view_state import Float

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
        self._painted = 0  # samples in the picture
        self._painted_x = 0  # where the last of them begins, in device pixels
        self._sampled = True
        self._words: dict[int, QRect] = {}  # where the words of each lane stand

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
            lane.title: _held(self._ceilings.get(lane.title, 0.0), lane.ceiling) for lane in self._lanes
        }

    def _frame_state(self) -> tuple[object, ...]:
        names = tuple((lane.title, *(series.name for series in lane.series)) for lane in self._lanes)
        anew = 0 if self._is_roomy() else self._seen  # words that lie on lines are drawn with them
        return *super()._frame_state(), names, tuple(self._ceilings.values()), anew

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

    def _start_picture(self, empty: str) -> None:
        super()._start_picture(empty)
        self._painted = self._seen

    def _bring_up_to_date(self) -> QRect:
        changed = super()._bring_up_to_date()
        if self._painted == self._seen or self._empty_sentence():
            return changed
        painter = QPainter(self._picture)
        self._draw_since(painter, self._painted_x)
        painter.end()
        self._painted = self._seen
        return self.plot_rect()

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        """What is new comes with the next sample."""
        return QRect()

    def _draw_since(self, painter: QPainter, x: int) -> None:
        """Draw the lines from a device pixel on, and the words, anew."""
        area = self._device_plot()
        area.setLeft(max(x, area.left()))
        painter.save()
        self._to_device(painter)
        painter.fillRect(area, QColor(self._theme.plot))
        painter.restore()
        for place in range(len(self._lanes)):
            lane = self.lane_rect(place)
            painter.fillRect(lane.x(), lane.y(), lane.width(), WORDS, QColor(self._theme.plot))
        self._draw_grid(painter, self.plot_rect())
        self._draw_lanes(painter, area)

    def _is_roomy(self) -> bool:
        """Whether the lanes have their words above their lines."""
        return all(self.lane_rect(place).height() >= ROOMY for place in range(len(self._lanes)))

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
            painter.fillRect(gap.x(), gap.y(), gap.width(), 1, QColor(self._theme.grid))

    def _draw_y_axis(self, painter: QPainter, plot: QRect) -> None:
        self._draw_grid(painter, plot)
        font = themes.number_font(11)
        for place, lane in enumerate(self._lanes):
            area = self._line_rect(place)
            top = QRect(0, area.top() - 4, LEFT - 6, 16)
            words = lane.text(self._ceilings[lane.title])
            draw_text(painter, top, _short(words), self._theme.muted, font, Qt.AlignmentFlag.AlignRight)

    def _draw_data(self, painter: QPainter, buckets: range) -> None:
        self._draw_lanes(painter, self._device_plot())

    def _draw_lanes(self, painter: QPainter, area: QRect) -> None:
        """Draw what of the lines lies in an area of device pixels, and all words."""
        painter.save()
        self._to_device(painter)
        painter.setClipRect(area)
        whole = self._spans()
        found = {key: each.since(area.left()) for key, each in whole.items()}
        for place, lane in enumerate(self._lanes):
            for number, series in reversed(list(enumerate(lane.series))):
                self._draw_series(painter, place, lane, number, found[id(series.samples)])
        painter.restore()
        self._painted_x = min((int(each.left[-1]) for each in whole.values() if len(each.left)), default=0)
        for place, lane in enumerate(self._lanes):
            self._words[place] = self._draw_words(painter, self.lane_rect(place), lane)

    def _words_in_plot(self) -> Sequence[QRect]:
        return [self._words[place] for place in range(len(self._lanes)) if place in self._words]

    def _spans(self) -> dict[int, Spans]:
        """Where the samples of each thing that is sampled lie, by its id: several series share them."""
        scale = self.device_scale()
        things = {id(series.samples): series for lane in self._lanes for series in lane.series}
        return {key: spans(self._trace, scale, series.at_ns) for key, series in things.items()}

    def _color(self, number: int) -> QColor:
        return QColor(self._theme.series[number % len(self._theme.series)])

    def _draw_series(self, painter: QPainter, place: int, lane: Lane, number: int, found: Spans) -> None:
        """A step line: each value holds until the next. What shares a pixel column spans it from least to largest."""
        values = lane.series[number].values[found.rows]
        known = np.isfinite(values)
        if not known.any():
            return
        columns = line_columns(found.left[known], found.right[known], self._y(place, lane, values[known]))
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

    def _y(self, place: int, lane: Lane, values: Float) -> Int32:
        ratio, area = self.devicePixelRatioF(), self._line_rect(place)
        ceiling = self._ceilings[lane.title]
        share = np.clip((values - lane.floor) / (ceiling - lane.floor), 0.0, 1.0)
        bottom, height = round((area.bottom() + 1) * ratio), area.height() * ratio
        return (bottom - 1 - np.round(share * (height - 2))).astype(np.int32)

    def _draw_words(self, painter: QPainter, area: QRect, lane: Lane) -> QRect:
        """Write what a lane is, as far as there is room; returns where."""
        written = QRect()
        x, font = area.left() + 4, themes.text_font(11)
        end = area.left() + round(area.width() * (1.0 if area.height() >= ROOMY else MOST_COVERED))
        for words, number in lane_words(lane):
            width = text_width(words, 11)
            swatch = 12 if number >= 0 and len(lane.series) > 1 else 0
            if x + swatch + width > end:
                break
            box = QRect(x - 4, area.top(), swatch + width + 14, min(WORDS, area.height()))
            written |= box
            painter.fillRect(box, QColor(self._theme.plot))
            if swatch:
                painter.fillRect(x, box.center().y() - 3, 8, 8, self._color(number))
            color = self._theme.muted if number < 0 else self._theme.text
            draw_text(painter, QRect(x + swatch, box.top(), width + 2, box.height()), words, color, font)
            x += swatch + width + 10
        return written

    # ------------------------------------------------------------ mouse

    def _tip(self, at: QPoint) -> str:
        step = self._step_under(at.x())
        return "" if step is None else telemetry_tip(self._trace, step)


def _held(current: float, wanted: float) -> float:
    """The end of an axis that does not jump: it stays while the wanted one fits and fills at least half of it."""
    return current if current / 2 <= wanted <= current else wanted


def _short(words: str) -> str:
    """A value on the axis, where there is little room: without zeros behind the point."""
    number, _, unit = words.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"
