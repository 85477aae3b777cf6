"""torch's profiler around one step, read onto the clock of the stamps. The only place that knows of the profiler.

It is started before the step begins and stopped after it has ended, so that what that costs is in no stamp. The first
start in a process takes seconds, and the first operations under it are slow: both are got over beforehand.

Its times are those of the system's clock. Spans of a known name, entered between two readings of the host clock before
and behind the step, say how far the two clocks are apart, and how exactly that is known.
"""

import gc
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch

from engine.runtime.clocks import wait_for_device
from engine.trace.ledger import Int64

ANCHOR = "cyclograph anchor"
ANCHORS = 4  # on either side of the step
WARM_UPS = 16
MOST_ENTRIES = 50_000
#: Clocks that cannot be compared more exactly than this are no clocks to place operations by.
INEXACT_NS = 5_000_000
#: What the profiler tells of itself, and of work that is no step's.
_NOT_WORK = ("overhead", "user_annotation", "gpu_user_annotation")
#: The accelerators that it can look into, by torch's name of the device.
_ACTIVITIES = {"cuda": "CUDA", "xpu": "XPU"}

Bracket = tuple[int, int]


class CaptureRefused(Exception):
    """A step cannot be captured. The message is one sentence for people; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Entries:
    """What the profiler saw of a step; the arrays are those of KernelsCaptured, (n,) each."""

    begin_ns: Int64
    duration_ns: Int64
    name: Int64
    lane: Int64
    launched_by: Int64
    names: tuple[str, ...]
    lanes: tuple[str, ...]
    host_lanes: int
    exact_ns: int
    dropped: int


class StepProfiler:
    """Profiles one step on a device. `ready`, then `start`, the step, `stop`, and `entries` of it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._profile: Any = None
        self._brackets: list[Bracket] = []
        self.sees_device = device.type == "cpu" or device.type in _ACTIVITIES

    def ready(self) -> None:
        """Make sure that it can be started, and get over the first time. Raises CaptureRefused."""
        try:
            from torch.profiler import ProfilerActivity, supported_activities

            supported: Any = supported_activities()  # type: ignore[no-untyped-call]
            available = _autograd().kineto_available() and ProfilerActivity.CPU in supported
        except (ImportError, AttributeError):
            available = False
        if not available:
            raise CaptureRefused(
                "This build of torch has no profiler (kineto is missing): install another build of torch to look"
                " into steps."
            )
        wanted = _ACTIVITIES.get(self._device.type)
        own = [activity for activity in supported if activity.name == wanted]
        self.sees_device = self._device.type == "cpu" or bool(own)
        self._activities = [ProfilerActivity.CPU, *own]
        self.start()
        self.cancel()

    def start(self) -> None:
        """From now on everything is profiled. Raises CaptureRefused, with nothing running."""
        from torch.profiler import profile

        if _autograd()._profiler_enabled():
            raise CaptureRefused(
                "Another profiler runs in this process already: end it, or let the engine run in its own process."
            )
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it prints a line whenever it begins or ends
        self._brackets = []
        gc.collect(
            1
        )  # what was read of a profile before is much to look through: not in the middle of this one
        made: Any = profile(activities=self._activities)
        try:
            made.start()
        except RuntimeError as error:
            sentence = (
                str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else "no reason given"
            )
            raise CaptureRefused(
                f"torch's profiler could not be started ({sentence}): end what else uses it, and try again."
            ) from error
        self._profile = made
        self._anchor()
        warm = torch.ones(8, device=self._device)
        for _ in range(WARM_UPS):
            warm = warm * 1.0
        wait_for_device(self._device)

    def _anchor(self) -> None:
        for _ in range(ANCHORS):
            span: Any = torch.profiler.record_function(f"{ANCHOR} {len(self._brackets)}")
            before_ns = perf_counter_ns()
            span.__enter__()
            after_ns = perf_counter_ns()
            span.__exit__(None, None, None)
            self._brackets.append((before_ns, after_ns))

    def stop(self) -> None:
        """Profile no more."""
        wait_for_device(self._device)
        self._anchor()
        self._profile.stop()

    def cancel(self) -> None:
        """Profile no more, and forget what was seen. Does nothing where it does not run."""
        if self._profile is not None:
            self._profile.stop()
            self._profile = None

    def entries(self, begin_ns: int, end_ns: int) -> Entries:
        """What began between two times of the host clock. Raises CaptureRefused where the clocks cannot be told."""
        results = self._profile.profiler.kineto_results
        self._profile = None
        return read_entries(results.events(), self._brackets, begin_ns, end_ns)


def read_entries(events: Iterable[Any], brackets: Sequence[Bracket], begin_ns: int, end_ns: int) -> Entries:
    """The entries of a profile (events as kineto has them) that began at begin_ns ≤ t < end_ns of the host clock.

    `brackets`: for each anchor, by its number, times of the host clock between which it began. What a device ran counts
    where the host launched it in that time. At most MOST_ENTRIES, the longest ones: whatever holds another entry is
    longer than that. Raises CaptureRefused.
    """
    raw = list(events)
    offset_ns, exact_ns = clock_offset(raw, brackets)
    table = _Table()
    for event in raw:
        if not event.name().startswith(ANCHOR) and _is_work(event):
            table.add(event, offset_ns)
    return table.entries(begin_ns, end_ns, exact_ns)


