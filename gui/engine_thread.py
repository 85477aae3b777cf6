"""The engine as the window sees it: commands as methods, events folded into a trace and re-emitted as signals.

The engine lives in its host (its own process, or a thread of this one), and the host's reader waits for what it says.
Nothing here waits: `drain` is called by the window's frame timer and takes what has arrived since the last frame.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

from PySide6.QtCore import QObject, Signal

from engine.hosts import Host, open_host
from engine.protocol import (
    DEVICE_LOST,
    NEXT_STEP,
    Alternate,
    Calibrate,
    Calibrated,
    CancelLoad,
    CaptureStep,
    CatalogueListed,
    Change,
    Command,
    Configuration,
    CountTokens,
    EngineEnded,
    EngineStarted,
    EngineState,
    Event,
    Failed,
    FloorBeaten,
    Generate,
    GenerationEnded,
    GenerationStarted,
    Join,
    KernelsCaptured,
    ListModels,
    Load,
    LoadCancelled,
    LookedUp,
    LookUp,
    MeasureSameness,
    ModelLoaded,
    NoteTaken,
    Noticed,
    ObserverReport,
    Pause,
    ProbeTraining,
    Progress,
    Resume,
    SettingChange,
    SettingsChanged,
    SettingsProbed,
    SettingValue,
    SingleStep,
    StateChanged,
    Stop,
    StopAlternating,
    TokensCounted,
)
from engine.trace.continuation import Continuation, is_same_model
from engine.trace.recording import Recorder
from engine.trace.store import Trace
from engine.trace.wording import difference_words
from gui.load_watch import LoadWatch

PLACE = "engine_place"  # changed here, since an engine cannot move itself,
PLACEMENT = "placement"  # and here, since a loaded model stays where it is
PLACES = ("process", "thread")
BUDGET_NS = 12_000_000  # of a frame, for folding in events: a burst is spread over several frames
WORK_SHOWN_AFTER_NS = 300_000_000  # of the engine, between two steps
LOOK_EVERY = 64  # events between two looks at the clock


class EngineThread(QObject):
    """Owns the host and the trace. Signals are emitted on the thread that calls `drain`, which is the one that draws.

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
    is_live = True  # whether there is a model, now

    def __init__(
        self,
        host: Host,
        opener: Callable[[str], Host] = open_host,
        parent: QObject | None = None,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """`host` may have been started already, and have commands on their way: see `adopt`.

        `clock`: nanoseconds; by it an engine is given time to give up a load.
        """
        super().__init__(parent)
        self._host: Host | None = host
        self._opener = opener
        self._waiting: deque[Event] = deque()
        self._closing: threading.Thread | None = None
        self._next: tuple[str, Load | None] | None = None
        self._load: Load | None = None
        self._last_load: Load | None = None
        self._watch = LoadWatch(clock)
        self._requested: dict[str, SettingValue] = {}
        self._work: Progress | None = None
        self._work_since_ns = 0
        self._generate: Generate | None = None
        self._sent: list[Generate] = []  # those of which nothing has been heard
        self._generations: dict[int, Generate] = {}  # by the number that the engine gave them
        self._generate_again = False
        self._calibrates = False
        self._moved_at_ns: int | None = None
        self._lost: EngineEnded | None = None  # an engine whose device failed, until another goes on
        self._lost_at_step = -1  # where that was last, in the trace
        self._continuation: Continuation | None = None
        self.place = host.place
        self.state: EngineState | None = EngineState.STARTING
        self.started: EngineStarted | None = None
        self.loaded: ModelLoaded | None = None
        self.listed: CatalogueListed | None = None
        self.last_observer: ObserverReport | None = None
        self.trace = Trace()
        self.recorder: Recorder | None = None

    # ------------------------------------------------------------ commands

    def adopt(self, load: Load) -> None:
        """Know of a load that was sent to the host before this object was made."""
        self._want(load)
        self._watch.sent(load)

    def load(self, model: str, device: str = "auto", settings: Configuration = ()) -> None:
        """Load a model, replacing the one before (also one that still loads); starts an engine where there is none."""
        load = Load(model, device, settings)
        self._want(load)
        if self._host is None:
            self.restart()
        else:
            self._watch.sent(load)
            self._send(load)

    def load_again(self) -> None:
        """Load what was asked for last, also where that failed or was given up; a download goes on where it was."""
        if self._last_load is not None:
            self.load(self._last_load.model, self._last_load.device, self._last_load.settings)

    def _want(self, load: Load) -> None:
        self._load = self._last_load = load
        self._requested = _without_place(load.settings)

    @property
    def wanted_model(self) -> str:
        """The model that was asked for last, loaded or not; empty when none was, or when its load was given up."""
        return self._load.model if self._load else ""

    @property
    def wanted_load(self) -> Load | None:
        """The load that was asked for last; None when there was none, or it was given up."""
        return self._load

    def command_of(self, generation: int) -> Generate | None:
        """What a generation of this engine was asked for by; None where that is not known."""
        return self._generations.get(generation)

    @property
    def is_loading(self) -> bool:
        """Whether a load is under way, or waits for the engine to be up."""
        return self._watch.is_under_way

    @property
    def is_cancelling(self) -> bool:
        """Whether a load was cancelled and the engine has not let go of it yet."""
        return self._watch.is_cancelled

    def work(self, now_ns: int) -> Progress | None:
        """How far the engine is with what it does between two steps; None for what has not taken long yet."""
        return self._work if now_ns - self._work_since_ns >= WORK_SHOWN_AFTER_NS else None

    @property
    def requested(self) -> dict[str, SettingValue]:
        """What was asked for of each setting that the user touched."""
        return dict(self._requested)

    def cancel_load(self) -> None:
        """Give up a load; `load_cancelled` says when that is done. An engine process that does not listen is ended."""
        if self._watch.cancel():
            self._send(CancelLoad())
        elif self._next is not None and self._next[1] is not None:
            self._next = (self._next[0], None)
            self._load_given_up(LoadCancelled(perf_counter_ns(), self.wanted_model))

    def give_up_switch(self) -> None:
        """Give up the load of a model that a switch waits for; `settings_changed` tells that it was refused."""
        self._send(CancelLoad())

    def _load_given_up(self, event: LoadCancelled) -> None:
        self._load, self._moved_at_ns, self._generate_again = None, None, False
        self.load_cancelled.emit(event)

    def _insist(self) -> None:
        """The engine keeps a load that nobody wants: end its process; a thread can only be waited for."""
        if self.place != "process":
            self.noted.emit(
                "The engine lives in this process and cannot be interrupted: it lets go when it can."
            )
            return
        if self._watch.is_cancelled:
            self._load_given_up(LoadCancelled(perf_counter_ns(), self.wanted_model))
        self.restart()  # with the model that is wanted now, if there is one

    def generate(self, command: Generate) -> None:
        """Start a generation; one that runs is stopped first."""
        self._ask_for(command)

    def _ask_for(self, command: Generate) -> None:
        self._generate = command
        self._sent.append(command)
        self._send(command)

    def join(self, command: Join) -> None:
        """Add a sequence to the running generation at the next step boundary."""
        self._send(command)

    def pause(self) -> None:
        """Wait at the next step boundary."""
        self._send(Pause())

    def resume(self) -> None:
        """Go on after a pause."""
        self._send(Resume())

    def single_step(self) -> None:
        """Do one step and pause."""
        self._send(SingleStep())

    def stop(self) -> None:
        """End the generation at the next step boundary."""
        self._send(Stop())

    def count_tokens(self, question: CountTokens) -> None:
        """Ask how many tokens a prompt has; `tokens_counted` answers. Nobody is told where there is no engine."""
        self._wonder(question)

    def look_up(self, question: LookUp) -> None:
        """Ask what is known of a model; `looked_up` answers. Nobody is told where there is no engine."""
        self._wonder(question)

    def _wonder(self, question: CountTokens | LookUp) -> None:
        if self._host is not None:
            self._host.send(question)

    def list_models(self) -> None:
        """Ask what models there are; `catalogue` answers."""
        self._send(ListModels())

    def change(self, settings: Configuration) -> None:
        """Change settings at the next step boundary.

        A change of the engine's place restarts it with the same model, one of the model's loads it anew.
        """
        wanted = dict(settings)
        place, placement = wanted.get(PLACE), wanted.get(PLACEMENT)
        others = tuple(pair for pair in settings if pair[0] != PLACE)
        self._requested |= _without_place(others)
        if place is not None and place != self.place:
            self.restart(str(place))
        elif placement is not None and self._load is not None and self._can_lie_on(placement):
            self._generate_again = self.state is EngineState.RUNNING
            self.load(self._load.model, str(placement), self._settings_to_load())
        elif others:
            self._send(Change(others))

    def _can_lie_on(self, placement: SettingValue) -> bool:
        """Whether the model lies elsewhere and could lie there: the engine says why where it does not."""
        if self.loaded is None or dict(self.loaded.effective).get(PLACEMENT) == placement:
            return False
        choices = [each for facts in self.loaded.settings if facts.key == PLACEMENT for each in facts.choices]
        return any(choice.value == placement and not choice.reason for choice in choices)

    def alternate(self, key: str, value: SettingValue) -> None:
        """Let a value take turns with the one in force."""
        self._send(Alternate(key, value))

    def stop_alternating(self) -> None:
        """Let values take turns no more."""
        self._send(StopAlternating())

    def measure_sameness(self, reference: Configuration) -> None:
        """Compare the output with that under other values; the trace has the answer."""
        self._send(MeasureSameness(reference))

    def probe_training(self, command: ProbeTraining) -> None:
        """Make a training step between two steps of the generation."""
        self._send(command)

    def capture_step(self, row: int | None = None) -> None:
        """Look into a step of the trace, whose work is done again, or into the next one."""
        self._send(CaptureStep(NEXT_STEP if row is None else row + self.trace.first_index))

    def calibrate(self) -> None:
        """Measure what this machine achieves; `calibrated` answers, or `failed` with the command "calibrate"."""
        self._calibrates = self.is_live and self._host is not None
        self._send(Calibrate())

    @property
    def is_calibrating(self) -> bool:
        """Whether a measurement of this machine that was asked for has not been answered yet."""
        return self._calibrates

    def restart(self, place: str | None = None) -> None:
        """End the engine, and start another one there (or where it was), with the same model and settings."""
        place = place or self.place
        if place not in PLACES:
            raise ValueError(f"An engine lives in a process or in a thread, not in '{place}'.")
        self._moved_at_ns = perf_counter_ns() if place != self.place else None
        self._generate_again = self._moved_at_ns is not None and self.state is EngineState.RUNNING
        load = Load(self._load.model, self._load.device, self._settings_to_load()) if self._load else None
        self._next = (place, load)
        self._close_host()
        self._enter(None)
        self._open_next()

    def clear(self) -> None:
        """Begin a new trace of the same model: what was measured so far is dropped, what runs goes on."""
        if self.loaded is None:
            return
        self._replace_trace(self.trace.emptied(self.loaded))

    def shut_down(self) -> None:
        """End the engine and wait for it. Call it once, before the application ends."""
        self._next = None
        if self._host is not None:
            self._host.stop()
            self._host = None
        if self._closing is not None:
            self._closing.join()
            self._closing = None

    # ------------------------------------------------------------ events

    def drain(self) -> bool:
        """Take what the engine has said since the last call; returns whether there was anything."""
        if self._next is not None:
            self._open_next()
        if self._host is not None:
            self._waiting.extend(self._host.receive())
        took = bool(self._waiting)
        deadline_ns = perf_counter_ns() + BUDGET_NS
        while self._waiting:
            for _ in range(LOOK_EVERY):
                if self._waiting:  # a slot may have taken or dropped some
                    self._take(self._waiting.popleft())
            if perf_counter_ns() > deadline_ns:
                break
        if not self._waiting and self._watch.is_overdue(self.state is EngineState.LOADING):
            self._insist()
        return took

    def observe(self, event: Event) -> None:
        """Fold in what was measured beside the engine: it goes the way of all events, and is no answer of its."""
        self._keep(event)

    def take_note(self, note: NoteTaken) -> Path | None:
        """Keep what whoever watches has written on a step, in the trace and in what is recorded of it.

        Returns the file of the recording that is shown instead, if one is: it does not have the note yet.
        """
        self._keep(note)
        return None

    def _keep(self, event: Event) -> None:
        """Into the trace, and into the recording."""
        self.trace.append(event)
        if self.recorder is not None:
            self.recorder.take(event)

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
        self._tell(event)

    def _tell(self, event: Event) -> None:
        self._note_work(event)
        match event:
            case StateChanged():
                self._enter(event.state)
            case EngineStarted():
                self.started = event
                self.engine_started.emit(event)
            case Progress():
                self.progress.emit(event)
            case Failed():
                if event.command == "load":
                    self._watch.answered()
                self._calibrates = self._calibrates and event.command != "calibrate"
                self.failed.emit(event)
            case SettingsChanged():
                self.settings_changed.emit(event)
            case SettingsProbed() if self.loaded is not None:
                self._settings_probed(self.loaded, event)
            case GenerationStarted():
                self._recognize(event)
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
                self._calibrates = self._calibrates and event.origin != "measured"
                self.calibrated.emit(event)
            case FloorBeaten():
                self.floor_beaten.emit(event)
            case LoadCancelled():
                self._watch.answered()
                if not self._watch.is_under_way:
                    self._load_given_up(event)
            case Noticed():
                self.noticed.emit(event)
            case EngineEnded():
                self._engine_ended(event)
            case _:
                pass

    def _recognize(self, event: GenerationStarted) -> None:
        """Which command has begun: those sent before it came to nothing."""
        for place, command in enumerate(self._sent):
            if _asks_for(command, event):
                self._generations[event.generation] = command
                del self._sent[: place + 1]
                return

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

    def _begin_trace(self, loaded: ModelLoaded) -> None:
        self.loaded = loaded
        too_late = self._watch.is_cancelled
        self._watch.answered()
        lost, self._lost = self._lost, None
        if lost is not None and is_same_model(self.trace, loaded):
            self._go_on(loaded, lost)
        else:
            self._continuation, self._lost_at_step = None, -1
            self._replace_trace(self._beginning(loaded))
        self.model_loaded.emit(loaded)
        if too_late:
            self.noted.emit(f"{loaded.model.name} was ready before its load could be given up.")
        if self._moved_at_ns is not None:
            self._mark_move(loaded, perf_counter_ns() - self._moved_at_ns)
            self._moved_at_ns = None
        if self._generate_again and self._generate is not None:
            self._generate_again = False
            self._ask_for(self._generate)

    def _go_on(self, loaded: ModelLoaded, lost: EngineEnded) -> None:
        """The engine is another one, the trace the same: it has a gap here."""
        self._continuation, before = None, self.trace.configuration
        continuation = Continuation(self.trace, loaded, lost.sentence, lost.at_ns)
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

    def _settings_probed(self, loaded: ModelLoaded, event: SettingsProbed) -> None:
        """Tell only of what is new: mostly everything was possible that was offered before it was tried."""
        if event.settings != loaded.settings:
            self.loaded = replace(loaded, settings=event.settings)
            self.settings_probed.emit(self.loaded)

    def _mark_move(self, loaded: ModelLoaded, cost_ns: int) -> None:
        """The engine lives elsewhere now: a mark like that of any other setting, and a sentence."""
        change = SettingChange(PLACE, self.place, self.place)
        self._take(
            SettingsChanged(loaded.at_ns, 0, (change,), cost_ns, loaded.configuration, loaded.effective)
        )
        where = "a process of its own" if self.place == "process" else "this process, beside the window"
        self.noted.emit(f"The engine now lives in {where}; restarting it took {cost_ns / 1e9:.1f} s.")

    def _beginning(self, loaded: ModelLoaded) -> Trace:
        """The trace with which a model begins."""
        if self.recorder is not None:
            self.recorder.take(loaded)
        return Trace(loaded, self.started)

    def _replace_trace(self, trace: Trace) -> None:
        self.trace = trace
        self.trace_replaced.emit(trace)

    def _engine_ended(self, event: EngineEnded) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.stop()  # the engine is gone: this only tidies up after it
        self.started = None
        self._calibrates = False
        if self._watch.is_cancelled:
            self._load = None
        self._watch.forget()
        self._enter(None)
        if event.exit_code == DEVICE_LOST and self._load is not None and self._has_worked():
            self._lost, self._lost_at_step = event, len(self.trace.steps)
            self.restart("process")  # a device that failed stays failed for the process that has it
        elif event.sentence:
            self.engine_ended.emit(event)

    def _has_worked(self) -> bool:
        """Whether there were steps since a device failed last: else it would only fail again."""
        return len(self.trace.steps) > max(0, self._lost_at_step)

    def _enter(self, state: EngineState | None) -> None:
        if state is not self.state:
            self.state = state
            self.state_changed.emit(state)

    # ------------------------------------------------------------ the host

    def _send(self, command: Command) -> None:
        if self._host is not None:
            self._host.send(command)
            return
        sentence = "The engine is not running: restart it first."
        if self._next is not None:
            sentence = "The engine is being restarted: try again in a moment."
        self.failed.emit(Failed(perf_counter_ns(), sentence))

    def _settings_to_load(self) -> Configuration:
        return tuple(sorted(self._requested.items()))

    def _close_host(self) -> None:
        """End the host without keeping the window waiting: a process at once, a thread when it can."""
        host, self._host = self._host, None
        self._work = None
        self._calibrates = False
        self._waiting.clear()
        self._watch.forget()
        if host is None:
            return
        if host.place == "process":
            host.kill()
            return
        self._closing = threading.Thread(target=host.stop, name="engine-closing")
        self._closing.start()

    def _open_next(self) -> None:
        """Start the engine that was asked for, once the one before is gone: two models would need twice the memory."""
        if self._next is None or (self._closing is not None and self._closing.is_alive()):
            return
        self._closing = None
        (place, load), self._next = self._next, None
        self._sent = []
        if self._lost is None:  # else the trace goes on, and what is in it is asked about
            self._generations = {}
        self._host = self._opener(place)
        self.place = place
        self._host.start()
        self._enter(EngineState.STARTING)
        if load is not None:
            self._load = load
            self._watch.sent(load)
            self._host.send(load)


def _asks_for(command: Generate, event: GenerationStarted) -> bool:
    """Whether a generation can be what a command asked for, by the text that the model sees."""
    prompt = command.prompt
    if prompt.turns:
        return prompt.turns[-1].content.strip() in event.prompt or event.dropped_tokens > 0
    return event.dropped_tokens > 0 or _lines(prompt.text) == _lines(event.prompt)


def _lines(text: str) -> list[str]:
    """What a prompt is, also where each of its lines is one."""
    return [line for line in text.splitlines() if line.strip()]


def _without_place(settings: Configuration) -> dict[str, SettingValue]:
    return {key: value for key, value in settings if key not in (PLACE, PLACEMENT)}
