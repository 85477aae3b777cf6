"""Steps and their tokens as columns of tables: times as differences of neighbouring stamps, phases for people."""

from collections.abc import Iterator, Sequence
from enum import Enum
from operator import attrgetter
from typing import Any

import numpy as np

from engine.protocol import StepEnded
from engine.trace.ledger import Int64, Layout
from engine.trace.phases import PHASE_COUNT
from engine.trace.recording.schema import PHASE_COLUMNS, STEP_FIELDS, TOKEN_FIELDS

NARROW, WIDE = np.dtype("<u4"), np.dtype("<i8")  # of a gap: one above 4.29 s makes its step wide
BLOCK = 128  # steps
Row = tuple[Any, ...]
Column = Sequence[Any]


def _getter(columns: dict[str, tuple[str, str, Any]]) -> "attrgetter[Row]":
    """Reads the fields of an instance in the order of the columns; of an enumeration its value."""
    return attrgetter(
        *(
            f"{field}._value_" if isinstance(kind, type) and issubclass(kind, Enum) else field
            for field, _, kind in columns.values()
        )
    )


_step_fields = _getter(STEP_FIELDS)
_token_fields = _getter(TOKEN_FIELDS)


def step_columns(first: int, steps: Sequence[StepEnded], layouts: Sequence[Layout]) -> list[Column]:
    """The table `steps` by column, for steps that fit their layouts, numbered from `first` on."""
    fields = list(zip(*map(_step_fields, steps), strict=True))
    begins, walls, blobs = ([0] * len(steps) for _ in range(3))
    phases = np.empty((len(steps), PHASE_COUNT), np.int64)
    for places in _alike(layouts):
        layout = layouts[places[0]]
        stamps = np.frombuffer(b"".join([steps[place].stamps for place in places]), np.int64)
        stamps = stamps.reshape(len(places), layout.stamp_count)
        gaps = np.diff(stamps)
        phases[places] = layout.phases_of_gaps(gaps)
        found = stamps[:, 0].tolist(), (stamps[:, -1] - stamps[:, 0]).tolist(), gap_blobs(gaps)
        for column, values in zip((begins, walls, blobs), found, strict=True):
            _put(column, places, values)
    return [range(first, first + len(steps)), begins, walls, *fields, *phases.T.tolist(), blobs]


def _alike(layouts: Sequence[Layout]) -> Iterator[Sequence[int]]:
    """Places of steps of one layout, a few at a time: their stamps stay in the processor's cache."""
    groups: dict[int, list[int]] = {}
    if all(layout is layouts[0] for layout in layouts):
        every: Sequence[int] = range(len(layouts))
        yield from (every[begin : begin + BLOCK] for begin in range(0, len(layouts), BLOCK))
        return
    for place, layout in enumerate(layouts):
        groups.setdefault(id(layout), []).append(place)
    for places in groups.values():
        yield from (places[begin : begin + BLOCK] for begin in range(0, len(places), BLOCK))


def _put(column: list[Any], places: Sequence[int], values: Sequence[Any]) -> None:
    """Set the values of some places, most of which are neighbours."""
    first, last = places[0], places[-1]
    if last - first + 1 == len(places):
        column[first : last + 1] = values
        return
    for place, value in zip(places, values, strict=True):
        column[place] = value


def gap_blobs(gaps: Int64) -> list[bytes]:
    """Each row of gaps, (steps, gaps) ns, as little-endian numbers: of 4 bytes where all of a step's fit, else of 8."""
    wide = (gaps < 0).any(axis=1) | (gaps > np.iinfo(NARROW).max).any(axis=1)
    size = gaps.shape[1] * NARROW.itemsize
    raw = gaps.astype(NARROW).tobytes()
    blobs = [raw[begin : begin + size] for begin in range(0, len(raw), size)]
    for row in np.flatnonzero(wide).tolist():
        blobs[row] = gaps[row].astype(WIDE).tobytes()
    return blobs


def token_columns(first_token: int, first_step: int, steps: Sequence[StepEnded]) -> list[Column]:
    """The table `tokens` by column, for the tokens of steps, both numbered from here on."""
    tokens = [token for step in steps for token in step.tokens]
    counts = [len(step.tokens) for step in steps]
    numbers = np.repeat(np.arange(first_step, first_step + len(steps)), counts).tolist()
    fields = list(zip(*map(_token_fields, tokens), strict=True))
    return [range(first_token, first_token + len(tokens)), numbers, *fields]


STEP_COLUMNS = ("step", "begin_ns", "wall_ns", *STEP_FIELDS, *PHASE_COLUMNS, "gaps")
TOKEN_COLUMNS = ("token", "step", *TOKEN_FIELDS)
