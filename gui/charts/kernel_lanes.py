"""The lanes of a captured step under its spans: operations of the host, nested, and what devices ran."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QPainter

from engine.trace.kernels import Capture
from engine.trace.phases import Phase
from gui import theme as themes
from gui.charts.painting import Int32, fill_rects, text_width
from gui.theme import Theme, ink
from gui.view_texts import lane_label, short_name

NARROWEST = 14  # pixels in which a label can be
LABEL_FROM = 11  # pixels of a row in which a label can be read
GAP_FROM = 4  # entries this wide (pixels) leave one pixel between them
DARKER = 12  # per cent by which each level is darker than what holds it


@dataclass(frozen=True, slots=True)
class Place:
    """Where lanes are drawn: `left` ≤ x < `right`, rows of `row` pixels from `top` on, and where a time (ns) lies."""

    left: int
    right: int
    top: int
    row: int
    x: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


class KernelLanes:
    """The entries of a capture in rows: a row for each level of nesting of each lane."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        depths = np.zeros(len(capture.event.lanes), np.int64)
        np.maximum.at(depths, capture.lane, capture.depth + 1)
        first = np.concatenate(([0], np.cumsum(depths)))
        self.rows = int(first[-1])
        self.labels = [
            (int(first[place]), lane_label(capture, place)) for place in range(len(depths)) if depths[place]
        ]
        self._row = first[capture.lane] + capture.depth
        self._times = np.stack((capture.begin_ns, capture.begin_ns + capture.duration_ns), 1).astype(
            np.float64
        )
        self._groups = [
            (Phase(phase), level, (capture.phase == phase) & (capture.depth == level))
            for phase in np.unique(capture.phase).tolist()
            for level in np.unique(capture.depth[capture.phase == phase]).tolist()
        ]

    def boxes(self, place: Place) -> Int32:
        """Left, top, right, bottom (right and bottom outside) of all entries, at least one pixel wide: (n, 4)."""
        # far outside it does not matter where; a QRect holds only 32 bits
        x = np.clip(np.rint(place.x(self._times)), place.left - 10_000, place.right + 10_000)
        right = np.maximum(x[:, 1], x[:, 0] + 1)
        right -= right - x[:, 0] >= GAP_FROM
        top = place.top + self._row * place.row
        return np.stack((x[:, 0], top, right, top + place.row - 1), axis=1).astype(np.int32)

    def draw(self, painter: QPainter, place: Place, theme: Theme) -> None:
        """Draw what is on screen: the colour of a phase, darker the deeper it lies, with names where there is room."""
        boxes = self.boxes(place)
        seen = (boxes[:, 2] > place.left) & (boxes[:, 0] < place.right)
        for phase, level, of_group in self._groups:
            chosen = boxes[of_group & seen]
            left, top, right, bottom = chosen.T
            fill_rects(painter, left, top, right, bottom, self._color(theme, phase, level))
        if place.row >= LABEL_FROM:
            self._draw_names(painter, place, theme, boxes, seen)

    def _color(self, theme: Theme, phase: Phase, level: int) -> QColor:
        return theme.color(phase).darker(100 + DARKER * min(level, 5))

    def _draw_names(
        self, painter: QPainter, place: Place, theme: Theme, boxes: Int32, seen: npt.NDArray[np.bool_]
    ) -> None:
        painter.setFont(themes.text_font(10 if place.row < NARROWEST else 11))
        left = np.maximum(boxes[:, 0], place.left)
        widths = np.minimum(boxes[:, 2], place.right) - left
        for i in np.flatnonzero(seen & (widths >= NARROWEST)).tolist():
            name = self.capture.event.names[int(self.capture.name[i])]
            room = int(widths[i]) - 4
            label = next((t for t in (name, short_name(name)) if text_width(t, 11) <= room), "")
            if label:
                color = self._color(theme, Phase(int(self.capture.phase[i])), int(self.capture.depth[i]))
                painter.setPen(ink(color))
                box = QRect(int(left[i]), int(boxes[i, 1]), int(widths[i]), place.row - 1)
                painter.drawText(box, Qt.AlignmentFlag.AlignCenter, label)

    def at(self, x: int, y: int, place: Place) -> int | None:
        """The entry under a point; the shortest one where several share a pixel."""
        boxes = self.boxes(place)
        under = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
        found = np.flatnonzero(under)
        return int(found[self.capture.duration_ns[found].argmin()]) if len(found) else None

    def rect(self, entry: int, place: Place) -> QRect:
        """Where an entry is drawn."""
        left, top, right, bottom = self.boxes(place)[entry].tolist()
        return QRect(left, top, right - left, bottom - top)
