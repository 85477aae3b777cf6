"""How much room recorded sessions take of what they may, and how much they may."""

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDoubleSpinBox, QProgressBar, QVBoxLayout

from engine.trace.recording.listing import SessionEntry
from gui import units
from gui.panels.session_rows import cost_of_room
from gui.panels.widgets import button, inset, label, row, set_text

GIB = 2**30
LEAST_GIB, MOST_GIB = 0.1, 10_000.0
BAR_STEPS = 1000


class SessionRoom(QVBoxLayout):
    """A bar, and a field for the most. Where less would cost sessions it says which, and wants a second press."""

    most_chosen = Signal(object)  # bytes

    def __init__(self, most_bytes: int) -> None:
        super().__init__()
        self._most_bytes = most_bytes
        self._entries: Sequence[SessionEntry] = ()
        self._is_allowed = False
        self._bar = QProgressBar()
        self._bar.setRange(0, BAR_STEPS)
        self._bar.setTextVisible(False)
        self._bar.setFixedSize(180, 10)
        self.use = label("", "muted")
        self.most = QDoubleSpinBox()
        inset(self.most)
        self.most.setRange(LEAST_GIB, MOST_GIB)
        self.most.setDecimals(1)
        self.most.setSuffix(" GiB")
        self.most.setValue(most_bytes / GIB)
        self.most.setMinimumWidth(110)
        self.most.setAccessibleName("The most that sessions may take")
        self.apply = button("Set")
        self.apply.setEnabled(False)
        self.note = label("", "warning", wrap=True)
        self.note.hide()
        line = row(self._bar, self.use, label("At most", "muted"), self.most, self.apply)
        line.insertStretch(2, 1)
        self.setSpacing(8)
        self.addLayout(line)
        self.addWidget(self.note)
        self.most.valueChanged.connect(self._look_again)
        self.apply.clicked.connect(self._set)

    def show_use(self, entries: Sequence[SessionEntry]) -> None:
        """Show what these sessions take, that written last first."""
        self._entries = entries
        used = sum(entry.size_bytes for entry in entries)
        self._bar.setValue(round(BAR_STEPS * min(1.0, used / self._most_bytes)))
        count = f"{len(entries):,} session{'s' * (len(entries) != 1)}"
        set_text(self.use, f"{count}, {units.size(used)} of {units.size(self._most_bytes)}")

    @property
    def _wanted(self) -> int:
        return round(self.most.value() * GIB)

    def _look_again(self) -> None:
        """Another number is typed: what was allowed before is allowed no more."""
        self._is_allowed = False
        self._say("")
        self.apply.setText("Set")
        self.apply.setEnabled(abs(self._wanted - self._most_bytes) > GIB / 100)

    def _set(self) -> None:
        cost = cost_of_room(self._entries, self._wanted)
        if cost and not self._is_allowed:
            self._is_allowed = True
            self._say(cost)
            self.apply.setText("Set anyway")
            return
        self._most_bytes = self._wanted
        self._look_again()
        self.show_use(self._entries)
        self.most_chosen.emit(self._most_bytes)

    def _say(self, sentence: str) -> None:
        self.note.setText(sentence)
        self.note.setVisible(bool(sentence))
