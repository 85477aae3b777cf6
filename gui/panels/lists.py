"""What lists of whole rows have in common: one level, one height, a sentence in the middle where there are none."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QTreeView, QVBoxLayout

from gui.panels.widgets import label


def dress_list(view: QTreeView) -> None:
    """Make a tree a list of rows that are read and chosen."""
    view.setRootIsDecorated(False)
    view.setIndentation(0)
    view.setUniformRowHeights(True)  # else every one is measured at every key
    view.setItemsExpandable(False)
    view.setEditTriggers(QTreeView.EditTrigger.NoEditTriggers)
    view.setVerticalScrollMode(QTreeView.ScrollMode.ScrollPerPixel)
    header = view.header()
    header.setStretchLastSection(True)
    header.setSectionsMovable(False)
    header.setMinimumSectionSize(48)
    header.setSectionResizeMode(header.ResizeMode.Interactive)
    header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)


def note_over(view: QTreeView) -> QLabel:
    """A label in the middle of a view, for what is to be said where there are no rows."""
    made = label("", "muted", wrap=True)
    made.setAlignment(Qt.AlignmentFlag.AlignCenter)
    made.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
    QVBoxLayout(view.viewport()).addWidget(made)
    return made
