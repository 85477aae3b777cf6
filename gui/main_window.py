"""The window: layout, menus, actions, themes. What happens in it is conducted elsewhere (gui.conductor)."""

from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Protocol

from PySide6.QtCore import QByteArray, QSize, Qt, Signal, Slot
from PySide6.QtGui import QActionGroup, QCloseEvent, QGuiApplication
from PySide6.QtWidgets import (
    QApplication,
    QDockWidget,
    QMainWindow,
    QMenu,
    QSizePolicy,
    QSplitter,
    QTabBar,
    QTabWidget,
    QToolBar,
    QWidget,
)

from engine.trace.reference import Reference
from engine.trace.store import Trace
from gui import theme as themes
from gui.actions import Actions
from gui.charts.chart import Chart
from gui.charts.latency import LatencyChart
from gui.charts.layer_map import LayerMap
from gui.charts.legend import PhaseLegend
from gui.charts.step_timeline import StepTimeline
from gui.charts.token_strip import TokenStrip
from gui.icons import application_icon, icon
from gui.navigation import Navigation
from gui.panels.dock_title import DockTitle
from gui.panels.heading import Heading
from gui.panels.measurements import MeasurementsPanel
from gui.panels.message_bar import MessageBar
from gui.panels.model import ModelPanel
from gui.panels.progress_strip import ProgressStrip
from gui.panels.prompt import PromptPanel
from gui.panels.status import ObserverMeter
from gui.panels.switchboard import Switchboard
from gui.panels.text import TextPanel
from gui.panels.widgets import Column
from gui.settings_store import THEMES, VERSION, SettingsStore
from gui.theme import Theme
from gui.visibility import is_seen

DEFAULT_SIZE = QSize(1440, 900)
PLOT_SHARE = 0.42  # of the window's height, for a plot that is looked at by itself
TABLE_SHARE = 0.58  # at most, for measurements beside those of a reference
LEFT, RIGHT, BOTTOM = (
    Qt.DockWidgetArea.LeftDockWidgetArea,
    Qt.DockWidgetArea.RightDockWidgetArea,
    Qt.DockWidgetArea.BottomDockWidgetArea,
)


class _Themed(Protocol):
    def set_theme(self, theme: Theme) -> None: ...


class _Measured(Protocol):
    def set_trace(self, trace: Trace) -> None: ...


