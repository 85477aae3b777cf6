"""The recorder of a model on an accelerator: at each stamp of the host an event goes into the device's stream.

**Reading.** An event says when the device came to it only after it has. So a step's events are read while the host
waits for a later token, with work of the next step launched already: nothing waits for them, and nothing is
synchronized. Three sets of events take turns: one is being recorded, up to two wait to be read (with a pipelined
read-back a step still runs when the next has been launched). A set is read before it is used again.

**Placing.** Device times are told on the host's axis. Once a generation an event is recorded on the idle device and
waited for: the anchor, known to some microseconds. From there the time of each step's first event is the elapsed time
since the one of the step before, and that of the others the time since the first one: short stretches, since torch
tells milliseconds in 32 bits. Two clocks drift apart, so every step holds its placing against what is certain: no event
can have come before the host recorded it, and one that was seen to be over came before that look. Where the placing
says otherwise, it is moved by no more than that. A step that contradicts itself, or would have to be moved by more
than drift explains, has no device times: a clock has jumped, and the next step begins with a new anchor.
"""

import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

import numpy as np

from engine.runtime.clocks import StampRecorder
from engine.runtime.device_events import DeviceEvents, TimedEvent
from engine.trace.device_ledger import NO_TIME
from engine.trace.ledger import END, Int64
from engine.trace.phases import HOST_PHASES, Phase

NS_PER_MS = 1_000_000
SETS = 3
KEPT = 256  # steps whose times are there to be taken
#: Devices tell time in steps of up to this much: so far back a later event may lie.
RESOLUTION_NS = 2_000
#: More than two clocks drift apart from one step to the next (100 parts in a million for ten seconds).
JUMP_NS = 1_000_000
#: So long after the last step the elapsed time is too coarse, and drift too much: there is a new anchor.
STALE_NS = 10_000_000_000
#: Events that are not over by then never will be: a step that runs longer is measured by the host alone.
PATIENCE_NS = 2_000_000_000
SPIN_NS = 1_000_000  # an event that is about to come is looked for without a pause
_PAUSE_S = 0.0002


class EventSet:
    """The events of one step. `marks`: one a stamp, None where only the host has one; `host_ns`: its stamps.

    `seen`: an event that was seen to be over, by its place among the stamps, and when; None before that.
    """

    def __init__(self) -> None:
        self.events: list[TimedEvent] = []
        self.used = 0
        self.marks: list[TimedEvent | None] = []
        self.host_ns: array[int] = array("q")
        self.seen: tuple[int, int] | None = None
        self.number = 0

    def clear(self) -> None:
        """Use its events anew."""
        self.used = 0
        self.marks.clear()
        self.seen = None

    def last(self) -> int:
        """The place of the last event; -1 without any."""
        marks = self.marks
        return next((place for place in range(len(marks) - 1, -1, -1) if marks[place] is not None), -1)

    def look(self, clock: Callable[[], int]) -> bool:
        """Whether the last event so far is over; notes when that was seen."""
        place = self.last()
        if place < 0:
            return True
        event = self.marks[place]
        assert event is not None
        if not event.query():
            return False
        if self.seen is None:
            self.seen = place, clock()
        return True


