"""Rows of a session file are believed where they make sense, and left out with a notice where they do not.

What refers to something (a layout, a configuration, a step) refers to what came before it; times do not run backwards;
counts are counts. Nothing that passes can make a trace fail.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.protocol import (
    BeamsRanked,
    Calibrated,
    EngineEnded,
    Event,
    FloorBeaten,
    KernelsCaptured,
    LayoutDefined,
    ModelLoaded,
    SequencesEncoded,
    ShapeDefined,
    StepEnded,
    Token,
)
from engine.trace import calibration, device_ledger
from engine.trace.bulk import StepColumns
from engine.trace.kernels import Capture
from engine.trace.ledger import Int64, Layout
from engine.trace.phases import StepKind
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.packing import NARROW, WIDE
from engine.trace.recording.recorded import RecordedSession
from engine.trace.recording.rows import Notices, Rows
from engine.trace.shapes import ModelShape
from engine.trace.store import Trace

LATEST_NS = 2**61
MOST_EXPERTS = 65_536
MOST_LAYERS, MOST_LAYOUTS, MOST_CONFIGURATIONS = 4096, 1024, 100_000
MOST_ROOM = 64 * 2**30  # bytes of a column of layers; what of it is not written takes no memory
ABOUT_A_STEP = (BeamsRanked, FloorBeaten, KernelsCaptured, SequencesEncoded)
LAYERS_A_NAME = 16  # a layout names spans in most of its layers
Kept = npt.NDArray[np.bool_]


def checked(
    path: Path,
    metadata: dict[str, str],
    events: Sequence[tuple[int, Event]],
    steps: Rows,
    tokens: Rows,
    notices: Notices,
) -> RecordedSession:
    """The session that rows make. Raises RecordingError where there is nothing to begin with."""
    preamble, loaded, later = _split(path, events, notices)
    layers = len(loaded.model.layer_names)
    if layers > MOST_LAYERS or layers * 24 * len(steps) > MOST_ROOM:
        raise RecordingError(
            f"'{path.name}' has {layers:,} layers and {len(steps):,} steps: more than can be shown."
        )
    if problem := nonsense_of_shape(loaded.model.shape):
        raise RecordingError(f"'{path.name}' tells of a model {problem}: it is not opened.")
    known = _References(loaded)
    others = [(step, event) for step, event in later if known.take(step, event, notices)]
    columns, numbers = _steps(steps, tokens, known, notices)
    places = np.searchsorted(numbers, [step for step, _ in others]).tolist()
    placed = [(place, event) for place, (_, event) in zip(places, others, strict=True)]
    placed = _about_their_steps(placed, columns.fields["index"], notices)
    return RecordedSession(path, metadata, preamble, loaded, tuple(placed), columns, notices.sentences)


def _split(
    path: Path, events: Sequence[tuple[int, Event]], notices: Notices
) -> tuple[tuple[Event, ...], ModelLoaded, list[tuple[int, Event]]]:
    """What came before the model, the model, and what came later, in an order in which no step number falls."""
    preamble: list[Event] = []
    loaded: ModelLoaded | None = None
    later: list[tuple[int, Event]] = []
    latest = 0
    for step, event in events:
        if loaded is None:
            if isinstance(event, ModelLoaded):
                loaded = event
            else:
                preamble.append(event)
        elif isinstance(event, ModelLoaded):
            notices.add("a second model in one session")
        else:
            latest = max(latest, step)
            later.append((latest, event))
    if loaded is None:
        raise RecordingError(
            f"'{path.name}' does not say which model was measured: there is nothing to show."
        )
    return tuple(preamble), loaded, later


def _about_their_steps(
    others: list[tuple[int, Event]], indices: Int64, notices: Notices
) -> list[tuple[int, Event]]:
    """What is said of a step by its index is of one that is there. Where some are missing, all are counted anew."""
    first = int(indices[0]) if len(indices) else 0
    rows = dict(zip(indices.tolist(), range(len(indices)), strict=True))
    indices[:] = first + np.arange(len(indices))
    found: list[tuple[int, Event]] = []
    for place, event in others:
        if isinstance(event, ABOUT_A_STEP):
            row = rows.get(event.step, place)
            if row >= place:
                notices.add(f"events of the kind {type(event).__name__} about a step that does not exist")
                continue
            if event.step != first + row:
                event = replace(event, step=first + row)
        found.append((place, event))
    return found


class _References:
    """What steps may refer to, and from which step on: layouts by number, and how many configurations there are."""

    def __init__(self, loaded: ModelLoaded) -> None:
        self.layouts: dict[int, list[tuple[int, Layout]]] = {}
        self._configured: list[tuple[int, int]] = [(0, 1)]  # from which step on, how many

    def take(self, step: int, event: Event, notices: Notices) -> bool:
        """Whether an event makes sense here."""
        problem = _nonsense(event) or self._dangling(step, event)
        if problem:
            notices.add(f"events of the kind {type(event).__name__} {problem}")
        return not problem

    def _dangling(self, step: int, event: Event) -> str:
        match event:
            case LayoutDefined():
                return self._define(step, event)
            case ShapeDefined():
                return nonsense_of_shape(event.shape)
            case KernelsCaptured():
                return self._misfit(event)
        numbers = [getattr(event, "configuration", 0), *getattr(event, "configurations", ())]
        defines = hasattr(event, "effective")
        most = MOST_CONFIGURATIONS if defines else self._configured[-1][1]
        if not all(0 <= number < most for number in numbers):
            return "that refer to a configuration that does not exist"
        if defines:
            self._configured.append((step, max(self._configured[-1][1], *(number + 1 for number in numbers))))
        return ""

    def _define(self, step: int, event: LayoutDefined) -> str:
        count = sum(map(len, self.layouts.values()))
        layers = [name.layer for name in event.names]
        if count >= MOST_LAYOUTS or len(event.names) > LAYERS_A_NAME * MOST_LAYERS:
            return "that are too many, or too large"
        if layers and not (min(layers) >= -1 and max(layers) < min(MOST_LAYERS, LAYERS_A_NAME * len(layers))):
            return "that name a layer that cannot be"
        try:
            layout = Layout(event.names, event.codes)
        except ValueError as error:
            return f"that make no sense ({error})"
        self.layouts.setdefault(event.layout, []).append((step, layout))
        return ""

    def _misfit(self, event: KernelsCaptured) -> str:
        if event.layout not in self.layouts:
            return "whose layout does not exist"
        try:
            Capture(event, self.layouts[event.layout][-1][1])
        except ValueError:
            return "whose entries do not fit together"
        return ""

    def configurations(self, numbers: Int64) -> Int64:
        """How many configurations there are when each step, by its number, is made, (n,)."""
        begins = np.array([step for step, _ in self._configured])
        counts = np.array([count for _, count in self._configured])
        found: Int64 = counts[np.searchsorted(begins, numbers, side="right") - 1]
        return found

    def layouts_of(self, numbers: Int64, wanted: Int64) -> tuple[list[Layout], Int64]:
        """All layouts, and the place in them of that of each step, (n,), by number and layout; -1 for none."""
        layouts: list[Layout] = []
        found = np.full(len(numbers), -1, np.int64)
        for number, definitions in self.layouts.items():
            rows = np.flatnonzero(wanted == number)
            for step, layout in definitions:
                found[rows[np.searchsorted(numbers[rows], step) :]] = len(layouts)
                layouts.append(layout)
        return layouts, found


def _nonsense(event: Event) -> str:
    """What about the numbers of an event cannot be, "" for nothing."""
    for name in event.__slots__:
        value = getattr(event, name)
        if type(value) is int and not -1 <= value <= LATEST_NS and not isinstance(event, EngineEnded):
            return "whose times or counts cannot be"
    if isinstance(event, Calibrated):
        try:
            calibration.checked(event.calibration)
        except ValueError:
            return "that no machine measures"
    return ""


def nonsense_of_shape(shape: ModelShape | None) -> str:
    """What about the shape of a model cannot be, "" for nothing."""
    sides = (
        [] if shape is None else [shape.decoder, shape.encoder, shape.draft.decoder if shape.draft else ()]
    )
    for side in sides:
        if not 0 <= sum(count for count, _ in side) <= MOST_LAYERS or any(count < 0 for count, _ in side):
            return "whose layers cannot be counted"
        if any(layer.mlp and not 0 <= layer.mlp.experts <= MOST_EXPERTS for _, layer in side):
            return "whose experts cannot be counted"
    return "whose numbers cannot be" if _least(shape) < 0 else ""


def _least(value: Any) -> int:
    """The least whole number in a value of dataclasses and tuples."""
    if isinstance(value, int):
        return value
    if is_dataclass(value):
        return min((_least(getattr(value, field.name)) for field in fields(value)), default=0)
    return min(map(_least, value), default=0) if isinstance(value, tuple) else 0


# ---------------------------------------------------------------- steps and tokens


def _steps(steps: Rows, tokens: Rows, known: _References, notices: Notices) -> tuple[StepColumns, Int64]:
    """The steps that make sense, and the numbers by which others refer to them."""
    numbers = steps.numbers["step"]
    layouts, which = known.layouts_of(numbers, steps.fields["layout"])
    counts = np.array([*(layout.stamp_count - 1 for layout in layouts), 0])[which]  # -1: the 0 at the end
    lengths = np.fromiter(map(len, steps.last), np.int64, len(steps))
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


def _tokens(tokens: Rows, numbers: Int64, notices: Notices) -> tuple[Rows, Int64]:
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


def _device_times(steps: Rows, layouts: Sequence[Layout], which: Int64, looked_at: Kept) -> Kept:
    """Where the stamps of a device, if there are any, fit the layout; all that is not looked at does."""
    kept = np.ones(len(steps), np.bool_)
    stamps = steps.fields["device_stamps"]
    for row in np.flatnonzero(looked_at & stamps.astype(np.bool_)).tolist():
        try:
            device_ledger.checked(layouts[which[row]], stamps[row])
        except ValueError:
            kept[row] = False
    return kept


def _forward(blobs: Sequence[bytes], wide: Kept) -> Kept:
    """Which steps have no negative gaps, as only those can whose gaps have 8 bytes, and no endless ones."""
    kept = np.ones(len(blobs), np.bool_)
    for row in np.flatnonzero(wide).tolist():
        gaps = np.frombuffer(blobs[row], WIDE)
        kept[row] = gaps.min() >= 0 and gaps.sum(dtype=np.float64) < LATEST_NS
    return kept


def _flat(blobs: Sequence[bytes], counts: Int64) -> npt.NDArray[Any]:
    """All gaps, step after step, ns: (gaps,), of 4 bytes if none needs more."""
    lengths = np.fromiter(map(len, blobs), np.int64, len(blobs))
    if (lengths == counts * NARROW.itemsize).all():
        return np.frombuffer(b"".join(blobs), NARROW)
    widths = np.where(lengths == counts * NARROW.itemsize, 0, 1).tolist()
    parts = [np.frombuffer(blob, (NARROW, WIDE)[wide]) for blob, wide in zip(blobs, widths, strict=True)]
    return np.concatenate(parts, dtype=np.int64)
