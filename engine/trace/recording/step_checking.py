"""Steps and tokens of a session file: the rows that make sense, as columns."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.protocol import StepEnded, Token
from engine.trace.bulk import TOGETHER, StepColumns
from engine.trace.device_bulk import device_times, run_forward
from engine.trace.ledger import Int64, Layout
from engine.trace.phases import StepKind
from engine.trace.recording.packing import NARROW, WIDE
from engine.trace.recording.references import LATEST_NS, References
from engine.trace.recording.rows import Blobs, Notices, Rows, Texts
from engine.trace.store import Trace

Kept = npt.NDArray[np.bool_]


def checked_steps(
    steps: Rows[Blobs], tokens: Rows[Texts], known: References, notices: Notices
) -> tuple[StepColumns, Int64]:
    """The steps that make sense, and the numbers by which others refer to them."""
    numbers = steps.numbers["step"]
    layouts, which = known.layouts_of(numbers, steps.fields["layout"])
    counts = np.array([*(layout.stamp_count - 1 for layout in layouts), 0])[which]  # -1: the 0 at the end
    lengths = steps.last.lengths
    kept = _reported(which >= 0, "steps whose layout does not exist", notices)
    fit = (lengths == counts * NARROW.itemsize) | (lengths == counts * WIDE.itemsize)
    kept &= _reported(fit | ~kept, "steps whose times do not fit their layout", notices)
    wide = kept & (lengths != counts * NARROW.itemsize)
    kept &= _reported(_forward(steps.last, wide), "steps whose times run backwards", notices)
    kept &= _reported(
        _device_times(steps, layouts, which, kept), "steps whose device times make no sense", notices
    )
    sound = _in_range(steps.fields, StepEnded) & _between(steps.numbers["begin_ns"], 0, LATEST_NS)
    sound &= steps.fields["configuration"] < known.configurations(numbers)
    kept &= _reported(sound | ~kept, "steps whose numbers cannot be", notices)
    steps, which, counts, numbers = steps.where(kept), which[kept], counts[kept], numbers[kept]
    tokens, owners = _tokens(tokens, numbers, notices)
    return (
        StepColumns(
            fields=steps.fields,
            begin_ns=steps.numbers["begin_ns"],
            gaps=_flat(steps.last, counts),
            gap_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            layouts=layouts,
            layout_places=which,
            token_fields=tokens.fields,
            token_text=tokens.last,
            token_offsets=np.searchsorted(owners, np.arange(len(steps) + 1)).astype(np.int64),
        ),
        numbers,
    )


def _tokens(tokens: Rows[Texts], numbers: Int64, notices: Notices) -> tuple[Rows[Texts], Int64]:
    """The tokens that make sense, by step, and the place of the step of each."""
    steps = tokens.numbers["step"]
    owners = np.searchsorted(numbers, steps)
    if len(numbers):
        kept = numbers[np.minimum(owners, len(numbers) - 1)] == steps
    else:
        kept = np.zeros(len(steps), np.bool_)
    kept = _reported(kept, "tokens of a step that does not exist", notices)
    kept &= _reported(_in_range(tokens.fields, Token) | ~kept, "tokens whose numbers cannot be", notices)
    tokens, owners = tokens.where(kept), owners[kept]
    if (np.diff(owners) >= 0).all():
        return tokens, owners
    order = np.argsort(owners, kind="stable")
    return tokens.at(order), owners[order]


def _reported(kept: Kept, what: str, notices: Notices) -> Kept:
    notices.add(what, len(kept) - int(kept.sum()))
    return kept


def _between(values: npt.NDArray[Any], low: int, high: int) -> Kept:
    found: Kept = (values >= low) & (values <= high)
    return found


def _in_range(columns: Mapping[str, npt.NDArray[Any]], kind: Any) -> Kept:
    """Where every number fits into the columns of a trace, and none is negative but those that mean "none"."""
    trace = Trace()
    room = trace.steps if kind is StepEnded else trace.tokens
    kept = np.ones(len(next(iter(columns.values()))), np.bool_)
    for field in fields(kind):
        values = columns.get(field.name)
        if values is None or values.dtype.kind != "i":
            continue
        own = getattr(room, field.name, values).dtype
        high = len(StepKind) - 1 if field.name == "kind" else min(LATEST_NS, np.iinfo(own).max)
        low = field.default if isinstance(field.default, int) and field.default < 0 else 0
        kept &= _between(values, low, high)
    return kept


def _device_times(steps: Rows[Blobs], layouts: Sequence[Layout], which: Int64, looked_at: Kept) -> Kept:
    """Where the stamps of a device, if there are any, fit the layout; all that is not looked at does."""
    kept = np.ones(len(steps), np.bool_)
    blobs = steps.fields["device_stamps"]
    lengths = np.fromiter(map(len, blobs), np.int64, len(blobs))
    for place, layout in enumerate(layouts):
        rows = np.flatnonzero(looked_at & (which == place) & (lengths > 0))
        fit = lengths[rows] == layout.stamp_count * WIDE.itemsize
        kept[rows[~fit]] = False
        rows = rows[fit]
        for begin in range(0, len(rows), TOGETHER):
            part = rows[begin : begin + TOGETHER]
            kept[part] = run_forward(device_times(blobs[part].tolist(), layout))
    return kept


def _forward(blobs: Blobs, wide: Kept) -> Kept:
    """Which steps have no negative gaps, as only those can whose gaps have 8 bytes, and no endless ones."""
    kept = np.ones(len(blobs), np.bool_)
    for row in np.flatnonzero(wide).tolist():
        gaps = blobs[row].view(WIDE)
        kept[row] = gaps.min() >= 0 and gaps.sum(dtype=np.float64) < LATEST_NS
    return kept


def _flat(blobs: Blobs, counts: Int64) -> npt.NDArray[Any]:
    """All gaps, step after step, ns: (gaps,), of 4 bytes if none needs more."""
    narrow = blobs.lengths == counts * NARROW.itemsize
    if narrow.all():
        return blobs.data.view(NARROW)
    parts = [blobs[row].view(NARROW if is_narrow else WIDE) for row, is_narrow in enumerate(narrow.tolist())]
    return np.concatenate(parts, dtype=np.int64)
