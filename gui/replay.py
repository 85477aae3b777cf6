"""A recording in a window of its own: the same window, played instead of run, without what needs a model."""

from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from engine.protocol import Failed, ModelLoaded
from engine.trace.recording.shelf import Shelf
from engine.trace.store import Trace
from gui.conductor import Conductor
from gui.main_window import MainWindow
from gui.panels.transport import TransportBar
from gui.replay_engine import ReplayEngine
from gui.settings_store import SettingsStore

#: What only an engine can do, or the window that has one offers.
LIVE_ONLY = (
    *("pick", "prompt", "command", "record", "sessions", "restart"),
    *("stop", "generate", "join", "capture", "instrument", "calibrate", "clear", "alternate", "compare"),
)


class Replay(QObject):
    """`failed`: the file cannot be read, in a sentence, and there is nothing to show. `closed`: the window went.

    Made, the window is not shown yet; `start` has it drawn.
    """

    failed = Signal(str)
    closed = Signal()

    def __init__(self, path: Path, store: SettingsStore, shelf: Shelf, theme_name: str) -> None:
        """`store`: what windows of recordings remember; it is not that of the live window. `shelf`: of the user."""
        super().__init__()
        self.path = path
        self.engine = ReplayEngine(path, self)  # it reads while the window is built
        self.window = window = MainWindow(store, theme_name)
        self.conductor = Conductor(window, self.engine, store, shelf=shelf)
        self._suit_window()
        self.transport = TransportBar(window.actions_)
        window.add_transport(self.transport)
        self.transport.speed_chosen.connect(self.engine.set_speed)
        self.transport.place_wished.connect(self.engine.seek_ns)
        self.transport.slider.sliderReleased.connect(self._show_place)
        window.actions_["step_back"].triggered.connect(self.engine.step_back)
        self._connect_engine()
        window.closing.connect(self.closed)

    def _suit_window(self) -> None:
        window, actions = self.window, self.window.actions_
        window.leave_out(["prompt"], LIVE_ONLY)
        actions["step_back"].setVisible(True)
        actions["quit"].setText("Close this recording")
        window.switchboard.only_show()
        window.model.offer_choice(False)
        window.heading.show_recording(str(self.path))
        window.roofline.measure.hide()
        window.setWindowTitle(f"Recording {self.path.name} – Cyclograph")

    def _connect_engine(self) -> None:
        engine = self.engine
        engine.model_loaded.connect(self._loaded)
        engine.moved.connect(self._moved)
        engine.failed.connect(self._engine_failed)
        engine.drained.connect(self._show_place)

    @Slot(object)
    def _loaded(self, loaded: ModelLoaded) -> None:
        """All of it is shown at first."""
        about = self.engine.metadata
        title = about.get("title") or self.path.name
        self.window.setWindowTitle(f"Recording of {loaded.model.name}: {title} – Cyclograph")
        tip = filter(None, (title, about.get("description"), about.get("started_at"), str(self.path)))
        self.window.heading.show_recording("\n".join(tip))
        self.window.navigation.show_all()

    @Slot(object)
    def _moved(self, trace: Trace) -> None:
        """What is in force there is not told: it is shown."""
        self.window.show_trace(trace)
        self.window.switchboard.show_configuration(trace.configuration)
        self.conductor.switching.show_precision(trace.configuration)

    @Slot()
    def _show_place(self) -> None:
        engine = self.engine
        self.transport.show_place(engine.position_ns, engine.length_ns, engine.position, engine.step_count)

    @Slot(object)
    def _engine_failed(self, failed: Failed) -> None:
        if failed.command == "load":
            self.failed.emit(failed.sentence)

    def start(self) -> None:
        """Show the window in front of all others, and draw."""
        self.window.show()
        self.window.raise_()
        self.window.activateWindow()
        self.conductor.start()

    def stop(self) -> None:
        """Draw and play no more, and let go of all of it."""
        self.conductor.stop()
        self.engine.shut_down()
        self.window.deleteLater()
        self.deleteLater()
