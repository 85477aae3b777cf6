"""A line to write on a step, over the charts: Enter or a click elsewhere keeps what is written, Esc gives it up."""

from PySide6.QtCore import QEvent, QObject, QPoint, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QLineEdit, QWidget

from engine.protocol import LONGEST_NOTE
from gui.panels.widgets import button, label, row

WIDTH = 460
MARGIN = 8


class NoteField(QFrame):
    """`written`: the step, and the text of its note from now on, "" for none. It hides itself when that is over."""

    written = Signal(int, str)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setProperty("role", "card")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._room = parent
        self._step = -1  # none is being written on
        self._before = ""
        self._which = label("", "muted")
        self.text = QLineEdit()
        self.text.setMaxLength(LONGEST_NOTE)
        self.text.setAccessibleName("Note")
        self.text.setPlaceholderText("What is to be seen here?")
        self.remove = button("Remove")
        layout = row(self._which, self.text, self.remove)
        layout.setStretch(1, 1)
        layout.setContentsMargins(MARGIN, 6, MARGIN, 6)
        self.setLayout(layout)
        self.hide()
        self.text.returnPressed.connect(self.keep)
        self.remove.clicked.connect(self._remove)
        self.text.installEventFilter(self)

    @property
    def is_open(self) -> bool:
        """Whether a note is being written."""
        return self._step >= 0

    def begin(self, step: int, text: str, at: QPoint) -> None:
        """Write on a step that has this note, "" for none; `at`: where it lies, in the parent's coordinates."""
        self.keep()
        self._step, self._before = step, text
        self._which.setText(f"Step {step:,}")
        self.text.setText(text)
        self.remove.setVisible(bool(text))
        self.remove.setAccessibleName(f"Remove the note on step {step:,}")
        width = min(WIDTH, self._room.width() - 2 * MARGIN)
        left = min(max(MARGIN, at.x() - MARGIN), self._room.width() - width - MARGIN)
        self.setGeometry(left, at.y(), width, self.sizeHint().height())
        self.show()
        self.raise_()
        self.text.setFocus()
        self.text.selectAll()

    def keep(self) -> None:
        """What is written stands from now on."""
        self._end(self.text.text().strip())

    def give_up(self) -> None:
        """What was there before stays."""
        self._end(self._before)

    def _remove(self) -> None:
        self._end("")

    def _end(self, text: str) -> None:
        step, self._step = self._step, -1
        if step < 0:
            return
        self.hide()
        if text != self._before:
            self.written.emit(step, text)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Esc is of the field, not of the window; another widget that takes the focus ends the writing."""
        if isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape:
            if event.type() == QEvent.Type.ShortcutOverride:
                event.accept()
                return True
            if event.type() == QEvent.Type.KeyPress:
                self.give_up()
                return True
        if event.type() == QEvent.Type.FocusOut and not self._is_passing():
            self.keep()
        return super().eventFilter(watched, event)

    def _is_passing(self) -> bool:
        """Whether the focus is still here: on the button, or away with the window, or for a menu."""
        window = self.window()
        return not window.isActiveWindow() or window.focusWidget() in (self.remove, self.text)
