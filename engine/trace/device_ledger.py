"""A step on two clocks: when the host launched its parts and when the device ran them, and the ledger of both.

The host's stamps cut a step's wall time into gaps (see `ledger`). The device passes the same places later, and the
stamps of its own clock, on the host's axis, cut the time in which it worked on the step in the same way. Between two
neighbouring stamps of the device the time belongs to the phase that is open there; all other time of the step (what
comes before the first launch, what comes behind the last one) belongs to the phase that the host was in. So the ledger
of a step counts nothing twice, loses nothing, and sums to the wall time.

Where steps overlap (a step is launched while the one before still runs), what the device ran for the step before counts
in the step in whose wall time it ran.
"""

from dataclasses import dataclass

import numpy as np

from engine.trace.ledger import END, Int64, Layout, Span
from engine.trace.phases import PHASE_COUNT, Role, SpanName

NO_TIME = -1  # among device stamps: at this place only the host has one
LATENCY_MOST_NS = 20_000  # more than any launch takes to get to a device that has nothing else to do


@dataclass(frozen=True, slots=True)
class DeviceGaps:
    """What the device did between neighbouring stamps of its own: begin_ns, end_ns (n), in order and apart.

    `phases`, `layers` (n): the column of the phase and of the layer's role (-1 for none) that the time belongs to.
    `launched_ns` (n): when what the host launched before the place at which the gap ends had got to the device.
    """

    begin_ns: Int64
    end_ns: Int64
    phases: Int64
    layers: Int64
    launched_ns: Int64

    @property
    def waited_ns(self) -> Int64:
        """The most that each gap (n) can hold of waiting: from its begin until all of it had been launched.

        What the host has launched before the device needs it is never waited for: then the gap is all work.
        """
        most: Int64 = np.clip(self.launched_ns - self.begin_ns, 0, self.end_ns - self.begin_ns)
        return most


NOTHING = DeviceGaps(*(np.zeros(0, np.int64) for _ in range(5)))


def checked(layout: Layout, stamps: bytes) -> Int64 | None:
    """The device stamps of a step as (stamps,) ns; None where it has none, or NO_TIME only.

    Raises ValueError when there are not as many as the layout says, or they go back in time.
    """
    if not stamps:
        return None
    times = np.frombuffer(stamps, np.int64)
    if len(times) != layout.stamp_count:
        raise ValueError(f"a step has {len(times)} device stamps, its layout {layout.stamp_count}")
    known = times[times != NO_TIME]
    if (np.diff(known) < 0).any() or (known < 0).any():
        raise ValueError("the device stamps of a step go back in time")
    return times if len(known) else None


def device_gaps(layout: Layout, stamps: Int64, device_stamps: Int64) -> DeviceGaps:
    """What the device did for a step. Between stamps with one of the host alone in between nothing is known of it.

    A launch takes a while to get to the device, idle or not: the shortest that it took in the step counts as that.
    """
    known = device_stamps != NO_TIME
    both = np.flatnonzero(known[:-1] & known[1:])
    latency = min(LATENCY_MOST_NS, max(0, int((device_stamps[known] - stamps[known]).min())))
    return DeviceGaps(
        device_stamps[both],
        device_stamps[both + 1],
        layout.phase_columns[both],
        layout.layer_columns[both],
        stamps[both + 1] + latency,
    )


def phases_ns(layout: Layout, stamps: Int64, gaps: DeviceGaps) -> Int64:
    """The ledger of a step, (PHASE_COUNT,) ns: its device's gaps, and the host's where the device had none.

    `gaps`: all that the device did up to the step's end; what lies outside of its wall time does not count.
    """
    begin = np.clip(gaps.begin_ns, stamps[0], stamps[-1])
    end = np.clip(gaps.end_ns, stamps[0], stamps[-1])
    ran = _sums(gaps.phases, end - begin, PHASE_COUNT)
    alone = np.diff(stamps) - np.diff(_covered_before(stamps, begin, end))
    return ran + _sums(layout.phase_columns, alone, PHASE_COUNT)


def layers_ns(layout: Layout, gaps: DeviceGaps) -> Int64:
    """What the device ran of each layer's attention, MLP and rest for a step: (layers, 3) ns."""
    inside = gaps.layers >= 0
    took = (gaps.end_ns - gaps.begin_ns)[inside]
    sums = _sums(gaps.layers[inside], took, layout.layer_count * len(Role))
    return sums.reshape(layout.layer_count, len(Role))


def after(gaps: DeviceGaps, end_ns: int) -> DeviceGaps:
    """What of the gaps lies behind a time."""
    later = gaps.end_ns > end_ns
    if not later.any():
        return NOTHING
    return DeviceGaps(
        np.maximum(gaps.begin_ns[later], end_ns),
        gaps.end_ns[later],
        gaps.phases[later],
        gaps.layers[later],
        gaps.launched_ns[later],
    )


def joined(first: DeviceGaps, second: DeviceGaps) -> DeviceGaps:
    """Gaps of two steps; where they overlap (clocks agree to some microseconds only), the first ones count."""
    if not len(first.end_ns):
        return second
    begin = np.maximum(second.begin_ns, first.end_ns[-1])
    moved = DeviceGaps(
        begin, np.maximum(second.end_ns, begin), second.phases, second.layers, second.launched_ns
    )
    pairs = (
        (getattr(first, name), getattr(moved, name))
        for name in ("begin_ns", "end_ns", "phases", "layers", "launched_ns")
    )
    return DeviceGaps(*(np.concatenate(pair) for pair in pairs))


def device_spans(layout: Layout, stamps: Int64, device_stamps: Int64) -> list[Span]:
    """The spans of a step as the device ran them, placed relative to the step's begin on the host.

    A span that begins or ends at a place that only the host has a stamp of is left out.
    """
    spans: list[tuple[int, Span]] = []
    open_spans: list[tuple[int, SpanName, int]] = []
    origin = int(stamps[0])
    for place, (code, time) in enumerate(zip(layout.codes, device_stamps[1:-1].tolist(), strict=True)):
        if code != END:
            open_spans.append((place, layout.names[code - 1], time))
            continue
        began, name, begin = open_spans.pop()
        if NO_TIME not in (begin, time):
            spans.append((began, Span(name, len(open_spans), begin - origin, time - begin)))
    return [span for _, span in sorted(spans, key=lambda each: each[0])]


def _covered_before(times: Int64, begin: Int64, end: Int64) -> Int64:
    """How much of intervals (n, in order and apart) lies before each of some times: (times,) ns."""
    if not len(begin):
        return np.zeros(len(times), np.int64)
    total = np.concatenate(([0], np.cumsum(end - begin)))
    place = np.searchsorted(begin, times, side="right")
    whole = total[np.maximum(place - 1, 0)]
    part = np.clip(times - begin[place - 1], 0, (end - begin)[place - 1])
    covered: Int64 = np.where(place > 0, whole + part, 0)
    return covered


def _sums(columns: Int64, values: Int64, count: int) -> Int64:
    """Values summed by their columns, (count,): exact, as doubles hold integers of up to 104 days of nanoseconds."""
    return np.bincount(columns, values, count).astype(np.int64)
