"""The roofline: operations a second that steps achieved, by their intensity, under what this machine can do."""

import math
import time
from collections.abc import Callable

import numpy as np
from PySide6.QtCore import QLineF, QPoint, QPointF, QRect, QRectF, Qt
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPen, QPolygonF
from PySide6.QtWidgets import QWidget

from engine.trace.floor import Part
from engine.trace.phases import Phase, StepKind
from engine.trace.store import KINDS
from gui import theme as themes
from gui import units
from gui.charts.chart import EMPTY, Chart
from gui.charts.painting import draw_text, text_width, translucent, unique_pixels
from gui.charts.tips import floor_tip, place_tip, roof_tip
from gui.floor_texts import part_label
from gui.navigation import Navigation
from gui.roofline_view import (
    LABEL_GAP,
    LogScale,
    Place,
    Roof,
    RooflineView,
    label_column,
    roofline,
    x_range,
    y_range,
)

LEFT, RIGHT, TOP, BOTTOM = 60, 18, 34, 38
LIVE_INTERVAL_NS = 200_000_000  # it changes at most five times a second while steps come in
REACH = 9  # pixels
LABEL = 16
BEFORE_LEVEL = 60  # pixels at the begin of the level roof, where the names of slopes end
PALE = 0.2
UNKNOWN = "What these steps had to move and to compute is not known."
NO_ROOFS = "The roofs are not known: measure this machine."
#: One of `Theme.series` for each kind of step; its form tells it as well.
KIND_SERIES = {
    StepKind.DECODE: 0,
    StepKind.PREFILL: 1,
    StepKind.VERIFY: 2,
    StepKind.ENCODE: 3,
    StepKind.BACKWARD: 6,
}
PART_PHASES = {
    Part.ATTENTION: Phase.ATTENTION,
    Part.MLP: Phase.MLP,
    Part.HEAD: Phase.HEAD,
    Part.REST: Phase.NORM,
    Part.DRAFT: Phase.DRAFT,
}


