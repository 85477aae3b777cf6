"""Steps that were captured in depth, on tracks of their own of a trace in the trace-event format.

One track holds each capture with the phases that its own run had; a track a thread of the host or stream of a device
holds its operations and kernels, nested. A step whose work was done again for it lies where that was done.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.trace.export.excerpt import Excerpt
from engine.trace.kernels import Capture
from engine.trace.ledger import Int64
from engine.trace.phases import LABELS, Phase

CAPTURES = 14
FIRST_LANE = 100  # tracks of lanes, in the order in which captures name them


def capture_tracks(excerpt: Excerpt) -> dict[int, str]:
    """The tracks by number; none without captures."""
    names = dict.fromkeys(name for row in excerpt.captures for name in excerpt.trace.captures[row].lanes)
    lanes = {FIRST_LANE + place: f"captured: {name}" for place, name in enumerate(names)}
    return {CAPTURES: "captures", **lanes} if excerpt.captures else {}


def first_moment(excerpt: Excerpt) -> list[int]:
    """When each capture began, wall clock (ns): of its step or of its first entry."""
    captures = (excerpt.trace.capture(row) for row in excerpt.captures)
    return [int(c.stamps[0] + min(0, int(c.begin_ns.min(initial=0)))) for c in captures if c is not None]


def capture_events(excerpt: Excerpt, origin: int, pid: int) -> Iterator[dict[str, Any]]:
    """Complete events, on each track in order of time and what is nested inside; times in ns since `origin`."""
    tids = {name.removeprefix("captured: "): tid for tid, name in capture_tracks(excerpt).items()}
    found = [(row, capture) for row in excerpt.captures if (capture := excerpt.trace.capture(row))]
    for row, capture in sorted(found, key=lambda each: int(each[1].stamps[0])):
        begin_ns = int(capture.stamps[0]) - origin
        yield from _whole(row, capture, begin_ns, pid)
        yield from _entries(row, capture, begin_ns, tids, pid)


def _whole(row: int, capture: Capture, begin_ns: int, pid: int) -> Iterator[dict[str, Any]]:
    event = capture.event
    own = {"ph": "X", "pid": pid, "tid": CAPTURES}
    args = {
        "entries": len(capture),
        "done again": event.again,
        "left out": event.dropped,
        "clock true to ns": event.exact_ns,
        "notes": " ".join(event.notes),
    }
    name = f"capture of step {row}"
    yield own | {"name": name, "cat": "capture", "args": args, "ts": begin_ns, "dur": capture.wall_ns}
    for span in capture.layout.spans(capture.stamps):
        layer = {} if span.name.layer < 0 else {"layer": span.name.layer}
        told = {"name": LABELS[span.name.phase], "cat": "phase", "args": {"module": span.name.name, **layer}}
        yield own | told | {"ts": begin_ns + span.begin_ns, "dur": span.duration_ns}


def _entries(
    row: int, capture: Capture, begin_ns: int, tids: dict[str, int], pid: int
) -> Iterator[dict[str, Any]]:
    event, ends = capture.event, _ends_inside(capture)
    columns = (capture.begin_ns, ends, capture.name, capture.lane, capture.launched_by)
    places = (capture.phase, capture.layer)
    rows = zip(*(column.tolist() for column in (*columns, *places)), strict=True)
    for begin, end, name, lane, launcher, phase, layer in rows:
        args: dict[str, Any] = {"step": row, "phase": LABELS[Phase(phase)]}
        if layer >= 0:
            args["layer"] = layer
        if launcher >= 0:
            args["launched by"] = event.names[int(capture.name[launcher])]
        yield {
            "ph": "X",
            "pid": pid,
            "tid": tids[event.lanes[lane]],
            "cat": "operation" if lane < event.host_lanes else "kernel",
            "name": event.names[name],
            "args": args,
            "ts": begin_ns + begin,
            "dur": end - begin,
        }


def _ends_inside(capture: Capture) -> Int64:
    """When each entry (n) ended, at the latest with the one that holds it: clocks of a device are rounded."""
    ends = (capture.begin_ns + capture.duration_ns).tolist()
    for place, holder in enumerate(capture.parent.tolist()):
        if holder >= 0:
            ends[place] = min(ends[place], ends[holder])
    return np.array(ends, np.int64)
