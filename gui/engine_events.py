"""What an engine says: events folded into a trace, kept by whatever records, and re-emitted as signals."""

from collections import deque
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

from PySide6.QtCore import QObject, Signal

from engine.hosts import USE_AGAIN
from engine.protocol import (
    Calibrated,
    CatalogueListed,
    EngineEnded,
    EngineStarted,
    EngineState,
    Event,
    Failed,
    FloorBeaten,
    GenerationEnded,
    GenerationStarted,
    KernelsCaptured,
    LookedUp,
    ModelLoaded,
    NoteTaken,
    Noticed,
    ObserverReport,
    Progress,
    SettingsChanged,
    SettingsProbed,
    StateChanged,
    TokensCounted,
)
from engine.trace.continuation import Continuation, is_same_model
from engine.trace.recording import Recorder
from engine.trace.store import Trace
from engine.trace.wording import difference_words
from gui.wishes import PLACE

BUDGET_NS = 12_000_000  # of a frame, for folding in events: a burst is spread over several frames
WORK_SHOWN_AFTER_NS = 300_000_000  # of the engine, between two steps
LOOK_EVERY = 64  # events between two looks at the clock


class EngineEvents(QObject):
    """Owns the trace. Signals are emitted on the thread that takes events, which is the one that draws.

    `trace_replaced` comes before `model_loaded`. `state` is None while there is no engine (it ended, or is restarting).
    """

    state_changed = Signal(object)  # EngineState, or None
    engine_started = Signal(object)  # EngineStarted
    engine_ended = Signal(object)  # EngineEnded that nobody asked for
    trace_replaced = Signal(object)  # Trace
    model_loaded = Signal(object)  # ModelLoaded
    progress = Signal(object)  # Progress
    failed = Signal(object)  # Failed
    settings_changed = Signal(object)  # SettingsChanged
    settings_probed = Signal(object)  # ModelLoaded, with what is possible now
    generation_started = Signal(object)  # GenerationStarted
    generation_ended = Signal(object)  # GenerationEnded
    observer = Signal(object)  # ObserverReport
    kernels_captured = Signal(int)  # the row of the step
    catalogue = Signal(object)  # CatalogueListed
    looked_up = Signal(object)  # LookedUp
    tokens_counted = Signal(object)  # TokensCounted
    load_cancelled = Signal(object)  # LoadCancelled, of a load that no other one follows
    noticed = Signal(object)  # Noticed
    calibrated = Signal(object)  # Calibrated
    floor_beaten = Signal(object)  # FloorBeaten
    noted = Signal(str)  # a sentence about what was done here

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._waiting: deque[Event] = deque()
        self._work: Progress | None = None
        self._work_since_ns = 0
        self._lost: EngineEnded | None = None  # an engine whose device failed, until another goes on
        self._lost_at_step = -1  # where that was last, in the trace
        self._continuation: Continuation | None = None
        self.state: EngineState | None = EngineState.STARTING
        self.started: EngineStarted | None = None
        self.loaded: ModelLoaded | None = None
        self.listed: CatalogueListed | None = None
        self.last_observer: ObserverReport | None = None
        self.trace = Trace()
        self.recorder: Recorder | None = None

    @property
    def is_generating(self) -> bool:
        """Whether a generation is under way, also one that waits."""
        return self.state in (EngineState.RUNNING, EngineState.PAUSED)

    def work(self, now_ns: int) -> Progress | None:
        """How far the engine is with what it does between two steps; None for what has not taken long yet."""
        return self._work if now_ns - self._work_since_ns >= WORK_SHOWN_AFTER_NS else None

    def clear(self) -> None:
        """Begin a new trace of the same model: what was measured so far is dropped, what runs goes on."""
        if self.loaded is None:
            return
        self._replace_trace(self.trace.emptied(self.loaded))

    def observe(self, event: Event) -> None:
        """Fold in what was measured beside the engine: it goes the way of all events, and is no answer of its."""
        self._keep(event)

    def take_note(self, note: NoteTaken) -> Path | None:
        """Keep what whoever watches has written on a step, in the trace and in what is recorded of it.

        Returns the file of the recording that is shown instead, if one is: it does not have the note yet.
        """
        self._keep(note)
        return None

    # ------------------------------------------------------------ one event after the other

    def _take_waiting(self) -> bool:
        """Take what waits, as far as a frame has time for it; whether there was anything."""
        took = bool(self._waiting)
        deadline_ns = perf_counter_ns() + BUDGET_NS
        while self._waiting:
            for _ in range(LOOK_EVERY):
                if self._waiting:  # a slot may have taken or dropped some
                    self._take(self._waiting.popleft())
            if perf_counter_ns() > deadline_ns:
                break
        return took

    def _take(self, event: Event) -> None:
        if isinstance(event, ModelLoaded):
            self._begin_trace(event)
            return
        if self._continuation is not None:
            event = self._continuation(event)
        try:
            self._keep(event)
        except (KeyError, ValueError) as error:
            sentence = (
                f"A message of the engine made no sense ({error}) and was left out; restart the engine."
            )
            self.failed.emit(Failed(perf_counter_ns(), sentence, repr(event)))
        self._note_work(event)
        self._tell(event)

    def _keep(self, event: Event) -> None:
        """Into the trace, and into the recording."""
        self.trace.append(event)
        if self.recorder is not None:
            self.recorder.take(event)

    def _note_work(self, event: Event) -> None:
        """Whatever the engine says next ends its work, but for answers that come from elsewhere in it."""
        if isinstance(event, LookedUp):
            return
        if not isinstance(event, Progress):
            self._work = None
            return
        if self._work is None:
            self._work_since_ns = event.at_ns
        self._work = event

    def _tell(self, event: Event) -> None:
        match event:
            case StateChanged():
                self._enter(event.state)
            case EngineStarted():
                self.started = event
                self.engine_started.emit(event)
            case Progress():
                self.progress.emit(event)
            case Failed():
                self.failed.emit(event)
            case SettingsChanged():
                self.settings_changed.emit(event)
            case SettingsProbed() if self.loaded is not None:
                self._settings_probed(self.loaded, event)
            case GenerationStarted():
                self.generation_started.emit(event)
            case GenerationEnded():
                self.generation_ended.emit(event)
            case ObserverReport():
                self.last_observer = event
                self.observer.emit(event)
            case KernelsCaptured():
                row = event.step - self.trace.first_index
                if self.trace.captures.get(row) is event:
                    self.kernels_captured.emit(row)
            case CatalogueListed():
                self.listed = event
                self.catalogue.emit(event)
            case LookedUp():
                self.looked_up.emit(event)
            case TokensCounted():
                self.tokens_counted.emit(event)
            case Calibrated():
                self.calibrated.emit(event)
            case FloorBeaten():
                self.floor_beaten.emit(event)
            case Noticed():
                self.noticed.emit(event)
            case _:
                pass

    def _settings_probed(self, loaded: ModelLoaded, event: SettingsProbed) -> None:
        """Tell only of what is new: mostly everything was possible that was offered before it was tried."""
        if event.settings != loaded.settings:
            self.loaded = replace(loaded, settings=event.settings)
            self.settings_probed.emit(self.loaded)

    def _enter(self, state: EngineState | None) -> None:
        if state is not self.state:
            self.state = state
            self.state_changed.emit(state)

    # ------------------------------------------------------------ one trace after the other

    def _begin_trace(self, loaded: ModelLoaded) -> None:
        self.loaded = loaded
        lost, self._lost = self._lost, None
        if lost is not None and is_same_model(self.trace, loaded):
            self._go_on(loaded, lost)
        else:
            self._continuation, self._lost_at_step = None, -1
            self._replace_trace(self._beginning(loaded))
        self.model_loaded.emit(loaded)

    def _go_on(self, loaded: ModelLoaded, lost: EngineEnded) -> None:
        """The engine is another one, the trace the same: it has a gap here."""
        self._continuation, before = None, self.trace.configuration
        continuation = Continuation(self.trace, loaded, lost.sentence.removesuffix(USE_AGAIN), lost.at_ns)
        self._take(continuation.replaced)
        self._continuation = continuation
        self.trace.model = loaded.model
        gap_s = continuation.replaced.gap_ns / 1e9
        other = difference_words(before, loaded.effective, (PLACE, "detail"))
        self.noted.emit(
            f"The device failed and its engine was replaced within {gap_s:.1f} s: {loaded.model.name} is loaded again"
            f" with the same settings{f' but for {other}' if other else ''}, and what was measured before is kept."
            " Start a generation to go on."
        )

    def _lose(self, event: EngineEnded) -> None:
        """Another engine is to go on with this trace: the device of this one failed."""
        self._lost, self._lost_at_step = event, len(self.trace.steps)

    def _has_worked(self) -> bool:
        """Whether there were steps since a device failed last: else it would only fail again."""
        return len(self.trace.steps) > max(0, self._lost_at_step)

    def _beginning(self, loaded: ModelLoaded) -> Trace:
        """The trace with which a model begins."""
        if self.recorder is not None:
            self.recorder.take(loaded)
        return Trace(loaded, self.started)

    def _replace_trace(self, trace: Trace) -> None:
        self.trace = trace
        self.trace_replaced.emit(trace)
