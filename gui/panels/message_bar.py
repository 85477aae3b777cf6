"""Messages: sentences that stay until they are dismissed, in nobody's way. Never a dialog that must be answered."""

from collections.abc import Callable
from enum import StrEnum

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontMetrics, QGuiApplication
from PySide6.QtWidgets import QDialog, QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from gui.icons import tinted
from gui.panels.widgets import button, label, row
from gui.theme import Theme, number_font

MOST = 3  # messages at a time; older ones give way


class Kind(StrEnum):
    """How grave a message is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "danger"


class MessageBar(QWidget):
    """Up to three messages, the latest on top. Hidden while there is none."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(8, 8, 8, 4)
        self._layout.setSpacing(6)
        self.hide()

    def show_message(
        self,
        kind: Kind,
        sentence: str,
        details: str = "",
        action: tuple[str, Callable[[], None]] | None = None,
        about: str = "",
    ) -> None:
        """Show a sentence; one that says the same, or is `about` the same, is replaced."""
        for other in self.messages():
            if other.sentence == sentence or (about and other.about == about):
                self._remove(other)
        for old in self.messages()[MOST - 1 :]:
            self._remove(old)
        message = Message(kind, sentence, details, action, about)
        message.set_theme(self._theme)
        message.dismissed.connect(self._dismiss)
        self._layout.insertWidget(0, message)
        self.show()

    def withdraw(self, about: str) -> None:
        """Take back the messages about something that is over."""
        for message in self.messages():
            if message.about == about:
                self._remove(message)

    def messages(self) -> list["Message"]:
        """What is shown, latest first."""
        items = (self._layout.itemAt(place) for place in range(self._layout.count()))
        widgets = (item.widget() for item in items if item is not None)
        return [widget for widget in widgets if isinstance(widget, Message)]

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self._theme = theme
        for message in self.messages():
            message.set_theme(theme)

    def dismiss_latest(self) -> bool:
        """Dismiss the latest message; whether there was one."""
        shown = self.messages()
        if shown:
            self._remove(shown[0])
        return bool(shown)

    def _dismiss(self) -> None:
        sender = self.sender()
        if isinstance(sender, Message):
            self._remove(sender)

    def _remove(self, message: "Message") -> None:
        self._layout.removeWidget(message)
        message.hide()
        message.deleteLater()
        self.setVisible(self._layout.count() > 0)


class Message(QFrame):
    """One sentence, with what can be done about it."""

    dismissed = Signal()

    def __init__(
        self,
        kind: Kind,
        sentence: str,
        details: str,
        action: tuple[str, Callable[[], None]] | None,
        about: str,
    ) -> None:
        super().__init__()
        self.kind, self.sentence, self.details, self.about = kind, sentence, details, about
        self._action = action[1] if action else None
        self.setObjectName("message")
        self._symbol = QLabel()
        self._text = label(sentence, wrap=True, selectable=True)
        self._text.setAccessibleName(sentence)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 6, 6, 6)
        layout.setSpacing(10)
        layout.addWidget(self._symbol, 0, Qt.AlignmentFlag.AlignVCenter)
        layout.addWidget(self._text, 1)
        if action:
            self.action_button = button(action[0], "primary")
            self.action_button.clicked.connect(self._act)
            layout.addWidget(self.action_button)
        if details:
            more = button("Details…")
            more.clicked.connect(self._show_details)
            layout.addWidget(more)
        self._close = button("", "flat")
        self._close.setAccessibleName("Dismiss")
        self._close.setToolTip("Dismiss (Esc)")
        self._close.setFixedWidth(30)
        self._close.clicked.connect(self.dismissed)
        layout.addWidget(self._close)

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        color = {Kind.INFO: theme.accent, Kind.WARNING: theme.warning, Kind.ERROR: theme.danger}[self.kind]
        name = "info" if self.kind is Kind.INFO else "warning"
        ratio = self.devicePixelRatioF()
        self._symbol.setPixmap(tinted(name, color, 18, ratio))
        self._close.setIcon(tinted("close", theme.muted, 14, ratio))
        self.setStyleSheet(
            f"#message {{ background: {theme.surface}; border: 1px solid {theme.border};"
            f" border-left: 3px solid {color}; border-radius: 6px; }}"
        )

    def _act(self) -> None:
        if self._action:
            self._action()
        self.dismissed.emit()

    def _show_details(self) -> None:
        dialog = DetailsDialog(self.sentence, self.details, self.window())
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.show()


class DetailsDialog(QDialog):
    """What lies behind a sentence, for a report; it can be copied."""

    def __init__(self, sentence: str, details: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Details")
        self._text = f"{sentence}\n\n{details}"
        view = QPlainTextEdit(details)
        view.setReadOnly(True)
        view.setFont(number_font(12))
        view.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        copy, close = button("Copy"), button("Close", "primary")
        copy.clicked.connect(self._copy)
        close.clicked.connect(self.accept)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(label(sentence, wrap=True, selectable=True))
        layout.addWidget(view, 1)
        buttons = row(copy, close)
        buttons.insertStretch(0)
        layout.addLayout(buttons)
        width = QFontMetrics(view.font()).horizontalAdvance("x" * 100)
        self.resize(width, 420)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._text)
