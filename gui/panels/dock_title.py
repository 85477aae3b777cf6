"""The title of a dock: quiet, dragged to move the dock, with a button that hides it."""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QToolButton, QWidget

from gui.icons import tinted
from gui.panels.widgets import label
from gui.theme import Theme


class DockTitle(QWidget):
    """Name of the panel, and a button to hide it (the View menu brings it back). A double click lets it float."""

    def __init__(self, title: str, dock: QDockWidget) -> None:
        super().__init__(dock)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._hide = QToolButton()
        self._hide.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._hide.setAccessibleName(f"Hide {title}")
        self._hide.setToolTip("Hide this panel (the View menu brings it back)")
        self._hide.setStyleSheet(
            "QToolButton { border: none; background: transparent; padding: 1px; min-height: 10px; }"
        )
        self._hide.clicked.connect(dock.hide)
        name = label(title.upper(), "section")
        name.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)  # drag the dock by it
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 5, 6, 5)
        layout.addWidget(name)
        layout.addStretch(1)
        layout.addWidget(self._hide)

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self._hide.setIcon(tinted("close", theme.faint, 12, self.devicePixelRatioF()))
