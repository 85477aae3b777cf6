"""Small parts that several panels use."""

from bisect import bisect_left
from collections.abc import Sequence
from html import escape

from PySide6.QtCore import QEvent, QRect, Qt, Signal
from PySide6.QtGui import QEnterEvent, QFocusEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

LONGEST_TIP_LINE = 100  # characters


def label(text: str = "", role: str = "", *, wrap: bool = False, selectable: bool = False) -> QLabel:
    """A label with a role of the style sheet ("section", "muted", "number", …)."""
    made = QLabel(text)
    made.setTextFormat(Qt.TextFormat.PlainText)
    if role:
        made.setProperty("role", role)
    made.setWordWrap(wrap)
    if selectable:
        made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        made.setCursor(Qt.CursorShape.IBeamCursor)
    return made


class ElidedLabel(QLabel):
    """One line in as much room as there is: what does not fit ends in an ellipsis."""

    def __init__(self, role: str = "") -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw what fits."""
        painter = QPainter(self)
        inside = self.contentsRect()
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, inside.width())
        self.style().drawItemText(
            painter, inside, self.alignment().value, self.palette(), self.isEnabled(), text,
            self.foregroundRole(),
        )  # fmt: skip
        painter.end()


def shortened(text: str, target: QLabel, width: int, height: int) -> str:
    """As much of a text as a label shows in some lines, with an ellipsis where that is not all of it."""
    metrics, flags = target.fontMetrics(), Qt.TextFlag.TextWordWrap

    def fits(part: str) -> bool:
        return metrics.boundingRect(QRect(0, 0, width, height), flags, part).height() <= height

    if fits(text):
        return text
    most = bisect_left(range(len(text)), True, key=lambda end: not fits(f"{text[:end]}…"))
    return f"{text[: max(0, most - 1)].rstrip()}…"


def plain_tip(text: str) -> str:
    """A tool tip that shows a text as it is: some come from files of strangers.

    Qt would take what has a "<" for markup, and wraps only what is markup.
    """
    is_long = any(len(line) > LONGEST_TIP_LINE for line in text.splitlines())
    return f'<p style="white-space: pre-wrap">{escape(text)}</p>' if is_long or "<" in text else text


def set_role(widget: QWidget, role: str) -> None:
    """Give a widget another role of the style sheet, at once."""
    if widget.property("role") != role:
        widget.setProperty("role", role)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def set_text(target: QLabel, text: str) -> None:
    """Set a label's text only where it differs, so that what is unchanged is not laid out and drawn again."""
    if target.text() != text:
        target.setText(text)


def button(text: str, role: str = "") -> QPushButton:
    """A button that takes the focus by Tab but not by a click, so that Space goes on running and pausing."""
    made = QPushButton(text)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setAutoDefault(False)
    if role:
        made.setProperty("role", role)
    return made


def inset(box: QAbstractSpinBox) -> None:
    """Keep a box's number off its frame: the padding of a style sheet does not reach the text of a spin box."""
    box.lineEdit().setTextMargins(7, 0, 0, 0)


def column(*widgets: QWidget, margin: int = 12, spacing: int = 8) -> QVBoxLayout:
    """Widgets one below the other."""
    layout = QVBoxLayout()
    layout.setContentsMargins(margin, margin, margin, margin)
    layout.setSpacing(spacing)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


def row(*widgets: QWidget, spacing: int = 8) -> QHBoxLayout:
    """Widgets side by side."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


class Column(QWidget):
    """Widgets one below the other, of which the last takes what the others leave.

    `cramped`: they need more height at this width than there is.
    """

    cramped = Signal()

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        self._layout = column(*widgets, margin=0, spacing=0)
        self._layout.setStretch(len(widgets) - 1, 1)
        self.setLayout(self._layout)

    def event(self, event: QEvent) -> bool:
        """Look again at whether there is room when something in it, or its own size, changed."""
        done = super().event(event)
        moved = event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Resize)
        if moved and self.isVisible() and self.lacking() > 0:
            self.cramped.emit()
        return done

    def lacking(self) -> int:
        """How many pixels more than its height the widgets need at its width; negative where there is room left."""
        return self._layout.totalMinimumHeightForWidth(self.width()) - self.height()


class Segments(QWidget):
    """A row of buttons of which one is down. A click only says what was wished for: `chosen`; `show_choice` sets it."""

    chosen = Signal(int)
    pointed = Signal(int)  # the button under the pointer or with the focus; -1 for none

    def __init__(self, texts: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = row(spacing=0)
        self.buttons: list[QToolButton] = []
        for place, text in enumerate(texts):
            made = _Segment(text, place, self)
            self.buttons.append(made)
            layout.addWidget(made)
        self.setLayout(layout)

    def show_choice(self, place: int) -> None:
        """Show which button is down; -1 for none."""
        for index, made in enumerate(self.buttons):
            made.setChecked(index == place)


class _Segment(QToolButton):
    def __init__(self, text: str, place: int, owner: Segments) -> None:
        super().__init__(owner)
        self._owner = owner
        self._place = place
        self.setText(text)
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setProperty("role", "segment")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def nextCheckState(self) -> None:
        """A click wishes for this choice; whether it is made is seen when the engine says so."""
        self._owner.chosen.emit(self._place)

    def enterEvent(self, event: QEnterEvent) -> None:
        self._owner.pointed.emit(self._place)
        super().enterEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        self._owner.pointed.emit(-1)
        super().leaveEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._owner.pointed.emit(self._place)
        super().focusInEvent(event)
