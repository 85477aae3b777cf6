"""Finding a setting: a field that searches as one types, and a button that leaves only what was changed."""

from dataclasses import dataclass

from PySide6.QtCore import QEvent, Qt, Signal, Slot
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QLineEdit, QToolButton, QWidget

from gui.panels.widgets import row


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. `words`: all of them have to occur; `changed`: only what is not as at first."""

    words: tuple[str, ...] = ()
    changed: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not self.words and not self.changed

    def finds(self, text: str) -> bool:
        """Whether all words occur in a text, in any order and case."""
        folded = text.casefold()
        return all(word in folded for word in self.words)


class SettingSearch(QWidget):
    """The field and the button."""

    wanted_changed = Signal(object)  # Wanted
    entered = Signal()  # go to what was found

    def __init__(self) -> None:
        super().__init__()
        self.field = _Field()
        self.field.setPlaceholderText("Find a setting")
        self.field.setAccessibleName("Find a setting")
        self.field.setClearButtonEnabled(True)
        self.field.setToolTip("Part of a name, a choice or a family (Ctrl+F). Enter goes to what was found.")
        self.field.textChanged.connect(self._tell)
        self.field.returnPressed.connect(self.entered)
        self.changed = QToolButton()
        self.changed.setText("changed")
        self.changed.setCheckable(True)
        self.changed.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.changed.setProperty("role", "small")
        self.changed.setToolTip("Show only what is not as at first, or was refused")
        self.changed.toggled.connect(self._tell)
        layout = row(spacing=6)
        layout.addWidget(self.field, 1)
        layout.addWidget(self.changed)
        layout.setContentsMargins(12, 6, 12, 6)
        self.setLayout(layout)

    @property
    def wanted(self) -> Wanted:
        """What is looked for now."""
        return Wanted(tuple(self.field.text().casefold().split()), self.changed.isChecked())

    @Slot()
    def _tell(self) -> None:
        self.wanted_changed.emit(self.wanted)


class _Field(QLineEdit):
    """Escape empties it; only in an empty one it does what it does everywhere."""

    def event(self, event: QEvent) -> bool:
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() == Qt.Key.Key_Escape
            and self.text()
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape and self.text():
            self.clear()
        else:
            super().keyPressEvent(event)
