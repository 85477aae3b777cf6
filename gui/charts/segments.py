"""A segmented control: a row of joined buttons of which exactly one is down."""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QToolButton, QWidget


class Segments(QWidget):
    """Chooses one of a few labels; `chosen` says which (its place)."""

    chosen = Signal(int)

    def __init__(self, name: str, labels: Sequence[str], parent: QWidget) -> None:
        super().__init__(parent)
        self._name = name
        self.setAccessibleName(name)
        self._group = QButtonGroup(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for place, label in enumerate(labels):
            layout.addWidget(self._button(place))
            self.set_label(place, label)
        self._group.buttons()[0].setChecked(True)
        self._group.buttonClicked.connect(self._clicked)
        self.adjustSize()

    def show_chosen(self, place: int) -> None:
        """Put a button down without saying so."""
        self._group.buttons()[place].setChecked(True)

    def set_label(self, place: int, label: str) -> None:
        """Give a choice another name."""
        button = self._group.buttons()[place]
        button.setText(label)
        button.setAccessibleName(f"{self._name}: {label}")
        button.setToolTip(button.accessibleName())

    def _button(self, place: int) -> QToolButton:
        button = QToolButton(self)
        button.setCheckable(True)
        button.setProperty("role", "segment")
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        self._group.addButton(button, place)
        return button

    @Slot(QAbstractButton)
    def _clicked(self, button: QAbstractButton) -> None:
        self.chosen.emit(self._group.id(button))
