"""The menu bar and the toolbar: which actions stand where."""

from collections.abc import Iterable, Mapping
from itertools import takewhile

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QDockWidget, QMenu, QMenuBar, QSizePolicy, QToolBar, QWidget

from gui.actions import Actions
from gui.settings_store import THEMES

MENUS = {  # "": a line between
    "&Session": (
        *("pick", "sessions", "open", "prompt", "find", "", "export", "command", "picture", ""),
        *("record", "restart", "quit"),
    ),
    "&Run": (
        *("run", "step", "step_back", "stop", "generate", "join", "", "capture", "save_capture", ""),
        *("instrument", "calibrate", "", "clear"),
    ),
    "&Charts": (
        *("follow", "show_all", "zoom_in", "zoom_out", "pan_left", "pan_right", ""),
        *("previous", "next", "slowest", "deselect", "note", "", "role", "axis"),
        *("", "pin", "pin_screen", "pin_session", "unpin", "", "roofline", "cycle_model"),
    ),
}
BEFORE_HEADING = ("run", "step", "stop", "", "clear", "follow", "")
AFTER_HEADING = ("pick", "picture", "theme", "shortcuts")
IN_TRANSPORT = ("run", "step")  # where a recording is played


class ToolBar(QToolBar):
    """The actions that are wanted often, with the heading between them."""

    def __init__(self, actions: Actions, heading: QWidget) -> None:
        super().__init__("Tools")
        self._actions = actions
        _fix(self, "tools")
        self.setIconSize(QSize(18, 18))
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        _fill(self, actions, BEFORE_HEADING)
        self.addWidget(heading)
        spacer = QWidget()
        spacer.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.addWidget(spacer)
        _fill(self, actions, AFTER_HEADING)
        for action in actions.all():
            if made := self.widgetForAction(action):
                made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        run = self.widgetForAction(actions["run"])
        run.setProperty("toolButtonStyle", Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        run.setMinimumWidth(96)

    def leave_to_transport(self) -> None:
        """Do without the buttons that the bar which plays a recording has, and without lines before the first one."""
        for name in IN_TRANSPORT:
            self.removeAction(self._actions[name])
        for action in takewhile(lambda each: each.isSeparator() or not each.isVisible(), self.actions()):
            self.removeAction(action)


def transport_bar(transport: QWidget) -> QToolBar:
    """A bar with what plays a recording."""
    bar = QToolBar("Transport")
    _fix(bar, "transport")
    bar.addWidget(transport)
    return bar


def fill_menus(
    bar: QMenuBar, actions: Actions, docks: Iterable[QDockWidget], charts: Mapping[str, QWidget]
) -> QActionGroup:
    """Make the menus; `charts`: those that can be hidden, by their names. Returns the choice of themes."""
    for title, names in MENUS.items():
        _fill(bar.addMenu(title), actions, names)
    view = bar.addMenu("&View")
    for dock in docks:
        view.addAction(dock.toggleViewAction())
    view.addSeparator()
    for name, chart in charts.items():
        _checkable(view, name).toggled.connect(chart.setVisible)
    view.addSeparator()
    themes = QActionGroup(bar)
    for name in THEMES:
        text = {"system": "Theme of the system"}.get(name, f"{name.capitalize()} theme")
        action = _checkable(view, text, False)
        action.setData(name)
        themes.addAction(action)
    view.addSeparator()
    view.addAction(actions["reset_layout"])
    bar.addMenu("&Help").addAction(actions["shortcuts"])
    return themes


def _fill(target: QMenu | QToolBar, actions: Actions, names: Iterable[str]) -> None:
    for name in names:
        target.addAction(actions[name]) if name else target.addSeparator()


def _checkable(menu: QMenu, text: str, checked: bool = True) -> QAction:
    action = menu.addAction(text)
    action.setCheckable(True)
    action.setChecked(checked)
    return action


def _fix(bar: QToolBar, name: str) -> None:
    bar.setObjectName(name)
    bar.setMovable(False)
    bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
