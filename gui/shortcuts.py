"""The shortcut sheet: every action with its keys."""

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QDialog, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from gui.actions import ACTIONS, Actions
from gui.panels.widgets import label

MOUSE = (
    ("click", "select a step, in a chart or in the text"),
    ("wheel", "zoom about the pointer"),
    ("drag", "move along the steps"),
)
COLUMNS = (("Run", "Session", "View", "Help"), ("Charts", "Mouse"))


class ShortcutSheet(QDialog):
    """All keys on one page."""

    def __init__(self, actions: Actions, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(24, 20, 24, 24)
        layout.setSpacing(40)
        for groups in COLUMNS:
            column = QVBoxLayout()
            column.setSpacing(6)
            for group in groups:
                column.addWidget(_title(group))
                column.addLayout(_grid(_rows(group, actions)))
                column.addSpacing(10)
            column.addStretch(1)
            layout.addLayout(column)


def _rows(group: str, actions: Actions) -> list[tuple[str, str]]:
    if group == "Mouse":
        return list(MOUSE)
    rows = []
    for facts in ACTIONS:
        action = actions[facts.name]
        if facts.group == group and facts.keys and action.isVisible():
            keys = [k.toString(QKeySequence.SequenceFormat.NativeText) for k in action.shortcuts()]
            rows.append(("  ".join(dict.fromkeys(keys)), facts.tip or action.text()))
    return rows


def _title(text: str) -> QLabel:
    return label(text.upper(), "section")


def _grid(rows: list[tuple[str, str]]) -> QGridLayout:
    grid = QGridLayout()
    grid.setHorizontalSpacing(16)
    grid.setVerticalSpacing(5)
    for line, (keys, text) in enumerate(rows):
        key = label(keys, "number")
        key.setAlignment(Qt.AlignmentFlag.AlignRight)
        grid.addWidget(key, line, 0)
        grid.addWidget(label(text, "muted"), line, 1)
    grid.setColumnMinimumWidth(0, 184)
    grid.setColumnStretch(1, 1)
    return grid