class RooflineChart(Chart):
    """The steps on screen as points, the shown one with its parts, each under the roof that it could reach."""

    accessible_name = "Roofline"
    accessible_description = (
        "Operations a second that were achieved over operations for each byte that has to move, both logarithmic,"
        " under the measured bandwidth and rate of matrix products of this machine."
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
        self.setMinimumSize(240, 120)

    # ------------------------------------------------------------ state

    def _reset(self) -> None:
        self.view: RooflineView | None = None
        self._ranges = (1.0, 10.0), (1.0, 10.0)
        self._seen: tuple[object, ...] = ()
        self._number = 0
        self._changed_ns = -LIVE_INTERVAL_NS
        self._hovered: Place | None = None

    def _prepare(self) -> None:
        count, navigation = len(self._trace.steps), self._navigation
        first = min(count, max(0, math.floor(navigation.first)))
        rows = slice(first, min(count, max(first, math.ceil(navigation.last))))
        shown = navigation.shown_step if count and navigation.count else None
        chosen = (navigation.selected, rows.start, len(self._trace.calibrations))
        seen = (*chosen, rows.stop, shown)
        if seen == self._seen:
            return
        now = self._clock()
        if chosen == self._seen[:3] and now - self._changed_ns < LIVE_INTERVAL_NS:
            return
        self._seen, self._changed_ns = seen, now
        self.view = roofline(self._trace, rows, shown)
        self._ranges = x_range(self.view), y_range(self.view)
        self._number += 1

    def _frame_state(self) -> tuple[object, ...]:
        return (self._number,)

    def _empty_sentence(self) -> str:
        if self.view is None or not (len(self._trace.steps) or self.view.roofs):
            return EMPTY
        return "" if len(self.view.step) or not len(self._trace.steps) else UNKNOWN

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        return QRect()  # it is drawn anew a few times a second

    # ------------------------------------------------------------ geometry

    def plot_rect(self) -> QRect:
        """Where points are drawn, in widget coordinates."""
        return QRect(LEFT, TOP, max(1, self.width() - LEFT - RIGHT), max(1, self.height() - TOP - BOTTOM))

    def _empty_area(self) -> QRect:
        return self.plot_rect()

    def scales(self) -> tuple[LogScale, LogScale]:
        """The axes in widget coordinates: intensity, and operations a second."""
        plot, (x, y) = self.plot_rect(), self._ranges
        return LogScale(*x, plot.left(), plot.width()), LogScale(*y, plot.bottom() + 1, -plot.height())

    def _at(self, intensity: float, rate: float) -> QPointF:
        x, y = self.scales()
        return QPointF(float(x.place(intensity)), float(y.place(rate)))

    # ------------------------------------------------------------ drawing

    def _draw(self, painter: QPainter) -> None:
        plot = self.plot_rect()
        painter.fillRect(plot, QColor(self._theme.plot))
        view = self.view
        if self._empty_sentence() or view is None:
            return
        self._draw_axes(painter, plot, view)
        self._draw_header(painter, view)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setClipRect(plot)
        self._draw_roofs(painter, view)
        self._draw_points(painter, view)
        self._draw_places(painter, plot, view)
        painter.setClipping(False)
        if not view.roofs:
            area = QRect(plot.left() + 8, plot.top() + 6, plot.width() - 16, 18)
            draw_text(painter, area, NO_ROOFS, self._theme.muted, themes.text_font(12))

    def _draw_axes(self, painter: QPainter, plot: QRect, view: RooflineView) -> None:
        x, y = self.scales()
        grid, words, numbers = QColor(self._theme.grid), themes.text_font(11), themes.number_font(11)
        for tick in x.ticks():
            place = round(float(x.place(tick)))
            painter.fillRect(place, plot.top(), 1, plot.height(), grid)
            area = QRect(place - 40, plot.bottom() + 4, 80, 15)
            centre = Qt.AlignmentFlag.AlignHCenter
            draw_text(painter, area, f"{tick:g}", self._theme.muted, numbers, centre)
        for tick in y.ticks():
            place = round(float(y.place(tick)))
            painter.fillRect(plot.left(), place, plot.width(), 1, grid)
            area = QRect(0, place - 8, LEFT - 8, 16)
            right = Qt.AlignmentFlag.AlignRight
            draw_text(painter, area, units.count(tick), self._theme.muted, numbers, right)
        border = QColor(self._theme.border)
        painter.fillRect(plot.x(), plot.bottom() + 1, plot.width(), 1, border)
        area = QRect(plot.left(), plot.bottom() + 19, plot.width(), 15)
        title = "FLOP for each byte that has to move"
        draw_text(painter, area, title, self._theme.faint, words, Qt.AlignmentFlag.AlignRight)
        area = QRect(0, TOP - 24, LEFT - 8, 16)
        draw_text(painter, area, "FLOP/s", self._theme.faint, words, Qt.AlignmentFlag.AlignRight)

    def _draw_header(self, painter: QPainter, view: RooflineView) -> None:
        x, font = LEFT + 8.0, themes.text_font(12)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for kind in view.kinds:
            self._marker(painter, kind, QPointF(x, TOP / 2), 4.5, self._kind_color(kind))
            label = f"{kind.value} steps"
            area = QRect(round(x) + 10, 0, text_width(label, 12) + 4, TOP)
            draw_text(painter, area, label, self._theme.muted, font)
            x += area.width() + 28
        if view.told is not None and not view.under_roofs.all():
            rest = QRect(round(x), 0, self.width() - RIGHT - round(x), TOP)
            words = "pale: under other roofs than these"
            draw_text(painter, rest, words, self._theme.faint, themes.text_font(11))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)

    def _draw_roofs(self, painter: QPainter, view: RooflineView) -> None:
        if not view.roofs or view.told is None:
            return
        x, _ = self.scales()
        corner = view.peak / view.roofs[0].bytes_per_s
        level = self._line(corner, view.peak, max(x.high, corner), view.peak)
        lines = [self._roof_line(view, roof) for roof in view.roofs]
        for line, strong in ((level, True), *((a, b.in_use) for a, b in zip(lines, view.roofs, strict=True))):
            painter.setPen(
                QPen(QColor(self._theme.text if strong else self._theme.muted), 2.2 if strong else 1.2)
            )
            painter.drawLine(line)
        rate = units.per_second(view.peak, "FLOP")
        full = f"{view.peak_kind} products {rate}"
        fits = text_width(full, 12) + BEFORE_LEVEL < level.length()
        self._name_roof(painter, level, full if fits else f"{view.peak_kind} {rate}", True, 1.0)
        for number, (roof, line) in enumerate(zip(view.roofs, lines, strict=True)):
            last = number > 0 and roof.is_memory  # below its line, and apart from what decode steps lie on
            self._name_roof(painter, line, roof_label(roof), roof.in_use, 0.6 if last else 0.06, last)

    def _roof_line(self, view: RooflineView, roof: Roof) -> QLineF:
        """What of a slope is on screen: from the left end of the axes, or their bottom, to where it meets the level."""
        x, y = self.scales()
        low = max(x.low, y.low / roof.bytes_per_s)
        return self._line(low, low * roof.bytes_per_s, view.peak / roof.bytes_per_s, view.peak)

    def _line(self, x1: float, y1: float, x2: float, y2: float) -> QLineF:
        return QLineF(self._at(x1, y1), self._at(x2, y2))

    def _name_roof(
        self, painter: QPainter, line: QLineF, text: str, strong: bool, along: float, below: bool = False
    ) -> None:
        """Write a text along a line: `along` of the way from its begin, or ending with it for 1."""
        width = text_width(text, 12) + 8
        if line.length() < width + 8:
            return
        start = min(along * line.length(), line.length() - width - 4)
        painter.save()
        painter.translate(line.pointAt(start / line.length()))
        painter.rotate(-line.angle())
        area = QRect(0, 3 if below else -LABEL - 3, width, LABEL)
        painter.fillRect(area.adjusted(-2, 1, 0, -1), translucent(self._theme.plot, 0.8))
        color = self._theme.text if strong else self._theme.muted
        draw_text(painter, area, text, color, themes.text_font(12, strong))
        painter.restore()

    def _draw_points(self, painter: QPainter, view: RooflineView) -> None:
        x_scale, y_scale = self.scales()
        x, y = x_scale.place(view.intensity), y_scale.place(view.rate)
        for kind in view.kinds:
            of_kind = view.kind == KINDS.index(kind)
            for under, alpha in ((False, PALE), (True, 0.7)):
                mine = of_kind & (view.under_roofs == under)
                color = translucent(self._kind_color(kind), alpha if view.roofs else 0.7)
                pixels = unique_pixels(x[mine], y[mine])
                for px, py in zip(*(each.tolist() for each in pixels), strict=True):
                    self._marker(painter, kind, QPointF(px, py), 3.0, color)

    def _draw_places(self, painter: QPainter, plot: QRect, view: RooflineView) -> None:
        texts, points = [], []
        for place in view.places:
            at, color = self._at(place.intensity, place.rate), self._place_color(view, place)
            if place.roof:
                above = self._at(place.intensity, place.roof)
                painter.setPen(QPen(color, 1.2, Qt.PenStyle.DotLine))
                painter.drawLine(at, above)
                painter.setPen(QPen(color, 1.6))
                painter.setBrush(QColor(self._theme.plot))
                painter.drawEllipse(above, 3.5, 3.5)
            points.append((at.x(), at.y()))
            texts.append(place_label(view, place))
        for place in reversed(view.places):  # the step itself on top
            at = self._at(place.intensity, place.rate)
            painter.setPen(QPen(QColor(self._theme.plot if place.part else self._theme.selection), 1.6))
            painter.setBrush(self._place_color(view, place))
            box = QRectF(at.x() - 5, at.y() - 5, 10, 10)
            painter.drawRect(box) if place.part else painter.drawEllipse(at, 6, 6)
        widths = [text_width(text, 12) + 6 for text in texts]
        labels = label_column(points, widths, plot.left(), plot.right(), plot.bottom(), LABEL + 3)
        for place, text, width, point, (x, y) in zip(view.places, texts, widths, points, labels, strict=True):
            area = QRect(x, y - LABEL // 2, width, LABEL)
            painter.fillRect(area.adjusted(-3, 0, 0, 0), translucent(self._theme.plot, 0.75))
            self._lead(painter, point, area, self._place_color(view, place))
            draw_text(painter, area, text, self._theme.text, themes.text_font(12, place.part is None))

    def _lead(self, painter: QPainter, point: tuple[float, float], label: QRect, color: QColor) -> None:
        """A line from a point to its label, from the edge of its marker on."""
        end = label.left() - 3 if label.left() > point[0] else label.right() + 1
        line = QLineF(QPointF(*point), QPointF(end, label.center().y() + 1))
        if line.length() > LABEL_GAP:
            painter.setPen(QPen(color, 1))
            painter.drawLine(QLineF(line.pointAt(8 / line.length()), line.p2()))

    def _kind_color(self, kind: StepKind) -> QColor:
        return QColor(self._theme.series[KIND_SERIES[kind]])

    def _place_color(self, view: RooflineView, place: Place) -> QColor:
        if place.part is not None:
            return self._theme.color(PART_PHASES[place.part])
        assert view.shown is not None
        return self._kind_color(self._trace.kind(view.shown))

    def _marker(self, painter: QPainter, kind: StepKind, at: QPointF, size: float, color: QColor) -> None:
        """A point in the form of its kind of step."""
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(color)
        if kind is StepKind.DECODE:
            painter.drawEllipse(at, size, size)
            return
        turns = {StepKind.PREFILL: (4, 45), StepKind.VERIFY: (4, 0), StepKind.ENCODE: (3, -90)}
        corners, turn = turns.get(kind, (5, -90))
        angles = (math.radians(turn + 360 * place / corners) for place in range(corners))
        around = [
            QPointF(at.x() + 1.3 * size * math.cos(angle), at.y() + 1.3 * size * math.sin(angle))
            for angle in angles
        ]
        painter.drawPolygon(QPolygonF(around))

    # ------------------------------------------------------------ mouse

    def place_at(self, at: QPoint) -> Place | None:
        """The step that is shown, or one of its parts, under a point."""
        view = self.view
        if view is None or self._empty_sentence():
            return None
        near = [
            (math.hypot(p.x() - at.x(), p.y() - at.y()), number)
            for number, place in enumerate(view.places)
            for p in (self._at(place.intensity, place.rate),)
        ]
        distance, number = min(near, default=(math.inf, 0))
        return view.places[number] if distance <= REACH else None

    def step_at(self, at: QPoint) -> int | None:
        """The step whose point is nearest to a place, within reach."""
        view = self.view
        if view is None or self._empty_sentence() or not len(view.step):
            return None
        x, y = self.scales()
        distance = np.hypot(x.place(view.intensity) - at.x(), y.place(view.rate) - at.y())
        found = int(distance.argmin())
        return int(view.step[found]) if distance[found] <= REACH else None

    def roof_at(self, at: QPoint) -> Roof | None:
        """The slope under a point."""
        view = self.view
        if view is None or self._empty_sentence():
            return None
        for roof in view.roofs:
            line = self._roof_line(view, roof)
            if line.x1() <= at.x() <= line.x2() and line.length():
                height = line.pointAt((at.x() - line.x1()) / max(1.0, line.dx())).y()
                if abs(height - at.y()) <= REACH:
                    return roof
        return None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say what is under the pointer."""
        self._show_tip(event.globalPosition().toPoint(), self._tip(event.position().toPoint()))

    def _tip(self, at: QPoint) -> str:
        view = self.view
        place = self.place_at(at)
        if view is not None and place is not None and view.shown is not None:
            return place_tip(self._trace, view.shown, place)
        step = self.step_at(at)
        if step is not None:
            return floor_tip(self._trace, step)
        roof = self.roof_at(at)
        return roof_tip(roof, view.told) if roof is not None and view is not None and view.told else ""

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Choose the step that was clicked; a click on the chosen one lets go of it."""
        if event.button() == Qt.MouseButton.LeftButton:
            step = self.step_at(event.position().toPoint())
            if step is not None:
                self._navigation.select(None if step == self._navigation.selected else step)


def roof_label(roof: Roof) -> str:
    """What a slope is called."""
    rate = units.per_second(roof.bytes_per_s, "B")
    return f"memory {rate}" if roof.is_memory else f"{units.size(roof.working_set)} in caches {rate}"


def place_label(view: RooflineView, place: Place) -> str:
    """What a step or a part of it is called, with its share of what is possible there."""
    name = part_label(place.part) if place.part is not None else f"step {view.shown:,}"
    return f"{name} · {units.share(place.rate / place.roof)}" if place.roof else name
