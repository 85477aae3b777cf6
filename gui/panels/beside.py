"""A chart with numbers beside it: the numbers are never cut off, and give way where there is no room for both."""

from PySide6.QtCore import QEvent, QObject, QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QWidget


class Beside(QWidget):
    """`chart` takes what `numbers` leave; what they lack in height is scrolled.

    The numbers are as wide as they ever had to be, so that the chart does not move with every digit.
    """

    def __init__(self, chart: QWidget, numbers: QWidget) -> None:
        super().__init__()
        self._chart, self._numbers = chart, numbers
        self._scroll = QScrollArea()
        self._scroll.setWidget(numbers)
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setFixedWidth(0)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(chart, 1)
        layout.addWidget(self._scroll)
        numbers.installEventFilter(self)

    def minimumSizeHint(self) -> QSize:
        """What the chart needs: the numbers can do without."""
        return self._chart.minimumSize()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Show the numbers where they have room beside the chart."""
        super().resizeEvent(event)
        self._arrange()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Give the numbers more width where they have come to need it."""
        if watched is self._numbers and event.type() == QEvent.Type.LayoutRequest:
            self._arrange()
        return super().eventFilter(watched, event)

    def _arrange(self) -> None:
        bar = self._scroll.verticalScrollBar().sizeHint().width()
        wanted = max(self._scroll.minimumWidth(), self._numbers.minimumSizeHint().width() + bar)
        self._scroll.setFixedWidth(wanted)
        self._scroll.setVisible(self.width() >= self._chart.minimumWidth() + wanted)
