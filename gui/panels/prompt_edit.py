"""The editor of a prompt: takes what is typed, pasted and dropped, and steps aside for what is too long for it."""

from pathlib import Path

from PySide6.QtCore import QMimeData, Signal
from PySide6.QtWidgets import QPlainTextEdit

#: Characters that the editor takes. A paragraph of a million characters takes minutes to lay out: what is longer is
#: kept aside, whole, and only its beginning is shown.
LONGEST_EDITED = 20_000
SHOWN_OF_LONG = 2_000


class PromptEdit(QPlainTextEdit):
    """Text to edit; `text` is all of it, also where only a beginning is shown (and cannot be edited then)."""

    files_dropped = Signal(list)  # of Path
    changed = Signal()  # the text, by whatever way

    def __init__(self, text: str, placeholder: str, name: str) -> None:
        super().__init__()
        self._long: str | None = None
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(name)
        self.setTabChangesFocus(True)
        self.set_text(text)
        self.textChanged.connect(self._edited)

    @property
    def text(self) -> str:
        """All of the text."""
        return self._long if self._long is not None else self.toPlainText()

    @property
    def is_long(self) -> bool:
        """Whether the text is too long to be edited here."""
        return self._long is not None

    def set_text(self, text: str) -> None:
        """Show another text, or the beginning of one that is long."""
        self._long = text if len(text) > LONGEST_EDITED else None
        self.setReadOnly(self.is_long)
        more = len(text) - SHOWN_OF_LONG
        self.setPlainText(
            f"{text[:SHOWN_OF_LONG]} …\n\n({more:,} more characters, not shown, belong to the prompt.)"
            if self.is_long
            else text
        )

    def insertFromMimeData(self, source: QMimeData) -> None:
        """Files are read by whoever listens; a text that would be too long together is kept aside."""
        files = local_files(source)
        if files:
            self.files_dropped.emit(files)
            return
        cursor = self.textCursor()
        before = self.toPlainText()
        pasted = source.text()
        if len(before) + len(pasted) <= LONGEST_EDITED:
            super().insertFromMimeData(source)
            return
        begin, end = cursor.selectionStart(), cursor.selectionEnd()
        self.set_text(_characters(before, 0, begin) + pasted + _characters(before, end, None))

    def _edited(self) -> None:
        self.changed.emit()


def local_files(source: QMimeData) -> list[Path]:
    """The files that are being dropped or pasted, if it is files."""
    return [Path(url.toLocalFile()) for url in source.urls() if url.isLocalFile()]


def _characters(text: str, begin: int, end: int | None) -> str:
    """A stretch of a text by the places of a cursor: Qt counts in UTF-16."""
    units = text.encode("utf-16-le")
    return units[2 * begin : None if end is None else 2 * end].decode("utf-16-le")
