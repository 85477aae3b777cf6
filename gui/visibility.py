"""Whether anything of a widget can be seen."""

from PySide6.QtCore import QPoint, QRect
from PySide6.QtWidgets import QWidget


def is_seen(widget: QWidget) -> bool:
    """Whether a widget is shown and lies in its window: Qt moves docks that lie behind another tab out of the window,
    where they go on being visible.
    """
    if not widget.isVisible() or widget.size().isEmpty():
        return False
    window = widget.window()
    return window.rect().intersects(QRect(widget.mapTo(window, QPoint()), widget.size()))
