"""A capture as a Chrome trace, for chrome://tracing, Perfetto and their like: the JSON of the Trace Event Format.

(Google: "Trace Event Format", the JSON Object Format: complete events "X", metadata "M", flow events "s" and "f"; times
in microseconds. https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU)
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.trace.export.writing import write_files
from engine.trace.kernels import Capture
from engine.trace.phases import LABELS, Phase

HOST, DEVICE = 1, 2  # processes of the trace
SPANS = 0  # the thread of our spans


def chrome_trace(capture: Capture) -> dict[str, Any]:
    """The whole object. Times begin at 0 with the step; our spans are a thread of their own above the host's."""
    event = capture.event
    return {
        "displayTimeUnit": "ns",
        "otherData": {
            "program": "cyclograph",
            "step": event.step,
            "done_again": event.again,
            "clock_exact_to_ns": event.exact_ns,
            "entries_left_out": event.dropped,
            "notes": list(event.notes),
        },
        "traceEvents": [*_names(capture), *_spans(capture), *_entries(capture)],
    }


def write_chrome_trace(capture: Capture, path: Path, replace: bool = False) -> None:
    """Write it whole or not at all; a file that is there only with `replace`. Raises ExportRefused with a sentence."""
    text = json.dumps(chrome_trace(capture), ensure_ascii=False)
    content = text.encode("utf-8", "backslashreplace")  # half of a surrogate pair becomes its escape

    def write(file: BinaryIO) -> None:
        file.write(content)

    write_files([(path, write)], replace=replace)


def _names(capture: Capture) -> Iterator[dict[str, Any]]:
    event = capture.event
    yield _metadata("process_name", HOST, 0, name="host")
    yield _metadata("thread_name", HOST, SPANS, name="phases (Cyclograph)")
    for place, lane in enumerate(event.lanes):
        process = HOST if place < event.host_lanes else DEVICE
        yield _metadata("thread_name", process, 1 + place, name=lane)
    if len(event.lanes) > event.host_lanes:
        yield _metadata("process_name", DEVICE, 0, name="devices")


def _metadata(what: str, process: int, thread: int, **arguments: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": arguments}


def _spans(capture: Capture) -> Iterator[dict[str, Any]]:
    for span in capture.layout.spans(capture.stamps):
        layer = {} if span.name.layer < 0 else {"layer": span.name.layer}
        yield {
            "name": LABELS[span.name.phase],
            "cat": "phase",
            "ph": "X",
            "ts": span.begin_ns / 1e3,
            "dur": span.duration_ns / 1e3,
            "pid": HOST,
            "tid": SPANS,
            "args": {"module": span.name.name, **layer},
        }


def _entries(capture: Capture) -> Iterator[dict[str, Any]]:
    event = capture.event
    columns = (
        capture.begin_ns,
        capture.duration_ns,
        capture.name,
        capture.lane,
        capture.launched_by,
        capture.phase,
        capture.layer,
    )
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    for place, (begin, took, name, lane, launcher, phase, layer) in enumerate(rows):
        is_device = lane >= event.host_lanes
        at = {"ts": begin / 1e3, "pid": DEVICE if is_device else HOST, "tid": 1 + lane}
        arguments: dict[str, Any] = {"phase": LABELS[Phase(phase)]}
        if layer >= 0:
            arguments["layer"] = layer
        category = "kernel" if is_device else "operation"
        yield {
            "name": event.names[name],
            "cat": category,
            "ph": "X",
            "dur": took / 1e3,
            **at,
            "args": arguments,
        }
        if launcher >= 0:
            flow = {"name": "launch", "cat": "launch", "id": place}
            yield {
                **flow,
                "ph": "s",
                "ts": rows[launcher][0] / 1e3,
                "pid": HOST,
                "tid": 1 + rows[launcher][3],
            }
            yield {**flow, "ph": "f", "bp": "e", **at}
