"""Looking at charts: their pixels, tips, places of steps, and the mouse over them."""

from collections.abc import Callable, Sequence

import numpy as np
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage, QMouseEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QWidget

from engine.protocol import Event
from engine.trace.phases import Phase
from engine.trace.store import Trace
from gui import theme as themes
from gui.charts.chart import Chart
from gui.charts.step_plot import StepPlot
from gui.navigation import Navigation

Make = Callable[..., Chart]


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class Tips:
    """Stands for QToolTip, which the offscreen platform cannot raise: keeps what was shown."""

    def __init__(self) -> None:
        self.shown = ""

    def showText(self, at: QPoint, text: str, widget: QWidget) -> None:
        self.shown = text

    def hideText(self) -> None:
        self.shown = ""


def pixels(chart: Chart) -> np.ndarray:
    """The chart as painted, (height, width) of 0xffRRGGBB."""
    image = chart.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    stride = image.bytesPerLine() // 4
    return (
        np.frombuffer(image.constBits(), np.uint32).reshape(image.height(), stride)[:, : image.width()].copy()
    )


def mouse(
    chart: Chart, kind: QEvent.Type, at: QPoint, held: Qt.MouseButton = Qt.MouseButton.NoButton
) -> None:
    """Deliver a mouse event as Qt does."""
    button = Qt.MouseButton.NoButton if kind is QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
    place = QPointF(at)
    event = QMouseEvent(kind, place, chart.mapToGlobal(place), button, held, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(chart, event)


def center_of(plot: StepPlot, step: int) -> QPoint:
    return plot.column_rect(step).center()


def color(phase: Phase, theme: themes.Theme = themes.DARK) -> int:
    return QColor(theme.phases[phase]).rgb()


def click(chart: Chart, at: QPoint) -> None:
    mouse(chart, QEvent.Type.MouseButtonPress, at, Qt.MouseButton.LeftButton)
    mouse(chart, QEvent.Type.MouseButtonRelease, at)


def wheel(chart: Chart, at: QPoint, notches: int) -> None:
    event = QWheelEvent(
        QPointF(at), chart.mapToGlobal(QPointF(at)), QPoint(), QPoint(0, 120 * notches), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(chart, event)


def assert_grows_as_drawn_at_once(
    chart: Chart, navigation: Navigation, trace: Trace, events: Sequence[Event]
) -> None:
    """Some forty frames, each with further events, leave the picture that is drawn of all of them at once."""
    stride = max(1, len(events) // 40)
    for begin in range(0, len(events), stride):
        trace.extend(events[begin : begin + stride])
        navigation.count = len(trace.steps)
        chart.refresh()
    grown = pixels(chart)
    chart.set_theme(themes.DARK)  # begins the picture anew
    chart.refresh()
    assert np.array_equal(grown, pixels(chart))
