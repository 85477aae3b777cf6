"""Connects an engine to a window: who does what of it, and the one timer that draws."""

from time import perf_counter_ns

from PySide6.QtCore import QObject, Qt, QTimer, Slot

from engine.protocol import Generate
from engine.telemetry.process import Telemetry
from engine.trace.recording.shelf import Shelf
from gui.capturing import Capturing
from gui.engine_thread import EngineThread
from gui.frame_meter import FrameMeter
from gui.loading import Loading
from gui.main_window import MainWindow
from gui.measuring import Measuring
from gui.notes import Notes
from gui.picking import Picking
from gui.pinning import Pinning
from gui.recording import Recording, shelf_of_user
from gui.running import Running
from gui.session_keeper import SessionKeeper
from gui.sessions import Sessions
from gui.settings_store import SettingsStore
from gui.sharing import Sharing
from gui.silence import Silence
from gui.steering import Steering
from gui.surroundings import Surroundings
from gui.switching import Switching
from gui.telling import Telling

FRAME_MS = 33
NUMBERS_EVERY_NS = 250_000_000  # text that changes faster cannot be read


class Conductor(QObject):
    """Makes the rooms that connect an engine to a window, each with its own part of it. Draws."""

    def __init__(
        self,
        window: MainWindow,
        engine: EngineThread,
        store: SettingsStore,
        autorun: Generate | None = None,
        telemetry: Telemetry | None = None,
        recording: Recording | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """`autorun`: what to generate as soon as the first model is loaded.

        `telemetry`: where samples of the machine come from; None: nothing is sampled.
        `recording`: writes sessions down; None: nobody does. `shelf`: where sessions lie then.
        """
        super().__init__(window)
        window.make_rest()
        self.window = window
        self.engine = engine
        self._next_numbers_ns = 0
        self.meter = FrameMeter()
        self.sharing = Sharing(window, engine)
        self.pinning = Pinning(window, engine)
        window.telemetry.set_sampled(telemetry is not None)
        self._surroundings = Surroundings(engine, window.messages, telemetry, self._is_looked_at, self)
        self._surroundings.ended.connect(self._sensors_ended)
        self._silence = Silence(engine, window.messages)
        self._recording = recording
        shelf = recording.shelf if recording is not None else shelf or shelf_of_user()
        self.keeper = SessionKeeper(shelf, lambda: engine.recorder, window)
        self.notes = Notes(window, engine, self.keeper)
        engine.trace_replaced.connect(window.set_trace)
        self.telling = Telling(window, engine)
        # Of a model that is loaded it hears first: what can be switched is shown while its first token is computed.
        self.running = Running(window, engine, self.telling, autorun)
        self._loading = Loading(window, engine, self.telling)
        self.picking = Picking(window, engine, self._loading, store)
        self.switching = Switching(window, engine, self.telling)
        self.capturing = Capturing(window, engine, self.telling, self.running)
        self.measuring = Measuring(window, engine, self.telling, self.running)
        self.steering = Steering(window, engine)
        window.actions_.on("restart", engine.restart)
        self._connect_recording(store)
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(FRAME_MS)
        self._timer.timeout.connect(self.frame)

    def _connect_recording(self, store: SettingsStore) -> None:
        window, recording = self.window, self._recording
        record, sessions = window.actions_["record"], window.actions_["sessions"]
        record.setEnabled(recording is not None)
        sessions.setEnabled(recording is not None)
        if recording is not None:
            self.sessions = Sessions(window, recording, self.keeper, store)
            window.actions_.on("sessions", self.sessions.show)
            record.setChecked(recording.is_on)
            record.triggered.connect(recording.set_on)

    def start(self) -> None:
        """Begin to draw."""
        self._timer.start()

    def stop(self) -> None:
        """Draw no more, and write no more."""
        self._timer.stop()
        self.sharing.stop()
        self.keeper.stop()
        self.pinning.stop()

    @Slot(str, str)
    def show_fault(self, sentence: str, details: str) -> None:
        """Something failed that nobody foresaw."""
        self.telling.show_fault(sentence, details)

    # ------------------------------------------------------------ frames

    @Slot()
    def frame(self) -> None:
        """Take events, then bring up to date what they changed; nothing while a trial wants the window still."""
        if self.measuring.wants_stillness(perf_counter_ns()):
            return
        self.engine.drain()
        self._surroundings.frame()
        trace, navigation = self.engine.trace, self.window.navigation
        if navigation.count != len(trace.steps):
            navigation.trace_grew(len(trace.steps))
        drew = [chart.refresh() for chart in self.window.charts]
        drew.append(self.window.text.refresh())
        now_ns = perf_counter_ns()
        if now_ns >= self._next_numbers_ns:
            self._next_numbers_ns = now_ns + NUMBERS_EVERY_NS
            drew.append(self.show_numbers())
        self.meter.frame(any(drew))

    def show_numbers(self) -> bool:
        """Bring the numbers up to date; whether the measurements changed."""
        window, engine = self.window, self.engine
        window.kernels.refresh()
        changed = window.measurements.refresh()
        if changed:
            window.switchboard.refresh_effects()
        changed |= window.roofline.refresh() | window.cycle_model.refresh()
        window.roofline.show_measuring(engine.is_calibrating)
        cost = self.meter.cost()
        if self._recording is not None:
            self._recording.look()
        window.meter.show_costs(engine.trace, engine.last_observer, cost, self.measuring.trial_progress())
        window.meter.show_warnings(self._surroundings.look(cost))
        self._silence.look(perf_counter_ns())
        window.meter.show_engine(engine.trace, engine.place, engine.state)
        self._loading.show_work()
        return changed

    @Slot()
    def _sensors_ended(self) -> None:
        self.window.telemetry.set_sampled(False)

    def _is_looked_at(self) -> bool:
        """Whether the window can be seen: on screen, and not folded away."""
        return self.window.isVisible() and not self.window.isMinimized()
