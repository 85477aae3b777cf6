"""A trace in the trace-event format, which ui.perfetto.dev and chrome://tracing open.

Source: "Trace Event Format" (Google, 2016), JSON object form. Steps lie on a track of the host with their phases nested
in them, layer by layer, as begin and end events in the order in which they were stamped; generations, switches and
tokens have tracks of their own, and so have steps that were captured in depth; marks and warnings are instants through
all tracks; context, KV cache, batch and all that was sampled of the machine are counters.
`ts` is microseconds since the first event, written with three decimals: nothing of a nanosecond is lost.

A lane is what one clock saw of a step; a counter is one number over time. Both are rows of a table: another one is a
line.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from engine import __version__
from engine.trace.device_ledger import NO_TIME
from engine.trace.export.capture_tracks import capture_events, capture_tracks, first_moment
from engine.trace.export.excerpt import Excerpt, PlacedMark
from engine.trace.export.progress import Tick
from engine.trace.export.samples import KV_CACHE, lines
from engine.trace.ledger import END, Int64, Layout
from engine.trace.phases import LABELS, Phase
from engine.trace.store import KINDS, NO_LATENCY, NoteMark, Trace, WarningMark
from engine.trace.wording import change_sentences

PID = 1
TICK_EVERY = 128  # steps
PIECE = 1 << 16  # characters written at once


# ---------------------------------------------------------------- what is on it


@dataclass(frozen=True, slots=True)
class Lane:
    """A track on which steps lie. `stamps`: their time stamps (stamps,), ns, by trace and step, NO_TIME where the track
    has none; None: no step there.
    """

    tid: int
    name: str
    stamps: Callable[[Trace, int], Int64 | None]


DEVICE = 2
LANES = (Lane(1, "host: steps", Trace.stamps), Lane(DEVICE, "device: steps", Trace.device_stamps))
GENERATIONS, SETTINGS, TOKENS = 11, 12, 13
TRACKS = {
    **{lane.tid: lane.name for lane in LANES},
    GENERATIONS: "generations",
    SETTINGS: "settings",
    TOKENS: "tokens",
}

#: A counter's name, what it counts, when (ns), and its value then.
Count = tuple[str, str, int, int | float]


def _step_counts(excerpt: Excerpt) -> Iterator[Count]:
    """Context, cache and batch at the end of each step."""
    steps, rows = excerpt.trace.steps, slice(excerpt.rows.start, excerpt.rows.stop)
    ends = (steps.begin_ns[rows] + steps.wall_ns[rows]).tolist()
    named = (
        ("context", "tokens", steps.context_length),
        (KV_CACHE, "bytes", steps.cache_bytes),
        ("batch", "sequences", steps.batch),
    )
    for name, what, column in named:
        yield from (
            (name, what, at_ns, value) for at_ns, value in zip(ends, column[rows].tolist(), strict=True)
        )


def _sampled_counts(excerpt: Excerpt) -> Iterator[Count]:
    """What sensors said; the cache is told with each step."""
    for line in lines(excerpt.sampled):
        if line.name != KV_CACHE:
            for at_ns, value in zip(line.at_ns.tolist(), line.values.tolist(), strict=True):
                yield line.name, line.unit, at_ns, int(value) if line.unit == "bytes" else value


COUNTERS: tuple[Callable[[Excerpt], Iterator[Count]], ...] = (_step_counts, _sampled_counts)


# ---------------------------------------------------------------- writing


def write_perfetto(excerpt: Excerpt, file: BinaryIO, tick: Tick) -> None:
    """Write one JSON object: `traceEvents`, and in `otherData` what it is of."""
    head = _dumps({"displayTimeUnit": "ns", "otherData": _about(excerpt)})
    pieces, length = [head[:-1], ',"traceEvents":[\n'], 0
    for number, event in enumerate(events(excerpt, tick)):
        pieces.append(",\n" + event if number else event)
        length += len(event)
        if length > PIECE:
            file.write("".join(pieces).encode("utf-8", "backslashreplace"))
            pieces, length = [], 0
    file.write("".join([*pieces, "\n]}\n"]).encode("utf-8", "backslashreplace"))


def _about(excerpt: Excerpt) -> dict[str, str]:
    model, engine = excerpt.trace.model, excerpt.trace.engine
    told = {"made by": f"Cyclograph {__version__}", "steps": excerpt.words}
    if model is not None:
        told |= {"model": model.name, "architecture": model.architecture, "device": model.device}
    return told | (dict(engine.versions) if engine else {})


def events(excerpt: Excerpt, tick: Tick = lambda _: None) -> Iterator[str]:
    """Every event as a JSON object. On each track they come in order of time, and what is nested is inside."""
    origin = _origin(excerpt)
    yield from map(_json, _metadata(excerpt))
    kinds = (_generations, _switches, _instants, _tokens)
    yield from map(_json, chain.from_iterable(kind(excerpt, origin) for kind in kinds))
    yield from map(_json, capture_events(excerpt, origin, PID))
    for counter in COUNTERS:
        yield from (_counter(name, what, at - origin, value) for name, what, at, value in counter(excerpt))
    writers: dict[int, _StepWriter] = {}
    for place, row in enumerate(excerpt.rows):
        number = int(excerpt.trace.steps.layout[row])
        if number not in writers:
            writers[number] = _StepWriter(excerpt.trace.layouts[number])
        yield from writers[number].events(excerpt.trace, row, origin)
        if place % TICK_EVERY == 0:
            tick(place / len(excerpt.rows))


def _origin(excerpt: Excerpt) -> int:
    """The first moment (ns) of anything that is written."""
    moments = [int(excerpt.trace.steps.begin_ns[excerpt.rows[0]])]
    moments += [g.started.submitted_ns for g in excerpt.generations]
    moments += [m.at_ns - max(0, m.event.switch_ns) for m in excerpt.marks]
    moments += [j.event.at_ns for j in excerpt.joins] + [g.event.at_ns for g in excerpt.gaps]
    moments += [w.at_ns for w in excerpt.warnings] + first_moment(excerpt)
    moments += [int(part.at_ns[0]) for part in excerpt.sampled]
    return min(moments)


def _ts(ns: int) -> str:
    """Nanoseconds as microseconds with three decimals."""
    whole, rest = divmod(abs(ns), 1000)
    return f"{'-' if ns < 0 else ''}{whole}.{rest:03d}"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _json(event: dict[str, Any]) -> str:
    """An event as JSON; `ts` and `dur` are given in ns."""
    times = "".join(f',"{name}":{_ts(event.pop(name))}' for name in ("ts", "dur") if name in event)
    return _dumps(event)[:-1] + times + "}"


# ---------------------------------------------------------------- tracks


def _metadata(excerpt: Excerpt) -> Iterator[dict[str, Any]]:
    trace, rows = excerpt.trace, slice(excerpt.rows.start, excerpt.rows.stop)
    has_device = bool((trace.steps.device_offset[rows] >= 0).any())

    def told(tid: int, what: str, **args: object) -> dict[str, Any]:
        return {"ph": "M", "pid": PID, "tid": tid, "cat": "__metadata", "name": what, "args": args, "ts": 0}

    yield told(0, "process_name", name=f"Cyclograph: {trace.model.name}" if trace.model else "Cyclograph")
    for place, (tid, track) in enumerate({**TRACKS, **capture_tracks(excerpt)}.items()):
        if tid == DEVICE and not has_device:
            continue
        yield told(tid, "thread_name", name=track)
        yield told(tid, "thread_sort_index", sort_index=place)


def _slice(tid: int, name: str, begin_ns: int, duration_ns: int, args: dict[str, Any]) -> dict[str, Any]:
    whole = {"ph": "X", "pid": PID, "tid": tid, "cat": TRACKS[tid], "name": name, "args": args}
    return whole | {"ts": begin_ns, "dur": max(0, duration_ns)}


def _generations(excerpt: Excerpt, origin: int) -> Iterator[dict[str, Any]]:
    """As asynchronous events, which may overlap: one that is stopped for the next ends while that begins."""
    steps = excerpt.trace.steps
    for place, generation in enumerate(excerpt.generations):
        started, ended, last = generation.started, generation.ended, generation.end_step - 1
        begin = end = started.submitted_ns
        if last >= generation.first_step:
            end = max(end, int(steps.begin_ns[last] + steps.wall_ns[last]))
        end = max(end, ended.at_ns) if ended else end
        args = {
            "prompt tokens": len(started.prompt_ids),
            "most new tokens": started.max_new_tokens,
            "first step": generation.first_step,
            "ended": ended.reason if ended else "not over",
        }
        own = {"pid": PID, "tid": GENERATIONS, "cat": "generation", "id": f"0x{place:x}"}
        whole = own | {"name": f"generation {started.generation}"}
        tokenize = own | {"name": "tokenize the prompt"}
        yield {"ph": "b", **whole, "args": args, "ts": begin - origin}
        yield {"ph": "b", **tokenize, "ts": begin - origin}
        yield {"ph": "e", **tokenize, "ts": min(begin + started.tokenize_ns, end) - origin}
        yield {"ph": "e", **whole, "ts": end - origin}


def _switches(excerpt: Excerpt, origin: int) -> Iterator[dict[str, Any]]:
    for mark in excerpt.marks:
        begin = mark.at_ns - max(0, mark.event.switch_ns)
        args = {"before step": mark.step, "changes": change_sentences(mark.event)[:-1]}
        yield _slice(SETTINGS, mark.text or "switch", begin - origin, mark.event.switch_ns, args)


def _instants(excerpt: Excerpt, origin: int) -> Iterator[dict[str, Any]]:
    placed = sorted(((_moment(excerpt, mark), mark) for mark in excerpt.all_marks), key=lambda each: each[0])
    for at_ns, mark in placed:
        yield {
            "ph": "i",
            "s": "p",
            "pid": PID,
            "tid": SETTINGS,
            "cat": "warning" if isinstance(mark, WarningMark) else "mark",
            "name": mark.text or "mark",
            "args": {"step" if isinstance(mark, NoteMark) else "before step": mark.step}
            | _warning_args(mark),
            "ts": at_ns - origin,
        }


def _moment(excerpt: Excerpt, mark: PlacedMark) -> int:
    """When a mark was; a note, whenever it was written, stands where its step begins."""
    if isinstance(mark, NoteMark):
        return int(excerpt.trace.steps.begin_ns[mark.step])
    return mark.at_ns if isinstance(mark, WarningMark) else mark.event.at_ns


def _warning_args(mark: PlacedMark) -> dict[str, str]:
    if not isinstance(mark, WarningMark):
        return {}
    return {"sentence": mark.warning.sentence, "remedy": mark.warning.remedy}


def _tokens(excerpt: Excerpt, origin: int) -> Iterator[dict[str, Any]]:
    tokens = excerpt.trace.tokens
    for row in excerpt.tokens:
        args = {
            "id": int(tokens.id[row]),
            "step": int(tokens.step[row]),
            "sequence": int(tokens.sequence[row]),
        }
        yield {
            "ph": "i",
            "s": "t",
            "pid": PID,
            "tid": TOKENS,
            "cat": "token",
            "name": tokens.text[row] or "…",
            "args": args,
            "ts": int(tokens.arrival_ns[row]) - origin,
        }


def _counter(name: str, what: str, at_ns: int, value: int | float) -> str:
    told = f'"pid":{PID},"tid":0,"cat":"counter","name":{_dumps(name)},"args":{{{_dumps(what)}:{value}}}'
    return f'{{"ph":"C",{told},"ts":{_ts(at_ns)}}}'


# ---------------------------------------------------------------- steps


class _StepWriter:
    """Writes the steps of one layout: what does not change from step to step is made once."""

    def __init__(self, layout: Layout) -> None:
        self._heads = {lane.tid: [_head(layout, code, lane.tid) for code in layout.codes] for lane in LANES}

    def events(self, trace: Trace, row: int, origin: int) -> Iterator[str]:
        """The events of a step of this layout: itself, and what is nested in it."""
        told = {"name": _step_name(trace, row), "cat": "step", "args": _step_args(trace, row)}
        head = _dumps(told)[1:-1]
        for lane in LANES:
            stamps = lane.stamps(trace, row)
            if stamps is None:
                continue
            first, *inner, _ = (stamps - origin).tolist()
            common, nowhere = f'"pid":{PID},"tid":{lane.tid},"ts":', NO_TIME - origin
            yield f'{{"ph":"B",{head},{common}{_ts(first)}}}'
            for begin, moment in zip(self._heads[lane.tid], inner, strict=True):
                if moment != nowhere:
                    yield f"{begin}{_ts(moment)}}}"
            yield f'{{"ph":"E",{common}{_ts(int(stamps.max()) - origin)}}}'


def _head(layout: Layout, code: int, tid: int) -> str:
    """The event that a stamp with this code is, up to its time."""
    common = f'"pid":{PID},"tid":{tid},"ts":'
    if code == END:
        return f'{{"ph":"E",{common}'
    span = layout.names[code - 1]
    told = {"name": _span_name(span.phase, span.layer, span.name), "cat": LABELS[span.phase]}
    args = {"module": span.name} | ({"layer": span.layer} if span.layer >= 0 else {})
    return f'{{"ph":"B",{_dumps({**told, "args": args})[1:-1]},{common}'


def _span_name(phase: Phase, layer: int, module: str) -> str:
    if layer < 0:
        return LABELS[phase] if phase is not Phase.NORM else module
    return f"L{layer:02d} {LABELS[phase]}" if phase is not Phase.NORM else f"layer {layer}"


def _step_name(trace: Trace, row: int) -> str:
    return f"{KINDS[int(trace.steps.kind[row])].value} step {row}"


def _step_args(trace: Trace, row: int) -> dict[str, Any]:
    steps = trace.steps
    names = ("generation", "configuration", "context_length", "batch", "prompt_tokens", "drafted", "accepted")
    args: dict[str, Any] = {name: int(getattr(steps, name)[row]) for name in names}
    itl_ns = int(steps.itl_ns[row])
    args |= {} if itl_ns == NO_LATENCY else {"itl_ns": itl_ns}
    return args | {"text": "".join(trace.tokens.text[i] for i in trace.tokens_of(row))}
