"""What is measured on request beside the steps: this machine, and the instrument itself."""

from time import perf_counter_ns

from PySide6.QtCore import QObject, Slot

from engine.protocol import Calibrated, EngineState, Failed, FloorBeaten
from gui.engine_thread import EngineThread
from gui.floor_texts import beaten_sentence, doubts, measured_sentence
from gui.instrument_trial import InstrumentTrial, Stage
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.running import Running
from gui.telling import Telling


class Measuring(QObject):
    """Asks for calibrations and says what came of them; has a trial of the instrument while one is under way."""

    def __init__(self, window: MainWindow, engine: EngineThread, telling: Telling, running: Running) -> None:
        super().__init__(window)
        self._window, self._engine, self._telling, self._running = window, engine, telling, running
        self.trial: InstrumentTrial | None = None
        engine.failed.connect(self._failed)
        engine.calibrated.connect(self._calibrated)
        engine.floor_beaten.connect(self._floor_beaten)
        window.roofline.calibrate_requested.connect(self.calibrate)
        window.actions_.on("calibrate", self.calibrate)
        window.actions_.on("instrument", self.measure_instrument)

    # ------------------------------------------------------------ this machine

    @Slot()
    def calibrate(self) -> None:
        """Measure what this machine achieves."""
        self._window.messages.withdraw("calibrate")
        self._engine.calibrate()
        self._window.roofline.show_measuring(self._engine.is_calibrating)

    @Slot(object)
    def _calibrated(self, event: Calibrated) -> None:
        """A first measurement that nobody asked for is only shown where calibrations are."""
        messages = self._window.messages
        messages.withdraw("calibrate")
        if event.origin == "measured":
            messages.withdraw("floor")
            if not event.reason or self._engine.trace.beaten_floors:
                kind = Kind.WARNING if doubts(event.calibration) else Kind.INFO
                messages.show_message(kind, measured_sentence(event), about="calibrate")

    @Slot(object)
    def _floor_beaten(self, event: FloorBeaten) -> None:
        action = ("Measure again", self.calibrate)
        told = beaten_sentence(event, event.step - self._engine.trace.first_index)
        self._window.messages.show_message(Kind.WARNING, told, action=action, about="floor")

    # ------------------------------------------------------------ the instrument

    def measure_instrument(self) -> None:
        """Find out what marks and drawing cost, in turns; pressed again, stop that."""
        if self.trial is not None:
            self.trial.stop()
            self.trial = None
        elif self._engine.state in (EngineState.RUNNING, EngineState.READY):
            self.trial = InstrumentTrial(
                self._engine, self._running.generate, self._telling.note, perf_counter_ns()
            )
        else:
            self._telling.note(
                "The instrument is measured while steps are made: load a model, or go on, first."
            )

    def wants_stillness(self, now_ns: int) -> bool:
        """Whether nothing is to be drawn in this frame; a trial goes on by this."""
        return self.trial is not None and self.trial.frame(now_ns)

    def trial_progress(self) -> str:
        """How far a trial is; empty where there is none."""
        if self.trial is not None and self.trial.stage is Stage.OVER:
            self.trial = None
        return self.trial.progress if self.trial is not None else ""

    @Slot(object)
    def _failed(self, failed: Failed) -> None:
        if failed.command == "alternate" and self.trial is not None:
            self.trial.refused(perf_counter_ns())
