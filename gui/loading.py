"""What is loaded, or being loaded, is shown; loads are given up and asked for again; long work says how far it is."""

from time import perf_counter_ns

from PySide6.QtCore import QObject, Slot

from engine.protocol import EngineState, LoadCancelled, ModelLoaded, Progress
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.panels.progress_strip import DOWNLOAD, prefill_progress
from gui.telling import Offer, Telling


class Loading(QObject):
    """Connects the strip that shows progress, the heading and the model's panel to the engine."""

    def __init__(self, window: MainWindow, engine: EngineThread, telling: Telling) -> None:
        super().__init__(window)
        self._window, self._engine = window, engine
        self._shows_work = False  # the strip shows work between two steps
        self._stage = ""  # the stage that the last load came to
        telling.offer("load", self._again_after_failure)
        engine.state_changed.connect(self._state_changed)
        engine.model_loaded.connect(self._model_loaded)
        engine.load_cancelled.connect(self._load_cancelled)
        engine.progress.connect(self._progressed)
        window.progress.cancelled.connect(self._cancel)
        self._state_changed(engine.state)

    @property
    def _is_working(self) -> bool:
        """Whether the engine starts or loads."""
        return self._engine.state in (EngineState.STARTING, EngineState.LOADING)

    def load(self, model: str, device: str) -> None:
        """Load another model."""
        self._window.messages.withdraw("load")
        self._engine.load(model, device)

    def show_work(self) -> None:
        """Called a few times a second: what takes long between two steps shows how far it is, as does a long prompt."""
        if self._is_working:
            return
        now_ns = perf_counter_ns()
        work = self._engine.work(now_ns)
        self._shows_work = work is not None
        if work is not None:
            self._window.progress.show_load(work, can_cancel=bool(work.stage))
            return
        found = prefill_progress(self._engine.trace, now_ns)
        if found and self._engine.is_generating:
            self._window.progress.show_progress(*found)
        else:
            self._window.progress.hide()

    # ------------------------------------------------------------ what the engine says

    @Slot(object)
    def _state_changed(self, state: EngineState | None) -> None:
        self._window.heading.show_state(state)
        if self._is_working:
            self._begin_progress(state)
        else:
            self._window.progress.hide()
        if state is not EngineState.READY and not self._engine.is_generating:
            self._window.model.show_hint(self._why_not_ready(state))

    def _begin_progress(self, state: EngineState | None) -> None:
        """The engine starts, or begins to load: nothing more is known yet."""
        engine = self._engine
        if engine.is_cancelling:
            activity = f"giving up {engine.wanted_model}"
        elif state is EngineState.STARTING:
            activity, self._stage = "starting the engine", ""
        else:
            activity, self._stage = f"loading {engine.wanted_model}", ""
        can_cancel = engine.is_loading and not engine.is_cancelling
        self._window.progress.show_progress(activity, None, can_cancel)

    def _why_not_ready(self, state: EngineState | None) -> str:
        wanted = self._engine.wanted_model
        if self._is_working or self._engine.is_loading:
            return f"{wanted} is being loaded." if wanted else "The engine is starting."
        return "Choose a model to begin." if state else "The engine is not running."

    @Slot(object)
    def _model_loaded(self, loaded: ModelLoaded) -> None:
        self._window.model.show_model(loaded.model)
        self._window.heading.show_model(loaded.model)
        self._window.setWindowTitle(f"{loaded.model.name} – Cyclograph")

    @Slot(object)
    def _progressed(self, progress: Progress) -> None:
        if not self._is_working:
            return
        self._stage = progress.stage or self._stage
        if not self._engine.is_cancelling:
            self._window.progress.show_load(progress, self._engine.is_loading)

    @Slot(object)
    def _load_cancelled(self, event: LoadCancelled) -> None:
        if self._stage == DOWNLOAD:
            sentence = (
                f"The download of {event.model} was given up; what has come is kept, to go on from there."
            )
        else:
            sentence = f"Loading {event.model} was given up and its memory freed; choose a model to go on."
        self._window.messages.show_message(Kind.INFO, sentence, action=self._again(), about="load")

    # ------------------------------------------------------------ once more, or no more

    def _again(self) -> Offer:
        """The button of a message about a load that came to nothing."""
        return "Resume" if self._stage == DOWNLOAD else "Load again", self._load_again

    def _again_after_failure(self) -> Offer | None:
        return self._again() if self._stage == DOWNLOAD else None

    def _load_again(self) -> None:
        self._window.messages.withdraw("load")
        self._engine.load_again()

    @Slot()
    def _cancel(self) -> None:
        if self._is_working:
            self._engine.cancel_load()
            if self._is_working:  # the engine has not let go of it yet
                self._begin_progress(self._engine.state)
        elif self._shows_work:  # it may be over by now: what runs is not to be stopped instead
            self._engine.give_up_switch()
        else:
            self._engine.stop()
