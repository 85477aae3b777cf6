"""A reference: a trace, or a stretch of one, pinned for comparison, reduced to what is drawn and compared of it.

It is a copy: what becomes of the trace afterwards does not matter to it. Two runs are laid over each other where the
first token of each generation came, since what comes before that depends on the prompt; or by the length of context.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.protocol import Configuration, ModelFacts
from engine.trace.comparison import comparable_rows, time_of, work_of
from engine.trace.ledger import Int64
from engine.trace.metrics import Measured
from engine.trace.pooling import configuration_numbers, latency_ns, lengths, only_reads
from engine.trace.rolling import RollingByConfiguration
from engine.trace.statistics import BLOCK, LOOKS, Float, warm_up
from engine.trace.store import NO_LATENCY, GenerationRecord, Trace

if TYPE_CHECKING:
    from engine.trace.export.excerpt import Excerpt  # whose package has every format

NOWHERE = np.iinfo(np.int64).min  # the offset of a step that lies in no generation with a first token
MOST_BINS, FEWEST_IN_BIN = 64, 8  # of context: a median of fewer latencies is hardly one


@dataclass(frozen=True, slots=True)
class Series:
    """Values (n,) ns at offsets (n,), rising."""

    offset: Int64
    value_ns: Float

    def at(self, offsets: Int64) -> Float:
        """The latest value by some offsets (m,): NaN before the first one, behind the last one, and NOWHERE."""
        if not len(self.offset):
            return np.full(len(offsets), np.nan)
        place = np.searchsorted(self.offset, offsets, side="right") - 1
        known = (place >= 0) & (offsets <= self.offset[-1])
        return np.where(known, self.value_ns[place], np.nan)


@dataclass(frozen=True, slots=True)
class Course:
    """How one generation went. Offsets count steps from the one that yielded its first token, which has offset 0.

    walls: of every step, without those that were captured in depth. usual_walls, usual_latencies: rolling medians of
    the 64 before under the same configuration, of the steps that can be compared and of the latencies.
    """

    walls: Series
    usual_walls: Series
    usual_latencies: Series


@dataclass(frozen=True, slots=True)
class ContextCurve:
    """Latency against the length of context, of one configuration: begin, end (b,) tokens of each bin that holds any,
    end not in it; median_ns (b,).
    """

    begin: Int64
    end: Int64
    median_ns: Float


@dataclass(frozen=True, eq=False)
class Reference:
    """What is kept of a trace. `steps`: which of its steps, in words. `processor`: of the machine, "" if not known.

    `configurations`: all that its steps ran under, the one that most of them did first. `measured`: every metric over
    its steps. `course`: of its longest generation, None where none got a first token; `generations`: how many it has.
    `curves`: latency by context, one for each configuration. time_ns, work (k,): of the steps under the first
    configuration that can be compared with others, warm-up left out (see engine.trace.comparison). `reads`: whether its
    model only reads, so that latencies are times of a sequence.
    """

    name: str
    steps: str
    model: ModelFacts | None
    processor: str
    configurations: tuple[Configuration, ...]
    generations: int
    measured: Mapping[str, Measured]
    course: Course | None
    curves: tuple[ContextCurve, ...]
    time_ns: Int64
    work: Int64
    reads: bool


def reference_of(excerpt: "Excerpt", name: str) -> Reference:
    """What of an excerpt of a trace is kept for comparison. It may be called on any thread."""
    trace, rows = excerpt.trace, excerpt.rows
    numbers = configuration_numbers(trace)[trace.steps.configuration[rows.start : rows.stop]]
    comparable = comparable_rows(trace, rows.start, rows.stop)
    own = numbers[comparable - rows.start] if len(comparable) else numbers
    ranked = sorted(set(numbers.tolist()), key=lambda number: -int((own == number).sum()))
    compared = comparable[own == ranked[0]] if len(comparable) else comparable
    time_ns, work = time_of(trace, compared), work_of(trace, compared)
    steady = warm_up(time_ns[: LOOKS[0] * BLOCK])
    different = list(dict.fromkeys(trace.configurations))
    return Reference(
        name=name,
        steps=excerpt.words,
        model=trace.model,
        processor=trace.engine.processor if trace.engine else "",
        configurations=tuple(different[number] for number in ranked) if different else (),
        generations=len(excerpt.generations),
        measured=excerpt.measured,
        course=_course(excerpt, numbers),
        curves=_curves(trace, rows, numbers),
        time_ns=time_ns[steady:],
        work=work[steady:],
        reads=only_reads(trace),
    )


def _course(excerpt: "Excerpt", numbers: Int64) -> Course | None:
    """That of the generation with most steps in the excerpt; of several the latest."""
    trace, rows = excerpt.trace, excerpt.rows
    longest, most = None, 0
    for record in excerpt.generations:
        inside = min(record.end_step, rows.stop) - max(record.first_step, rows.start)
        if inside >= max(1, most) and first_token(trace, record) is not None:
            longest, most = record, inside
    first = first_token(trace, longest) if longest is not None else None
    if longest is None or first is None:
        return None
    begin, end = max(longest.first_step, rows.start), min(longest.end_step, rows.stop)
    steps = begin + np.flatnonzero(~trace.steps.captured[begin:end])
    latencies = latency_ns(trace, slice(rows.start, end))
    arrivals = rows.start + np.flatnonzero(latencies != NO_LATENCY)
    alike = np.unique(comparable_rows(trace, rows.start, end))

    def medians(found: Int64, values_ns: Int64) -> Series:
        rolled = RollingByConfiguration().extend(values_ns, numbers[found - rows.start])[:, 0]
        own = found >= begin
        return Series(found[own] - first, rolled[own])

    return Course(
        Series(steps - first, trace.steps.wall_ns[steps].astype(np.float64)),
        medians(alike, trace.steps.wall_ns[alike]),
        medians(arrivals, latencies[arrivals - rows.start]),
    )


def _curves(trace: Trace, rows: range, numbers: Int64) -> tuple[ContextCurve, ...]:
    """Each latency counts in the bin that its context falls into."""
    latencies = latency_ns(trace, slice(rows.start, rows.stop))
    timed = np.flatnonzero(latencies != NO_LATENCY)
    context = lengths(trace, rows.start + timed)
    of_timed = numbers[timed]
    found = []
    for number in np.unique(of_timed).tolist():
        own = of_timed == number
        found.append(context_curve(context[own], latencies[timed[own]]))
    return tuple(found)


def context_curve(context: Int64, latency_ns: Int64) -> ContextCurve:
    """Medians of latencies (n,) in bins of equally many tokens of context (n,): so many that 8 fall into one on
    average, 64 at most. Raises ValueError without a latency.
    """
    low, high = int(context.min()), int(context.max()) + 1
    bins = min(MOST_BINS, max(1, len(context) // FEWEST_IN_BIN), high - low)
    edges = np.array([low + number * (high - low) // bins for number in range(bins + 1)], np.int64)
    place = np.searchsorted(edges, context, side="right") - 1
    order = np.argsort(place, kind="stable")
    held, starts = np.unique(place[order], return_index=True)
    medians = np.array([np.median(part) for part in np.split(latency_ns[order], starts[1:])])
    return ContextCurve(edges[held], edges[held + 1], medians)


# ---------------------------------------------------------------- laying over


def first_token(trace: Trace, record: GenerationRecord) -> int | None:
    """The row of the step with which a generation's first token came (or its first result); None: not yet."""
    if record.end_step <= record.first_step:
        return None
    if only_reads(trace):
        return record.first_step
    yields = trace.steps.token_count[record.first_step : record.end_step] > 0
    place = int(yields.argmax())
    return record.first_step + place if yields[place] else None


