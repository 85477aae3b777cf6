"""A captured step as plain values: an object of JSON lines beside those of the steps."""

from dataclasses import asdict

from engine.trace.agreement import Agreement, agreement
from engine.trace.kernels import Capture
from engine.trace.phases import Phase
from engine.trace.records import Record
from engine.trace.store import Trace


def capture_record(trace: Trace, row: int) -> Record:
    """The capture of a step as plain values: its entries as columns, and what they add up to."""
    capture = trace.capture(row)
    assert capture is not None
    event = capture.event
    return {
        "event": "kernels",
        "step": row,
        "again": event.again,
        "begin_ns": int(capture.stamps[0]),
        "wall_ns": capture.wall_ns,
        "took_ns": event.took_ns,
        "overhead_ns": event.overhead_ns,
        "exact_ns": event.exact_ns,
        "dropped": event.dropped,
        "notes": list(event.notes),
        "names": list(event.names),
        "lanes": list(event.lanes),
        "host_lanes": event.host_lanes,
        "entries": {
            "begin_ns": capture.begin_ns.tolist(),
            "duration_ns": capture.duration_ns.tolist(),
            "self_ns": capture.self_ns.tolist(),
            "name": capture.name.tolist(),
            "lane": capture.lane.tolist(),
            "launched_by": capture.launched_by.tolist(),
            "parent": capture.parent.tolist(),
            "phase": [Phase(phase).name.lower() for phase in capture.phase.tolist()],
            "layer": capture.layer.tolist(),
        },
        "host_phases_ns": _phases(capture, False),
        "device_phases_ns": _phases(capture, True),
        "agreement": [_compared(each) for each in agreement(trace, row)],
    }


def _compared(part: Agreement) -> Record:
    return asdict(part) | {"points_in_run": part.points_in_run, "points": part.points}


def _phases(capture: Capture, device: bool) -> dict[str, int]:
    times = capture.phases_ns(device).tolist()
    return {phase.name.lower(): times[phase] for phase in Phase if times[phase]}