class DeviceRecorder(StampRecorder):
    """Records steps on two clocks. `clock` stamps the host's time and records an event, as wrapped modules bind it.

    `ended`: how many steps have ended. `problems`: sentences on what the device's clock did not tell, to be taken.
    `reading_ns`: host time spent on reading, to be taken.
    """

    def __init__(
        self,
        events: DeviceEvents,
        host_clock: Callable[[], int] = perf_counter_ns,
        pause: Callable[[], None] = lambda: time.sleep(_PAUSE_S),
    ) -> None:
        self._events = events
        self._host_clock = host_clock
        self._pause = pause
        self._sets = [EventSet() for _ in range(SETS)]
        self._current = self._sets.pop()
        self._pending: deque[EventSet] = deque()
        self._stamps_of: dict[int, bytes] = {}
        self._host_codes: set[int] = set()
        self._transfer_codes: set[int] = set()
        self._open: list[int] = []  # codes of spans that were begun by `begin`
        self._placing = _Placing()
        self._gave_up = False
        self._silent = False  # no events are recorded
        self._told: set[str] = set()
        self._stream: Any = None
        self.ended = 0
        self.problems: list[str] = []
        self.reading_ns = 0
        super().__init__(self._stamp)
        self._read_code = self.define(Phase.UNATTRIBUTED, name="read the device's clock")
        self._host_codes.add(self._read_code)

    # ------------------------------------------------------------ recording

    def _stamp(self) -> int:
        now_ns = self._host_clock()
        current = self._current
        if self._silent:
            current.marks.append(None)
            return now_ns
        if current.used == len(current.events):
            current.events.append(self._events.make())
        event = current.events[current.used]
        current.used += 1
        event.record(self._stream)
        current.marks.append(event)
        return now_ns

    def define(self, phase: Phase, layer: int = -1, name: str = "") -> int:
        """The code that begins a span of this name."""
        code = super().define(phase, layer, name)
        if phase in HOST_PHASES:
            self._host_codes.add(code)
        if phase is Phase.TRANSFER:
            self._transfer_codes.add(code)
        return code

    def begin(self, code: int) -> None:
        """Begin a span; one of the host alone without an event. Before the host waits, what is over is read."""
        self._open.append(code)
        if code not in self._host_codes:
            super().begin(code)
            return
        self._stamp_host(code)
        if code in self._transfer_codes and self._pending and self._pending[0].look(self._host_clock):
            self._stamp_host(self._read_code)
            self.collect()
            self._stamp_host(END)

    def turn(self, code: int) -> None:
        """End the innermost open span and begin another: each on the clocks that it has."""
        self.end()
        self.begin(code)

    def end(self) -> None:
        """End the innermost open span. Behind a wait, it is noted what is over."""
        code = self._open.pop() if self._open else END
        if code not in self._host_codes:
            super().end()
            return
        self._stamp_host(END)
        if code in self._transfer_codes:
            for waiting in (*self._pending, self._current):
                if not waiting.look(self._host_clock):
                    break

    def _stamp_host(self, code: int) -> None:
        self.codes.append(code)
        self.times.append(self._host_clock())
        self._current.marks.append(None)

    def launched(self, codes: list[int], events: list[TimedEvent], launch_ns: int) -> None:
        """Marks that were recorded by a launch of their own, all at once: their codes and events."""
        self.codes.extend(codes)
        self.times.extend([launch_ns] * len(codes))
        self._current.marks.extend(events)

    def now(self) -> int:
        """The host's time, without a stamp."""
        return self._host_clock()

    def forget(self, place: int) -> None:
        """Drop all spans that began behind a place; they must have ended."""
        super().forget(place)
        del self._current.marks[place + 1 :]

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Inside, no events are recorded: another stream may be capturing what is launched."""
        was_silent, self._silent = self._silent, True
        try:
            yield
        finally:
            self._silent = was_silent

    def begin_generation(self) -> None:
        """The next step begins with a new anchor."""
        self.settle()
        self._placing.lose()
        self._gave_up = self._silent = False
        self._told.clear()

    def begin_step(self) -> None:
        """Forget what was recorded of a step that did not end, and stamp the begin of another."""
        while len(self._pending) > 1:  # its events are recorded anew now, or with the next step
            self._read_oldest()
        self._stream = self._events.stream()
        if not self._gave_up and self._placing.is_stale(self._host_clock()):
            self.settle()
            self._anchor()
        self._current.clear()
        self._open.clear()
        super().begin_step()

    def end_step(self) -> tuple[bytes, bytes]:
        """Stamp the end of the step on the host; its events wait to be read."""
        self.times.append(self._host_clock())
        current = self._current
        current.marks.append(None)
        current.host_ns = array("q", self.times)
        current.number = self.ended
        self.ended += 1
        self._pending.append(current)
        if not self._sets:
            self._read_oldest()
        self._current = self._sets.pop()
        self._current.clear()
        return self.codes.tobytes(), self.times.tobytes()

    # ------------------------------------------------------------ reading

    def take(self, number: int) -> bytes | None:
        """The device stamps of a step (int64 ns, one a stamp), once; None while they have not been read."""
        return self._stamps_of.pop(number, None)

    def collect(self) -> None:
        """Read the steps that the device is through with."""
        while self._pending and self._pending[0].look(self._host_clock):
            self._read_oldest()

    def settle(self) -> None:
        """Read all steps that have ended. One that the device does not come to the end of has no device times."""
        while self._pending:
            self._read_oldest()

    def abandon(self) -> None:
        """The device is gone: no step has device times any more."""
        while self._pending:
            self._leave_out(self._pending.popleft(), EventSet())

    def _read_oldest(self) -> None:
        """Raises what a device raises that is gone; then the step is still to be read, or abandoned."""
        began_ns = self._host_clock()
        oldest = self._pending[0]
        came = self._comes(lambda: oldest.look(self._host_clock))
        times = self._placing.placed(oldest) if came else None
        self._pending.popleft()
        if times is not None:
            self._keep(oldest.number, times.tobytes())
            self._sets.append(oldest)
        else:
            if came and not self._placing.is_lost:
                self._tell(
                    "A clock has jumped (the device's and the host's contradict each other): a step has times of the"
                    " host's clock only."
                )
            self._leave_out(oldest, oldest if came else EventSet())  # events may still be on their way
        self.reading_ns += self._host_clock() - began_ns

    def _leave_out(self, unread: EventSet, next_set: EventSet) -> None:
        self._keep(unread.number, b"")
        self._placing.lose()
        self._sets.append(next_set)

    def _keep(self, number: int, stamps: bytes) -> None:
        self._stamps_of[number] = stamps
        while len(self._stamps_of) > KEPT:  # of steps that nobody asks about
            del self._stamps_of[next(iter(self._stamps_of))]

    def _comes(self, is_over: Callable[[], bool]) -> bool:
        """Wait for an event, for a while; without an answer the device is not asked again in this generation."""
        began_ns = self._host_clock()
        while not is_over():
            waited_ns = self._host_clock() - began_ns
            if waited_ns > PATIENCE_NS or self._gave_up:
                self._give_up()
                return False
            if waited_ns > SPIN_NS:
                self._pause()
        return True

    def _give_up(self) -> None:
        self._tell(
            f"The device's clock gave no answer within {PATIENCE_NS // 10**9} s: the rest of the generation has times"
            " of the host's clock only."
        )
        self._gave_up = self._silent = True

    def _tell(self, sentence: str) -> None:
        """Each problem once a generation."""
        if sentence not in self._told:
            self._told.add(sentence)
            self.problems.append(sentence)

    def _anchor(self) -> None:
        """An event recorded and waited for, on a device that has nothing else to do."""
        for _ in range(2):  # the first one also waits for what still runs
            event = self._events.make()
            before_ns = self._host_clock()
            event.record(self._stream)
            if not self._comes(event.query):
                return
            self._placing.anchor(event, before_ns, self._host_clock())


class _Placing:
    """Device times on the host's axis: a base event that has been placed, and the step's events relative to it."""

    def __init__(self) -> None:
        self._base: TimedEvent | None = None
        self._base_ns = 0

    def anchor(self, event: TimedEvent, before_ns: int, after_ns: int) -> None:
        """An event that the device came to between two times of the host."""
        self._base, self._base_ns = event, (before_ns + after_ns) // 2

    def lose(self) -> None:
        """What comes next cannot be placed before there is a new anchor."""
        self._base = None

    @property
    def is_lost(self) -> bool:
        """Whether there is no base."""
        return self._base is None

    def is_stale(self, now_ns: int) -> bool:
        """Whether there is no base, or one of too long ago."""
        return self.is_lost or now_ns - self._base_ns > STALE_NS

    def placed(self, step: EventSet) -> Int64 | None:
        """The times of a step's marks (ns, NO_TIME where there is no event), in order; None where clocks disagree."""
        times = np.full(len(step.marks), NO_TIME, np.int64)
        places = [place for place, event in enumerate(step.marks) if event is not None]
        events = [event for event in step.marks if event is not None]
        if self._base is None:
            return None
        if not events:
            return times
        first = events[0]
        first_ns = self._base_ns + round(self._base.elapsed_time(first) * NS_PER_MS)
        since_ms = [0.0, *[first.elapsed_time(event) for event in events[1:]]]
        at_ns = first_ns + np.rint(np.array(since_ms) * NS_PER_MS).astype(np.int64)
        if first_ns < self._base_ns - RESOLUTION_NS or (np.diff(at_ns) < -RESOLUTION_NS).any():
            return None
        times[places] = at_ns = np.maximum.accumulate(at_ns)
        shift_ns = _shift(times, int((np.array(step.host_ns)[places] - at_ns).max()), step.seen)
        if shift_ns is None:
            return None
        times[places] += shift_ns
        self._keep(step, first, first_ns + shift_ns)
        return times

    def _keep(self, step: EventSet, first: TimedEvent, first_ns: int) -> None:
        """The step's first event is the base from now on: it leaves the set, as it must not be recorded anew."""
        if step.used and step.events[0] is first:
            step.events.pop(0)
            step.used -= 1
        self._base, self._base_ns = first, first_ns


def _shift(times: Int64, least: int, seen: tuple[int, int] | None) -> int | None:
    """By how much a placing has to be moved to agree with what is certain (ns); None where it cannot.

    Certain: an event comes after the host's stamp at which it was recorded (so `least`), and before it was `seen` to be
    over: which of them, and when.
    """
    most = np.inf if seen is None else seen[1] - int(times[seen[0]])
    if most < least - RESOLUTION_NS:
        return None
    shift = max(least, int(min(0, most)))
    return None if abs(shift) > JUMP_NS else shift
