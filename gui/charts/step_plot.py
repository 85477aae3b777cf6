"""A chart whose x axis counts steps: the axes, marks, selection and mouse of token strip, latency and layer
map.

All of them have the same margins, so that one above the other the same step lies on the same pixels.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TypeVar

from PySide6.QtCore import QEvent, QPoint, QRect, Qt
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPen, QRegion, QWheelEvent

from engine.trace.store import AnyMark, CaptureMark, GapMark, JoinMark, Mark, NoteMark, WarningMark
from gui import theme as themes
from gui import units
from gui.charts.chart import Chart
from gui.charts.painting import draw_text, text_width, translucent
from gui.charts.tips import mark_tip
from gui.view_state import StepScale, held_ceiling, slowest, ticks
from gui.view_texts import place_labels

LEFT, RIGHT, BOTTOM, HEADER = 56, 16, 22, 30
MARK_ROW = 16
CLICK_DISTANCE = 4


Stored = TypeVar("Stored", Mark, JoinMark, GapMark, WarningMark, NoteMark)


class StepPlot(Chart):
    """Base of the charts over steps. Above the plot are `header` pixels and `mark_rows` rows for the texts
    of marks.
    """

    header = HEADER
    mark_rows = 0

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._ceiling = 0.0
        self._pressed: tuple[QPoint, float] | None = None
        self._dragging = False
        self._marks: dict[int, list[AnyMark]] = {}  # those on screen, by their step
        self._boundaries: list[int] = []  # first steps of generations on screen
        self.setMinimumHeight(100)

    # ------------------------------------------------------------ geometry

    def plot_rect(self) -> QRect:
        """Where steps are drawn, in widget coordinates."""
        top = self.header + self.mark_rows * MARK_ROW
        return QRect(LEFT, top, max(1, self.width() - LEFT - RIGHT), max(1, self.height() - top - BOTTOM))

    def _device_plot(self) -> QRect:
        ratio, plot = self.devicePixelRatioF(), self.plot_rect()
        return QRect(
            round(plot.x() * ratio),
            round(plot.y() * ratio),
            round(plot.width() * ratio),
            round(plot.height() * ratio),
        )

    def device_scale(self) -> StepScale:
        """Where steps lie in device pixels."""
        plot = self._device_plot()
        return StepScale(self._navigation.first, self._navigation.last, plot.x(), plot.width())

    def scale(self) -> StepScale:
        """Where steps lie in widget coordinates."""
        plot = self.plot_rect()
        return StepScale(self._navigation.first, self._navigation.last, plot.x(), plot.width())

    def _widget_rect(self, device: QRect) -> QRect:
        ratio = self.devicePixelRatioF()
        left, top = int(device.x() / ratio), int(device.y() / ratio)
        return QRect(left, top, int(device.width() / ratio) + 2, int(device.height() / ratio) + 2)

    def _step_under(self, x: float) -> int | None:
        """The step drawn at x: the slowest of its bucket."""
        scale, plot = self.device_scale(), self._device_plot()
        place = int(x * self.devicePixelRatioF())
        bucket = scale.bucket_at(place)
        if not plot.left() <= place <= plot.right() or bucket not in scale.buckets(len(self._trace.steps)):
            return None
        found = slowest(self._trace.steps.wall_ns, scale.bucket, range(bucket, bucket + 1))
        return int(found[0]) if len(found) else None

    # ------------------------------------------------------------ state

    def _reset(self) -> None:
        self._ceiling = 0.0

    def take_view(self, other: Chart) -> None:
        """Keep the scale of the values, so that a picture is what was on screen."""
        assert isinstance(other, StepPlot)
        self._ceiling = other._ceiling

    def _needed_ceiling(self) -> float:
        """What the y axis must reach, ns; 0 for no axis."""
        return 0.0

    def _prepare(self) -> None:
        needed = self._needed_ceiling()
        self._ceiling = held_ceiling(self._ceiling, needed) if needed else self._ceiling or 1e6

    def _frame_state(self) -> tuple[object, ...]:
        navigation = self._navigation
        trace = self._trace
        counts = (
            *(len(trace.marks), len(trace.joins), len(trace.gaps), len(trace.captures), len(trace.warnings)),
            len(trace.generations),
            *trace.notes,
        )
        return navigation.first, navigation.last, self._ceiling, *counts

    def _overlay_state(self) -> tuple[object, ...]:
        return self._navigation.selected, self._navigation.hovered

    # ------------------------------------------------------------ drawing

    def _draw(self, painter: QPainter) -> None:
        plot = self.plot_rect()
        self._find_marks()
        painter.fillRect(plot, QColor(self._theme.plot))
        self._draw_x_axis(painter, plot)
        if self._empty_sentence():
            return  # a scale without values would be made up
        self._draw_y_axis(painter, plot)
        self._draw_header(painter, QRect(LEFT, 0, plot.width(), self.header))
        if self.mark_rows:
            self._draw_mark_texts(painter, plot)
        self._draw_layers(painter, self.device_scale().buckets(len(self._trace.steps)), self._device_plot())

    def _draw_layers(self, painter: QPainter, buckets: range, area: QRect) -> None:
        """Draw some buckets, and whatever else there is in an area of the plot, in device pixels."""
        self._draw_data(painter, buckets)

    def _empty_area(self) -> QRect:
        return self.plot_rect()

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        scale = self.device_scale()
        visible = scale.buckets(len(self._trace.steps))
        newest = range(max(visible.start, self._first_changed(drawn) // scale.bucket), visible.stop)
        if not len(newest):
            return QRect()
        plot = self._device_plot()
        left = int(scale.x(newest.start * scale.bucket))
        right = min(plot.x() + plot.width(), int(scale.x(newest.stop * scale.bucket)) + 1)
        area = QRect(left, plot.y(), right - left, plot.height()).intersected(plot)
        painter.save()
        self._to_device(painter)
        painter.fillRect(area, QColor(self._theme.plot))
        painter.restore()
        self._draw_grid(painter, self._widget_rect(area).intersected(self.plot_rect()))
        self._draw_layers(painter, newest, area)
        return self._widget_rect(area)

    def _first_changed(self, drawn: int) -> int:
        """The first step that looks different when steps from `drawn` on were added."""
        return max(0, drawn - 1)

    def _to_device(self, painter: QPainter) -> None:
        """Paint in device pixels from here on."""
        ratio = 1 / self.devicePixelRatioF()
        painter.scale(ratio, ratio)

    def _draw_data(self, painter: QPainter, buckets: range) -> None:
        """Draw some buckets; the ground under them is clean."""

    def _draw_header(self, painter: QPainter, area: QRect) -> None:
        """Draw the line above the plot."""

    def _y_ticks(self) -> list[float]:
        return ticks(0.0, self._ceiling, max(2, self.plot_rect().height() // 36))

    def _y_of(self, value: float) -> int:
        plot = self.plot_rect()
        return plot.bottom() + 1 - round(value / self._ceiling * plot.height())

    def _draw_grid(self, painter: QPainter, area: QRect) -> None:
        color = QColor(self._theme.grid)
        for tick in self._y_ticks()[1:]:  # the axis stands at zero
            painter.fillRect(area.x(), max(self._y_of(tick), self.plot_rect().top()), area.width(), 1, color)

    def _draw_y_axis(self, painter: QPainter, plot: QRect) -> None:
        self._draw_grid(painter, plot)
        size, unit = units.time_unit(self._ceiling)
        font = themes.number_font(11)
        for tick in self._y_ticks():
            area = QRect(0, self._y_of(tick) - 8, LEFT - 8, 16)
            text = f"{tick / size:g}" if tick else "0"
            draw_text(painter, area, text, self._theme.muted, font, Qt.AlignmentFlag.AlignRight)
        unit_area = QRect(0, plot.top() - 28, LEFT - 8, 16)
        draw_text(
            painter, unit_area, unit, self._theme.faint, themes.text_font(11), Qt.AlignmentFlag.AlignRight
        )

    def _draw_x_axis(self, painter: QPainter, plot: QRect) -> None:
        scale, font = self.scale(), themes.number_font(11)
        painter.fillRect(plot.x(), plot.bottom() + 1, plot.width(), 1, QColor(self._theme.border))
        places = ticks(scale.first, scale.last, max(2, plot.width() // 110))
        for tick in places:
            if tick != int(tick):
                continue
            x = int(scale.x(tick))
            painter.fillRect(x, plot.bottom() + 1, 1, 4, QColor(self._theme.border))
            area = QRect(x - 40, plot.bottom() + 5, 80, 15)
            if area.right() > self.width() - 40:
                continue  # the axis title stands there
            draw_text(painter, area, f"{int(tick):,}", self._theme.muted, font, Qt.AlignmentFlag.AlignHCenter)
        area = QRect(self.width() - RIGHT - 60, plot.bottom() + 5, 60, 15)
        draw_text(painter, area, "step", self._theme.faint, themes.text_font(11), Qt.AlignmentFlag.AlignRight)

    # ------------------------------------------------------------ marks

    def _find_marks(self) -> None:
        first, last = self._navigation.first, self._navigation.last
        self._marks = {}
        found: list[AnyMark] = [
            *_between(self._trace.marks, first, last),
            *_between(self._trace.joins, first, last),
            *_between(self._trace.gaps, first, last),
            *(CaptureMark(*each) for each in self._trace.captures.items() if first <= each[0] <= last),
            *_between(self._trace.warnings, first, last),
            *_between(self._trace.notes, first, last),
        ]
        for mark in sorted(found, key=lambda mark: mark.step):
            self._marks.setdefault(mark.step, []).append(mark)
        begins = (g.first_step for g in self._trace.generations)
        self._boundaries = [b for b in begins if b > 0 and first <= b <= last]

    def _draw_mark_texts(self, painter: QPainter, plot: QRect) -> None:
        font = themes.text_font(11)
        marks = self._marks
        lefts = [int(self.scale().x(step)) for step in marks]
        texts = ["; ".join(m.text for m in marks[step]) for step in marks]
        widths = [min(180, text_width(t, 11) + 14) for t in texts]
        places = place_labels(lefts, widths, self.mark_rows, plot.right() + RIGHT)
        for (x, row), left, text, width in zip(places, lefts, texts, widths, strict=True):
            color = QColor(self._theme.mark)
            if row < 0:
                painter.fillRect(left, plot.top() - 4, 1, 4, color)
                continue
            top = self.header + row * MARK_ROW
            line = top + (
                2 if x == left else MARK_ROW
            )  # a text that was moved to the left stands over its line
            painter.fillRect(left, line, 1, plot.top() - line, translucent(color, 0.6))
            area = QRect(x + 4, top, width - 6, MARK_ROW - 1)
            draw_text(painter, area, text, color, font)

    def _draw_overlay(self, painter: QPainter, area: QRect) -> None:
        if self._empty_sentence():
            return
        plot, scale = self.plot_rect(), self.scale()
        clip = QRegion(plot.adjusted(0, 0, 1, 0).intersected(area))
        for words in self._words_in_plot():
            clip = clip.subtracted(QRegion(words))
        painter.setClipRegion(clip)
        boundary = QPen(translucent(self._theme.muted, 0.55), 1, Qt.PenStyle.DotLine)
        for x in sorted({int(scale.x(step)) for step in self._boundaries}):
            self._draw_line(painter, x, boundary)
        pen = QPen(translucent(self._theme.mark, 0.8), 1)
        for x in sorted({int(scale.x(step)) for step in self._marks}):
            self._draw_line(painter, x, pen)
        self._draw_hover(painter, self._navigation.hovered, 0.14)
        self._draw_selection(painter, self._navigation.selected)

    def _words_in_plot(self) -> Sequence[QRect]:
        """What is written in the plot: no line crosses it."""
        return ()

    def _draw_line(self, painter: QPainter, x: int, pen: QPen) -> None:
        plot = self.plot_rect()
        painter.setPen(pen)
        painter.drawLine(x, plot.top(), x, plot.bottom())

    def column_rect(self, step: int) -> QRect:
        """Where the column that holds a step is drawn, in widget coordinates."""
        device, plot = self.device_scale(), self.plot_rect()
        begin = step // device.bucket * device.bucket
        scale = self.scale()
        left = int(scale.x(begin))
        return QRect(left, plot.top(), max(1, int(scale.x(begin + device.bucket)) - left), plot.height())

    def _draw_hover(self, painter: QPainter, step: int | None, alpha: float) -> None:
        if step is not None:
            painter.fillRect(self.column_rect(step), translucent(self._theme.selection, alpha))

    def _draw_selection(self, painter: QPainter, step: int | None) -> None:
        if step is None:
            return
        column, color = self.column_rect(step), QColor(self._theme.selection)
        painter.fillRect(column, translucent(color, 0.10))
        painter.fillRect(column.left() - 1, column.top(), 1, column.height(), color)
        painter.fillRect(column.right() + 1, column.top(), 1, column.height(), color)

    # ------------------------------------------------------------ mouse

    def _tip(self, at: QPoint) -> str:
        """What the tooltip at a place says."""
        return ""

    def _mark_tip(self, at: QPoint) -> str:
        scale, plot = self.scale(), self.plot_rect()
        reach = 4 if at.y() >= plot.top() else 0
        near: list[AnyMark] = []
        for step, marks in self._marks.items():
            x = int(scale.x(step))
            if abs(at.x() - x) <= reach or (not reach and x <= at.x() <= x + 170):
                near = marks  # the last one that begins left of the pointer
        return mark_tip(near, self._theme) if near else ""

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Pan while the button is held, else say what is under the pointer."""
        at = event.position().toPoint()
        if self._pressed and event.buttons() & Qt.MouseButton.LeftButton:
            self._drag(at)
            return
        inside = self.plot_rect().contains(at)
        self._navigation.hover(self._step_under(event.position().x()) if inside else None)
        self._show_tip(
            event.globalPosition().toPoint(), self._mark_tip(at) or (self._tip(at) if inside else "")
        )

    def _drag(self, at: QPoint) -> None:
        assert self._pressed is not None
        start, first = self._pressed
        moved = at.x() - start.x()
        if abs(moved) > CLICK_DISTANCE:
            self._dragging = True
        if self._dragging:
            self._navigation.pan(first - moved / self.scale().pixels_per_step - self._navigation.first)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin a click or a drag."""
        if event.button() == Qt.MouseButton.LeftButton and self.plot_rect().contains(
            event.position().toPoint()
        ):
            self._pressed, self._dragging = (event.position().toPoint(), self._navigation.first), False

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End a drag, or choose the step that was clicked; a click on the chosen one lets go of it."""
        pressed, self._pressed = self._pressed, None
        if pressed is None or self._dragging or event.button() != Qt.MouseButton.LeftButton:
            return
        self._clicked(event.position().toPoint())

    def _clicked(self, at: QPoint) -> None:
        step = self._step_under(at.x())
        self._navigation.select(None if step == self._navigation.selected else step)

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Show the whole trace and follow it."""
        self._pressed = None
        self._navigation.select(None)
        self._navigation.show_all()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Zoom about the pointer; sideways, pan."""
        sideways, turned = event.angleDelta().x(), event.angleDelta().y()
        if abs(sideways) > abs(turned):
            self._navigation.pan(-sideways / 120 * self._navigation.span / 10)
        elif turned:
            self._navigation.zoom(0.8 ** (turned / 120), self.scale().step_at(event.position().x()))
        event.accept()

    def _choose_for_menu(self, at: QPoint) -> None:
        step = self._step_under(at.x()) if self.plot_rect().contains(at) else None
        if step is not None:
            self._navigation.select(step)

    def leaveEvent(self, event: QEvent) -> None:
        """Nothing is under the pointer any more."""
        self._navigation.hover(None)


def _between(marks: Sequence[Stored], first: float, last: float) -> Sequence[Stored]:
    """Those of marks in order that lie on screen."""
    begin = bisect_left(marks, first, key=lambda mark: mark.step)
    return marks[begin : bisect_right(marks, last, key=lambda mark: mark.step)]
