"""Writes a session down as it happens, from a thread of the front end, so that whoever measures waits for no disk."""

import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

from engine import __version__
from engine.protocol import (
    PROTOCOL_VERSION,
    EngineEnded,
    EngineStarted,
    Event,
    GenerationStarted,
    ModelLoaded,
    StepEnded,
)
from engine.trace.recording.changing import DESCRIPTION, TITLE, change_metadata, check_metadata
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.report import CrashGuard
from engine.trace.recording.session_file import SessionFile

EVERY_S = 0.1  # between two transactions, while there is something to write
TOGETHER = 8192  # events a transaction
MOST_BYTES = 256 * 1024 * 1024  # of events that wait for the disk; then recording stops
SLOW_NS = 2_000_000_000  # events that wait for longer than that are told of
ROOM_EVERY_NS = 5_000_000_000
EVENT_BYTES = 1000  # about what an event takes in memory, beside its stamps

Place = Callable[[ModelLoaded], Path]


class Recorder:
    """Takes events on one thread, and writes them on its own: each model that is loaded begins another session file.

    `take` neither waits nor raises. What goes wrong ends the recording: `problem` says so, in one sentence, and the
    session goes on. `news`: sentences that nobody has read yet.
    """

    def __init__(
        self,
        place: Place,
        *,
        keep_room: Callable[[Path], None] | None = None,
        overwrite: bool = False,
        front: str = "",
        clock: Callable[[], int] = perf_counter_ns,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        """`place`: where the session of a model goes. `front`: who records, for the metadata.

        `keep_room`: called with the file every few seconds; a RecordingError of it ends the recording.
        """
        self.path: Path | None = None
        self.problem = ""
        self.news: deque[str] = deque()
        self.steps_written = 0
        self._place, self._overwrite, self._front, self._clock = place, overwrite, front, clock
        self._keep_room, self._look_again_ns = keep_room, 0
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[int, Event]] = deque()
        self._changes: deque[tuple[Path, Mapping[str, str]]] = deque()
        self._taken_bytes = self._written_bytes = 0  # each is changed by one thread only
        self._told_slow = False
        self._file: SessionFile | None = None
        self._prelude: list[Event] | None = None  # of a session of which there is no file yet
        self._started: EngineStarted | None = None
        self._steps = 0  # over all sessions
        self._spent = 0, 0  # steps, and what they took the writing thread (ns): both of the same rounds
        self._told = 0, 0  # what of it `cost` has told
        self._guard = CrashGuard()
        self._ending = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------ on the front end's thread

    def take(self, event: Event) -> None:
        """Write an event down, soon."""
        if self.problem or self._ending:
            return
        self._taken_bytes += EVENT_BYTES + (len(event.stamps) if isinstance(event, StepEnded) else 0)
        self._waiting.append((self._clock(), event))

    def change(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Change what a session says of itself (its title, say), soon: also of the one that is being written.

        Raises RecordingError for what cannot be changed, or is too long.
        """
        check_metadata(metadata)
        self._changes.append((path, metadata))
        self._wake.set()

    @property
    def is_behind(self) -> bool:
        """Whether events have waited for the disk for longer than two seconds."""
        with suppress(IndexError):
            return self._clock() - self._waiting[0][0] > SLOW_NS
        return False

    def cost(self) -> tuple[int, float]:
        """Steps written since the last call, and the processor time of the writing thread, mean a step, ns."""
        spent, told = self._spent, self._told
        steps, took_ns = spent[0] - told[0], spent[1] - told[1]
        if steps:  # what a round without steps took belongs to the next ones
            self._told = spent
        return steps, took_ns / steps if steps else 0.0

    def close(self) -> None:
        """Write what waits, and end."""
        self._ending = True
        self._wake.set()
        self._thread.join()

    # ------------------------------------------------------------ on its own

    def _run(self) -> None:
        while True:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            ending = self._ending  # looked at before what waits: nothing comes after it
            begun_ns = thread_time_ns()
            try:
                while self._waiting and not self.problem:
                    self._write(self._next())
                self._change_metadata()
                if ending:
                    self._end_session()
            except RecordingError as error:
                self._give_up(str(error))
            except Exception as error:  # nothing may take the session along
                self._give_up(f"Recording stopped by an error of its own ({type(error).__name__}: {error}).")
            self._spent = self._steps, self._spent[1] + thread_time_ns() - begun_ns
            if ending:
                return

    def _next(self) -> list[Event]:
        events: list[Event] = []
        self._look_at_the_queue()
        with suppress(IndexError):
            while len(events) < TOGETHER:
                events.append(self._waiting.popleft()[1])
        return events

    def _look_at_the_queue(self) -> None:
        if self._taken_bytes - self._written_bytes > self._most_bytes:
            raise RecordingError(
                "The disk is much slower than the engine: recording stopped, so that memory does not run out;"
                " what was written is kept."
            )
        if self.is_behind and not self._told_slow:
            self._told_slow = True
            self.news.append("The disk is slower than the engine: what is recorded reaches it seconds later.")

    def _write(self, events: list[Event]) -> None:
        part: list[Event] = []
        for event in events:
            if isinstance(event, EngineStarted):
                self._started = event
            elif isinstance(event, ModelLoaded):
                self._write_part(part)
                part = []
                self._end_session()
                self._prelude = [event] if self._started is None else [self._started, event]
                continue
            part.append(event)
        self._write_part(part)
        self._written_bytes += sum(
            EVENT_BYTES + (len(event.stamps) if isinstance(event, StepEnded) else 0) for event in events
        )

    def _write_part(self, events: list[Event]) -> None:
        """Events of one session; its file begins with its first generation, so that none is left where nothing ran."""
        if self._prelude is not None:
            self._prelude += events
            if not any(isinstance(event, GenerationStarted | StepEnded) for event in events):
                return
            events, self._prelude = self._prelude, None
            self._begin_session(next(event for event in events if isinstance(event, ModelLoaded)))
        if self._file is None:
            return
        before = self._file.steps
        known = len(self._file.left_out)
        self._file.write(events)
        for kind, reason in list(self._file.left_out.items())[known:]:
            self.news.append(
                f"The recording leaves out what is said as {kind}, which cannot be written down: {reason}."
            )
        if self._keep_room is not None and self._clock() >= self._look_again_ns:
            self._look_again_ns = self._clock() + ROOM_EVERY_NS
            self._keep_room(self._file.path)
        if any(isinstance(event, EngineEnded) and event.sentence for event in events):
            self._file.report()
        self._steps += self._file.steps - before
        self.steps_written = self._file.steps

    def _begin_session(self, loaded: ModelLoaded) -> None:
        path = self._place(loaded)
        self._file = SessionFile(path, metadata(loaded, self._front), self._overwrite)
        self._guard.watch(path)
        self.path = path

    def _change_metadata(self) -> None:
        while self._changes:
            path, metadata = self._changes.popleft()
            if self._file is not None and self._file.path == path:
                self._file.note(metadata)
                continue
            try:
                change_metadata(path, metadata)
            except RecordingError as error:
                self.news.append(str(error))

    def _end_session(self) -> None:
        file, self._file = self._file, None
        self._prelude = None
        if file is not None:
            file.note({"ended_at": now()})
            file.close()
            self._guard.leave()

    def _give_up(self, sentence: str) -> None:
        self.problem = sentence
        self.news.append(sentence)
        self._waiting.clear()
        file, self._file = self._file, None
        if file is not None:
            file.abandon()
            self._guard.leave()


def now() -> str:
    """The time of day, UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def metadata(loaded: ModelLoaded, front: str) -> dict[str, str]:
    """What a session file says of itself when it begins."""
    return {
        "program": f"cyclograph {__version__}",
        "protocol": str(PROTOCOL_VERSION),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "front": front,
        "pid": str(os.getpid()),
        "started_at": now(),
        "started_ns": str(perf_counter_ns()),
        "model": loaded.model.name,
        "device": loaded.model.device,
        TITLE: "",
        DESCRIPTION: "",
    }
