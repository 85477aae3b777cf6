"""A reference laid over the steps of a trace: a dashed line, so that it is never taken for what is measured now.

Each generation begins where its first token came: there lies offset 0 of the reference, whatever either did before.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QRect
from PySide6.QtGui import QColor, QPainter

from engine.trace.ledger import Int64
from engine.trace.reference import Beginnings, Course, Reference, Series
from engine.trace.store import Trace
from gui.charts.painting import Float, Int32, dashes, fill_rects
from gui.theme import Theme
from gui.view_state import HEADROOM, Bool, StepScale, only_reads

DASH, GAP = 4, 3
MOST_RISE = 4  # times what the steps themselves need: a reference may shrink them so much, not more


@dataclass(frozen=True, slots=True)
class ReferenceColumns:
    """Values (c,) ns of a reference in buckets from step `begin` to `end` (c,), NaN where it has none. joins (c,):
    whether a column goes on from the one before.
    """

    begin: Int64
    end: Int64
    values: Float
    joins: Bool


@dataclass(frozen=True, slots=True)
class Pen:
    """How a reference is drawn. `edge`: of a line that lies over bars, what sets it off from them."""

    width: int
    color: QColor
    edge: QColor | None = None


Reader = Callable[[StepScale, QRect], ReferenceColumns]


class ReferenceOverlay:
    """What a chart over steps shows of a reference. `reference`: None for nothing."""

    def __init__(self) -> None:
        self.reference: Reference | None = None
        self.reset()

    def reset(self) -> None:
        """Begin again, for another trace."""
        self._beginnings = Beginnings()
        self._fits = False
        self._view: tuple[object, ...] = ()
        self._usual = 0.0  # in that view

    def update(self, trace: Trace) -> None:
        """Take in what came since."""
        if self.reference is None:
            return
        self._beginnings.update(trace)
        self._fits = self.reference.reads == only_reads(trace)

    @property
    def state(self) -> tuple[object, ...]:
        """What makes it look different when it changes."""
        return self.reference, self._fits, *(self._beginnings.counts if self.reference else ())

    @property
    def is_drawn(self) -> bool:
        """Whether it has a place on this trace."""
        reference = self.reference
        return reference is not None and reference.course is not None and self._fits

    @property
    def _course(self) -> Course:
        assert self.reference is not None
        assert self.reference.course is not None
        return self.reference.course

    # ------------------------------------------------------------ values

    def latencies(self, scale: StepScale, area: QRect) -> ReferenceColumns:
        """The rolling median of its latency at the end of each bucket in an area of the plot."""
        return self._columns(self._course.usual_latencies, scale, area)

    def walls(self, scale: StepScale, area: QRect) -> ReferenceColumns:
        """That of the wall time of its steps."""
        return self._columns(self._course.usual_walls, scale, area)

    def usual_latency(self, scale: StepScale, area: QRect) -> float:
        """What an axis of latencies must reach for it, ns; it is found once a view."""
        return self._once(self.latencies, scale, area)

    def usual_wall(self, scale: StepScale, area: QRect) -> float:
        """The same for an axis of wall times."""
        return self._once(self.walls, scale, area)

    def _once(self, read: Reader, scale: StepScale, area: QRect) -> float:
        view = (read.__name__, scale, area.right(), *self.state)
        if view != self._view:
            self._view, self._usual = view, usual(read(scale, area))
        return self._usual

    def _columns(self, series: Series, scale: StepScale, area: QRect) -> ReferenceColumns:
        begin, end = _buckets(scale, area)
        values = series.at(self._beginnings.offsets(end - 1))
        owner = self._beginnings.begin_of(end - 1)
        joins = np.isfinite(values)
        joins[1:] &= np.isfinite(values[:-1]) & (owner[1:] == owner[:-1])
        joins[:1] = False
        return ReferenceColumns(begin, end, values, joins)

    def at(self, step: int) -> tuple[float | None, float | None]:
        """Of a step: the wall time and the median latency (ns) of the reference at the same place; None for none."""
        if not self.is_drawn:
            return None, None
        offset = self._beginnings.offsets(np.array([step]))
        wall, latency = (
            float(series.at(offset)[0]) for series in (self._course.walls, self._course.usual_latencies)
        )
        return None if math.isnan(wall) else wall, None if math.isnan(latency) else latency


def _buckets(scale: StepScale, area: QRect) -> tuple[Int64, Int64]:
    """The buckets in an area of the plot, and one on either side: first step, and first step of the next (c,)."""
    first = max(0, scale.bucket_at(area.left()) - 1)
    edges = np.arange(first, max(first, scale.bucket_at(area.right()) + 1) + 2, dtype=np.int64) * scale.bucket
    return edges[:-1], edges[1:]


def usual(columns: ReferenceColumns) -> float:
    """What an axis must reach for most of what a reference has there; 0 where it has nothing."""
    known = columns.values[np.isfinite(columns.values)]
    if not len(known):
        return 0.0
    place = (len(known) - 1) * 9 // 10
    return HEADROOM * float(np.partition(known, place)[place])


def raised_ceiling(needed: float, wanted: float) -> float:
    """What an axis must reach that suits the steps with `needed`, and their reference with `wanted`."""
    return max(needed, min(wanted, MOST_RISE * needed))


def draw_columns(
    painter: QPainter, scale: StepScale, plot: QRect, columns: ReferenceColumns, ceiling: float, pen: Pen
) -> None:
    """Draw what of a reference lies below the end of the y axis, in device pixels, as a dashed step line."""
    known = columns.values <= ceiling
    levels = np.where(known, columns.values, 0.0) / ceiling * plot.height()
    y = (plot.bottom() + 1 - np.round(levels)).astype(np.int32)
    joins = columns.joins.copy()
    joins[1:] &= known[:-1]
    left = scale.x(columns.begin)
    right = np.maximum(scale.x(columns.end), left + 1)
    draw_dashed(painter, left[known], right[known], y[known], joins[known], pen)


def draw_dashed(painter: QPainter, left: Int32, right: Int32, y: Int32, joins: Bool, pen: Pen) -> None:
    """A dashed step line: levels left ≤ x < right at y (n pixels), with risers where a level goes on from the one
    before. Its dashes grow with its width.
    """
    width, color = pen.width, pen.color
    which, begin, end = dashes(left, right, DASH * width, GAP * width)
    level = y[which] - width // 2
    if pen.edge is not None:
        fill_rects(painter, begin - 1, level - 1, end + 1, level + width + 1, pen.edge)
    fill_rects(painter, begin, level, end, level + width, color)
    before = np.concatenate((y[:1], y[:-1]))
    rises = joins & (y != before) & (left % ((DASH + GAP) * width) < DASH * width)
    if not rises.any():
        return
    y, before = y[rises] - width // 2, before[rises] - width // 2
    ends = np.minimum(left + width, right)[rises]  # so that each column can be drawn by itself
    fill_rects(painter, left[rises], np.minimum(before, y), ends, np.maximum(before, y) + width, color)


def draw_swatch(painter: QPainter, area: QRect, theme: Theme) -> None:
    """The sign of a reference in a legend, in widget coordinates: two dashes."""
    left = np.array([area.x(), area.x() + 7], np.int32)
    y = np.full(2, area.center().y(), np.int32)
    fill_rects(painter, left, y, left + 5, y + 2, QColor(theme.muted))
