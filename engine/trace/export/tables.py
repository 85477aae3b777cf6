"""A trace as tables: steps, tokens, layers, marks, configurations, telemetry and kernels. Columns have names and kinds.

Every table is read in chunks of columns, so that a long session never lies in memory twice. Times are int64
nanoseconds of the host's monotonic clock; their names say which (`wall_ns`, `arrival_ns`). What does not exist is None.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.protocol import SettingChange
from engine.trace.export.excerpt import Excerpt, PlacedMark
from engine.trace.export.samples import Sampled, is_whole, plain
from engine.trace.ledger import Int64
from engine.trace.phases import PHASE_COUNT, Phase, Role
from engine.trace.store import KINDS, NO_LATENCY, GapMark, JoinMark, NoteMark, WarningMark
from engine.trace.telemetry import DEVICE, HOST, MEMORY

CHUNK_ROWS = 8192
WHOLE, NUMBER, TEXT = "whole", "number", "text"  # kinds of columns: int64, float64, or a string

Values = Sequence[Any]
Chunk = dict[str, Values]  # a column's name to its values, equally many each


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns by name with their kinds, in order, and how its rows are read.

    `rows`: about how many there will be, for progress.
    """

    name: str
    columns: dict[str, str]
    chunks: Callable[[Excerpt], Iterator[Chunk]]
    rows: Callable[[Excerpt], int]


