"""What a chosen session is called, and what there is to say of it: changed where it stands."""

from pathlib import Path

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QTextCursor
from PySide6.QtWidgets import QGridLayout, QLineEdit, QPlainTextEdit

from engine.trace.recording.changing import DESCRIPTION, LONGEST, TITLE
from engine.trace.recording.listing import SessionEntry
from gui.panels.session_rows import name_of
from gui.panels.widgets import ElidedLabel, label, set_role

TEXT_HEIGHT = 58


class SessionCard(QGridLayout):
    """Title and description of a session. What is typed is wished for (`described`) when one leaves the field."""

    described = Signal(object, object)  # Path, dict[str, str]

    def __init__(self) -> None:
        super().__init__()
        self._path: Path | None = None
        self._shown: dict[str, str] = {}  # what the fields showed before anything was typed
        self.title = QLineEdit()
        self.title.setMaxLength(LONGEST[TITLE])
        self.title.setAccessibleName("Title")
        self.description = QPlainTextEdit()
        self.description.setAccessibleName("Description")
        self.description.setPlaceholderText("What was tried, and what came of it")
        self.description.setTabChangesFocus(True)
        self.description.setFixedHeight(TEXT_HEIGHT)
        self.description.textChanged.connect(self._bound)
        self.facts = ElidedLabel("muted")
        self.setContentsMargins(12, 12, 12, 12)
        self.setHorizontalSpacing(12)
        self.setVerticalSpacing(8)
        self.addWidget(label("Title", "muted"), 0, 0)
        self.addWidget(self.title, 0, 1)
        self.addWidget(label("Description", "muted"), 1, 0, Qt.AlignmentFlag.AlignTop)
        self.addWidget(self.description, 1, 1)
        self.addWidget(self.facts, 2, 0, 1, 2)
        self.setColumnStretch(1, 1)
        self.title.installEventFilter(self)
        self.description.installEventFilter(self)

    def show_entry(self, entry: SessionEntry | None) -> None:
        """Show another session, or what has changed about this one; what is being typed stays."""
        if entry is None or entry.path != self._path:
            self.commit()
            self._path, self._shown = (entry.path if entry else None), {}
        self._show(self._texts_of(entry))
        known = entry is not None and not entry.problem
        self.title.setEnabled(known)
        self.description.setEnabled(known)
        self.title.setPlaceholderText(name_of(entry) if entry is not None else "")
        set_role(self.facts, "danger" if entry is not None and entry.problem else "muted")
        facts = facts_text(entry) if entry is not None else ""
        if facts != self.facts.text():
            self.facts.setText(facts)

    def edit(self) -> None:
        """Let the title be typed."""
        if self.title.isEnabled():
            self.title.setFocus()
            self.title.selectAll()

    def commit(self) -> None:
        """Wish for what was typed."""
        typed = self._typed()
        changes = {key: text for key, text in typed.items() if self._shown.get(key, "") != text}
        if self._path is not None and changes:
            self._shown = typed
            self.described.emit(self._path, changes)

    def _texts_of(self, entry: SessionEntry | None) -> dict[str, str]:
        return {
            TITLE: " ".join(entry.title.split()) if entry is not None else "",
            DESCRIPTION: entry.description if entry is not None else "",
        }

    def _typed(self) -> dict[str, str]:
        return {TITLE: self.title.text().strip(), DESCRIPTION: self.description.toPlainText().strip()}

    def _bound(self) -> None:
        """Nothing is typed beyond what is kept."""
        text = self.description.toPlainText()
        if len(text) > LONGEST[DESCRIPTION]:
            self.description.setPlainText(text[: LONGEST[DESCRIPTION]])
            self.description.moveCursor(QTextCursor.MoveOperation.End)

    def _show(self, texts: dict[str, str]) -> None:
        """Put texts into the fields that nobody is typing into."""
        if texts == self._shown:
            return
        is_typed = self._shown and self._typed() != self._shown
        if is_typed or ((self.title.hasFocus() or self.description.hasFocus()) and self._shown):
            return
        self._shown = {key: text.strip() for key, text in texts.items()}
        self.title.setText(texts[TITLE])
        self.description.setPlainText(texts[DESCRIPTION])

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """A field is left, by the focus or by Enter in the title."""
        if event.type() == QEvent.Type.FocusOut:
            self.commit()
        is_pressed = event.type() == QEvent.Type.KeyPress and watched is self.title
        if (
            is_pressed
            and isinstance(event, QKeyEvent)
            and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        ):
            self.commit()
            return True
        return super().eventFilter(watched, event)


def facts_text(entry: SessionEntry) -> str:
    """What of a session stands in no column: why it cannot be opened, or its notes; and where it lies."""
    if entry.problem:
        return entry.problem
    count = len(entry.notes)
    notes = f"{count:,} note{'s' * (count != 1)} · " if count else ""
    return f"{notes}{entry.path}"
