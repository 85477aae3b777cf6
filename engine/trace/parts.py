"""The parts of one step held against what each of them had to move and to compute: attention, MLP, head and the rest.

An event tells the bytes and operations of a whole step. What of them belongs to which part follows from the model's
shape and from what the step was given; that is found again from the trace, and believed only where it comes to exactly
the bytes and operations that the event has told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from engine.trace.calibration import SECOND_NS
from engine.trace.floor import Costs, Fed, Part, Work
from engine.trace.generation_view import growth
from engine.trace.phases import Phase, StepKind
from engine.trace.shapes import ModelShape
from engine.trace.store import Trace

#: In which phases a part's time is; attention to an encoder's output is attention.
PHASES: dict[Part, tuple[Phase, ...]] = {
    Part.ATTENTION: (Phase.ATTENTION, Phase.ATTENTION_CORE, Phase.CROSS_ATTENTION),
    Part.MLP: (Phase.MLP, Phase.MIXER),
    Part.HEAD: (Phase.HEAD,),
    Part.REST: (Phase.EMBED, Phase.NORM),
    Part.DRAFT: (Phase.DRAFT,),
}
_MOST_PIECES = 64  # of a training step
_EACH_WAY = 2  # tokens by which read-back on its way may move the context that a step tells


@dataclass(frozen=True, slots=True)
class PartOfStep:
    """A part of one step. `wall_ns`: None where the step's detail does not tell it apart; `floor_ns`: 0 without a
    calibration of what the model computes, or with one for each of several devices.
    """

    part: Part
    work: Work
    wall_ns: int | None
    floor_ns: int

    @property
    def share(self) -> float | None:
        """Its floor over its wall time: 1 would be the physical limit. None where one of them is not known."""
        return self.floor_ns / self.wall_ns if self.floor_ns > 0 and self.wall_ns else None

    @property
    def rate(self) -> float | None:
        """Operations a second that were achieved; None where its time is not known."""
        return self.work.operations * SECOND_NS / self.wall_ns if self.wall_ns else None


def parts_of(trace: Trace, step: int) -> tuple[PartOfStep, ...]:
    """The parts of a step that had something to do, in the order of Part; none where they are not known.

    Bytes of a part come from the level of memory that those of the whole step come from, since all of them are read
    between two times that a part reads its own. A part of which the cache still holds some may therefore beat its
    floor, as a whole step cannot.
    """
    shape, fed = trace.shape(int(trace.steps.configuration[step])), fed_of(trace, step)
    if shape is None or fed is None:
        return ()
    told = trace.calibrations.get(int(trace.steps.calibration[step])) if not shape.devices else None
    costs, found = _costs(shape), []
    for part, work in costs.parts(fed).items():
        if work.nbytes <= 0 and work.operations <= 0:
            continue
        drafts = part is Part.DRAFT and fed.drafted > 0
        working_set = work.nbytes / fed.drafted if drafts else costs.working_set(fed)
        floor_ns = 0
        if told is not None and (rate := told.calibration.rate(costs.computes(fed))):
            floor_ns = told.calibration.floor_ns(work.nbytes, work.operations, rate, working_set)
        found.append(PartOfStep(part, work, _wall_ns(trace, step, part), floor_ns))
    return tuple(found)


def fed_of(trace: Trace, step: int) -> Fed | None:
    """What a step was given; None where nothing comes to the bytes and operations that it told."""
    shape = trace.shape(int(trace.steps.configuration[step]))
    told = int(trace.steps.moved_bytes[step]), int(trace.steps.operations[step])
    if shape is None or min(told) <= 0:
        return None
    costs = _costs(shape)
    found = (fed for fed in _guesses(trace, shape, step) if costs.told(fed, None)[:2] == told)
    first = next(found, None)
    if first is None or first.kind is not StepKind.BACKWARD:
        return first
    # in mixed precision as much moves, and the floor differs
    known, floor_ns = (
        trace.calibrations.get(int(trace.steps.calibration[step])),
        int(trace.steps.floor_ns[step]),
    )
    calibration = known.calibration if known is not None else None
    return next((fed for fed in (first, *found) if costs.told(fed, calibration)[2] == floor_ns), first)


def computes_of(trace: Trace, step: int) -> tuple[str, ...]:
    """What the products of a step are of, as far as it is known."""
    shape = trace.shape(int(trace.steps.configuration[step]))
    if shape is None:
        return ()
    fed = fed_of(trace, step) if trace.kind(step) is StepKind.BACKWARD else None
    return _costs(shape).computes(fed) if fed is not None else shape.computes


@lru_cache(maxsize=16)
def _costs(shape: ModelShape) -> Costs:
    return Costs(shape)


def _wall_ns(trace: Trace, step: int, part: Part) -> int | None:
    phases = trace.steps.phases_ns[step]
    if part is not Part.DRAFT and (phases[Phase.FORWARD] or phases[Phase.BACKWARD]):
        return None  # in one piece: what there is of its parts would be too little
    total = sum(int(phases[phase]) for phase in PHASES[part])
    return total or None


def _guesses(trace: Trace, shape: ModelShape, step: int) -> Iterator[Fed]:
    """What a step can have been given, the likeliest first."""
    steps = trace.steps
    kind, rows = trace.kind(step), int(steps.batch[step])
    read = (int(steps.prompt_tokens[step]) + int(steps.padding_tokens[step])) // max(1, rows)
    drafted, context = int(steps.drafted[step]), int(steps.context_length[step])
    if kind is StepKind.ENCODE:
        yield from (Fed(kind, rows, read, logits=logits) for logits in (1, read))
        return
    source = _source(trace, shape, step)
    if kind is StepKind.BACKWARD:
        whole = Fed(kind, 1, read, logits=read, source=source, begins=source > 0)
        for pieces in range(1, min(_MOST_PIECES, read) + 1):
            yield whole._replace(pieces=pieces)
            yield whole._replace(pieces=pieces, mixed=True)
        return
    grown = int(growth(trace, slice(step, step + 1))[0])
    keeps = shape.cache != "none"
    if kind is StepKind.PREFILL:
        behind = context - grown - read
        cases = [(read, past) for past in dict.fromkeys((behind, 0)) if past >= 0]
    elif not keeps:
        cases = [(positions, 0) for positions in _around(context - grown + drafted)]
    else:
        cases = [(1 + drafted, past) for past in _around(context - grown - 1)]
    reserved = _reserved(trace, shape, step)
    for positions, past in cases:
        for logits in dict.fromkeys((1 + drafted, positions)):
            yield Fed(
                kind,
                rows,
                positions,
                past=past,
                logits=logits,
                reserved=reserved,
                source=source,
                begins=source > 0 and not past,
                drafted=drafted,
            )


def _around(guess: int) -> list[int]:
    """A number of tokens and those next to it, the nearest first."""
    near = sorted(range(-_EACH_WAY, _EACH_WAY + 1), key=abs)
    return [guess + by for by in near if guess + by >= 0]


def _source(trace: Trace, shape: ModelShape, step: int) -> int:
    """Tokens that the encoder of a model with two sides has read for a step of its decoder."""
    if not (shape.encoder and shape.decoder):
        return 0
    number = int(trace.steps.generation[step])
    found = (g.started for g in trace.generations if g.started.generation == number)
    return next((len(started.prompt_ids) for started in found), 0)


def _reserved(trace: Trace, shape: ModelShape, step: int) -> int:
    """Length of a static cache, of which a step tells the bytes."""
    each = shape.token_bytes * max(1, int(trace.steps.batch[step]))
    return int(trace.steps.cache_bytes[step]) // each if shape.cache == "static" and each else 0
