"""What all dialogs share that write files: where to, and whether what is there may be replaced."""

import os
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog, QFileDialog, QFormLayout, QLineEdit, QVBoxLayout, QWidget

from gui.panels.widgets import button, label, row

WIDTH = 560


class SaveDialog(QDialog):
    """Asks where to write. Where a file is there already it says so, and replaces it only on a second press."""

    def __init__(self, title: str, place: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.may_replace = False
        self.place = QLineEdit(str(place))
        self.place.setAccessibleName("File")
        self.place.textChanged.connect(self.look_again)
        browse = button("Browse…")
        browse.clicked.connect(self._browse)
        self.note = label("", "warning", wrap=True)
        self.note.setMinimumHeight(
            self.note.fontMetrics().height() * 2
        )  # so that nothing moves when it speaks
        self.note.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.save = button("Save", "primary")
        self.save.setDefault(True)
        self.save.setMinimumWidth(96)
        self.save.clicked.connect(self.accept)
        cancel = button("Cancel")
        cancel.clicked.connect(self.reject)
        self.form = QFormLayout()
        self.form.setHorizontalSpacing(16)
        self.form.setVerticalSpacing(10)
        buttons = row(cancel, self.save)
        buttons.insertStretch(0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addLayout(self.form)
        layout.addLayout(row(label("Save as"), self.place, browse))
        layout.addWidget(self.note)
        layout.addLayout(buttons)
        self.setMinimumWidth(WIDTH)

    @property
    def path(self) -> Path:
        """Where to write."""
        return Path(self.place.text().strip()).expanduser()

    def files(self) -> list[Path]:
        """The files that would be written. Raises ValueError with a sentence where that makes no sense."""
        return [self.path]

    def look_again(self) -> None:
        """Something was changed: what was allowed before is allowed no more."""
        self.may_replace = False
        self.save.setText("Save")
        self.note.setText("")

    def accept(self) -> None:
        """Close, if there is nothing to ask."""
        try:
            reason = self._why_not()
        except ValueError as problem:
            reason = str(problem)
        if not reason:
            super().accept()
            return
        self.note.setText(reason)

    def _why_not(self) -> str:
        """Why it cannot be written yet; "" where it can."""
        if not self.place.text().strip():
            return "Give the file a name."
        files = self.files()
        if not os.path.isdir(files[0].absolute().parent):
            return f"There is no directory '{files[0].parent}': create it first, or choose another place."
        there = [path.name for path in files if os.path.exists(path)]
        if not there or self.may_replace:
            return ""
        self.may_replace = True
        self.save.setText("Replace")
        return f"{_listed(there)} there already. Press Replace to write over what is there."

    def _browse(self) -> None:
        """Choose a place; whether something there may be replaced is asked here, once."""
        option = QFileDialog.Option.DontConfirmOverwrite
        found, _ = QFileDialog.getSaveFileName(self, self.windowTitle(), str(self.path), options=option)
        if found:
            self.place.setText(found)


def _listed(names: list[str]) -> str:
    return f"“{names[0]}” is" if len(names) == 1 else f"{len(names)} of the files are"
