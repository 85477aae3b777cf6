"""A recording in the place of an engine: the trace is that of the steps behind which the recording stands.

Playing goes the way of all events. Standing elsewhere replaces the trace, at most once a frame.
"""

from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

from PySide6.QtCore import QObject, Signal

from engine.protocol import (
    EngineState,
    Event,
    Failed,
    Load,
    ModelLoaded,
    NoteTaken,
    SettingsProbed,
    StateChanged,
)
from engine.replay import ALL_AT_ONCE, ReplayHost, refusal
from engine.trace.store import Trace
from gui.engine_thread import EngineThread


class ReplayEngine(EngineThread):
    """Plays a file. It is read on a thread of its own, and stands at its end then, paused.

    `moved`: the trace was replaced by that of the same recording at another place. What needs a model is refused by
    `failed`, with a sentence; so is a file that cannot be read, with the command "load".
    """

    moved = Signal(object)  # Trace
    drained = Signal()  # something was said, or it stands elsewhere
    is_live = False

    def __init__(self, path: Path, parent: QObject | None = None) -> None:
        self._player = ReplayHost(path, paused=True, at_end=True)
        super().__init__(self._player, parent=parent)
        self.path = path
        self._wanted: int | None = None  # steps behind which to stand from the next frame on
        self._player.start()

    # ------------------------------------------------------------ where it stands

    @property
    def wanted_model(self) -> str:
        """What is loaded: the file."""
        return self.path.name

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself; nothing until it is read."""
        return self._player.session.metadata if self._player.session is not None else {}

    @property
    def position(self) -> int:
        """Steps behind which it stands, or will in the next frame."""
        return self._player.position if self._wanted is None else self._wanted

    @property
    def position_ns(self) -> int:
        """Recorded time that has passed there."""
        return self._player.position_ns

    @property
    def step_count(self) -> int:
        """Steps of the recording; 0 until it is read."""
        return self._player.step_count

    @property
    def length_ns(self) -> int:
        """Recorded time of all of it; 0 until it is read."""
        return self._player.length_ns

    @property
    def speed(self) -> float:
        """Recorded time that passes in a unit of time, or ALL_AT_ONCE."""
        return self._player.speed

    def set_speed(self, speed: float) -> None:
        """Play faster or slower from now on; all at once shows the end as soon as it plays."""
        self._player.speed = speed
        if speed == ALL_AT_ONCE and self.state is EngineState.RUNNING:
            self.pause()
            self.seek(self.step_count)

    def seek(self, step: int) -> None:
        """Stand behind the first `step` steps from the next frame on; the last of several wishes counts."""
        if self.loaded is not None:
            self._wanted = min(max(0, step), self.step_count)

    def seek_ns(self, position_ns: int) -> None:
        """Stand where so much recorded time has passed; else as `seek`."""
        if self.loaded is not None:
            self.seek(self._player.step_at(position_ns))

    def step_back(self) -> None:
        """Pause, and stand one step before."""
        self.pause()
        self.seek(self.position - 1)

    def resume(self) -> None:
        """Play on, at the end from the beginning."""
        if self.speed == ALL_AT_ONCE:
            self.seek(self.step_count)
            return
        if self.position >= self.step_count:
            self.seek(0)
        self._move()
        super().resume()

    def single_step(self) -> None:
        """Pause, and do the next step."""
        self._move()
        super().single_step()

    def drain(self) -> bool:
        """Stand where that is wanted, and take what was said since the last call; whether there was any of it."""
        moves = self._move()
        took = super().drain() or moves
        if took:
            self.drained.emit()
        return took

    def _move(self) -> bool:
        """Stand elsewhere, if that is wanted; whether it was. What was said of other places is not waited for."""
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return False
        said: list[Event] = [*self._waiting, *self._player.receive()]
        self._waiting.clear()
        self._waiting.extend(event for event in said if isinstance(event, StateChanged))
        self.trace = self._player.seek(wanted)
        self.moved.emit(self.trace)
        return True

    # ------------------------------------------------------------ as an engine

    def _begin_trace(self, loaded: ModelLoaded) -> None:
        session = self._player.session
        assert session is not None
        probed = [event for _, event in session.others if isinstance(event, SettingsProbed)]
        super()._begin_trace(replace(loaded, settings=probed[-1].settings) if probed else loaded)
        self.moved.emit(self.trace)
        if session.notices:
            self.noted.emit(" ".join(session.notices))

    def _beginning(self, loaded: ModelLoaded) -> Trace:
        return self._player.seek(self._player.position)

    def observe(self, event: Event) -> None:
        """What this machine does now is nothing of a recording."""

    def take_note(self, note: NoteTaken) -> Path | None:
        """Keep a note in what is played, also from now on; returns the file, which does not have it yet."""
        self._player.take_note(note)
        self.trace.append(note)
        return self.path

    def stop_alternating(self) -> None:
        """Turns end where they ended then."""

    def restart(self, place: str | None = None) -> None:
        """A recording has no engine that could be started."""
        self.failed.emit(Failed(perf_counter_ns(), refusal(Load("")), command="replay"))