class MainWindow(QMainWindow):
    """All panels and charts, arranged; what lies behind others is there once `make_rest` was called.

    `closing` is emitted once, when the window is about to go.
    """

    closing = Signal()
    theme_changed = Signal(object)

    def __init__(self, store: SettingsStore, theme_name: str | None = None) -> None:
        super().__init__()
        self._store = store
        self._left_out: set[str] = set()
        self._is_running = False
        self.theme_name = theme_name or store.theme
        self.theme = theme_named(self.theme_name)
        _apply(self.theme)  # before there are widgets, so that they are made with the right fonts
        self.setWindowTitle("Cyclograph")
        self.setWindowIcon(application_icon())
        self.setDockOptions(QMainWindow.DockOption.AllowNestedDocks | QMainWindow.DockOption.AllowTabbedDocks)
        self.navigation = Navigation(self)
        self.actions_ = Actions(self)
        self._make_panels()
        self.setCentralWidget(self._make_centre())
        self._make_docks()
        self._make_toolbar()
        self._make_menus()
        self.meter = ObserverMeter(self.statusBar())
        self._first_state = self.saveState(VERSION)
        self._connect()
        self._restore()
        self._show_theme()

    # ------------------------------------------------------------ what is in it

    def _make_panels(self) -> None:
        navigation = self.navigation
        self.strip = TokenStrip(navigation)
        self.latency = LatencyChart(navigation)
        self.layer_map = LayerMap(navigation)
        self.timeline = StepTimeline(navigation)
        self.legend = PhaseLegend(navigation)
        self.charts: Sequence[Chart] = (
            self.legend,
            self.strip,
            self.latency,
            self.layer_map,
            self.timeline,
        )
        for chart in self.charts[1:]:
            chart.addAction(self.actions_["capture"])
        self.timeline.addAction(self.actions_["save_capture"])
        self.text = TextPanel(navigation, self.theme)
        self.model = ModelPanel()
        self.prompt = PromptPanel(self._store)
        self.measurements = MeasurementsPanel(self.theme)
        self.switchboard = Switchboard(self._store)
        self.messages = MessageBar(self.theme)
        self.progress = ProgressStrip()
        self.heading = Heading()

    def _make_centre(self) -> QWidget:
        self._splitter = QSplitter(Qt.Orientation.Vertical)
        self._splitter.setChildrenCollapsible(False)
        self._splitter.setHandleWidth(6)
        for chart, share in ((self.strip, 5), (self.latency, 4), (self.layer_map, 4)):
            self._splitter.addWidget(chart)
            self._splitter.setStretchFactor(self._splitter.count() - 1, share)
        self._centre = Column(self.messages, self.progress, self.legend, self._splitter)
        self._centre.cramped.connect(self._make_room, Qt.ConnectionType.QueuedConnection)
        return self._centre

    @Slot()
    def _make_room(self) -> None:
        """Take height from the docks below the charts: a message came, or one of those docks was made higher."""
        lacking = self._centre.lacking()
        for dock in self.docks.values() if lacking > 0 else ():
            if self.dockWidgetArea(dock) == BOTTOM and not dock.isFloating() and is_seen(dock):
                self.resizeDocks([dock], [dock.height() - lacking], Qt.Orientation.Vertical)
                return

    def _make_docks(self) -> None:
        self.setCorner(Qt.Corner.BottomLeftCorner, LEFT)
        self.setCorner(Qt.Corner.BottomRightCorner, RIGHT)
        self._titles: list[DockTitle] = []
        self.docks = {
            "model": self._dock("Model", self.model, LEFT),
            "prompt": self._dock("Prompt", self.prompt, LEFT),
            "text": self._dock("Text", self.text, LEFT),
            "measurements": self._dock("Measurements", self.measurements, RIGHT),
            "switchboard": self._dock("Switchboard", self.switchboard, RIGHT),
            "timeline": self._dock("Step timeline", self.timeline, BOTTOM),
            "kernels": self._dock("Kernels", None, BOTTOM),
            "telemetry": self._dock("Telemetry", None, BOTTOM),
            "roofline": self._dock("Roofline", None, BOTTOM),
            "cycle_model": self._dock("Cycle model", None, BOTTOM),
        }
        self.splitDockWidget(self.docks["timeline"], self.docks["kernels"], Qt.Orientation.Horizontal)
        self.docks["kernels"].hide()  # until a step is captured
        self.setTabPosition(BOTTOM, QTabWidget.TabPosition.North)
        for name in ("telemetry", "roofline", "cycle_model"):
            self.tabifyDockWidget(self.docks["timeline"], self.docks[name])
        self.docks["timeline"].raise_()

    def make_rest(self) -> None:
        """Import and make what lies behind other panels at first: the window can be on screen before that."""
        from gui.charts.telemetry import TelemetryChart
        from gui.panels.cycle_model import CycleModelPanel
        from gui.panels.kernels import KernelsPanel
        from gui.panels.roofline import RooflinePanel

        self.kernels = KernelsPanel(self.navigation)
        self.telemetry = TelemetryChart(self.navigation)
        self.roofline = RooflinePanel(self.navigation)
        self.cycle_model = CycleModelPanel(self.navigation)
        charts = (self.telemetry, self.roofline.chart, self.cycle_model.chart)
        for chart in charts:
            chart.set_theme(self.theme)
            chart.addAction(self.actions_["capture"])
        self.charts = (*self.charts, *charts)
        panels = {"kernels": self.kernels, "telemetry": self.telemetry, "roofline": self.roofline}
        for name, panel in {**panels, "cycle_model": self.cycle_model}.items():
            _fill(self.docks[name], panel)

    def _dock(self, title: str, widget: QWidget | None, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(title)
        heading = DockTitle(title, dock)
        self._titles.append(heading)
        dock.setTitleBarWidget(heading)
        if widget is not None:
            _fill(dock, widget)
        self.addDockWidget(area, dock)
        return dock

    def _make_toolbar(self) -> None:
        bar = self._tools = QToolBar("Tools")
        bar.setObjectName("tools")
        bar.setMovable(False)
        bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        bar.setIconSize(QSize(18, 18))
        bar.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonIconOnly)
        for name in ("run", "step", "stop", "", "clear", "follow", ""):
            bar.addAction(self.actions_[name]) if name else bar.addSeparator()
        bar.addWidget(self.heading)
        spacer = QWidget()
        spacer.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        bar.addWidget(spacer)
        for name in ("pick", "picture", "theme", "shortcuts"):
            bar.addAction(self.actions_[name])
        for action in self.actions_.all():
            if made := bar.widgetForAction(action):
                made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        run = bar.widgetForAction(self.actions_["run"])
        run.setProperty("toolButtonStyle", Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        run.setMinimumWidth(96)
        self.addToolBar(bar)

    def _make_menus(self) -> None:
        menus = {
            "&Session": (
                "pick",
                "sessions",
                "open",
                "prompt",
                "find",
                "",
                "export",
                "command",
                "picture",
                "",
                "record",
                "restart",
                "quit",
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
        for title, names in menus.items():
            menu = self.menuBar().addMenu(title)
            for name in names:
                menu.addAction(self.actions_[name]) if name else menu.addSeparator()
        self._make_view_menu(self.menuBar().addMenu("&View"))
        self.menuBar().addMenu("&Help").addAction(self.actions_["shortcuts"])
        for action in self.actions_.all():
            self.addAction(action)  # so that keys work whatever has the focus

    def _make_view_menu(self, menu: QMenu) -> None:
        for dock in self.docks.values():
            menu.addAction(dock.toggleViewAction())
        menu.addSeparator()
        for title, chart in (
            ("Token strip", self.strip),
            ("Latency", self.latency),
            ("Layer map", self.layer_map),
        ):
            action = menu.addAction(title)
            action.setCheckable(True)
            action.setChecked(True)
            action.toggled.connect(chart.setVisible)
        menu.addSeparator()
        self._theme_group = QActionGroup(self)
        for name in THEMES:
            action = menu.addAction({"system": "Theme of the system"}.get(name, f"{name.capitalize()} theme"))
            action.setCheckable(True)
            action.setData(name)
            self._theme_group.addAction(action)
        menu.addSeparator()
        menu.addAction(self.actions_["reset_layout"])

    def _connect(self) -> None:
        self.actions_["reset_layout"].triggered.connect(self.reset_layout)
        self.actions_["theme"].triggered.connect(self.switch_theme)
        self.actions_["quit"].triggered.connect(self.close)
        self._theme_group.triggered.connect(self._theme_chosen)
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._system_theme_changed)

    # ------------------------------------------------------------ themes

    def set_theme(self, name: str) -> None:
        """Use a theme: "dark", "light", or "system" to follow the desktop."""
        self.theme_name = name
        self.theme = theme_named(name)
        _apply(self.theme)
        self._show_theme()

    def _show_theme(self) -> None:
        self.actions_.set_theme(self.theme)
        self.show_run_icon(self._is_running)
        themed: list[_Themed] = [*self.charts, self.text, self.measurements, self.messages, self.heading]
        for part in (*themed, *self._titles):
            part.set_theme(self.theme)
        for action in self._theme_group.actions():
            action.setChecked(action.data() == self.theme_name)
        self.theme_changed.emit(self.theme)

    def show_run_icon(self, running: bool) -> None:
        """The first button pauses while something runs."""
        self._is_running = running
        self.actions_["run"].setIcon(icon("pause" if running else "run", self.theme))

    def switch_theme(self) -> None:
        """From dark to light, or back."""
        self._choose_theme("light" if self.theme.name == "dark" else "dark")

    def _theme_chosen(self) -> None:
        chosen = self._theme_group.checkedAction()
        if chosen is not None:
            self._choose_theme(str(chosen.data()))

    def _choose_theme(self, name: str) -> None:
        self._store.theme = name
        self.set_theme(name)

    def _system_theme_changed(self) -> None:
        if self.theme_name == "system" and theme_named("system") is not self.theme:
            self.set_theme("system")

    # ------------------------------------------------------------ layout

    def set_trace(self, trace: Trace) -> None:
        """Show another trace everywhere, from its newest step on."""
        self.navigation.reset()
        self.show_trace(trace)

    def show_trace(self, trace: Trace) -> None:
        """Show another trace of the same steps everywhere, and of them those that are on screen."""
        self.navigation.hover(None)
        parts: list[_Measured] = [
            *self.charts,
            self.text,
            self.measurements,
            self.switchboard,
            self.kernels,
            self.roofline,
        ]
        for part in parts:
            part.set_trace(trace)

    def set_reference(self, reference: Reference | None) -> None:
        """Compare with a reference everywhere; None: with none."""
        for part in (self.legend, self.strip, self.latency, self.measurements):
            part.set_reference(reference)
        dock = self.docks["measurements"]
        title = dock.height() - self.measurements.height()
        wanted = min(title + self.measurements.wanted_height(), round(TABLE_SHARE * self.height()))
        stands = dock.isVisible() and not dock.isFloating()
        if reference is not None and stands and dock.height() < wanted:
            self.resizeDocks([dock], [wanted], Qt.Orientation.Vertical)

    def leave_out(self, docks: Iterable[str], actions: Iterable[str]) -> None:
        """Do without some panels and actions, for good: they are not offered any more, and their keys do nothing."""
        for name in docks:
            self._left_out.add(name)
            self.docks[name].hide()
            self.docks[name].toggleViewAction().setVisible(False)
        for name in actions:
            self.actions_[name].setVisible(False)

    def add_transport(self, transport: QWidget) -> None:
        """Put what plays a recording at the foot; it has the buttons that the toolbar has else."""
        bar = QToolBar("Transport")
        bar.setObjectName("transport")
        bar.setMovable(False)
        bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        bar.addWidget(transport)
        self.addToolBar(Qt.ToolBarArea.BottomToolBarArea, bar)
        for name in ("run", "step"):
            self._tools.removeAction(self.actions_[name])
        for action in takewhile(
            lambda each: each.isSeparator() or not each.isVisible(), self._tools.actions()
        ):
            self._tools.removeAction(action)

    def find_setting(self) -> None:
        """Show the switchboard, and let the user type what to look for."""
        self.docks["switchboard"].show()
        self.docks["switchboard"].raise_()
        self.switchboard.focus_search()

    def show_dock(self, name: str) -> None:
        """Bring a panel to the front, with as much room as a plot needs."""
        dock = self.docks[name]
        dock.show()
        dock.raise_()
        wanted = round(PLOT_SHARE * self.height())
        if not dock.isFloating() and dock.height() < wanted:
            self.resizeDocks([dock], [wanted], Qt.Orientation.Vertical)

    def reset_layout(self) -> None:
        """Arrange everything as at first."""
        self._store.forget_layout()
        self._restore_docks(self._first_state)
        for name, dock in self.docks.items():
            dock.setFloating(False)
            dock.setVisible(name != "kernels" and name not in self._left_out)
        self.docks["timeline"].raise_()
        for chart in (self.strip, self.latency, self.layer_map):
            chart.show()
        self.arrange()

    def show_capture(self) -> None:
        """Give a captured step room: its lanes, and the table of its kernels beside them."""
        timeline, kernels = self.docks["timeline"], self.docks["kernels"]
        timeline.show()
        timeline.raise_()
        if not kernels.isVisible():
            kernels.show()
            self.resizeDocks([timeline, kernels], [4, 3], Qt.Orientation.Horizontal)
            self.resizeDocks([timeline, kernels], [round(self.height() * 0.38)] * 2, Qt.Orientation.Vertical)

    def arrange(self) -> None:
        """Give docks and charts their first sizes."""
        docks, wide = self.docks, self.width() >= 1700
        side = [docks["model"], docks["measurements"]]
        self.resizeDocks(side, [380, 400] if wide else [308, 328], Qt.Orientation.Horizontal)
        height = self.height()
        left = [docks["model"], docks["prompt"], docks["text"]]
        prompt = max(190, height - 760)
        self.resizeDocks(left, [240, prompt, max(160, height - 370 - prompt)], Qt.Orientation.Vertical)
        right = [docks["measurements"], docks["switchboard"]]
        self.resizeDocks(right, [330, max(200, height - 460)], Qt.Orientation.Vertical)
        self.resizeDocks([docks["timeline"]], [round(height * 0.21)], Qt.Orientation.Vertical)
        self._splitter.setSizes([560, 340, 340])

    def _restore(self) -> None:
        geometry, layout, splitter = self._store.geometry, self._store.layout, self._store.splitter
        if geometry is None or not self.restoreGeometry(geometry):
            self.resize(self._size_that_fits())
        self.arrange()
        if layout is not None and self._restore_docks(layout) and splitter is not None:
            self._splitter.restoreState(splitter)

    def _restore_docks(self, state: QByteArray) -> bool:
        """Arrange docks as they were; whether that could be done.

        Qt makes tabs anew and leaves those of the arrangement before lying over them.
        """
        before = self.tab_bars()
        restored = self.restoreState(state, VERSION)
        if restored:
            for bar in before:
                bar.hide()
        return restored

    def tab_bars(self) -> list[QTabBar]:
        """The tabs of docks that share a place, where there are such docks."""
        return self.findChildren(QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly)

    def _size_that_fits(self) -> QSize:
        screen = QGuiApplication.primaryScreen()
        return DEFAULT_SIZE.boundedTo(screen.availableSize()) if screen else DEFAULT_SIZE

    def closeEvent(self, event: QCloseEvent) -> None:
        """Remember the layout, and let go."""
        self._store.prompt = self.prompt.own_prompt
        self._store.keep_layout(self.saveGeometry(), self.saveState(VERSION), self._splitter.saveState())
        self._store.sync()
        self.closing.emit()
        super().closeEvent(event)


def _fill(dock: QDockWidget, widget: QWidget) -> None:
    widget.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
    dock.setWidget(widget)


def _apply(theme: Theme) -> None:
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    themes.apply(application, theme)


def theme_named(name: str) -> Theme:
    """A theme by its name; "system" is that of the desktop."""
    return {"dark": themes.DARK, "light": themes.LIGHT}.get(name) or themes.system_theme()
