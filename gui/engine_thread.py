"""The engine as the window sees it: commands as methods, events folded into a trace and re-emitted as signals.

The engine lives in its host (its own process, or a thread of this one), and the host's reader waits for what it says.
Nothing here waits: `drain` is called by the window's frame timer and takes what has arrived since the last frame.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns

from PySide6.QtCore import QObject, Signal

from engine.hosts import Host, open_host
from engine.protocol import (
    CatalogueListed,
    Change,
    Command,
    Configuration,
    EngineEnded,
    EngineStarted,
    EngineState,
    Event,
    Failed,
    Generate,
    GenerationEnded,
    GenerationStarted,
    ListModels,
    Load,
    ModelLoaded,
    ObserverReport,
    Pause,
    Progress,
    Resume,
    SettingChange,
    SettingsChanged,
    SettingsProbed,
    SettingValue,
    SingleStep,
    StateChanged,
    Stop,
)
from engine.trace.store import Trace

PLACE = "engine_place"  # the one setting that is changed here: an engine cannot move itself
PLACES = ("process", "thread")
BUDGET_NS = 12_000_000  # of a frame, for folding in events: a burst is spread over several frames
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
    catalogue = Signal(object)  # CatalogueListed
    noted = Signal(str)  # a sentence about what was done here

    def __init__(
        self, host: Host, opener: Callable[[str], Host] = open_host, parent: QObject | None = None
    ) -> None:
        """`host` may have been started already, and have commands on their way: see `adopt`."""
        super().__init__(parent)
        self._host: Host | None = host
        self._opener = opener
        self._waiting: deque[Event] = deque()
        self._closing: threading.Thread | None = None
        self._next: tuple[str, Load | None] | None = None
        self._load: Load | None = None
        self._requested: dict[str, SettingValue] = {}
        self._generate: Generate | None = None
        self._generate_again = False
        self._moved_at_ns: int | None = None
        self.place = host.place
        self.state: EngineState | None = EngineState.STARTING
        self.started: EngineStarted | None = None
        self.loaded: ModelLoaded | None = None
        self.listed: CatalogueListed | None = None
        self.last_observer: ObserverReport | None = None
        self.trace = Trace()

    # ------------------------------------------------------------ commands

    def adopt(self, load: Load) -> None:
        """Know of a load that was sent to the host before this object was made."""
        self._load, self._requested = load, _without_place(load.settings)

    def load(self, model: str, device: str = "auto", settings: Configuration = ()) -> None:
        """Load a model, replacing the one before; starts an engine where there is none."""
        self.adopt(Load(model, device, settings))
        if self._host is None:
            self.restart()
        else:
            assert self._load is not None
            self._send(self._load)

    @property
    def wanted_model(self) -> str:
        """The model that was asked for last, loaded or not; empty when none was."""
        return self._load.model if self._load else ""

    @property
    def requested(self) -> dict[str, SettingValue]:
        """What was asked for of each setting that the user touched."""
        return dict(self._requested)

    def cancel_load(self) -> None:
        """Give up a load: a load cannot be interrupted from within, so the engine is restarted without a model."""
        self._load = None
        self.restart(reload=False)
        if self.place == "thread":
            self.noted.emit(
                "An engine in this process cannot be interrupted: it is restarted when the load is over."
            )
        else:
            self.noted.emit("Loading was cancelled; choose a model to go on.")

    def generate(self, command: Generate) -> None:
        """Start a generation; one that runs is stopped first."""
        self._generate = command
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

    def list_models(self) -> None:
        """Ask what models there are; `catalogue` answers."""
        self._send(ListModels())

    def change(self, settings: Configuration) -> None:
        """Change settings at the next step boundary; a change of the engine's place restarts it with the same model."""
        place = dict(settings).get(PLACE)
        others = tuple(pair for pair in settings if pair[0] != PLACE)
        self._requested |= dict(others)
        if place is not None and place != self.place:
            self.restart(str(place))
        elif others:
            self._send(Change(others))

    def restart(self, place: str | None = None, *, reload: bool = True) -> None:
        """End the engine, and start another one there (or where it was), with the same model and settings."""
        place = place or self.place
        if place not in PLACES:
            raise ValueError(f"An engine lives in a process or in a thread, not in '{place}'.")
        self._moved_at_ns = perf_counter_ns() if place != self.place else None
        self._generate_again = self._moved_at_ns is not None and self.state is EngineState.RUNNING
        load = (
            Load(self._load.model, self._load.device, self._settings_to_load())
            if reload and self._load
            else None
        )
        self._next = (place, load)
        self._close_host()
        self._enter(None)
        self._open_next()

    def clear(self) -> None:
        """Begin a new trace of the same model: what was measured so far is dropped, what runs goes on."""
        if self.loaded is None:
            return
        fresh = Trace(self.loaded)
        fresh.layouts = dict(self.trace.layouts)
        fresh.configurations = list(self.trace.configurations)
        self._replace_trace(fresh)

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
        return took

    def _take(self, event: Event) -> None:
        if isinstance(event, ModelLoaded):
            self._begin_trace(event)
            return
        try:
            self.trace.append(event)
        except (KeyError, ValueError) as error:
            sentence = (
                f"A message of the engine made no sense ({error}) and was left out; restart the engine."
            )
            self.failed.emit(Failed(perf_counter_ns(), sentence, repr(event)))
        self._tell(event)

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
            case CatalogueListed():
                self.listed = event
                self.catalogue.emit(event)
            case EngineEnded():
                self._engine_ended(event)
            case _:
                pass

    def _begin_trace(self, loaded: ModelLoaded) -> None:
        self.loaded = loaded
        self._replace_trace(Trace(loaded))
        self.model_loaded.emit(loaded)
        if self._moved_at_ns is not None:
            self._mark_move(loaded, perf_counter_ns() - self._moved_at_ns)
            self._moved_at_ns = None
        if self._generate_again and self._generate is not None:
            self._generate_again = False
            self._send(self._generate)

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

    def _replace_trace(self, trace: Trace) -> None:
        self.trace = trace
        self.trace_replaced.emit(trace)

    def _engine_ended(self, event: EngineEnded) -> None:
        host, self._host = self._host, None
        if host is not None:
            host.stop()  # the engine is gone: this only tidies up after it
        self.started = None
        self._enter(None)
        if event.sentence:
            self.engine_ended.emit(event)

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
        self._waiting.clear()
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
        self._host = self._opener(place)
        self.place = place
        self._host.start()
        self._enter(EngineState.STARTING)
        if load is not None:
            self._load = load
            self._host.send(load)


def _without_place(settings: Configuration) -> dict[str, SettingValue]:
    return {key: value for key, value in settings if key != PLACE}