def visible(text: str) -> str:
    """A text that any encoding can write: half of a surrogate pair becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _pieces(rows: range, size: int = CHUNK_ROWS) -> Iterator[range]:
    for begin in range(rows.start, rows.stop, size):
        yield range(begin, min(begin + size, rows.stop))


# ---------------------------------------------------------------- steps

#: Columns of `Steps` that are written as they are.
_PLAIN = (
    *("generation", "configuration", "begin_ns", "wall_ns", "held_ns"),
    *("context_length", "cache_bytes", "batch", "prompt_tokens", "padding_tokens", "drafted", "accepted"),
)
#: Those that are empty where they are not known.
_MAYBE = ("moved_bytes", "operations", "floor_ns")
_PHASES = {phase: f"{phase.name.lower()}_ns" for phase in map(Phase, range(PHASE_COUNT))}


def _step_chunks(excerpt: Excerpt) -> Iterator[Chunk]:
    steps = excerpt.trace.steps
    kinds = [kind.value for kind in KINDS]
    for piece in _pieces(excerpt.rows):
        rows = slice(piece.start, piece.stop)
        chunk: Chunk = {"step": list(piece), "kind": [kinds[kind] for kind in steps.kind[rows].tolist()]}
        chunk |= {name: getattr(steps, name)[rows].tolist() for name in _PLAIN}
        chunk |= {
            name: [value if value > 0 else None for value in getattr(steps, name)[rows].tolist()]
            for name in _MAYBE
        }
        chunk["itl_ns"] = [None if gap == NO_LATENCY else gap for gap in steps.itl_ns[rows].tolist()]
        chunk["captured"] = steps.captured[rows].astype(np.int64).tolist()
        chunk["tokens"] = steps.token_count[rows].tolist()
        phases = steps.phases_ns[rows]
        chunk |= {name: phases[:, phase].tolist() for phase, name in _PHASES.items()}
        yield chunk


STEPS = Table(
    "steps",
    {"step": WHOLE, "kind": TEXT}
    | dict.fromkeys(_PLAIN, WHOLE)
    | dict.fromkeys(_MAYBE, WHOLE)
    | {"itl_ns": WHOLE, "captured": WHOLE, "tokens": WHOLE}
    | dict.fromkeys(_PHASES.values(), WHOLE),
    _step_chunks,
    lambda excerpt: len(excerpt.rows),
)


# ---------------------------------------------------------------- tokens


def _token_chunks(excerpt: Excerpt) -> Iterator[Chunk]:
    tokens, steps = excerpt.trace.tokens, excerpt.trace.steps
    for piece in _pieces(excerpt.tokens):
        rows = slice(piece.start, piece.stop)
        yield {
            "token": list(piece),
            "step": tokens.step[rows].tolist(),
            "generation": steps.generation[tokens.step[rows]].tolist(),
            "sequence": tokens.sequence[rows].tolist(),
            "id": tokens.id[rows].tolist(),
            "arrival_ns": tokens.arrival_ns[rows].tolist(),
            "text": [visible(text) for text in tokens.text[rows]],
        }


TOKENS = Table(
    "tokens",
    dict.fromkeys(("token", "step", "generation", "sequence", "id", "arrival_ns"), WHOLE) | {"text": TEXT},
    _token_chunks,
    lambda excerpt: len(excerpt.tokens),
)


# ---------------------------------------------------------------- layers


def _layer_chunks(excerpt: Excerpt) -> Iterator[Chunk]:
    trace, layers = excerpt.trace, excerpt.trace.layer_count
    names = [visible(name) for name in trace.model.layer_names] if trace.model else []
    for piece in _pieces(excerpt.rows, max(1, CHUNK_ROWS // max(1, layers))):
        told = [row for row in piece if trace.layouts[int(trace.steps.layout[row])].layer_count]
        if told:
            values = trace.steps.layers_ns[told].reshape(-1, len(Role))
            yield {
                "step": np.repeat(told, layers).tolist(),
                "layer": list(range(layers)) * len(told),
                "name": names * len(told),
                **{f"{role.name.lower()}_ns": values[:, role].tolist() for role in Role},
            }


LAYERS = Table(
    "layers",
    {"step": WHOLE, "layer": WHOLE, "name": TEXT} | {f"{role.name.lower()}_ns": WHOLE for role in Role},
    _layer_chunks,
    lambda excerpt: len(excerpt.rows) * excerpt.trace.layer_count,
)


# ---------------------------------------------------------------- marks

_MARKS = {
    "step": WHOLE,
    "at_ns": WHOLE,
    "kind": TEXT,
    "key": TEXT,
    "requested": TEXT,
    "effective": TEXT,
    "reason": TEXT,
    "switch_ns": WHOLE,
    "configuration": WHOLE,
    "sequence": WHOLE,
    "text": TEXT,
}


def _mark_chunks(excerpt: Excerpt) -> Iterator[Chunk]:
    rows = [row for mark in excerpt.all_marks for row in _mark_rows(mark)]
    for piece in _pieces(range(len(rows))):
        part = rows[piece.start : piece.stop]
        yield {name: [row.get(name) for row in part] for name in _MARKS}


def _mark_rows(mark: PlacedMark) -> list[dict[str, Any]]:
    """A row a setting that was changed, or one for whatever else a mark can be."""
    if isinstance(mark, NoteMark):
        note = {"step": mark.step, "at_ns": mark.event.at_ns, "kind": "note"}
        return [note | {"text": visible(mark.event.text)}]
    text = visible(mark.text)
    if isinstance(mark, WarningMark):
        about = {"key": visible(mark.warning.about), "reason": visible(mark.warning.sentence)}
        return [{"step": mark.step, "at_ns": mark.at_ns, "kind": "warning", "text": text} | about]
    if isinstance(mark, GapMark):
        told = {
            "step": mark.step,
            "at_ns": mark.event.at_ns,
            "kind": "gap",
            "reason": visible(mark.event.reason),
        }
        return [told | {"configuration": mark.event.configuration, "text": text}]
    if isinstance(mark, JoinMark):
        event = mark.event
        told = {"step": mark.step, "at_ns": event.at_ns, "kind": "joined", "sequence": event.sequence}
        return [told | {"text": text}]
    whole = {"step": mark.step, "at_ns": mark.at_ns, "kind": mark.kind, "text": text}
    whole |= {"switch_ns": mark.event.switch_ns, "configuration": mark.event.configuration}
    return [whole | _change_row(change) for change in mark.event.changes] or [whole]


def _change_row(change: SettingChange) -> dict[str, str]:
    values = {"key": change.key, "requested": change.requested, "effective": change.effective}
    return {name: visible(str(value)) for name, value in (values | {"reason": change.reason}).items()}


MARKS = Table("marks", _MARKS, _mark_chunks, lambda excerpt: len(excerpt.all_marks))


# ---------------------------------------------------------------- configurations


def _configuration_chunks(excerpt: Excerpt) -> Iterator[Chunk]:
    rows = slice(excerpt.rows.start, excerpt.rows.stop)
    numbers = np.unique(excerpt.trace.steps.configuration[rows]).tolist()
    told = [(n, key, str(value)) for n in numbers for key, value in excerpt.trace.configurations[n]]
    for piece in _pieces(range(len(told))):
        part = told[piece.start : piece.stop]
        yield {
            "configuration": [number for number, _, _ in part],
            "key": [visible(key) for _, key, _ in part],
            "value": [visible(value) for _, _, value in part],
        }


CONFIGURATIONS = Table(
    "configurations",
    {"configuration": WHOLE, "key": TEXT, "value": TEXT},
    _configuration_chunks,
    lambda excerpt: sum(map(len, excerpt.trace.configurations)),
)


# ---------------------------------------------------------------- telemetry

#: Of all sources; a source has nothing in the columns of others.
_SAMPLED = tuple(dict.fromkeys((*HOST, *DEVICE, *MEMORY)))


def _telemetry_chunks(excerpt: Excerpt) -> Iterator[Chunk]:
    for source in excerpt.sampled:
        for piece in _pieces(range(len(source))):
            yield _telemetry_chunk(excerpt, source, slice(piece.start, piece.stop))


def _telemetry_chunk(excerpt: Excerpt, source: Sampled, rows: slice) -> Chunk:
    at_ns = source.at_ns[rows]
    begun = np.searchsorted(excerpt.trace.steps.begin_ns, at_ns, side="right") - 1
    chunk: Chunk = {
        "at_ns": at_ns.tolist(),
        "step": [step if step >= 0 else None for step in begun.tolist()],
        "source": [visible(source.source)] * len(at_ns),
    }
    for name in _SAMPLED:
        values = source.columns[name][rows].tolist() if name in source.columns else [np.nan] * len(at_ns)
        told = [plain(name, value) for value in values]
        chunk[name] = [int(value) if isinstance(value, bool) else value for value in told]
    return chunk


#: What sensors said; `step`: the last one that had begun by then. `source`: "machine", "engine", or a device.
TELEMETRY = Table(
    "telemetry",
    {"at_ns": WHOLE, "step": WHOLE, "source": TEXT}
    | {name: WHOLE if is_whole(name) else NUMBER for name in _SAMPLED},
    _telemetry_chunks,
    lambda excerpt: sum(map(len, excerpt.sampled)),
)


# ---------------------------------------------------------------- kernels


def _kernel_chunks(excerpt: Excerpt) -> Iterator[Chunk]:
    for row in excerpt.captures:
        capture = excerpt.trace.capture(row)
        assert capture is not None
        event = capture.event
        for piece in _pieces(range(len(capture))):
            rows = slice(piece.start, piece.stop)
            yield {
                "step": [row] * len(piece),
                "again": [int(event.again)] * len(piece),
                "entry": list(piece),
                "begin_ns": (capture.stamps[0] + capture.begin_ns[rows]).tolist(),
                "duration_ns": capture.duration_ns[rows].tolist(),
                "self_ns": capture.self_ns[rows].tolist(),
                "parent": _or_none(capture.parent[rows]),
                "launched_by": _or_none(capture.launched_by[rows]),
                "layer": _or_none(capture.layer[rows]),
                "phase": [Phase(phase).name.lower() for phase in capture.phase[rows].tolist()],
                "lane": [visible(event.lanes[lane]) for lane in capture.lane[rows].tolist()],
                "name": [visible(event.names[name]) for name in capture.name[rows].tolist()],
            }


def _or_none(places: Int64) -> list[int | None]:
    return [place if place >= 0 else None for place in places.tolist()]


#: Operations and kernels of the steps that were captured; `parent`, `launched_by`: entries of the same step.
KERNELS = Table(
    "kernels",
    dict.fromkeys(("step", "again", "entry", "begin_ns", "duration_ns", "self_ns"), WHOLE)
    | dict.fromkeys(("parent", "launched_by", "layer"), WHOLE)
    | dict.fromkeys(("phase", "lane", "name"), TEXT),
    _kernel_chunks,
    lambda excerpt: sum(len(excerpt.trace.captures[row].duration_ns) // 8 for row in excerpt.captures),
)

TABLES = {table.name: table for table in (STEPS, TOKENS, LAYERS, MARKS, CONFIGURATIONS, TELEMETRY, KERNELS)}