def clock_offset(events: Iterable[Any], brackets: Sequence[Bracket]) -> tuple[int, int]:
    """How much later the profiler's clock reads than the host's (ns), and how exactly that is known (± ns).

    Every anchor began between two readings of the host clock, so each gives an interval for the offset; the offset lies
    in what they share. Where they share nothing (the system's clock was set meanwhile, a little) the interval is what
    lies between them. Raises CaptureRefused where nothing tells, or hardly anything: the clock was set by more.
    """
    lows, highs = [], []
    for event in events:
        name = event.name()
        if name.startswith(ANCHOR) and event.device_type().name == "CPU":
            before_ns, after_ns = brackets[int(name.removeprefix(ANCHOR))]
            lows.append(event.start_ns() - after_ns)
            highs.append(event.start_ns() - before_ns)
    if not lows:
        raise CaptureRefused(
            "torch's profiler recorded nothing of what it was given to compare its clock by: its times cannot be placed"
            " beside ours. Restart the engine and try again."
        )
    low, high = sorted((max(lows), min(highs)))
    exact_ns = (high - low + 1) // 2
    if exact_ns > INEXACT_NS:
        raise CaptureRefused(
            f"The clocks of torch's profiler and ours could be compared to ±{exact_ns / 1e6:,.0f} ms only: the system's"
            " clock was set meanwhile, or the machine is very busy. Capture another step."
        )
    return (low + high) // 2, exact_ns


def _autograd() -> Any:
    """What torch.autograd knows of the profiler, for which it has no types."""
    return torch.autograd


def _is_work(event: Any) -> bool:
    hidden = getattr(event, "is_hidden_event", lambda: False)()
    kind = getattr(event, "activity_type", lambda: "")()
    return not hidden and str(kind) not in _NOT_WORK


class _Table:
    """Rows of entries, gathered one by one."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int]] = []  # begin, duration, name, lane
        self._names: dict[str, int] = {}
        self._lanes: dict[
            tuple[bool, str, int, int], int
        ] = {}  # (of a device, its kind, its number, thread or stream)
        self._operations: dict[int, int] = {}  # rows by the number that kernels know of them
        self._launches: dict[int, int] = {}
        self._kernels: list[tuple[int, int, int]] = []  # row, number of its launch, number of its operation

    def add(self, event: Any, offset_ns: int) -> None:
        place, kind = len(self._rows), event.device_type().name
        number, linked = event.correlation_id(), event.linked_correlation_id()
        if kind == "CPU":
            key = (False, "", 0, event.start_thread_id())
            (self._launches if linked else self._operations).setdefault(number, place)
        else:
            key = (True, kind.lower(), event.device_index(), event.device_resource_id())
            self._kernels.append((place, number, linked))
        name = self._names.setdefault(event.name(), len(self._names))
        lane = self._lanes.setdefault(key, len(self._lanes))
        self._rows.append((event.start_ns() - offset_ns, event.duration_ns(), name, lane))

    def entries(self, begin_ns: int, end_ns: int, exact_ns: int) -> Entries:
        rows = np.array(self._rows, np.int64).reshape(-1, 4)
        launched_by = np.full(len(rows), -1, np.int64)
        for place, number, linked in self._kernels:
            launched_by[place] = self._launches.get(number, self._operations.get(linked, -1))
        since = np.where(launched_by >= 0, rows[launched_by, 0] if len(rows) else 0, rows[:, 0])
        kept = np.flatnonzero((since >= begin_ns) & (since < end_ns))
        dropped = max(0, len(kept) - MOST_ENTRIES)
        if dropped:
            kept = kept[np.argsort(rows[kept, 1], kind="stable")[dropped:]]
        kept = kept[np.lexsort((-rows[kept, 1], rows[kept, 0]))]
        numbers = np.full(len(rows) + 1, -1, np.int64)  # the last one is for what nothing launched
        numbers[kept] = np.arange(len(kept))
        rows, launched_by = rows[kept], numbers[launched_by[kept]]
        lanes, order, host_lanes = self._ordered_lanes(rows[:, 3])
        names, name = self._used_names(rows[:, 2])
        return Entries(
            rows[:, 0], rows[:, 1], name, order[rows[:, 3]], launched_by, names, lanes, host_lanes, exact_ns, dropped
        )  # fmt: skip

    def _ordered_lanes(self, lane: Int64) -> tuple[tuple[str, ...], Int64, int]:
        """The lanes that have entries: threads of the host, the busiest first, then streams. New places by old ones."""
        counts = np.bincount(lane, minlength=len(self._lanes)).tolist()
        used = [(key, place) for key, place in self._lanes.items() if counts[place]]
        used.sort(key=lambda each: (each[0][0], each[0][1:] if each[0][0] else (-counts[each[1]],)))
        order = np.zeros(len(self._lanes) or 1, np.int64)
        labels = []
        for new, (key, place) in enumerate(used):
            order[place] = new
            is_device, kind, index, stream = key
            if is_device:
                labels.append(f"{kind}:{index} stream {stream}")
            else:
                labels.append("host" if not new else f"host, thread {new + 1}")
        return tuple(labels), order, sum(not key[0] for key, _ in used)

    def _used_names(self, name: Int64) -> tuple[tuple[str, ...], Int64]:
        used, places = np.unique(name, return_inverse=True)
        names = list(self._names)
        return tuple(names[place] for place in used.tolist()), places.astype(np.int64)
