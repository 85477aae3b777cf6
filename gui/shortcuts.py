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
COLUMNS = (("Run", "Session"), ("Charts", "Mouse", "View", "Help"))
KEYS_WIDTH, TEXT_WIDTH = 184, 360  # two columns fit on a small screen


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
        grid.addWidget(key, line, 0)
        key.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop)
        what = label(text, "muted", wrap=True)
        what.ensurePolished()  # its height is that of the style's font
        what.setFixedSize(TEXT_WIDTH, what.heightForWidth(TEXT_WIDTH))
        grid.addWidget(what, line, 1)
    grid.setColumnMinimumWidth(0, KEYS_WIDTH)
    return grid
