"""The window: its panels and charts, what they show, and its themes. What happens in it is conducted elsewhere."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from PySide6.QtCore import QCoreApplication, QEvent, Qt, Signal
from PySide6.QtGui import QCloseEvent, QGuiApplication, QPixmap
from PySide6.QtWidgets import QApplication, QMainWindow, QWidget

from engine.trace.reference import Reference
from engine.trace.store import Trace
from gui import theme as themes
from gui.actions import Actions
from gui.arrangement import Arrangement
from gui.charts.chart import Chart
from gui.charts.latency import LatencyChart
from gui.charts.layer_map import LayerMap
from gui.charts.legend import PhaseLegend
from gui.charts.step_timeline import StepTimeline
from gui.charts.token_strip import TokenStrip
from gui.icons import application_icon, icon
from gui.menus import ToolBar, fill_menus, transport_bar
from gui.navigation import Navigation
from gui.panels.heading import Heading
from gui.panels.measurements import MeasurementsPanel
from gui.panels.message_bar import MessageBar
from gui.panels.model import ModelPanel
from gui.panels.progress_strip import ProgressStrip
from gui.panels.prompt import PromptPanel
from gui.panels.status import ObserverMeter
from gui.panels.switchboard import Switchboard
from gui.panels.text import TextPanel
from gui.settings_store import SettingsStore
from gui.theme import Theme

TABLE_SHARE = 0.58  # of the window's height at most, for measurements beside those of a reference


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
        self._is_running = False
        self.theme_name = theme_name or store.theme
        self.theme = theme_named(self.theme_name)
        _apply(self.theme)  # before there are widgets, so that they are made with the right fonts
        self.setWindowTitle("Cyclograph")
        self.setWindowIcon(application_icon())
        self.navigation = Navigation(self)
        self.actions_ = Actions(self)
        self._make_panels()
        self._lay_out()
        self._make_bars()
        self._connect()
        self.arrangement.restore()
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
        self._centre_charts = {
            "Token strip": self.strip,
            "Latency": self.latency,
            "Layer map": self.layer_map,
        }
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

    def _lay_out(self) -> None:
        self.arrangement = Arrangement(
            self, self._store, (self.messages, self.progress, self.legend), list(self._centre_charts.values())
        )
        self.docks = self.arrangement.docks
        self.arrangement.fill(
            {
                "model": self.model,
                "prompt": self.prompt,
                "text": self.text,
                "measurements": self.measurements,
                "switchboard": self.switchboard,
                "timeline": self.timeline,
            }
        )

    def _make_bars(self) -> None:
        self._tools = ToolBar(self.actions_, self.heading)
        self.addToolBar(self._tools)
        self._theme_group = fill_menus(
            self.menuBar(), self.actions_, self.docks.values(), self._centre_charts
        )
        for action in self.actions_.all():
            self.addAction(action)  # so that keys work whatever has the focus
        self.meter = ObserverMeter(self.statusBar())

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
        self.arrangement.fill(
            {
                "kernels": self.kernels,
                "telemetry": self.telemetry,
                "roofline": self.roofline,
                "cycle_model": self.cycle_model,
            }
        )

    def _connect(self) -> None:
        self.actions_["reset_layout"].triggered.connect(self.arrangement.reset)
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
        for part in (*themed, self.arrangement):
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

    # ------------------------------------------------------------ what is shown

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
        if reference is not None:
            self.arrangement.give_height("measurements", wanted)

    def leave_out(self, docks: Iterable[str], actions: Iterable[str]) -> None:
        """Do without some panels and actions, for good: they are not offered any more, and their keys do nothing."""
        self.arrangement.leave_out(docks)
        for name in actions:
            self.actions_[name].setVisible(False)

    def add_transport(self, transport: QWidget) -> None:
        """Put what plays a recording at the foot; it has the buttons that the toolbar has else."""
        self.addToolBar(Qt.ToolBarArea.BottomToolBarArea, transport_bar(transport))
        self._tools.leave_to_transport()

    def find_setting(self) -> None:
        """Show the switchboard, and let the user type what to look for."""
        self.arrangement.show("switchboard")
        self.switchboard.focus_search()

    def picture(self) -> QPixmap:
        """What the window shows, with texts that were just changed in the room that they take now."""
        QCoreApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest.value)
        return self.grab()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Remember the layout, and let go."""
        self._store.prompt = self.prompt.own_prompt
        self.arrangement.keep()
        self._store.sync()
        self.closing.emit()
        super().closeEvent(event)


def _apply(theme: Theme) -> None:
    application = QApplication.instance()
    assert isinstance(application, QApplication)
    themes.apply(application, theme)


def theme_named(name: str) -> Theme:
    """A theme by its name; "system" is that of the desktop."""
    return {"dark": themes.DARK, "light": themes.LIGHT}.get(name) or themes.system_theme()
