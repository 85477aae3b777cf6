"""Keys and menus that move about: in the charts, from step to step, and to the panels."""

from PySide6.QtCore import QObject, Qt

from engine.trace.phases import Role
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.shortcuts import ShortcutSheet
from gui.view_state import is_preparation

ZOOM = 1.5  # by a key
STRIDE = 1 / 8  # of what is on screen


class Steering(QObject):
    """Connects the actions that change only what is looked at."""

    def __init__(self, window: MainWindow, engine: EngineThread) -> None:
        super().__init__(window)
        self._window, self._engine = window, engine
        navigation = window.navigation
        for name, do in (
            ("zoom_in", lambda: self._zoom(1 / ZOOM)),
            ("zoom_out", lambda: self._zoom(ZOOM)),
            ("pan_left", lambda: navigation.pan(-navigation.span * STRIDE)),
            ("pan_right", lambda: navigation.pan(navigation.span * STRIDE)),
            ("show_all", navigation.show_all),
            ("previous", lambda: navigation.select_next(-1)),
            ("next", lambda: navigation.select_next(1)),
            ("slowest", self.select_slowest),
            ("deselect", self.deselect),
            ("role", lambda: navigation.set_role(Role((navigation.role + 1) % len(Role)))),
            ("axis", self._switch_axis),
            ("roofline", lambda: window.arrangement.show("roofline")),
            ("cycle_model", lambda: window.arrangement.show("cycle_model")),
            ("prompt", window.prompt.focus_text),
            ("find", window.find_setting),
            ("shortcuts", self.show_shortcuts),
        ):
            window.actions_.on(name, do)
        follow = window.actions_["follow"]
        follow.setChecked(navigation.follow)
        follow.triggered.connect(navigation.set_follow)
        navigation.follow_changed.connect(follow.setChecked)

    def select_slowest(self) -> None:
        """Select the slowest decode step on screen."""
        navigation, steps = self._window.navigation, self._engine.trace.steps
        first, last = max(0, int(navigation.first)), min(len(steps), int(navigation.last))
        others = is_preparation(self._engine.trace, steps.kind[first:last]) | steps.captured[first:last]
        walls = steps.wall_ns[first:last] * ~others
        if len(walls):
            navigation.select(first + int(walls.argmax()))

    def deselect(self) -> None:
        """Let go of the selected step, or dismiss the latest message."""
        if self._window.navigation.selected is not None:
            self._window.navigation.select(None)
        else:
            self._window.messages.dismiss_latest()

    def show_shortcuts(self) -> None:
        """Open the sheet of keys."""
        sheet = ShortcutSheet(self._window.actions_, self._window)
        sheet.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        sheet.open()

    def _zoom(self, factor: float) -> None:
        navigation = self._window.navigation
        navigation.zoom(factor, (navigation.first + navigation.last) / 2)

    def _switch_axis(self) -> None:
        axes = list(type(self._window.navigation.latency_axis))
        now = axes.index(self._window.navigation.latency_axis)
        self._window.navigation.set_latency_axis(axes[(now + 1) % len(axes)])
