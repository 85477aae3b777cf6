"""Copying what is shown, as text: by a menu on the right button, and the first of its entries by Ctrl+C.

Tables are tab-separated with a line a row, which is what spreadsheets take.
"""

from collections.abc import Callable, Iterable, Sequence

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeySequence
from PySide6.QtWidgets import QMenu, QWidget

#: What can be copied at a place of a widget: what the menu says, and the text.
Copies = Sequence[tuple[str, str]]


def table(rows: Iterable[Iterable[object]]) -> str:
    """Rows of cells as text. Line ends and tabs inside of a cell become spaces, so that a row stays a line."""
    return "\n".join("\t".join(" ".join(str(cell).split()) for cell in row) for row in rows)


def put(text: str) -> None:
    """Put a text where others can paste it from."""
    QGuiApplication.clipboard().setText(text)


def offer_copies(widget: QWidget, copies: Callable[[QPoint | None], Copies]) -> None:
    """Let a widget copy what it shows. `copies`: what there is at a place; None: wherever the keyboard is."""

    def by_key() -> None:
        found = copies(None)
        if found:
            put(found[0][1])

    def by_menu(at: QPoint) -> None:
        menu = copy_menu(widget, copies(at))
        if menu is not None:
            menu.popup(widget.mapToGlobal(at))

    action = QAction("Copy", widget)
    action.setShortcut(QKeySequence.StandardKey.Copy)
    action.setShortcutContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    action.triggered.connect(by_key)
    widget.addAction(action)
    widget.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
    widget.customContextMenuRequested.connect(by_menu)


def copy_menu(parent: QWidget, copies: Copies) -> QMenu | None:
    """A menu with an entry a text; None where there is nothing to copy."""
    if not copies:
        return None
    menu = QMenu(parent)
    menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    for words, text in copies:
        entry = menu.addAction(words)
        entry.setData(text)
        entry.triggered.connect(lambda _checked=False, chosen=text: put(chosen))
    return menu
