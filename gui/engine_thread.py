"""The engine as the window sees it: commands as methods; what it says as a trace and signals (`EngineEvents`).

The engine lives in its host (its own process, or a thread of this one), and the host's reader waits for what it says.
Nothing here waits: `drain` is called by the window's frame timer and takes what has arrived since the last frame.
"""

from collections.abc import Callable
from time import perf_counter_ns

from PySide6.QtCore import QObject

from engine.hosts import Host, open_host
from engine.protocol import (
    DEVICE_LOST,
    Calibrate,
    Calibrated,
    CancelLoad,
    Change,
    Command,
    Configuration,
    CountTokens,
    EngineEnded,
    EngineState,
    Event,
    Failed,
    Generate,
    GenerationStarted,
    Load,
    LoadCancelled,
    LookUp,
    ModelLoaded,
    SettingChange,
    SettingsChanged,
    SettingValue,
)
from gui.engine_commands import EngineCommands
from gui.engine_events import EngineEvents
from gui.engine_home import EngineHome
from gui.load_watch import LoadWatch
from gui.wishes import PLACE, PLACEMENT, WantedGenerations, WantedModel

PLACES = ("process", "thread")


class EngineThread(EngineEvents, EngineCommands):
    """Owns the host, starts another where that is wanted, and knows what of loads and generations was asked for."""

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
        self._home = EngineHome(host, opener)
        self._watch = LoadWatch(clock)
        self._wishes = WantedModel()
        self._generations = WantedGenerations()
        self._generate_again = False
        self._calibrates = False
        self._moved_at_ns: int | None = None

    @property
    def place(self) -> str:
        """Where the engine lives, or lived last: "process" or "thread"."""
        return self._home.place

    # ------------------------------------------------------------ loads

    def adopt(self, load: Load) -> None:
        """Know of a load that was sent to the host before this object was made."""
        self._wishes.want(load)
        self._watch.sent(load)

    def load(self, model: str, device: str = "auto", settings: Configuration = ()) -> None:
        """Load a model, replacing the one before (also one that still loads); starts an engine where there is none."""
        load = Load(model, device, settings)
        self._wishes.want(load)
        if not self._home.is_open:
            self.restart()
        else:
            self._watch.sent(load)
            self._send(load)

    def load_again(self) -> None:
        """Load what was asked for last, also where that failed or was given up; a download goes on where it was."""
        last = self._wishes.last
        if last is not None:
            self.load(last.model, last.device, last.settings)

    @property
    def wanted_model(self) -> str:
        """The model that was asked for last, loaded or not; empty when none was, or when its load was given up."""
        return self._wishes.load.model if self._wishes.load else ""

    @property
    def wanted_load(self) -> Load | None:
        """The load that was asked for last; None when there was none, or it was given up."""
        return self._wishes.load

    @property
    def requested(self) -> dict[str, SettingValue]:
        """What was asked for of each setting that the user touched."""
        return dict(self._wishes.requested)

    @property
    def is_loading(self) -> bool:
        """Whether a load is under way, or waits for the engine to be up."""
        return self._watch.is_under_way

    @property
    def is_cancelling(self) -> bool:
        """Whether a load was cancelled and the engine has not let go of it yet."""
        return self._watch.is_cancelled

    def cancel_load(self) -> None:
        """Give up a load; `load_cancelled` says when that is done. An engine process that does not listen is ended."""
        if self._watch.cancel():
            self._send(CancelLoad())
        elif self._home.leave_out_load():
            self._load_given_up(LoadCancelled(perf_counter_ns(), self.wanted_model))

    def _load_given_up(self, event: LoadCancelled) -> None:
        self._wishes.give_up()
        self._moved_at_ns, self._generate_again = None, False
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

    # ------------------------------------------------------------ other commands

    def generate(self, command: Generate) -> None:
        """Start a generation; one that runs is stopped first."""
        self._generations.sent(command)
        self._send(command)

    def command_of(self, generation: int) -> Generate | None:
        """What a generation of this engine was asked for by; None where that is not known."""
        return self._generations.command_of(generation)

    def change(self, settings: Configuration) -> None:
        """Change settings at the next step boundary.

        A change of the engine's place restarts it with the same model, one of the model's loads it anew.
        """
        wanted, load = dict(settings), self._wishes.load
        place, placement = wanted.get(PLACE), wanted.get(PLACEMENT)
        others = tuple(pair for pair in settings if pair[0] != PLACE)
        self._wishes.change(others)
        if place is not None and place != self.place:
            self.restart(str(place))
        elif placement is not None and load is not None and self._can_lie_on(placement):
            self._generate_again = self.state is EngineState.RUNNING
            self.load(load.model, str(placement), self._wishes.settings)
        elif others:
            self._send(Change(others))

    def _can_lie_on(self, placement: SettingValue) -> bool:
        """Whether the model lies elsewhere and could lie there: the engine says why where it does not."""
        if self.loaded is None or dict(self.loaded.effective).get(PLACEMENT) == placement:
            return False
        choices = [each for facts in self.loaded.settings if facts.key == PLACEMENT for each in facts.choices]
        return any(choice.value == placement and not choice.reason for choice in choices)

    def calibrate(self) -> None:
        """Measure what this machine achieves; `calibrated` answers, or `failed` with the command "calibrate"."""
        self._calibrates = self.is_live and self._home.is_open
        self._send(Calibrate())

    @property
    def is_calibrating(self) -> bool:
        """Whether a measurement of this machine that was asked for has not been answered yet."""
        return self._calibrates

    def _send(self, command: Command) -> None:
        if self._home.send(command):
            return
        sentence = "The engine is not running: restart it first."
        if self._home.is_awaited:
            sentence = "The engine is being restarted: try again in a moment."
        self.failed.emit(Failed(perf_counter_ns(), sentence))

    def _wonder(self, question: CountTokens | LookUp) -> None:
        self._home.send(question)

    # ------------------------------------------------------------ one engine after the other

    def restart(self, place: str | None = None) -> None:
        """End the engine, and start another one there (or where it was), with the same model and settings."""
        place = place or self.place
        if place not in PLACES:
            raise ValueError(f"An engine lives in a process or in a thread, not in '{place}'.")
        self._moved_at_ns = perf_counter_ns() if place != self.place else None
        self._generate_again = self._moved_at_ns is not None and self.state is EngineState.RUNNING
        self._home.replace(place, self._wishes.load_as_set())
        self._work = None
        self._calibrates = False
        self._waiting.clear()
        self._watch.forget()
        self._enter(None)
        self._open_next()

    def _open_next(self) -> None:
        """Start the engine that was asked for, once the one before is gone."""
        if not self._home.is_due():
            return
        self._generations.begin_anew(goes_on=self._lost is not None)
        load = self._home.open_next()
        self._enter(EngineState.STARTING)
        if load is not None:
            self._wishes.load = load
            self._watch.sent(load)
            self._send(load)

    def shut_down(self) -> None:
        """End the engine and wait for it. Call it once, before the application ends."""
        self._home.shut_down()

    # ------------------------------------------------------------ events

    def drain(self) -> bool:
        """Take what the engine has said since the last call; returns whether there was anything."""
        self._open_next()
        self._waiting.extend(self._home.receive())
        took = self._take_waiting()
        if not self._waiting and self._watch.is_overdue(self.state is EngineState.LOADING):
            self._insist()
        return took

    def _tell(self, event: Event) -> None:
        """What it answers is known before anybody hears of it."""
        match event:
            case Failed():
                if event.command == "load":
                    self._watch.answered()
                self._calibrates = self._calibrates and event.command != "calibrate"
            case GenerationStarted():
                self._generations.begun(event)
            case Calibrated():
                self._calibrates = self._calibrates and event.origin != "measured"
            case LoadCancelled():
                self._watch.answered()
                if not self._watch.is_under_way:
                    self._load_given_up(event)
            case EngineEnded():
                self._engine_ended(event)
            case _:
                pass
        super()._tell(event)

    def _begin_trace(self, loaded: ModelLoaded) -> None:
        too_late = self._watch.is_cancelled
        self._watch.answered()
        super()._begin_trace(loaded)
        if too_late:
            self.noted.emit(f"{loaded.model.name} was ready before its load could be given up.")
        if self._moved_at_ns is not None:
            self._mark_move(loaded, perf_counter_ns() - self._moved_at_ns)
            self._moved_at_ns = None
        if self._generate_again and self._generations.latest is not None:
            self._generate_again = False
            self.generate(self._generations.latest)

    def _mark_move(self, loaded: ModelLoaded, cost_ns: int) -> None:
        """The engine lives elsewhere now: a mark like that of any other setting, and a sentence."""
        change = SettingChange(PLACE, self.place, self.place)
        self._take(
            SettingsChanged(loaded.at_ns, 0, (change,), cost_ns, loaded.configuration, loaded.effective)
        )
        where = "a process of its own" if self.place == "process" else "this process, beside the window"
        self.noted.emit(f"The engine now lives in {where}; restarting it took {cost_ns / 1e9:.1f} s.")

    def _engine_ended(self, event: EngineEnded) -> None:
        self._home.tidy_up()
        self.started = None
        self._calibrates = False
        if self._watch.is_cancelled:
            self._wishes.give_up()
        self._watch.forget()
        self._enter(None)
        if event.exit_code == DEVICE_LOST and self._wishes.load is not None and self._has_worked():
            self._lose(event)
            self.restart("process")  # a device that failed stays failed for the process that has it
        elif event.sentence:
            self.engine_ended.emit(event)
