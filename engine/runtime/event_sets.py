"""The events of one step: recorded into the streams of devices, read once the devices are through, then used again.

The layers of a model may be split over devices. One of them works at a time, so every mark is of one device, and a set
has a pool of events for each.
"""

from array import array
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from engine.runtime.device_events import DeviceEvents, TimedEvent


class EventPool:
    """Events of one device, made when they are first needed."""

    def __init__(self, events: DeviceEvents) -> None:
        self._make = events.make
        self._events: list[TimedEvent] = []
        self._used = 0

    def __len__(self) -> int:
        return len(self._events)

    def next(self) -> TimedEvent:
        """An event that is not in use."""
        if self._used == len(self._events):
            self._events.append(self._make())
        self._used += 1
        return self._events[self._used - 1]

    def reuse(self) -> None:
        """None of them is in use any more."""
        self._used = 0

    def give_away(self, event: TimedEvent) -> None:
        """Whoever holds its first event keeps it: it is not recorded anew. Any other is none of its own."""
        if self._used and self._events[0] is event:
            del self._events[0]
            self._used -= 1


class EventSet:
    """The events of one step. `marks`: one a stamp, None where only the host has one; `host_ns`: its stamps.

    `pools`: one a device, the first one's stream is where a step begins. `switches`: (place among the marks, number of
    the device) from which on marks are of another one. `seen`: an event that was seen to be over, by its place among
    the stamps, and when; None before that.
    """

    def __init__(self, devices: Sequence[DeviceEvents]) -> None:
        self.pools = [EventPool(events) for events in devices]
        self.marks: list[TimedEvent | None] = []
        self.switches: list[tuple[int, int]] = []
        self.host_ns: array[int] = array("q")
        self.seen: tuple[int, int] | None = None
        self.number = 0

    def clear(self) -> None:
        """Use its events anew."""
        for pool in self.pools:
            pool.reuse()
        self.marks.clear()
        self.switches.clear()
        self.seen = None

    def cut(self, place: int) -> int:
        """Drop the marks from a place on. Returns the number of the device that the next one is of."""
        del self.marks[place:]
        self.switches = [switch for switch in self.switches if switch[0] < place]
        return self.switches[-1][1] if self.switches else 0

    def owners(self) -> npt.NDArray[np.int64]:
        """The number of the device of each mark, (marks,)."""
        owners = np.zeros(len(self.marks), np.int64)
        for place, device in self.switches:
            owners[place:] = device
        return owners

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
