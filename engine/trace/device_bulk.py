"""The ledgers of many steps with times of a device at once, where each of them stands for itself.

It does where the device had passed all places of the step by its end on the host: nothing runs on into the next step.
What comes out equals what `device_ledger` says of each step alone, to the last nanosecond.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from engine.trace.device_ledger import NO_TIME
from engine.trace.ledger import Int64, Layout
from engine.trace.phases import Role

Bools = npt.NDArray[np.bool_]


def device_times(blobs: Sequence[bytes], layout: Layout) -> Int64:
    """Device stamps of steps of one layout as rows, (steps, stamps) ns."""
    return np.frombuffer(b"".join(blobs), np.int64).reshape(len(blobs), layout.stamp_count)


def run_forward(times: Int64) -> Bools:
    """Which steps (n,) have device stamps (n, stamps) that do not go back in time, and none that cannot be."""
    known = times != NO_TIME
    latest = np.maximum.accumulate(np.where(known, times, 0), axis=1)
    kept: Bools = (~known | ((times == latest) & (times >= 0))).all(axis=1)
    return kept


def stand_alone(times: Int64, end_ns: Int64) -> Bools:
    """Which steps (n,) have times of the device, (n, stamps), none of them behind their end, (n,) ns."""
    told: Bools = (times != NO_TIME).any(axis=1) & (times <= end_ns[:, None]).all(axis=1)
    return told


def ledgers(layout: Layout, begin_ns: Int64, gaps: Int64, times: Int64) -> tuple[Int64, Int64]:
    """Times of the phases, (n, PHASE_COUNT) ns, and of what the device ran of each layer, (n, layers, 3) ns.

    begin_ns (n), gaps (n, stamps - 1): of the host. times (n, stamps): of the device.
    """
    stamps = np.empty(times.shape, np.int64)
    stamps[:, 0] = begin_ns
    np.cumsum(gaps, axis=1, out=stamps[:, 1:])
    stamps[:, 1:] += begin_ns[:, None]
    phases = np.zeros((len(times), layout.phases_of_gaps(gaps[:0]).shape[1]), np.int64)
    layers = np.zeros((len(times), layout.layer_count, len(Role)), np.int64)
    for rows, known in _alike(times != NO_TIME):
        phases[rows], layers[rows] = _ledgers(layout, stamps[rows], gaps[rows], times[rows], known)
    return phases, layers


def _alike(known: Bools) -> Iterator[tuple[Int64, Bools]]:
    """Rows of (n, stamps) that are alike, with what they are."""
    left = np.arange(len(known))
    while len(left):
        first = known[left[0]]
        alike = (known[left] == first).all(axis=1)
        yield left[alike], first
        left = left[~alike]


def _ledgers(layout: Layout, stamps: Int64, gaps: Int64, times: Int64, known: Bools) -> tuple[Int64, Int64]:
    """The ledgers of steps whose device has stamps at the same places, `known` (stamps,)."""
    both = known[:-1] & known[1:]
    ran = np.where(both, np.diff(times, axis=1), 0)
    begin, end = stamps[:, :1], stamps[:, -1:]
    inside = np.where(both, np.diff(np.clip(times, begin, end), axis=1), 0)
    covered = np.zeros(stamps.shape, np.int64)
    for first, last in _runs(known):
        since = np.clip(times[:, first : first + 1], begin, end)
        until = np.clip(times[:, last : last + 1], begin, end)
        covered += np.clip(stamps, since, until) - since
    alone = gaps - np.diff(covered, axis=1)
    return layout.phases_of_gaps(inside + alone), layout.layers_of_gaps(ran)


def _runs(known: Bools) -> list[tuple[int, int]]:
    """The first and last place of each stretch of neighbouring places, (stamps,), that are known."""
    edges = np.diff(np.concatenate(([False], known, [False])).astype(np.int8))
    firsts, ends = np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()
    return [(first, end - 1) for first, end in zip(firsts, ends, strict=True)]
