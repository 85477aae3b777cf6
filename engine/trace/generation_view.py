"""What the latency metrics look at: the steps and tokens of one generation, or of several, without the time
held.

Held time is what the user kept the engine waiting (pauses, switches, a start on hold): `held_ns` of a step
lies before that step. It belongs to no latency, so every arrival is moved to the earlier by all that was held
before it in its generation. Arrivals that coincided still coincide, and gaps between arrivals shrink by
exactly what was held in them.

A step that was captured in depth is as if it had not been: it is in no row here, its time counts as held, its
tokens count nowhere. Where it came before the first arrival, its generation has no latencies of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.protocol import Configuration, Family
from engine.trace.ledger import Int64
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, GenerationRecord, Trace

DECODE, VERIFY = KINDS.index(StepKind.DECODE), KINDS.index(StepKind.VERIFY)
NOT_JOINED = -1
Bool = npt.NDArray[np.bool_]
Rows = slice | Int64


@dataclass(frozen=True)
class Gaps:
    """Inter-token latencies: gap_ns (gaps,) between distinct arrivals, and the row of the step that ended
    each.
    """

    gap_ns: Int64
    step: Int64


@dataclass(frozen=True)
class Sequences:
    """The sequences (q,) that got tokens, of every generation: its row, when their first and last token arrived (ns
    since t0, without time held), and how many they got. joined_ns: when one that joined later was submitted, on the
    same clock; NOT_JOINED for the others.
    """

    generation: Int64
    joined_ns: Int64
    first_ns: Int64
    last_ns: Int64
    tokens: Int64


@dataclass(frozen=True)
class GenerationView:
    """Generations (g,), one after the other, with their steps (s,) and tokens (t,). Nothing in it is copied
    if it can be a view of the trace, so it is to be used at once, not kept.

    submitted_ns (g,): t0, wall clock. ended (g,): whether it is over. disturbed (g,): whether a step was captured
    in depth before its first token. step_begin, step_end, token_begin, token_end (g,): its rows in the arrays
    below. wall_ns, held_ns, prompt_tokens, kinds, batch, padding_tokens, drafted, accepted, context_length,
    floor_ns (s,), phases_ns (s, PHASE_COUNT): as in `Steps`.
    utilization (s,): MBU, NaN where it has no value. intensity (s,): operations for each byte that had to move, NaN
    where they are not known. tokens_per_step (s,): by how
    many tokens each sequence grew (see `growth`). generation (s,): row of its
    generation here. configuration (s,): the first configuration of the trace with the same settings, so that
    coming back to one is no new one. counted (s,): False for steps under another configuration than the one
    asked for. arrivals_ns (t,): since t0 of its generation, without time held. token_step (t,): the row of
    the step that yielded it. token_sequence (t,): the sequence that it continues. joined_ns: when a sequence (row of
    its generation, number) that joined later was submitted, since t0 of the generation and without time held.
    left_out: how many steps were captured in depth, and are in no row. writes: whether the model writes tokens at
    all (an encoder alone does not).
    """

    submitted_ns: Int64
    ended: Bool
    disturbed: Bool
    left_out: int
    step_begin: Int64
    step_end: Int64
    token_begin: Int64
    token_end: Int64
    wall_ns: Int64
    held_ns: Int64
    tokens_per_step: Int64
    prompt_tokens: Int64
    kinds: npt.NDArray[np.int8]
    batch: Int64
    padding_tokens: Int64
    drafted: Int64
    accepted: Int64
    context_length: Int64
    floor_ns: Int64
    utilization: npt.NDArray[np.float64]
    intensity: npt.NDArray[np.float64]
    phases_ns: Int64
    generation: Int64
    configuration: Int64
    counted: Bool
    arrivals_ns: Int64
    token_step: Int64
    token_sequence: npt.NDArray[np.int32]
    joined_ns: Mapping[tuple[int, int], int]
    writes: bool

    @cached_property
    def gaps(self) -> Gaps:
        """A gap for each arrival after the first of its generation, if its step counts; none between tokens
        that share one. Where sequences have joined, a step ends a gap for each time that one of them has waited since.
        """
        if self.joined_ns:
            return self._gaps_of_each()
        gap = np.diff(self.arrivals_ns)
        keep = (gap != 0) & self.counted[self.token_step[1:]]
        inside = (self.token_begin > 0) & (self.token_begin < len(self.arrivals_ns))
        keep[self.token_begin[inside] - 1] = False  # from one generation to the next
        return Gaps(gap[keep], self.token_step[1:][keep])

    def _gaps_of_each(self) -> Gaps:
        wait, is_first = self.waits
        keep = ~is_first & (wait != 0) & self.counted[self.token_step]
        apart = np.unique(np.stack((self.token_step[keep], wait[keep])), axis=1)
        return Gaps(apart[1], apart[0])

    @cached_property
    def waits(self) -> tuple[Int64, Bool]:
        """For each token (t,): how long since the one before of its sequence, and whether it is the first of one that
        has a time of its own to its first token (of a generation, or joined): then since that was submitted.

        The first token of a sequence that branched off waited as long as those with which it came.
        """
        among = 1 + int(self.token_sequence.max(initial=0))
        owner = self.generation[self.token_step]
        names = owner * among + self.token_sequence
        order = np.argsort(names, kind="stable")
        arrivals = self.arrivals_ns
        wait, is_first = np.zeros(len(names), np.int64), np.zeros(len(names), np.bool_)
        wait[order[1:]] = np.diff(arrivals[order])
        begins = order[np.flatnonzero(np.diff(names[order], prepend=-1))]
        for place in begins.tolist():
            row, sequence = int(owner[place]), int(self.token_sequence[place])
            first = int(self.token_begin[row])
            joined = self.joined_ns.get((row, sequence))
            if joined is not None:
                wait[place], is_first[place] = arrivals[place] - joined, True
            elif arrivals[place] == arrivals[first]:
                wait[place], is_first[place] = arrivals[place], True
            else:
                wait[place] = wait[np.searchsorted(self.token_step, self.token_step[place])]
        return wait, is_first

    @cached_property
    def whole(self) -> Bool:
        """Generations (g,) that yielded a token and of which every step counts: those that have latencies of
        their own.
        """
        others = np.concatenate(([0], np.cumsum(~self.counted)))
        whole: Bool = (self.token_end > self.token_begin) & (others[self.step_end] == others[self.step_begin])
        return whole & ~self.disturbed

    @cached_property
    def sequences(self) -> Sequences:
        """What each sequence got; several that are decoded together have latencies of their own."""
        among = 1 + int(self.token_sequence.max(initial=0))
        if among == 1:
            owner = np.flatnonzero(self.token_end > self.token_begin)
            begin, end = self.token_begin[owner], self.token_end[owner]
            joined = np.full(len(owner), NOT_JOINED)
            return Sequences(owner, joined, self.arrivals_ns[begin], self.arrivals_ns[end - 1], end - begin)
        owner = self.generation[self.token_step]
        names = owner * among + self.token_sequence
        known, first, counts = np.unique(names, return_index=True, return_counts=True)
        last = len(names) - 1 - np.unique(names[::-1], return_index=True)[1]
        numbers = zip((known // among).tolist(), (known % among).tolist(), strict=True)
        joined = np.array([self.joined_ns.get(number, NOT_JOINED) for number in numbers], np.int64)
        return Sequences(known // among, joined, self.arrivals_ns[first], self.arrivals_ns[last], counts)


def view_generation(trace: Trace, generation: GenerationRecord) -> GenerationView:
    """One generation of a trace."""
    return view_generations(trace, [generation])


def view_generations(
    trace: Trace,
    generations: Sequence[GenerationRecord] | None = None,
    configuration: int | None = None,
    counted: range | None = None,
) -> GenerationView:
    """Several generations of a trace (all of them by default), in the order of the trace.

    With `configuration` only steps under the settings of that one count, whenever they were in force; with `counted`
    only those rows of `Steps`.
    Raises IndexError when the trace has no such configuration.
    """
    records = sorted(trace.generations if generations is None else generations, key=lambda g: g.first_step)
    first = np.array([g.first_step for g in records], np.int64)
    counts = np.array([g.end_step for g in records], np.int64) - first
    steps = trace.steps
    rows = _rows(first, counts, np.cumsum(counts) - counts)
    rows, generation, held, disturbed = _without_captured(trace, rows, counts)
    left_out = int(counts.sum()) - len(generation)
    counts = np.bincount(generation, minlength=len(records))
    step_end = np.cumsum(counts)
    step_begin = step_end - counts
    submitted = np.array([g.started.submitted_ns for g in records], np.int64)
    token_rows, token_step = _token_rows(trace, rows)
    shift = submitted[generation] + _held_so_far(held, step_begin, generation)
    settings = _settings_of(trace.configurations, steps.configuration[rows])
    return GenerationView(
        submitted_ns=submitted,
        ended=np.array([g.ended is not None for g in records], np.bool_),
        disturbed=disturbed,
        left_out=left_out,
        step_begin=step_begin,
        step_end=step_end,
        token_begin=np.searchsorted(token_step, step_begin),
        token_end=np.searchsorted(token_step, step_end),
        wall_ns=steps.wall_ns[rows],
        held_ns=held,
        tokens_per_step=growth(trace, rows),
        prompt_tokens=steps.prompt_tokens[rows],
        kinds=steps.kind[rows],
        batch=steps.batch[rows],
        padding_tokens=steps.padding_tokens[rows],
        drafted=steps.drafted[rows],
        accepted=steps.accepted[rows],
        context_length=steps.context_length[rows],
        floor_ns=steps.floor_ns[rows],
        utilization=utilization(trace, rows),
        intensity=intensity(trace, rows),
        phases_ns=steps.phases_ns[rows],
        generation=generation,
        configuration=settings,
        counted=_counted(trace.configurations, settings, configuration) & _among(rows, len(held), counted),
        arrivals_ns=trace.tokens.arrival_ns[token_rows] - shift[token_step],
        token_step=token_step,
        token_sequence=trace.tokens.sequence[token_rows],
        joined_ns=_joined(trace, records),
        writes=writes(trace),
    )


def _joined(trace: Trace, records: Sequence[GenerationRecord]) -> dict[tuple[int, int], int]:
    """When sequences that joined were submitted, since t0 of their generation, without what was held until then.

    What is held before a step is taken to lie right before it: so much of it as came behind the submission is in no
    latency of the sequence.
    """
    places = {record.started.generation: place for place, record in enumerate(records)}
    joined = {}
    for mark in trace.joins:
        place, event = places.get(mark.event.generation), mark.event
        if place is None:
            continue
        record = records[place]
        steps = slice(record.first_step, mark.step + 1)
        begin, held = trace.steps.begin_ns[steps], trace.steps.held_ns[steps]
        until = held - np.clip(np.minimum(held, begin - event.submitted_ns), 0, None)
        walls = trace.steps.wall_ns[steps]
        until += walls * (trace.steps.captured[steps] & (begin + walls <= event.submitted_ns))
        joined[place, event.sequence] = event.submitted_ns - record.started.submitted_ns - int(until.sum())
    return joined


def utilization(trace: Trace, rows: Rows) -> npt.NDArray[np.float64]:
    """MBU of some steps (n,), NaN where it has no value (see engine.trace.floor.bandwidth_utilization).

    Of a step with a draft model it has none: that one reads its own weights several times, of another level of memory.
    Nor has a model that is split over devices: each of them has a bandwidth of its own.
    """
    steps = trace.steps
    wall, moved, drafted = steps.wall_ns[rows], steps.moved_bytes[rows], steps.drafted[rows]
    bandwidth = np.full(len(wall), np.nan)
    for number, told in trace.calibrations.items():
        mine = steps.calibration[rows] == number
        bandwidth[mine] = told.calibration.bandwidths(moved[mine])
    known = (wall > 0) & (moved > 0)
    shapes = [(number, trace.shape(number)) for number in range(len(trace.configurations))]
    split = [number for number, shape in shapes if shape is not None and shape.devices]
    if split:
        known &= ~np.isin(steps.configuration[rows], split)
    if drafted.any():
        by_model = [number for number, shape in shapes if shape is not None and shape.draft is not None]
        known &= ~((drafted > 0) & np.isin(steps.configuration[rows], by_model))
    bandwidth[~known] = np.nan
    share: npt.NDArray[np.float64] = moved * 1e9 / np.maximum(wall, 1) / bandwidth
    return share


def intensity(trace: Trace, rows: Rows) -> npt.NDArray[np.float64]:
    """Arithmetic intensity of some steps (n,): operations for each byte that had to move; NaN where not known."""
    moved = trace.steps.moved_bytes[rows].astype(np.float64)
    moved[moved <= 0] = np.nan
    ratio: npt.NDArray[np.float64] = trace.steps.operations[rows] / moved
    return ratio


def growth(trace: Trace, rows: Rows) -> Int64:
    """By how many tokens each sequence grew in some steps (n,): n_s of the metrics.

    A decode step adds one to each, also where beams do not agree on it yet; a verify step adds what it yielded.
    """
    steps = trace.steps
    kinds, counts = steps.kind[rows], steps.token_count[rows]
    grown: Int64 = np.where(kinds == VERIFY, counts, (kinds == DECODE) | (counts > 0)).astype(np.int64)
    return grown


def writes(trace: Trace) -> bool:
    """Whether the model of a trace writes tokens: all do, but an encoder alone."""
    return trace.model is None or trace.model.family is not Family.ENCODER


def _rows(first: Int64, counts: Int64, begin: Int64) -> Rows:
    """The rows of the trace that several runs of rows cover: a slice (no copies) where they follow each
    other.
    """
    end = first + counts
    if not len(first):
        return slice(0, 0)
    if (first[1:] == end[:-1]).all():
        return slice(int(first[0]), int(end[-1]))
    rows: Int64 = np.repeat(first - begin, counts) + np.arange(counts.sum())
    return rows


def _without_captured(trace: Trace, rows: Rows, counts: Int64) -> tuple[Rows, Int64, Int64, Bool]:
    """Without the steps that were captured in depth: rows, the generation of each and the time held before it.

    What such a step took, and what was held before it, is held before the next of its generation. Last: the generations
    (g,) in which one came before the first token.
    """
    steps = trace.steps
    generation = np.repeat(np.arange(len(counts)), counts)
    held, captured = steps.held_ns[rows], steps.captured[rows]
    disturbed = np.zeros(len(counts), np.bool_)
    if not captured.any():
        return rows, generation, held, disturbed
    places = np.arange(len(steps))[rows]
    begins = np.cumsum(counts) - counts
    yields = steps.token_count[rows] > 0
    for place in np.flatnonzero(captured).tolist():
        owner = generation[place]
        disturbed[owner] |= not yields[begins[owner] : place].any()
    passed = np.cumsum(np.where(captured, held + steps.wall_ns[rows], 0))
    kept = np.flatnonzero(~captured)
    before = np.concatenate(([0], passed[kept][:-1])) if len(kept) else passed[:0]
    first = (
        np.diff(generation[kept], prepend=-1) != 0
    )  # of each generation: what came before that is not its own
    before[first] = np.concatenate(([0], passed))[begins[generation[kept][first]]]
    return places[kept], generation[kept], held[kept] + passed[kept] - before, disturbed


def _token_rows(trace: Trace, rows: Rows) -> tuple[Rows, Int64]:
    """The rows of the tokens that these steps yielded, and the place within `rows` of the step of each."""
    if isinstance(rows, slice):
        begin, end = np.searchsorted(trace.tokens.step, (rows.start, rows.stop)).tolist()
        return slice(begin, end), trace.tokens.step[begin:end] - rows.start
    place = np.full(len(trace.steps), -1)
    place[rows] = np.arange(len(rows))
    steps = place[trace.tokens.step]
    kept = np.flatnonzero(steps >= 0)
    return kept, steps[kept]


def _held_so_far(held: Int64, begin: Int64, generation: Int64) -> Int64:
    """What was held in the generation up to each step, before it included."""
    total = np.concatenate(([0], np.cumsum(held)))
    so_far: Int64 = total[1:] - total[begin][generation]
    return so_far


def _settings_of(configurations: Sequence[Configuration], used: npt.NDArray[Any]) -> Int64:
    firsts: dict[Configuration, int] = {}
    alike = [firsts.setdefault(settings, place) for place, settings in enumerate(configurations)]
    if len(firsts) <= 1:
        return np.zeros(len(used), np.int64)
    settings: Int64 = np.array(alike, np.int64)[used]
    return settings


def _counted(configurations: Sequence[Configuration], settings: Int64, configuration: int | None) -> Bool:
    if configuration is None:
        return np.ones(len(settings), np.bool_)
    counted: Bool = settings == configurations.index(configurations[configuration])
    return counted


def _among(rows: Rows, count: int, wanted: range | None) -> Bool:
    """Which of these rows (count,) are wanted; all where nobody says."""
    if wanted is None:
        return np.ones(count, np.bool_)
    numbers = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
    among: Bool = (numbers >= wanted.start) & (numbers < wanted.stop)
    return among
