"""A small table of numbers in a panel: names on the left, numbers flush right, every column explained on hover."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from gui.panels.widgets import label, set_text


class NumberTable(QWidget):
    """Up to `lines` lines, the first of which holds the headings. Cells are made when they are needed first."""

    def __init__(self, name: str, lines: int, spacing: int = 8) -> None:
        """`spacing`: between columns, in pixels."""
        super().__init__()
        self.setAccessibleName(name)
        self._most = lines
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(spacing)
        self._grid.setVerticalSpacing(2)
        self.cells: dict[tuple[int, int], QLabel] = {}

    def show_rows(self, rows: Sequence[Sequence[str]], meanings: Sequence[str]) -> None:
        """Show lines of cells; `meanings`: of the columns. Without lines nothing is shown, not even headings."""
        shown = rows[: self._most]
        wanted = {(line, place) for line, row in enumerate(shown) for place in range(len(row))}
        for at, cell in self.cells.items():
            if at not in wanted:
                cell.hide()
        for line, place in sorted(wanted):
            cell = self.cells.get((line, place)) or self._make(line, place)
            cell.show()
            set_text(cell, shown[line][place])
            cell.setToolTip(meanings[place] if place < len(meanings) else "")
            cell.setAccessibleName(f"{shown[line][0]}, {shown[0][place]}")

    def texts(self) -> list[list[str]]:
        """What is shown, a list a line."""
        lines: dict[int, list[str]] = {}
        for (line, _), cell in sorted(self.cells.items()):
            if not cell.isHidden():
                lines.setdefault(line, []).append(cell.text())
        return list(lines.values())

    def _make(self, line: int, place: int) -> QLabel:
        cell = label("", "number" if line and place else "muted")
        cell.setStyleSheet("font-size: 12px;")
        if place:
            cell.setAlignment(Qt.AlignmentFlag.AlignRight)
        else:
            cell.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._grid.addWidget(cell, line, place)
        self.cells[line, place] = cell
        return cell
