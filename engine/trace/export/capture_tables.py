"""Tables of steps that were captured in depth, for a page: where the time of their operations and kernels went."""

from engine.trace import units
from engine.trace.export.excerpt import Excerpt
from engine.trace.export.markup import element, safe
from engine.trace.export.report_tables import table
from engine.trace.kernels import Capture
from engine.trace.phases import LABELS

MOST_CAPTURES, MOST_ENTRIES = 3, 12
_HEADS = ("operation or kernel", "on", "calls", "with what it holds", "by itself", "share", "mostly in")


def capture_tables(excerpt: Excerpt) -> str:
    """A table for each of the last captures; "" without one."""
    shown = excerpt.captures[-MOST_CAPTURES:]
    parts = [_table(row, capture) for row in shown if (capture := excerpt.trace.capture(row))]
    if more := len(excerpt.captures) - len(shown):
        parts.append(element("p", f"{more:,} earlier captures are not shown.", class_="muted"))
    return "".join(parts)


def _table(row: int, capture: Capture) -> str:
    event = capture.event
    told = f"Step {row:,}, {units.duration(capture.wall_ns)} under the profiler, {len(capture):,} entries"
    if event.again:
        told += "; its work was done again for this"
    sides = [("device", capture.top(True)), ("host", capture.top(False))]
    rows = [
        (
            safe(entry.name),
            side,
            f"{entry.count:,}",
            safe(units.duration(entry.total_ns)),
            safe(units.duration(entry.self_ns)),
            safe(units.share(entry.share)),
            safe(LABELS[entry.phase]),
        )
        for side, entries in sides
        for entry in entries[:MOST_ENTRIES]
    ]
    said = [f"Shares are of all time on the same side; the {MOST_ENTRIES} longest of each.", *event.notes]
    note = element("p", safe(" ".join(said)), class_="muted")
    return element("p", safe(told)) + table(_HEADS, rows, numbers=(2, 3, 4, 5)) + note
