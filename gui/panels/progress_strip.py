"""Long work: what is going on, how far it is, and a way to give it up."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar

from gui.panels.widgets import button, label, set_text


class ProgressStrip(QFrame):
    """One line above the charts, hidden while nothing takes long."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self._text = label()
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(8)
        self._cancel = button("Cancel")
        self._cancel.clicked.connect(self.cancelled)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 6, 6, 6)
        layout.setSpacing(12)
        layout.addWidget(self._text)
        layout.addWidget(self._bar, 1)
        layout.addWidget(self._cancel)
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text.text()

    def show_progress(self, activity: str, fraction: float | None, can_cancel: bool = True) -> None:
        """Say what goes on; `fraction` in [0, 1], or None when its end is not known."""
        set_text(self._text, activity)
        if fraction is None:
            self._bar.setRange(0, 0)
        else:
            self._bar.setRange(0, 1000)
            self._bar.setValue(round(min(max(fraction, 0.0), 1.0) * 1000))
        self._cancel.setVisible(can_cancel)
        self.show()
