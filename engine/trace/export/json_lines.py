"""JSON Lines: the objects that `engine run --json` prints, in the order in which they happened, and a summary last."""

import json
from collections.abc import Iterator
from dataclasses import replace
from heapq import merge
from typing import BinaryIO

from engine.protocol import (
    BeamsRanked,
    Calibrated,
    MemorySampled,
    PartCompared,
    SequencesEncoded,
    ShapeDefined,
)
from engine.trace.capture_record import capture_record
from engine.trace.export.excerpt import Excerpt, Observed
from engine.trace.export.progress import Tick
from engine.trace.export.samples import telemetry_records
from engine.trace.ledger import Int64
from engine.trace.records import (
    Record,
    cycle_record,
    event_record,
    instrument_record,
    model_record,
    step_record,
    summary_record,
    warning_record,
)

TICK_EVERY = 256  # steps
# Where an object stands that belongs to step s: sorted by (s, rank, time), the last where it has one.
BEFORE, STEP, BEHIND, LATER = range(4)

_Placed = tuple[int, int, int, Record]


def records(excerpt: Excerpt) -> Iterator[Record]:
    """The objects, one after the other. `step` and `index` are rows of the whole trace, also of a selection."""
    trace = excerpt.trace
    if trace.model is not None:
        settings = dict(trace.configurations[0]) if trace.configurations else {}
        yield {"event": "model", **model_record(trace.model), "settings": settings}
    steps: Iterator[_Placed] = ((row, STEP, 0, step_record(trace, row)) for row in excerpt.rows)
    for *_, record in merge(steps, _others(excerpt), key=_place):
        yield record
    if model := cycle_record(trace, excerpt.rows):
        yield model
    is_whole = excerpt.rows == range(len(trace.steps))
    if is_whole and (told := instrument_record(trace)):  # what the instrument cost belongs to all of it
        yield told
    yield summary_record(len(excerpt.rows), len(excerpt.tokens), list(excerpt.measured.values()))


def _others(excerpt: Excerpt) -> list[_Placed]:
    """What is no step, with the step that it belongs to."""
    trace, rows = excerpt.trace, excerpt.rows
    placed: list[tuple[int, int, int, Record | None]] = []
    for generation in excerpt.generations:
        begin, started, ended = generation.first_step, generation.started, generation.ended
        placed.append((max(rows.start, begin), BEFORE, started.submitted_ns, event_record(started)))
        if ended and generation.end_step <= rows.stop:
            last = (generation.end_step - 1, LATER) if generation.end_step > begin else (begin, BEFORE)
            placed.append((*last, ended.at_ns, event_record(ended)))
    placed += [(m.step, BEFORE, m.at_ns, event_record(replace(m.event, step=m.step))) for m in excerpt.marks]
    for join in excerpt.joins:
        event = replace(join.event, step=join.step)
        placed.append((join.step, BEFORE, event.at_ns, event_record(event)))
    for gap in excerpt.gaps:
        replaced = replace(gap.event, step=gap.step)
        placed.append((gap.step, BEFORE, replaced.at_ns, event_record(replaced)))
    placed += [
        (n.step, BEHIND, n.event.at_ns, event_record(replace(n.event, step=n.step))) for n in excerpt.notes
    ]
    placed += [(mark.step, BEFORE, mark.at_ns, warning_record(mark)) for mark in excerpt.warnings]
    placed += [(row, BEHIND, 0, capture_record(trace, row)) for row in excerpt.captures]
    followers: list[SequencesEncoded | BeamsRanked] = [*excerpt.results, *excerpt.beams]
    for follower in followers:
        row = follower.step - trace.first_index
        placed.append((row, BEHIND, 0, event_record(replace(follower, step=row))))
    ends = trace.steps.begin_ns[rows.start : rows.stop] + trace.steps.wall_ns[rows.start : rows.stop]
    samples: list[MemorySampled | Observed] = [*excerpt.memory, *excerpt.observer]
    told_at = [(sample.at_ns, event_record(_by_row(sample, trace.first_index))) for sample in samples]
    for at_ns, record in (*told_at, *telemetry_records(excerpt.sampled)):
        placed.append((rows.start + int(ends.searchsorted(at_ns)) - 1, LATER, at_ns, record))
    placed += _floors(excerpt, ends)
    told = [(row, rank, at_ns, record) for row, rank, at_ns, record in placed if record]
    return sorted(told, key=_place)


def _by_row(sample: MemorySampled | Observed, first_index: int) -> MemorySampled | Observed:
    """The same, with the row of its step where it names one."""
    return replace(sample, step=sample.step - first_index) if isinstance(sample, PartCompared) else sample


def _floors(excerpt: Excerpt, ends_ns: Int64) -> Iterator[tuple[int, int, int, Record | None]]:
    """Shapes and calibrations that the steps stand on (of a whole trace all), and floors that steps have beaten."""
    trace, rows = excerpt.trace, excerpt.rows
    steps = slice(rows.start, rows.stop)
    shapes, calibrations = set(trace.steps.configuration[steps]), set(trace.steps.calibration[steps])
    told: list[ShapeDefined | Calibrated] = [
        *(each for number, each in trace.shapes.items() if excerpt.is_whole or number in shapes),
        *(each for number, each in trace.calibrations.items() if excerpt.is_whole or number in calibrations),
    ]
    for event in told:
        row = rows.start + int(ends_ns.searchsorted(event.at_ns))
        yield row, BEFORE, event.at_ns, event_record(event)
    for beaten in trace.beaten_floors:
        row = beaten.step - trace.first_index
        if row in rows:
            yield row, BEHIND, beaten.at_ns, event_record(replace(beaten, step=row))


def _place(placed: _Placed) -> tuple[int, int, int]:
    return placed[:3]


def write_json_lines(excerpt: Excerpt, file: BinaryIO, tick: Tick) -> None:
    """Write one object a line, UTF-8; half of a surrogate pair as the escape that JSON has for it."""
    for record in records(excerpt):
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        file.write(line.encode("utf-8", "backslashreplace"))
        if record["event"] == "step" and record["index"] % TICK_EVERY == 0:
            tick((record["index"] - excerpt.rows.start) / len(excerpt.rows))
