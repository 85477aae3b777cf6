"""Device times on the host's axis.

Once a generation an event is recorded on each idle device and waited for: the anchor, known to some microseconds. From
there the time of each step's first event is the elapsed time since the one of the step before, and that of the others
the time since the first one: short stretches, since torch tells milliseconds in 32 bits. Two clocks drift apart, so
every step holds its placing against what is certain: no event can have come before the host recorded it, and one that
was seen to be over came before that look. Where the placing says otherwise, it is moved by no more than that. A step
that contradicts itself, or would have to be moved by more than drift explains, has no device times: a clock has jumped.

Where layers are split over devices, each device has a clock of its own, which is placed by itself. One of them works at
a time, on what the one before it made: so no event comes before those of another device that were recorded before it,
nor after those that were recorded behind it. That is certain, too, and holds the clocks together.
"""

from collections.abc import Sequence

import numpy as np

from engine.runtime.device_events import TimedEvent
from engine.runtime.event_sets import EventSet
from engine.trace.device_ledger import NO_TIME
from engine.trace.ledger import Int64

NS_PER_MS = 1_000_000
#: Devices tell time in steps of up to this much: so far back a later event may lie.
RESOLUTION_NS = 2_000
#: What anchors of two devices are known to, together: by so much the one may seem to be ahead of the other.
AGREEMENT_NS = 20_000
#: More than two clocks drift apart from one step to the next (100 parts in a million for ten seconds).
JUMP_NS = 1_000_000
#: So long after the last step the elapsed time is too coarse, and drift too much: there is a new anchor.
STALE_NS = 10_000_000_000
_NEVER_NS = np.iinfo(np.int64).max


class ClockPlacing:
    """One device's clock: a base event that has been placed, and a step's events relative to it."""

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

    def told(self, events: Sequence[TimedEvent]) -> Int64 | None:
        """When the device came to events (at least one), by its clock as it was placed; None where that goes back."""
        if self._base is None:
            return None
        first = events[0]
        first_ns = self._base_ns + round(self._base.elapsed_time(first) * NS_PER_MS)
        since_ms = [0.0, *[first.elapsed_time(event) for event in events[1:]]]
        at_ns = first_ns + np.rint(np.array(since_ms) * NS_PER_MS).astype(np.int64)
        if first_ns < self._base_ns - RESOLUTION_NS or (np.diff(at_ns) < -RESOLUTION_NS).any():
            return None
        latest: Int64 = np.maximum.accumulate(at_ns)
        return latest

    def keep(self, event: TimedEvent, at_ns: int) -> None:
        """An event that has been placed is the base from now on."""
        self._base, self._base_ns = event, at_ns


class Placing:
    """The clocks of all devices of a model, `clocks`: the first one is that of the device on which steps begin."""

    def __init__(self, devices: int) -> None:
        self.clocks = [ClockPlacing() for _ in range(devices)]

    def lose(self) -> None:
        """There have to be new anchors."""
        for clock in self.clocks:
            clock.lose()

    @property
    def is_lost(self) -> bool:
        """Whether a clock has no base."""
        return any(clock.is_lost for clock in self.clocks)

    def is_stale(self, now_ns: int) -> bool:
        """Whether a clock has no base, or one of too long ago."""
        return any(clock.is_stale(now_ns) for clock in self.clocks)

    def placed(self, step: EventSet) -> Int64 | None:
        """The times of a step's marks (ns, NO_TIME where there is no event), in order; None where clocks disagree."""
        if self.is_lost:
            return None
        times = np.full(len(step.marks), NO_TIME, np.int64)
        there = np.array([event is not None for event in step.marks], bool)
        owners = step.owners()
        kept = []
        for number, clock in enumerate(self.clocks):
            places = np.flatnonzero(there & (owners == number))
            if not len(places):
                continue
            events = [event for place in places if (event := step.marks[place]) is not None]
            at_ns = clock.told(events)
            shift_ns = None if at_ns is None else _shift(step, times, places, at_ns)
            if at_ns is None or shift_ns is None:
                return None
            times[places] = at_ns + shift_ns
            kept.append((clock, step.pools[number], events[0], int(at_ns[0]) + shift_ns))
        for clock, pool, event, first_ns in kept:
            clock.keep(event, first_ns)
            pool.give_away(event)  # it must not be recorded anew
        times[there] = np.maximum.accumulate(times[there])
        return times


def _shift(step: EventSet, placed: Int64, places: Int64, at_ns: Int64) -> int | None:
    """By how much a clock's times of a step's places have to be moved to agree with what is certain (ns); None where
    they cannot.

    Certain: an event comes after the host's stamp at which it was recorded, and before it or a later one was `seen` to
    be over. It comes after what other devices had done before, and before what they did then, as far as `placed` knows.
    """
    least = int((np.array(step.host_ns)[places] - at_ns).max())
    most = _NEVER_NS if step.seen is None else _before_look(step.seen, places, at_ns)
    if most < least - RESOLUTION_NS:
        return None
    most = max(least, most)
    after, before = _between(placed, places, at_ns)
    if after > most + AGREEMENT_NS or before < least - AGREEMENT_NS or before < after - AGREEMENT_NS:
        return None
    lowest, highest = max(least, min(after, most)), min(most, max(before, least))
    shift = max(lowest, min(0, highest))
    return None if abs(shift) > JUMP_NS else shift


def _before_look(seen: tuple[int, int], places: Int64, at_ns: Int64) -> int:
    """The most that times may be moved so that all up to the seen place lie before that look."""
    over = at_ns[places <= seen[0]]
    return seen[1] - int(over[-1]) if len(over) else _NEVER_NS


def _between(placed: Int64, places: Int64, at_ns: Int64) -> tuple[int, int]:
    """The least and the most that times may be moved to lie between their placed neighbours."""
    known = placed != NO_TIME
    earlier = np.maximum.accumulate(np.where(known, placed, -_NEVER_NS))[places]
    later = np.minimum.accumulate(np.where(known, placed, _NEVER_NS)[::-1])[::-1][places]
    after = int((earlier - at_ns)[earlier > -_NEVER_NS].max(initial=-_NEVER_NS))
    before = int((later - at_ns)[later < _NEVER_NS].min(initial=_NEVER_NS))
    return after, before
