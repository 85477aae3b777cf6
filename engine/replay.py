"""A recorded session as an engine that says again what it said: at the speed of then, another one, or all at once.

Front ends see a host like any other. Pausing, going on and single steps work on the recording; whatever needs a model
is refused with a sentence. What was idle for long in the session is not waited for.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from engine.hosts import drain
from engine.protocol import (
    CancelLoad,
    Command,
    CountTokens,
    DisplayReport,
    EngineEnded,
    EngineState,
    Event,
    Failed,
    GenerationStarted,
    LookUp,
    MemorySampled,
    NoteTaken,
    ObserverReport,
    Pause,
    RecordingReport,
    Resume,
    Shutdown,
    SingleStep,
    StateChanged,
    TelemetrySampled,
    TokensCounted,
)
from engine.trace.ledger import Int64
from engine.trace.recording import RecordedSession, RecordingError, read_session
from engine.trace.recording.session_file import event_ns
from engine.trace.store import Trace

ALL_AT_ONCE = inf
LONGEST_WAIT_NS = 1_000_000_000  # of recorded time in which nothing goes on; the rest of it is left out
TOGETHER = 2048  # events that one call of `receive` gives at most: a front end has other things to do
#: What is told of the machine and the instrument, whether something goes on or not.
SAMPLES = (TelemetrySampled, MemorySampled, ObserverReport, DisplayReport, RecordingReport)
#: Questions whose answers nobody misses.
UNANSWERED = (LookUp, CancelLoad)


class Timeline:
    """The order of all that was said behind the model's loading (n), and when it is due, ns since the beginning.

    It begins with the first prompt: what came before that is not waited for. `ends_ns`: of the steps, wall clock, (n,).
    """

    def __init__(
        self,
        session: RecordedSession,
        longest_wait_ns: int = LONGEST_WAIT_NS,
        ends_ns: Int64 | None = None,
    ) -> None:
        """`ends_ns`: where it is known; to find it out takes a while."""
        self._session = session
        steps, others = session.steps, session.others
        self._others_at = np.array([step for step, _ in others], np.int64) + np.arange(len(others))
        is_step = np.ones(len(steps) + len(others), np.bool_)
        is_step[self._others_at] = False
        times = np.zeros(len(is_step), np.int64)  # 0: right behind what comes before it
        self.ends_ns: Int64 = steps.begin_ns + steps.wall_ns if ends_ns is None else ends_ns
        times[is_step] = self.ends_ns
        times[~is_step] = [event_ns(event, 0) for _, event in others]
        goes_on = is_step.copy()
        goes_on[~is_step] = [not isinstance(event, SAMPLES) for _, event in others]
        first = next(
            (place for place, (_, event) in enumerate(others) if isinstance(event, GenerationStarted)), 0
        )
        times[: self._others_at[first] if len(others) else 0] = 0
        self.due_ns = _due(times, goes_on, longest_wait_ns)
        self.steps_before: Int64 = np.concatenate([[0], np.cumsum(is_step)])

    def __len__(self) -> int:
        return len(self.due_ns)

    def events(self, first: int, last: int) -> Iterator[Event]:
        """What was said at the places first ≤ i < last."""
        row, end = int(self.steps_before[first]), int(self.steps_before[last])
        begin, stop = np.searchsorted(self._others_at, (first, last)).tolist()
        for step, event in self._session.others[begin:stop]:
            yield from self._session.steps.part(row, step).events()
            row = step
            yield event
        yield from self._session.steps.part(row, end).events()

    def notes_behind(self, place: int, step: int) -> int:
        """How many notes on a step, by its number, are said at this place or behind it: one, or none."""
        begin = int(np.searchsorted(self._others_at, place))
        behind = self._session.others[begin:]
        return sum(isinstance(event, NoteTaken) and event.step == step for _, event in behind)

    def place_behind(self, step: int) -> int:
        """The place behind all that was said until step number `step` of the trace, counted from 1, and about it."""
        if step >= self.steps_before[-1]:
            return len(self)
        return int(np.searchsorted(self.steps_before, step, side="right")) - 1


def _due(times: Int64, goes_on: npt.NDArray[np.bool_], longest_wait_ns: int) -> Int64:
    """When each event is due, (n,) ns, the first that has a time at once: what goes on comes after its time since what
    went on before it, up to a longest wait, and what is only sampled in between when it was sampled, if not later.
    """
    times = np.maximum.accumulate(times)
    times = np.where(times > 0, times, times[np.argmax(times > 0)] if len(times) else 0)
    gone_on = np.flatnonzero(goes_on)
    waits = np.minimum(np.diff(times[gone_on], prepend=times[:1]), longest_wait_ns)
    at, due_at = np.concatenate([times[:1], times[gone_on]]), np.concatenate([[0], np.cumsum(waits)])
    before = np.cumsum(goes_on)
    due: Int64 = due_at[before] + np.minimum(times - at[before], longest_wait_ns)
    return due


class ReplayHost:
    """Says again what a file holds. `session`: None until it is read; where it cannot be, a sentence says so."""

    place = "replay"

    def __init__(
        self,
        path: Path,
        speed: float = 1.0,
        *,
        paused: bool = False,
        at_end: bool = False,
        ends: bool = False,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """`speed`: recorded time that passes in a unit of time, or ALL_AT_ONCE. `ends`: it ends when all is said.

        `at_end`: it stands behind the last step once it is read, and the trace of all is there (see `seek`).
        """
        self.session: RecordedSession | None = None
        self._at_end = at_end
        self._whole: tuple[RecordedSession, Trace] | None = (
            None  # the trace of all of it, where that is there
        )
        self._path, self._speed, self._paused, self._ends, self._clock = path, speed, paused, ends, clock
        self._timeline: Timeline | None = None
        self._is_read = False  # what is to be said first waits to be said
        self._said = 0  # places of the timeline
        self._since_ns, self._from_ns = 0, 0  # when the recording stood where, on its own time line
        self._asides: deque[Event] = deque([StateChanged(clock(), EngineState.LOADING)])
        self._over = False
        self._thread = threading.Thread(target=self._read, name="replay", daemon=True)

    # ------------------------------------------------------------ as a host

    def start(self) -> None:
        """Begin to read the file."""
        self._thread.start()

    def send(self, command: Command) -> None:
        """Pause, go on, or do one step; answer everything else with a sentence."""
        match command:
            case Pause():
                self.pause()
            case Resume():
                self.resume()
            case SingleStep():
                self.step()
            case CountTokens():
                reason = "a recording has no model to count with"
                self._asides.append(TokensCounted(self._clock(), command.request, 0, 0, reason=reason))
            case Shutdown():
                self._end("")
            case _ if not isinstance(command, UNANSWERED):
                self._asides.append(Failed(self._clock(), refusal(command), command="replay"))

    def receive(self) -> list[Event]:
        """What is due by now and was not said yet."""
        is_read = self._is_read  # looked at before what waits: all else comes behind it
        said = drain(self._asides)
        timeline = self._timeline
        if not is_read or timeline is None or self._over or self._paused:
            return said
        until = min(self._due(), self._said + TOGETHER)
        said += self._spoken(until)
        if self._said == len(timeline):
            self._all_said()
            said += drain(self._asides)
        return said

    def stop(self, timeout_s: float = 5.0) -> None:
        """End."""
        self._end("")
        if self._thread.ident is not None:
            self._thread.join()

    def kill(self) -> None:
        """End."""
        self.stop()

    # ------------------------------------------------------------ as a player

    @property
    def speed(self) -> float:
        """Recorded time that passes in a unit of time."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._anchor()
        self._speed = speed

    @property
    def is_paused(self) -> bool:
        """Whether nothing is said until it goes on."""
        return self._paused

    @property
    def step_count(self) -> int:
        """Steps of the recording, 0 until it is read."""
        return len(self.session.steps) if self.session else 0

    @property
    def position(self) -> int:
        """Steps that were said."""
        return int(self._timeline.steps_before[self._said]) if self._timeline else 0

    @property
    def length_ns(self) -> int:
        """Recorded time from its beginning to its end, without what is not waited for."""
        return int(self._timeline.due_ns[-1]) if self._timeline is not None and len(self._timeline) else 0

    @property
    def position_ns(self) -> int:
        """Recorded time that has passed."""
        if self._timeline is None or not self._said:
            return 0
        return int(self._timeline.due_ns[self._said - 1])

    def pause(self) -> None:
        """Say nothing more."""
        if not self._paused:
            self._paused = True
            self._asides.append(StateChanged(self._clock(), EngineState.PAUSED))

    def resume(self) -> None:
        """Go on, at the end from the beginning."""
        if not self._paused or self._timeline is None:
            self._paused = False
            return
        if self._said == len(self._timeline):
            self._begin()
        self._paused = False
        self._anchor()
        self._asides.append(StateChanged(self._clock(), EngineState.RUNNING))

    def step(self, count: int = 1) -> None:
        """Pause, and say the next steps."""
        self.pause()
        if self._timeline is not None:
            self._asides.extend(self._spoken(self._timeline.place_behind(self.position + count)))

    def seek(self, step: int) -> Trace:
        """Stand behind the first `step` steps; returns the trace up to there, to which all that is said next belongs.

        Raises RuntimeError before the file is read.
        """
        if self._timeline is None or self.session is None:
            raise RuntimeError("The recording is still being read.")
        step = min(max(0, step), self.step_count)
        self._said = self._timeline.place_behind(step)
        self._anchor()
        whole = self._whole[1] if self._whole is not None and self._whole[0] is self.session else None
        if whole is not None and step == self.step_count:
            return whole  # nothing is said behind it, so that nobody adds to it
        return self.session.trace(step, whole)

    def seek_ns(self, position_ns: int) -> Trace:
        """Stand where so much recorded time has passed; else as `seek`."""
        return self.seek(self.step_at(position_ns))

    def step_at(self, position_ns: int) -> int:
        """How many steps have ended when so much recorded time has passed. Raises as `seek` does."""
        if self._timeline is None:
            raise RuntimeError("The recording is still being read.")
        place = int(np.searchsorted(self._timeline.due_ns, position_ns, side="right"))
        return int(self._timeline.steps_before[place])

    def take_note(self, note: NoteTaken) -> None:
        """From here on the recording has this note, too, as if it had been read with it; it is not said now.

        Raises RuntimeError before the file is read.
        """
        if self._timeline is None or self.session is None:
            raise RuntimeError("The recording is still being read.")
        is_said = self.session.row_of(note) < self.position
        unsaid = len(self._timeline) - self._said - self._timeline.notes_behind(self._said, note.step)
        self.session = self.session.with_note(note)
        self._timeline = Timeline(self.session, ends_ns=self._timeline.ends_ns)
        self._said = len(self._timeline) - unsaid - (0 if is_said or not note.text else 1)
        self._anchor()

    # ------------------------------------------------------------ what is said

    def _read(self) -> None:
        try:
            session = read_session(self._path)
            ends_ns = None
            if self._at_end:
                whole = session.trace()
                self._whole, ends_ns = (session, whole), whole.steps.begin_ns + whole.steps.wall_ns
        except RecordingError as error:
            self._give_up(str(error))
            return
        except MemoryError:
            self._give_up(f"'{self._path.name}' needs more memory than there is.")
            return
        self.session = session
        timeline = Timeline(session, ends_ns=ends_ns)
        self._timeline = timeline
        self._begin(len(timeline) if self._at_end else 0)
        state = EngineState.PAUSED if self._paused else EngineState.RUNNING
        self._asides.append(StateChanged(self._clock(), state))
        self._is_read = True

    def _give_up(self, sentence: str) -> None:
        self._asides.append(Failed(self._clock(), sentence, command="load"))
        self._end(sentence)

    def _begin(self, said: int = 0) -> None:
        """Say what came before all else, and stand behind the first `said` places."""
        assert self.session is not None
        self._said = said
        self._anchor()
        self._asides.extend((*self.session.preamble, self.session.loaded))

    def _anchor(self) -> None:
        """From here on time runs anew: whatever changed is no reason to jump."""
        self._since_ns, self._from_ns = self._clock(), self.position_ns

    def _due(self) -> int:
        assert self._timeline is not None
        if self._speed == ALL_AT_ONCE:
            return len(self._timeline)
        passed_ns = self._from_ns + (self._clock() - self._since_ns) * self._speed
        return int(np.searchsorted(self._timeline.due_ns, passed_ns, side="right"))

    def _spoken(self, until: int) -> list[Event]:
        """What was said up to a place: states of then are not those of now, and who ended then has not ended now."""
        assert self._timeline is not None
        said: list[Event] = []
        for event in self._timeline.events(self._said, max(until, self._said)):
            if isinstance(event, EngineEnded):
                if event.sentence:
                    said.append(Failed(event.at_ns, f"In the recording: {event.sentence}", event.report))
            elif not isinstance(event, StateChanged):
                said.append(event)
        self._said = max(until, self._said)
        return said

    def _all_said(self) -> None:
        if self._ends:
            self._end("")
        else:
            self.pause()

    def _end(self, sentence: str) -> None:
        if not self._over:
            self._over = True
            self._asides.append(EngineEnded(self._clock(), sentence))


def refusal(command: Command) -> str:
    """Why a recording does not do as it is told."""
    does = _WORDS.get(type(command).__name__, "do that")
    return f"This is a recording, which cannot {does}: that takes a window with an engine."


_WORDS = {
    "Load": "load a model",
    "Generate": "generate anything new",
    "Join": "take another sequence",
    "Stop": "end what ran then",
    "Change": "change a setting",
    "Alternate": "let values take turns",
    "StopAlternating": "end what took turns then",
    "MeasureSameness": "compare outputs",
    "ProbeTraining": "make a training step",
    "CaptureStep": "capture a step",
    "Calibrate": "measure this machine",
    "ListModels": "list models",
}
