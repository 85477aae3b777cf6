"""Steps as rows of a table and back: times as differences of neighbouring stamps, a phase a column for people."""

from collections.abc import Iterable, Sequence
from enum import Enum
from operator import attrgetter
from typing import Any

import numpy as np

from engine.protocol import StepEnded
from engine.trace.ledger import Int64, Layout
from engine.trace.recording.schema import PHASE_COLUMNS, STEP_FIELDS, TOKEN_FIELDS

NARROW, WIDE = np.dtype("<u4"), np.dtype("<i8")  # of a gap: one above 4.29 s makes its step wide
Row = tuple[Any, ...]


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


def fits(event: StepEnded, layout: Layout | None) -> bool:
    """Whether a step has as many stamps as its layout says."""
    return layout is not None and len(event.stamps) == 8 * layout.stamp_count


def step_rows(first: int, steps: Sequence[StepEnded], layouts: Sequence[Layout]) -> list[Row]:
    """Rows of the table `steps` for steps that fit their layouts, numbered from `first` on."""
    rows: list[Row] = [()] * len(steps)
    groups: dict[int, list[int]] = {}
    for place, layout in enumerate(layouts):
        groups.setdefault(id(layout), []).append(place)
    for places in groups.values():
        layout = layouts[places[0]]
        stamps = np.frombuffer(b"".join([steps[place].stamps for place in places]), np.int64)
        stamps = stamps.reshape(len(places), layout.stamp_count)
        blobs = gap_blobs(np.diff(stamps, axis=1))
        begins, walls = stamps[:, 0].tolist(), (stamps[:, -1] - stamps[:, 0]).tolist()
        phases = layout.phases_ns(stamps).tolist()
        for i, place in enumerate(places):
            fields = _step_fields(steps[place])
            rows[place] = (first + place, begins[i], walls[i], *fields, *phases[i], blobs[i])
    return rows


def gap_blobs(gaps: Int64) -> list[bytes]:
    """Each row of gaps, (steps, gaps) ns, as little-endian numbers: of 4 bytes where all of a step's fit, else of 8."""
    wide = (gaps < 0).any(axis=1) | (gaps > np.iinfo(NARROW).max).any(axis=1)
    size = gaps.shape[1] * NARROW.itemsize
    raw = gaps.astype(NARROW).tobytes()
    blobs = [raw[begin : begin + size] for begin in range(0, len(raw), size)]
    for row in np.flatnonzero(wide).tolist():
        blobs[row] = gaps[row].astype(WIDE).tobytes()
    return blobs


def token_rows(first_token: int, first_step: int, steps: Iterable[StepEnded]) -> list[Row]:
    """Rows of the table `tokens` for the tokens of steps, both numbered from here on."""
    rows: list[Row] = []
    for step, event in enumerate(steps, first_step):
        for token in event.tokens:
            rows.append((first_token + len(rows), step, *_token_fields(token)))
    return rows


STEP_COLUMNS = ("step", "begin_ns", "wall_ns", *STEP_FIELDS, *PHASE_COLUMNS, "gaps")
TOKEN_COLUMNS = ("token", "step", *TOKEN_FIELDS)
