"""Where docks and charts lie in the window, and how much room each has. It is remembered, and can be reset."""

from collections.abc import Iterable, Mapping, Sequence

from PySide6.QtCore import QByteArray, QObject, QSize, Qt, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QDockWidget, QMainWindow, QSplitter, QTabBar, QTabWidget, QWidget

from gui.panels.dock_title import DockTitle
from gui.panels.widgets import Column
from gui.settings_store import VERSION, SettingsStore
from gui.theme import Theme
from gui.visibility import is_seen

DEFAULT_SIZE = QSize(1440, 900)
PLOTS = ("roofline", "cycle_model")  # looked at by themselves, in docks that are low at first
PLOT_SHARE = 0.42  # of the window's height, for one of them
CAPTURE_SHARE = 0.38  # for the lanes and kernels of a captured step
LEFT, RIGHT, BOTTOM = (
    Qt.DockWidgetArea.LeftDockWidgetArea,
    Qt.DockWidgetArea.RightDockWidgetArea,
    Qt.DockWidgetArea.BottomDockWidgetArea,
)
DOCKS = {
    "model": ("Model", LEFT),
    "prompt": ("Prompt", LEFT),
    "text": ("Text", LEFT),
    "measurements": ("Measurements", RIGHT),
    "switchboard": ("Switchboard", RIGHT),
    "timeline": ("Step timeline", BOTTOM),
    "kernels": ("Kernels", BOTTOM),
    "telemetry": ("Telemetry", BOTTOM),
    "roofline": ("Roofline", BOTTOM),
    "cycle_model": ("Cycle model", BOTTOM),
}
UNDER_TABS = ("telemetry", "roofline", "cycle_model")  # behind the timeline at first