class Beginnings:
    """Where each generation of a trace that grows begins, and where it got its first token."""

    def __init__(self) -> None:
        self._begin = np.zeros(0, np.int64)
        self._first = np.zeros(0, np.int64)  # NOWHERE for a generation without a token

    def update(self, trace: Trace) -> None:
        """Take in what came since. Only the latest generation can still change."""
        known = len(self._begin)
        if known == len(trace.generations) and (not known or self._first[-1] != NOWHERE):
            return
        kept = max(0, known - 1)
        news = trace.generations[kept:]
        firsts = [first_token(trace, record) for record in news]
        begins = np.array([record.first_step for record in news], np.int64)
        found = np.array([NOWHERE if first is None else first for first in firsts], np.int64)
        self._begin = np.concatenate((self._begin[:kept], begins))
        self._first = np.concatenate((self._first[:kept], found))

    @property
    def counts(self) -> tuple[int, int]:
        """How many generations there are, and how many of them have a first token, and so a place in a reference."""
        return len(self._first), int(np.count_nonzero(self._first != NOWHERE))

    def begin_of(self, rows: Int64) -> Int64:
        """The first row of the generation that each row (n,) belongs to, also behind the last that there is; 0 before
        the first.
        """
        if not len(self._begin):
            return np.zeros(len(rows), np.int64)
        owner = np.searchsorted(self._begin, rows, side="right") - 1
        return np.where(owner < 0, 0, self._begin[owner])

    def offsets(self, rows: Int64) -> Int64:
        """How many steps behind its generation's first token each row (n,) lies; NOWHERE where there is none."""
        if not len(self._begin):
            return np.full(len(rows), NOWHERE)
        owner = np.searchsorted(self._begin, rows, side="right") - 1
        first = np.where(owner < 0, NOWHERE, self._first[owner])
        return np.where(first == NOWHERE, NOWHERE, rows - np.where(first == NOWHERE, 0, first))
