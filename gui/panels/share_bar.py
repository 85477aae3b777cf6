"""Where the time of a step goes, as a bar of shares, and the colours of its parts."""

from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from engine.trace.phases import Phase
from gui.theme import Theme

#: The metrics of the bar, with their names and colours.
SHARES = (
    ("forward_share", "forward", Phase.MLP),
    ("attention_share", "attention", Phase.ATTENTION),
    ("decode_share", "decode (sample + text)", Phase.SAMPLE),
    ("unattributed", "unattributed", Phase.UNATTRIBUTED),
)


class ShareBar(QWidget):
    """The median shares side by side. Medians of shares need not sum to one: the bar shows them at their own size."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self._shares: list[float | None] = [None] * len(SHARES)
        self.setFixedHeight(12)
        self.setAccessibleName("Shares of a step's time")
        self.setToolTip("Median share of a step's wall time, by group of phases; the numbers are below.")

    def show_shares(self, shares: list[float | None]) -> None:
        """Show other shares."""
        if shares != self._shares:
            self._shares = shares
            self.update()

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self.theme = theme
        parent = self.parentWidget()
        for swatch in parent.findChildren(Swatch) if parent else ():
            swatch.update()
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw the shares."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(self.theme.raised))
        left = 0.0
        for share, (_key, _name, phase) in zip(self._shares, SHARES, strict=True):
            width = (share or 0.0) * self.width()
            painter.fillRect(QRectF(left, 0, max(0.0, width - 1), self.height()), self.theme.color(phase))
            left += width
        painter.end()


class Swatch(QWidget):
    """The colour of a group."""

    def __init__(self, phase: Phase, bar: ShareBar) -> None:
        super().__init__()
        self._phase = phase
        self._bar = bar
        self.setFixedSize(QSize(10, 10))

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw it."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), self._bar.theme.color(self._phase))
        painter.end()