class Arrangement(QObject):
    """Has the docks of a window, by name, around a column whose last part are charts.

    Docks are empty until they are filled; `restore` is called when everything else is in the window.
    """

    def __init__(
        self,
        window: QMainWindow,
        store: SettingsStore,
        messages: Iterable[QWidget],
        charts: Sequence[QWidget],
    ) -> None:
        """`messages`: what stands above the `charts`."""
        super().__init__(window)
        self._window, self._store = window, store
        self._left_out: set[str] = set()
        self._titles: list[DockTitle] = []
        window.setDockOptions(
            QMainWindow.DockOption.AllowNestedDocks | QMainWindow.DockOption.AllowTabbedDocks
        )
        self._charts = charts
        self._splitter = _splitter(charts)
        self._centre = Column(*messages, self._splitter)
        self._centre.cramped.connect(self._make_room, Qt.ConnectionType.QueuedConnection)
        window.setCentralWidget(self._centre)
        window.setCorner(Qt.Corner.BottomLeftCorner, LEFT)
        window.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
        self.docks = {name: self._dock(title, area) for name, (title, area) in DOCKS.items()}
        self._stack_docks()
        # Queued: a tab is changed in the midst of a layout.
        window.tabifiedDockWidgetActivated.connect(self._tab_chosen, Qt.ConnectionType.QueuedConnection)

    def _dock(self, title: str, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self._window)
        dock.setObjectName(title)
        heading = DockTitle(title, dock)
        self._titles.append(heading)
        dock.setTitleBarWidget(heading)
        self._window.addDockWidget(area, dock)
        return dock

    def _stack_docks(self) -> None:
        window, docks = self._window, self.docks
        window.splitDockWidget(docks["timeline"], docks["kernels"], Qt.Orientation.Horizontal)
        docks["kernels"].hide()  # until a step is captured
        window.setTabPosition(BOTTOM, QTabWidget.TabPosition.North)
        for name in UNDER_TABS:
            window.tabifyDockWidget(docks["timeline"], docks[name])
        docks["timeline"].raise_()

    def fill(self, panels: Mapping[str, QWidget]) -> None:
        """Put panels into their docks."""
        for name, panel in panels.items():
            panel.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
            self.docks[name].setWidget(panel)

    def set_theme(self, theme: Theme) -> None:
        """Tint the titles of the docks."""
        for title in self._titles:
            title.set_theme(theme)

    def leave_out(self, names: Iterable[str]) -> None:
        """Do without some docks, for good."""
        for name in names:
            self._left_out.add(name)
            self.docks[name].hide()
            self.docks[name].toggleViewAction().setVisible(False)

    # ------------------------------------------------------------ room

    def show(self, name: str) -> None:
        """Bring a dock to the front; one with a plot gets as much room as that needs."""
        dock = self.docks[name]
        dock.show()
        dock.raise_()
        if name in PLOTS:
            self.give_height(name, round(PLOT_SHARE * self._window.height()))

    def give_height(self, name: str, wanted: int) -> None:
        """Make a dock at least so high, where it stands in the window and is seen."""
        dock = self.docks[name]
        if dock.isVisible() and not dock.isFloating() and dock.height() < wanted:
            self._window.resizeDocks([dock], [wanted], Qt.Orientation.Vertical)

    def show_capture(self) -> None:
        """Give a captured step room: its lanes, and the table of its kernels beside them."""
        window, timeline, kernels = self._window, self.docks["timeline"], self.docks["kernels"]
        timeline.show()
        timeline.raise_()
        if not kernels.isVisible():
            kernels.show()
            height = round(CAPTURE_SHARE * window.height())
            window.resizeDocks([timeline, kernels], [4, 3], Qt.Orientation.Horizontal)
            window.resizeDocks([timeline, kernels], [height] * 2, Qt.Orientation.Vertical)

    @Slot(QDockWidget)
    def _tab_chosen(self, dock: QDockWidget) -> None:
        """A plot that comes to the front by its tab needs as much room as one that comes by a key."""
        for name in PLOTS:
            if self.docks[name] is dock:
                self.show(name)

    @Slot()
    def _make_room(self) -> None:
        """Take height from the docks below the charts: a message came, or one of those docks was made higher."""
        lacking = self._centre.lacking()
        for dock in self.docks.values() if lacking > 0 else ():
            if self._window.dockWidgetArea(dock) == BOTTOM and not dock.isFloating() and is_seen(dock):
                self._window.resizeDocks([dock], [dock.height() - lacking], Qt.Orientation.Vertical)
                return

    # ------------------------------------------------------------ all of it

    def arrange(self) -> None:
        """Give docks and charts their first sizes."""
        window, docks, wide = self._window, self.docks, self._window.width() >= 1700
        side = [docks["model"], docks["measurements"]]
        window.resizeDocks(side, [380, 400] if wide else [308, 328], Qt.Orientation.Horizontal)
        height = window.height()
        left = [docks["model"], docks["prompt"], docks["text"]]
        prompt = max(190, height - 760)
        window.resizeDocks(left, [240, prompt, max(160, height - 370 - prompt)], Qt.Orientation.Vertical)
        right = [docks["measurements"], docks["switchboard"]]
        window.resizeDocks(right, [330, max(200, height - 460)], Qt.Orientation.Vertical)
        window.resizeDocks([docks["timeline"]], [round(height * 0.21)], Qt.Orientation.Vertical)
        self._splitter.setSizes([560, 340, 340])

    def restore(self) -> None:
        """Arrange everything as it was when the window was closed last."""
        self._first_state = self._window.saveState(VERSION)
        geometry, layout, splitter = self._store.geometry, self._store.layout, self._store.splitter
        if geometry is None or not self._window.restoreGeometry(geometry):
            self._window.resize(_size_that_fits())
        self.arrange()
        if layout is not None and self._restore_docks(layout) and splitter is not None:
            self._splitter.restoreState(splitter)

    def keep(self) -> None:
        """Remember how everything is arranged."""
        window = self._window
        self._store.keep_layout(window.saveGeometry(), window.saveState(VERSION), self._splitter.saveState())

    @Slot()
    def reset(self) -> None:
        """Arrange everything as at first."""
        self._store.forget_layout()
        self._restore_docks(self._first_state)
        for name, dock in self.docks.items():
            dock.setFloating(False)
            dock.setVisible(name != "kernels" and name not in self._left_out)
        self.docks["timeline"].raise_()
        for chart in self._charts:
            chart.show()
        self.arrange()

    def _restore_docks(self, state: QByteArray) -> bool:
        """Arrange docks as they were; whether that could be done.

        Qt makes tabs anew and leaves those of the arrangement before lying over them.
        """
        before = self.tab_bars()
        restored = self._window.restoreState(state, VERSION)
        if restored:
            for bar in before:
                bar.hide()
        return restored

    def tab_bars(self) -> list[QTabBar]:
        """The tabs of docks that share a place, where there are such docks."""
        return self._window.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly)


def _splitter(charts: Iterable[QWidget]) -> QSplitter:
    made = QSplitter(Qt.Orientation.Vertical)
    made.setChildrenCollapsible(False)
    made.setHandleWidth(6)
    for chart, share in zip(charts, (5, 4, 4), strict=True):
        made.addWidget(chart)
        made.setStretchFactor(made.count() - 1, share)
    return made


def _size_that_fits() -> QSize:
    screen = QGuiApplication.primaryScreen()
    return DEFAULT_SIZE.boundedTo(screen.availableSize()) if screen else DEFAULT_SIZE
