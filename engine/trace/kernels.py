"""A step in depth: the operations and kernels of a capture, nested, each in the phase and layer that launched it.

The capture and our spans of the same run lie on one clock. What an operation of the host took is cut where spans begin
and end, so that also code which was compiled as a whole is told apart as far as marks in it reach. Work of a device
belongs to the span in which the host launched it; where a whole graph was launched at once, to the one in which it ran.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from engine.protocol import KernelsCaptured
from engine.trace.ledger import Int64, Layout
from engine.trace.phases import Phase

NONE = -1
#: What is held against our clocks: the parts of a step that have a name in every model.
PARTS: dict[str, tuple[Phase, ...]] = {
    "attention": (Phase.ATTENTION, Phase.ATTENTION_CORE, Phase.CROSS_ATTENTION),
    "MLP": (Phase.MLP, Phase.MIXER),
}
_GRAPH = "GraphLaunch"  # in the names of what launches a captured graph (CUDA, HIP)


@dataclass(frozen=True, slots=True)
class TopEntry:
    """All entries of one name, of the host or of devices: how many, their time, that without what they hold.

    `share`: of the time that all entries of that side took. `phase`: the one in which most of it was.
    """

    name: str
    is_device: bool
    count: int
    total_ns: int
    self_ns: int
    share: float
    phase: Phase


class Capture:
    """The entries (n) of a capture. Raises ValueError where they do not fit together, or not their layout.

    begin_ns, duration_ns (n): begin since the step's begin. name, lane, launched_by (n): as in KernelsCaptured.
    """

    def __init__(self, event: KernelsCaptured, layout: Layout) -> None:
        self.event, self.layout = event, layout
        self.stamps = np.frombuffer(event.stamps, np.int64)
        if len(self.stamps) != layout.stamp_count:
            raise ValueError(
                f"the capture of step {event.step} has {len(self.stamps)} stamps, its layout {layout.stamp_count}"
            )
        self.begin_ns: Int64 = np.frombuffer(event.begin_ns, np.int64) - self.stamps[0]
        self.duration_ns: Int64 = np.frombuffer(event.duration_ns, np.int64)
        self.name = np.frombuffer(event.name, np.uint32).astype(np.int64)
        self.lane = np.frombuffer(event.lane, np.uint32).astype(np.int64)
        self.launched_by = np.frombuffer(event.launched_by, np.int32).astype(np.int64)
        self._check()

    def _check(self) -> None:
        count, event = len(self.begin_ns), self.event
        columns = (self.duration_ns, self.name, self.lane, self.launched_by)
        fits = all(len(column) == count for column in columns)
        fits = fits and int(self.name.max(initial=-1)) < len(event.names)
        fits = fits and int(self.lane.max(initial=-1)) < len(event.lanes)
        fits = fits and int(self.launched_by.min(initial=-1)) >= -1
        fits = fits and int(self.launched_by.max(initial=-1)) < count
        if not fits or bool((np.diff(self.begin_ns) < 0).any()) or int(self.duration_ns.min(initial=0)) < 0:
            raise ValueError(f"the entries of the capture of step {event.step} do not fit together")

    def __len__(self) -> int:
        return len(self.begin_ns)

    @property
    def wall_ns(self) -> int:
        """What the step took under the profiler."""
        return int(self.stamps[-1] - self.stamps[0])

    @property
    def is_device(self) -> npt.NDArray[np.bool_]:
        """Which entries (n) are work of a device."""
        return self.lane >= self.event.host_lanes

    @property
    def has_device(self) -> bool:
        """Whether a device did anything that was seen."""
        return bool(self.is_device.any())

    @cached_property
    def _nesting(self) -> tuple[Int64, Int64]:
        return _nested(self.begin_ns, self.begin_ns + self.duration_ns, self.lane)

    @property
    def parent(self) -> Int64:
        """The entry (n) of the same lane that holds each; NONE for the outermost."""
        return self._nesting[0]

    @property
    def depth(self) -> Int64:
        """How many entries hold each (n)."""
        return self._nesting[1]

    @cached_property
    def self_ns(self) -> Int64:
        """Time of each (n) without what it holds."""
        inner = self.parent >= 0
        held = np.bincount(self.parent[inner], self.duration_ns[inner], len(self)).astype(np.int64)
        own: Int64 = np.maximum(self.duration_ns - held, 0)
        return own

    @cached_property
    def gap(self) -> Int64:
        """Between which two stamps (n) the host launched each: a place in `layout.gap_owners`."""
        names = np.array([_GRAPH in name for name in self.event.names] or [False])
        known = self.launched_by >= 0
        launcher = np.where(known, self.launched_by, 0)
        known = known & ~names[self.name[launcher]] if len(self) else known
        since = np.where(known, self.begin_ns[launcher], self.begin_ns) if len(self) else self.begin_ns
        places = np.searchsorted(self.stamps - self.stamps[0], since, side="right") - 1
        gap: Int64 = np.clip(places, 0, len(self.stamps) - 2)
        return gap

    @cached_property
    def phase(self) -> Int64:
        """The phase (n) in which the host launched each."""
        owners = [owner.phase if owner else Phase.UNATTRIBUTED for owner in self.layout.gap_owners]
        phase: Int64 = np.array(owners, np.int64)[self.gap]
        return phase

    @cached_property
    def layer(self) -> Int64:
        """The layer (n) in which the host launched each; NONE outside of layers."""
        owners = [owner.layer if owner else NONE for owner in self.layout.gap_owners]
        layer: Int64 = np.array(owners, np.int64)[self.gap]
        return layer

    # ------------------------------------------------------------ where the time went

    def phases_ns(self, device: bool) -> Int64:
        """Time of entries in each phase, (PHASE_COUNT,) ns: of devices, or of the host."""
        times: Int64 = self.layout.phases_ns(self._progress(device)[None])[0]
        return times

    def layers_ns(self, device: bool) -> Int64:
        """Time of entries in each layer's attention, MLP and rest: (layers, 3) ns."""
        times: Int64 = self.layout.layers_ns(self._progress(device)[None])[0]
        return times

    def _progress(self, device: bool) -> Int64:
        """How much of the entries' time lies before each stamp, (stamps,) ns: taken for stamps, it makes a ledger."""
        if device:
            own = self.is_device
            sums = np.bincount(self.gap[own], self.self_ns[own], len(self.stamps) - 1)
            return np.concatenate(([0], np.cumsum(sums.astype(np.int64))))
        outermost = (self.depth == 0) & ~self.is_device
        begin = self.begin_ns[outermost]
        end = np.sort(begin + self.duration_ns[outermost])
        at = self.stamps - self.stamps[0]
        return _time_since(begin, at) - _time_since(end, at)

    def top(self, device: bool) -> list[TopEntry]:
        """The names of entries, those that took the longest by themselves first."""
        own = np.flatnonzero(self.is_device == device)
        whole = max(1, int(self.self_ns[own].sum()))
        found = []
        for place in np.unique(self.name[own]).tolist():
            rows = own[self.name[own] == place]
            took = int(self.self_ns[rows].sum())
            phase = np.bincount(self.phase[rows], self.self_ns[rows] + 1).argmax()
            total = int(self.duration_ns[rows].sum())
            found.append(
                TopEntry(
                    self.event.names[place], device, len(rows), total, took, took / whole, Phase(int(phase))
                )
            )
        return sorted(found, key=lambda entry: -entry.self_ns)

    @property
    def between_ns(self) -> int:
        """Time of the step in which the host's thread was in no operation: Python, and what is not recorded."""
        return self.wall_ns - int(self.phases_ns(False).sum())

    @property
    def spanning_ns(self) -> int:
        """Time of the host's outermost operations that go on across one of our stamps (compiled code, as a whole).

        What of it belongs to which phase is known by our stamps alone.
        """
        rows = np.flatnonzero((self.depth == 0) & (self.lane == 0) & ~self.is_device)
        at, begin = self.stamps - self.stamps[0], self.begin_ns[rows]
        end = begin + self.duration_ns[rows]
        spans = np.searchsorted(at, begin, side="right") < np.searchsorted(at, end, side="left")
        return int(self.duration_ns[rows][spans].sum())

    def step_phases_ns(self) -> Int64:
        """The step's time by the operations of the host, (PHASE_COUNT,) ns: each with the time that led up to it.

        What the host does between two operations prepares the second. So this is the step's ledger as it would be
        without our spans, but for which operations belong to which phase. What follows the last one is left out.
        """
        rows = np.flatnonzero((self.depth == 0) & (self.lane == 0) & ~self.is_device)
        times = self.phases_ns(False)
        if len(rows):
            ends = np.maximum.accumulate(self.begin_ns[rows] + self.duration_ns[rows])
            leading = self.begin_ns[rows] - np.concatenate(([0], ends[:-1]))
            np.add.at(times, self.phase[rows], np.maximum(leading, 0))
        return times

    def share(self, part: str) -> float | None:
        """A part's share (see PARTS) of the step, or of what devices did where there are any; None for no time."""
        times = self.phases_ns(True) if self.has_device else self.step_phases_ns()
        whole = int(times.sum()) if self.has_device else self.wall_ns
        return float(times[list(PARTS[part])].sum()) / whole if whole else None


def _nested(begin: Int64, end: Int64, lane: Int64) -> tuple[Int64, Int64]:
    """Parents and depths (n) of intervals that are sorted by begin and then by length, the longest first."""
    parent, depth = np.full(len(begin), NONE, np.int64), np.zeros(len(begin), np.int64)
    open_by_lane: dict[int, list[tuple[int, int]]] = {}  # (place, end), the innermost last
    rows = zip(begin.tolist(), end.tolist(), lane.tolist(), strict=True)
    for place, (since, until, where) in enumerate(rows):
        holders = open_by_lane.setdefault(where, [])
        while holders and holders[-1][1] <= since:
            holders.pop()
        if holders:
            parent[place], depth[place] = holders[-1][0], len(holders)
        holders.append((place, until))
    return parent, depth


def _time_since(moments: Int64, at: Int64) -> Int64:
    """How much time has passed since all of some moments (n, sorted), at each of some times (m): the sum, (m,) ns."""
    passed = np.searchsorted(moments, at, side="left")
    sums = np.concatenate(([0], np.cumsum(moments)))
    since: Int64 = passed * at - sums[passed]
    return since
