"""The list of recorded sessions: what there is, what it is called, and how much room it takes."""

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QDialog, QFrame, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from engine.trace.recording.listing import SessionEntry
from gui.panels.session_card import SessionCard
from gui.panels.session_room import SessionRoom
from gui.panels.session_rows import row_of
from gui.panels.session_table import SessionTable
from gui.panels.widgets import ElidedLabel, button
from gui.theme import Theme

SIZE = QSize(1180, 720)
LOOK_EVERY_MS = 2000  # what is being recorded grows, and other windows record, too
WALKING = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
READING = "Looking what there is …"
EMPTY = (
    "Nothing has been recorded yet.\n"
    "Each model that is loaded and run makes a session here, which can be opened again as it was."
)
NOT_RECORDING = "\nRecording is off: turn it on with Session ▸ Record sessions."


class SessionsDialog(QDialog):
    """Shows sessions, and says what the user wants of them. It is in nobody's way: the window goes on beside it.

    The search field keeps the focus: one types to search, walks with the arrows, opens with Enter.
    """

    look_wished = Signal()  # read what there is, again
    open_wished = Signal(object)  # Path
    described = Signal(
        object, object
    )  # Path, and the lines of metadata that are to be others: dict[str, str]
    pin_wished = Signal(object, bool)  # Path
    discard_wished = Signal(object)  # Path

    def __init__(self, theme: Theme, most_bytes: int, records: bool, parent: QWidget | None = None) -> None:
        """`most_bytes`: that sessions may take. `records`: whether sessions are being recorded at all."""
        super().__init__(parent)
        self.setWindowTitle("Sessions")
        screen = QGuiApplication.primaryScreen()
        self.resize(SIZE.boundedTo(screen.availableSize() * 0.95) if screen else SIZE)
        self._empty = EMPTY if records else EMPTY + NOT_RECORDING
        self._entries: list[SessionEntry] = []
        self._is_complete = False
        self._live: Path | None = None
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search titles, descriptions, models and notes")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Search sessions")
        self.search.setStyleSheet("QLineEdit { padding: 0 10px; font-size: 14px; }")
        self.search.setFixedHeight(38)
        self.table = SessionTable(theme)
        self.table.setFocusProxy(self.search)
        self.table.set_note(READING)
        self.card = SessionCard()
        self.room = SessionRoom(most_bytes)
        self.told = ElidedLabel("muted")
        self.open_button = button("Open", "primary")
        self.pin, self.delete = button("Pin"), button("Delete")
        self.reveal = button("Open the folder")
        self._lay_out()
        self._connect()
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self.look_wished)
        self._timer.start()
        self._explain()
        self.search.setFocus()

    def _lay_out(self) -> None:
        close = button("Close")
        close.clicked.connect(self.close)
        self.open_button.setDefault(True)
        self.open_button.setMinimumWidth(96)
        close.setMinimumWidth(96)
        self.pin.setMinimumWidth(72)
        self.delete.setToolTip("Move it to the trash, with what lies beside it")
        frame = QFrame()
        frame.setProperty("role", "card")
        frame.setLayout(self.card)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        for made in (self.pin, self.delete, self.reveal):
            buttons.addWidget(made)
        buttons.addWidget(self.told, 1)
        buttons.addWidget(close)
        buttons.addWidget(self.open_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(self.search)
        layout.addWidget(self.table, 1)
        layout.addWidget(frame)
        layout.addLayout(buttons)
        layout.addLayout(self.room)

    def _connect(self) -> None:
        self.search.textChanged.connect(self._search)
        self.table.row_changed.connect(self._explain)
        self.table.doubleClicked.connect(self._open)
        self.open_button.clicked.connect(self._open)
        self.pin.clicked.connect(self._pin)
        self.delete.clicked.connect(self._delete)
        self.reveal.clicked.connect(self._reveal)
        self.card.described.connect(self.described)

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self.table.set_theme(theme)

    # ------------------------------------------------------------ what there is

    def show_entries(self, entries: Sequence[SessionEntry], is_complete: bool, live: Path | None) -> None:
        """Show these sessions, that written last first. `live`: the one that this program records now."""
        if not is_complete and self._is_complete:
            return  # all of them are shown already: they are being read once more
        self._entries, self._is_complete, self._live = list(entries), is_complete, live
        self.table.show_rows([row_of(entry) for entry in entries])
        if is_complete:
            self.room.show_use(self._entries)
        self._explain()

    def say(self, sentence: str) -> None:
        """Say what came of something."""
        self.told.setText(sentence)
        self.told.setToolTip(
            f"<p>{sentence.replace('&', '&amp;').replace('<', '&lt;')}</p>" if sentence else ""
        )

    def _search(self, text: str) -> None:
        self.table.search(text.casefold().split())

    def _explain(self) -> None:
        """What can be done with the chosen session."""
        row = self.table.current_row
        entry = row.entry if row is not None else None
        if row is not None:
            self.table.set_note("")
        elif not self._entries:
            self.table.set_note(self._empty if self._is_complete else READING)
        else:
            self.table.set_note(f"No session has “{self.search.text().strip()}” in it.")
        known = entry is not None and not entry.problem
        self.card.show_entry(entry)
        self.open_button.setEnabled(known and entry is not None and entry.path != self._live)
        self.open_button.setToolTip(
            "It is what the window shows now" if entry and entry.path == self._live else ""
        )
        self.pin.setEnabled(known)
        self.pin.setText("Unpin" if entry is not None and entry.is_pinned else "Pin")
        self.pin.setToolTip("A pinned session is never deleted to make room")
        self.delete.setEnabled(entry is not None and not entry.is_live)
        self.reveal.setEnabled(entry is not None)

    # ------------------------------------------------------------ what the user wants

    def _open(self) -> None:
        row = self.table.current_row
        if row is not None and self.open_button.isEnabled():
            self.card.commit()
            self.open_wished.emit(row.path)
            self.close()

    def _pin(self) -> None:
        row = self.table.current_row
        if row is not None:
            self.pin_wished.emit(row.path, not row.entry.is_pinned)

    def _delete(self) -> None:
        row = self.table.current_row
        if row is not None and not row.entry.is_live:
            self.say("")
            self.discard_wished.emit(row.path)

    def _reveal(self) -> None:
        row = self.table.current_row
        if row is None:
            return
        folder = row.path.parent
        if not QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder))):
            self.say(f"No file manager answers; the folder is {folder}.")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """The arrows walk through the table, whatever has the focus; F2 goes to the title."""
        if event.key() in WALKING:
            self.table.keyPressEvent(event)
        elif event.key() == Qt.Key.Key_F2:
            self.card.edit()
        else:
            super().keyPressEvent(event)

    def done(self, result: int) -> None:
        """Write down what is being typed, and close."""
        self.card.commit()
        self._timer.stop()
        super().done(result)
