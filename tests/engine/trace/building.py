"""Traces made by hand: the same events that an engine emits, with times chosen by the test."""

from collections.abc import Sequence

import numpy as np

from engine.protocol import (
    Configuration,
    Event,
    Family,
    GenerationEnded,
    GenerationStarted,
    KernelsCaptured,
    LayoutDefined,
    ModelFacts,
    ModelLoaded,
    SequenceJoined,
    SettingsChanged,
    StepEnded,
    Token,
)
from engine.trace.ledger import END
from engine.trace.phases import Phase, SpanName, StepKind
from engine.trace.store import Trace

MS = 1_000_000
T0 = 7_000 * MS  # no generation begins at 0, so that nobody forgets to subtract it

#: Layout 0: attention of layer 0, its MLP, sampling.
NAMES = (
    SpanName(Phase.ATTENTION, 0, "attn"),
    SpanName(Phase.MLP, 0, "mlp"),
    SpanName(Phase.SAMPLE, -1, "sample"),
)
APART = LayoutDefined(0, NAMES, (1, END, 2, END, 3, END))
#: Layout 1: the forward pass in one piece, as at detail level `step`.
WHOLE = LayoutDefined(1, (SpanName(Phase.FORWARD, -1, "forward"), NAMES[2]), (1, END, 2, END))


def loaded(
    layers: int = 1,
    effective: Configuration = (("precision", "float32"),),
    family: Family = Family.DECODER,
) -> ModelLoaded:
    facts = ModelFacts(
        "toy",
        "Toy",
        10,
        40,
        "float32",
        "cpu",
        tuple(f"layer {i}" for i in range(layers)),
        4,
        8,
        64,
        True,
        "bytes",
        1,
        family=family,
    )
    return ModelLoaded(0, facts, (), 0, effective)


def started(generation: int = 0, submitted_ns: int = T0) -> GenerationStarted:
    return GenerationStarted(generation, submitted_ns, 0, "hello", (1, 2, 3), 64)


def joined(
    sequence: int = 1, submitted_ns: int = T0, tokens: int = 23, generation: int = 0
) -> SequenceJoined:
    ids = tuple(range(tokens))
    return SequenceJoined(submitted_ns, 0, generation, sequence, submitted_ns, 0, "other", ids, 64)


def ended(generation: int = 0, tail: str = "") -> GenerationEnded:
    return GenerationEnded(generation, T0, "length", tail)


def changed(configuration: int, effective: Configuration) -> SettingsChanged:
    return SettingsChanged(T0, 0, (), 5 * MS, configuration, effective)


def step(
    arrivals_ns: Sequence[int] = (),
    *,
    stamps: Sequence[int] = (0, 1, 3, 3, 6, 6, 8, 10),
    kind: StepKind = StepKind.DECODE,
    generation: int = 0,
    configuration: int = 0,
    layout: int = 0,
    held_ns: int = 0,
    context_length: int = 0,
    prompt_tokens: int = 0,
    batch: int = 1,
    padding_tokens: int = 0,
    drafted: int = 0,
    accepted: int = 0,
    captured: bool = False,
    index: int = 0,
    sequences: Sequence[int] = (0,),
) -> StepEnded:
    """A step whose tokens arrive at the given wall clock times, for each sequence (index 0: nobody reads it)."""
    tokens = tuple(
        Token(i, chr(97 + i % 26), arrival, sequence)
        for i, arrival in enumerate(arrivals_ns)
        for sequence in sequences
    )
    row = np.array(stamps, np.int64).tobytes()
    return StepEnded(
        index,
        generation,
        kind,
        configuration,
        layout,
        row,
        held_ns,
        context_length,
        0,
        tokens,
        prompt_tokens,
        batch,
        padding_tokens,
        drafted,
        accepted,
        captured=captured,
    )


#: An entry of a capture: name, lane, begin (since the step's begin), duration, the entry that launched it.
Entry = tuple[str, int, int, int, int]


def kernels(
    entries: Sequence[Entry],
    step: int = 0,
    stamps: Sequence[int] = (0, 1, 3, 3, 6, 6, 8, 10),
    lanes: Sequence[str] = ("host",),
    host_lanes: int = 1,
    layout: int = 0,
    again: bool = False,
) -> KernelsCaptured:
    """What a profiler might have seen of a step with these stamps. Entries are given in the order of their begin."""
    names = tuple(dict.fromkeys(entry[0] for entry in entries))
    columns = np.array([entry[1:] for entry in entries], np.int64).reshape(-1, 4).T
    return KernelsCaptured(
        at_ns=0,
        step=step,
        layout=layout,
        stamps=np.array(stamps, np.int64).tobytes(),
        begin_ns=(columns[1] + stamps[0]).tobytes(),
        duration_ns=columns[2].tobytes(),
        name=np.array([names.index(entry[0]) for entry in entries], np.uint32).tobytes(),
        lane=columns[0].astype(np.uint32).tobytes(),
        launched_by=columns[3].astype(np.int32).tobytes(),
        names=names,
        lanes=tuple(lanes),
        host_lanes=host_lanes,
        exact_ns=3,
        again=again,
    )


def encode_step(wall_ns: int, batch: int = 1, tokens: int = 0, padding: int = 0, **others: int) -> StepEnded:
    """An encode step of this wall time, none of it in a phase."""
    return step(
        kind=StepKind.ENCODE,
        stamps=(0,) * 7 + (wall_ns,),
        batch=batch,
        prompt_tokens=tokens,
        padding_tokens=padding,
        **others,
    )


def trace_of(*events: Event, layers: int = 1, family: Family = Family.DECODER) -> Trace:
    """A trace of these events, both layouts defined."""
    trace = Trace(loaded(layers, family=family))
    trace.extend([APART, WHOLE, *events])
    return trace


def generation_at(
    arrivals_ms: Sequence[Sequence[float]], generation: int = 0, submitted_ns: int = T0, batch: int = 1
) -> list[Event]:
    """A whole generation: for each step the times, ms after it was submitted, at which its tokens arrived."""
    rows = [[submitted_ns + round(a * MS) for a in step_arrivals] for step_arrivals in arrivals_ms]
    steps = [step(row, generation=generation, batch=batch, sequences=range(batch)) for row in rows]
    return [started(generation, submitted_ns), *steps, ended(generation)]
