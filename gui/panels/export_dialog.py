"""What to export of a session: the format, all steps or some of them, and where to."""

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import QComboBox, QSpinBox, QWidget

from engine.trace.export import FORMATS, TABLES, ExportRefused, Format, files_of
from gui.panels.save_dialog import SaveDialog
from gui.panels.widgets import Segments, inset, label, row

WHOLE, SOME = 0, 1


class ExportDialog(SaveDialog):
    """`first`, `last`: the steps, both included; `what`: one table or None; `path`: the file."""

    def __init__(
        self, count: int, place: Path, selected: tuple[int, int] | None = None, parent: QWidget | None = None
    ) -> None:
        """`count`: steps of the session. `selected`: the steps that are offered, at first those on screen."""
        super().__init__("Export", place, parent)
        self._count = count
        self.format = QComboBox()
        self.format.setAccessibleName("Format")
        for each in FORMATS.values():
            self._add_format(each)
        self._about = label("", "muted", wrap=True)
        self.table = QComboBox()
        self.table.setAccessibleName("Table")
        self.table.addItem("All tables, a file each", None)
        for name in TABLES:
            self.table.addItem(f"Only {name}", name)
        self._table_label = label("Tables")
        self.scope = Segments(("Whole session", "Some steps"))
        self._first, self._last = _step_box("First step", count), _step_box("Last step", count)
        begin, end = selected or (0, count - 1)
        self._first.setValue(begin)
        self._last.setValue(end)
        self._steps = QWidget()
        self._steps.setLayout(row(label("from", "muted"), self._first, label("to", "muted"), self._last))
        scope = row(self.scope, self._steps)
        scope.addStretch(1)
        self.form.addRow("Format", self.format)
        self.form.addRow("", self._about)
        self.form.addRow(self._table_label, self.table)
        self.form.addRow("Steps", scope)
        self.scope.chosen.connect(self.choose_scope)
        self.format.currentIndexChanged.connect(self._format_chosen)
        self.table.currentIndexChanged.connect(self.look_again)
        for box in (self._first, self._last):
            box.valueChanged.connect(self.look_again)
        self.choose_scope(WHOLE)
        self.choose_format(place.suffix or ".html")

    @property
    def what(self) -> str | None:
        """The one table that is wanted; None for all, and for a format without tables."""
        return self.table.currentData() if self._format.write_table else None

    @property
    def steps(self) -> tuple[int, int | None]:
        """The first and the last step; (0, None) for all."""
        return (0, None) if self._steps.isHidden() else (self._first.value(), self._last.value())

    def files(self) -> list[Path]:
        """The files that would be written."""
        first, last = self.steps
        if last is not None and last < first:
            raise ValueError("The last step lies before the first: give the earlier one first.")
        try:
            files = list(files_of(self.path, self.what))
        except ExportRefused as refusal:
            raise ValueError(str(refusal)) from refusal
        if self.path.suffix.lower() != self._format.suffix:
            raise ValueError(
                f"A file of this format ends in {self._format.suffix}: “{self.path.name}” does not."
            )
        return files

    def choose_scope(self, place: int) -> None:
        """WHOLE or SOME."""
        self.scope.show_choice(place)
        self._steps.setVisible(place == SOME)
        self.look_again()

    def choose_format(self, suffix: str) -> None:
        """Choose a format by its ending; an ending that no format has changes nothing."""
        place = self.format.findData(suffix.lower())
        if place >= 0:
            self.format.setCurrentIndex(place)
        self._format_chosen()

    @property
    def _format(self) -> Format:
        return FORMATS[self.format.currentData()]

    def _add_format(self, each: Format) -> None:
        self.format.addItem(f"{each.label} ({each.suffix})", each.suffix)
        reason, model = each.why_not(), self.format.model()
        if reason and isinstance(model, QStandardItemModel):
            item = model.item(self.format.count() - 1)
            item.setEnabled(False)
            item.setToolTip(reason)
            self.format.setItemData(self.format.count() - 1, reason, Qt.ItemDataRole.ToolTipRole)

    def _format_chosen(self) -> None:
        chosen = self._format
        self._about.setText(f"{chosen.about[:1].upper()}{chosen.about[1:]}.")
        for part in (self._table_label, self.table):
            part.setVisible(chosen.write_table is not None)
        path = self.path
        if path.name and path.suffix.lower() != chosen.suffix:
            known = path.suffix.lower() in FORMATS
            self.place.setText(str(path.with_suffix(chosen.suffix) if known else f"{path}{chosen.suffix}"))
        self.look_again()


def _step_box(name: str, count: int) -> QSpinBox:
    made = QSpinBox()
    inset(made)
    made.setRange(0, max(0, count - 1))
    made.setAccessibleName(name)
    made.setMinimumWidth(96)
    return made
