"""Reading the events of steps, without waiting for what would not be waited for anyway.

An event says when the device came to it only after it has. So a step's events are read while the host waits for a later
token, with work of the next step launched already: nothing waits for them, and nothing is synchronized. Three sets of
events take turns: one is being recorded, up to two wait to be read (with a pipelined read-back a step still runs when
the next has been launched). A set is read before it is used again.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from engine.runtime.device_events import DeviceEvents
from engine.runtime.event_sets import EventSet
from engine.runtime.placing import Placing

SETS = 3
KEPT = 256  # steps whose times are there to be taken
#: Events that are not over by then never will be: a step that runs longer is measured by the host alone.
PATIENCE_NS = 2_000_000_000
SPIN_NS = 1_000_000  # an event that is about to come is looked for without a pause
_PAUSE_S = 0.0002


def pause() -> None:
    """Let a moment pass before an event is looked for again."""
    time.sleep(_PAUSE_S)


class StepReader:
    """Sets of events, of which steps wait to be read, and the device times of those that were.

    `problems`: sentences on what the devices' clocks did not tell, to be taken. `reading_ns`: host time spent on
    reading, to be taken. `gave_up`: a device gave no answer, and is not asked again in this generation.
    """

    def __init__(
        self, devices: Sequence[DeviceEvents], host_clock: Callable[[], int], pause: Callable[[], None]
    ) -> None:
        self._devices = devices
        self._host_clock = host_clock
        self._pause = pause
        self._free = [self._new_set() for _ in range(SETS)]
        self._pending: deque[EventSet] = deque()
        self._stamps_of: dict[int, bytes] = {}
        self._placing = Placing(len(devices))
        self._told: set[str] = set()
        self.problems: list[str] = []
        self.reading_ns = 0
        self.gave_up = False

    def _new_set(self) -> EventSet:
        return EventSet(self._devices)

    def free_set(self) -> EventSet:
        """A set to record into; a step is read for that where all of them wait."""
        if not self._free:
            self.read_oldest()
        free = self._free.pop()
        free.clear()
        return free

    def add(self, ended: EventSet) -> None:
        """A step has ended: its events wait to be read."""
        self._pending.append(ended)

    @property
    def waiting(self) -> Sequence[EventSet]:
        """The sets that wait to be read, the oldest first."""
        return self._pending

    def is_over(self) -> bool:
        """Whether a step can be read without waiting for it."""
        return bool(self._pending) and self._pending[0].look(self._host_clock)

    def take(self, number: int) -> bytes | None:
        """The device stamps of a step (int64 ns, one a stamp), once; None while they have not been read."""
        return self._stamps_of.pop(number, None)

    def collect(self) -> None:
        """Read the steps that the devices are through with."""
        while self.is_over():
            self.read_oldest()

    def settle(self) -> None:
        """Read all steps that have ended. One that a device does not come to the end of has no device times."""
        while self._pending:
            self.read_oldest()

    def abandon(self) -> None:
        """A device is gone: no step has device times any more."""
        while self._pending:
            self._leave_out(self._pending.popleft(), self._new_set())

    def begin_anew(self) -> None:
        """What comes next begins with new anchors, and problems are told again."""
        self.settle()
        self._placing.lose()
        self.gave_up = False
        self._told.clear()

    def anchor(self, streams: Sequence[Any]) -> None:
        """Place clocks that are not placed, or were too long ago: for each device an event on its stream is waited for,
        with nothing else to do.
        """
        if self.gave_up or not self._placing.is_stale(self._host_clock()):
            return
        self.settle()
        for clock, events, stream in zip(self._placing.clocks, self._devices, streams, strict=True):
            for _ in range(2):  # the first one also waits for what still runs
                event = events.make()
                before_ns = self._host_clock()
                event.record(stream)
                if not self._comes(event.query):
                    return
                clock.anchor(event, before_ns, self._host_clock())

    def read_oldest(self) -> None:
        """Raises what a device raises that is gone; then the step is still to be read, or abandoned."""
        began_ns = self._host_clock()
        oldest = self._pending[0]
        came = self._comes(lambda: oldest.look(self._host_clock))
        times = self._placing.placed(oldest) if came else None
        self._pending.popleft()
        if times is not None:
            self._keep(oldest.number, times.tobytes())
            self._free.append(oldest)
        else:
            if came and not self._placing.is_lost:
                self._tell(
                    "A clock has jumped (the device's and the host's contradict each other): a step has times of the"
                    " host's clock only."
                )
            self._leave_out(oldest, oldest if came else self._new_set())  # events may still be on their way
        self.reading_ns += self._host_clock() - began_ns

    def _leave_out(self, unread: EventSet, next_set: EventSet) -> None:
        self._keep(unread.number, b"")
        self._placing.lose()
        self._free.append(next_set)

    def _keep(self, number: int, stamps: bytes) -> None:
        self._stamps_of[number] = stamps
        while len(self._stamps_of) > KEPT:  # of steps that nobody asks about
            del self._stamps_of[next(iter(self._stamps_of))]

    def _comes(self, is_over: Callable[[], bool]) -> bool:
        """Wait for an event, for a while; without an answer the device is not asked again in this generation."""
        began_ns = self._host_clock()
        while not is_over():
            waited_ns = self._host_clock() - began_ns
            if waited_ns > PATIENCE_NS or self.gave_up:
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
        self.gave_up = True

    def _tell(self, sentence: str) -> None:
        """Each problem once a generation."""
        if sentence not in self._told:
            self._told.add(sentence)
            self.problems.append(sentence)
