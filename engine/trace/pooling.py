"""What charts draw of a trace: scales, and many steps pooled in few columns. Numbers only; no pixels are painted here.

Steps that share a column are pooled in buckets of a power of two steps, anchored at step 0, so that a step always
falls into the same bucket however the view moves, and each bucket shows its slowest step: spikes never vanish, and a
stacked bar is always one real step whose phases sum to its wall time.
"""

import math

import numpy as np
import numpy.typing as npt

from engine.trace.comparison import work_of
from engine.trace.generation_view import Bool, writes
from engine.trace.ledger import Int64
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, NO_LATENCY, Trace

HEADROOM = 1.25  # above what is usual
SAMPLED = 4096  # a scale is found from at most this many steps
#: Steps that yield no token; a scale that suits them is of no use for the others.
_PREFILL_LIKE = [KINDS.index(kind) for kind in (StepKind.PREFILL, StepKind.ENCODE, StepKind.BACKWARD)]
_CEILINGS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def bucket_size(span: float, columns: int) -> int:
    """The least power of two of steps such that `span` steps need at most `columns` buckets."""
    each = span / max(1, columns)
    return 1 if each <= 1 else 2 ** math.ceil(math.log2(each))


def nice_ceiling(value: float) -> float:
    """The least of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((c * power for c in _CEILINGS if c * power >= value * (1 - 1e-9)), 10 * power)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 places at multiples of 1, 2 or 5 times a power of ten, low ≤ tick ≤ high."""
    rough = (high - low) / max(1, most)
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [i * step for i in places]


def usual_ns(values: Int64, kinds: npt.NDArray[np.int8]) -> float:
    """The top of what is usual among values (n): the 99th percentile of decode steps (of all steps where
    there are none).

    Of less than 100 steps it is the 95th, so that one spike among few does not count as usual. Long
    stretches are thinned evenly. Prefill steps are left out, since one of them would flatten all others. 0
    without values.
    """
    thin = 1 + len(values) // SAMPLED
    values, kinds = values[::thin], kinds[::thin]
    usual = values[~np.isin(kinds, _PREFILL_LIKE)]
    chosen = usual if len(usual) else values
    if not len(chosen):
        return 0.0
    place = (len(chosen) - 1) * (99 if len(chosen) >= 100 else 95) // 100
    return float(np.partition(chosen, place)[place])


def usual_step_ns(trace: Trace, rows: slice) -> float:
    """The top of what is usual among the wall times of some steps."""
    return usual_ns(trace.steps.wall_ns[rows], scale_kinds(trace, rows))


def scale_kinds(trace: Trace, rows: slice) -> npt.NDArray[np.int8]:
    """The kinds of steps for a scale: one that was captured in depth counts as one that yields no token."""
    steps = trace.steps
    return np.where(steps.captured[rows], _PREFILL_LIKE[0], steps.kind[rows]).astype(np.int8)


def only_reads(trace: Trace) -> bool:
    """Whether the model writes nothing: its steps read sequences, and there are no tokens and no gaps between them."""
    return not writes(trace)


def is_preparation(trace: Trace, kinds: npt.NDArray[np.int8]) -> Bool:
    """Which steps, by their kinds (n), only take in a prompt. A model that does nothing but read has none."""
    if only_reads(trace):
        return np.zeros(len(kinds), np.bool_)
    return np.isin(kinds, _PREFILL_LIKE)


def slowest(wall_ns: Int64, size: int, buckets: range) -> Int64:
    """The row of the largest value in each bucket of `size` rows; the last bucket may be partly filled."""
    first, end = buckets.start * size, min(buckets.stop * size, len(wall_ns))
    if size == 1 or end <= first:
        return np.arange(first, max(first, end), dtype=np.int64)
    whole = (end - first) // size
    rows = np.arange(whole, dtype=np.int64) * size + first
    found: Int64 = rows + wall_ns[first : first + whole * size].reshape(whole, size).argmax(axis=1)
    rest = first + whole * size
    if rest < end:
        found = np.append(found, rest + int(wall_ns[rest:end].argmax()))
    return found


def latency_ns(trace: Trace, rows: Int64 | slice) -> Int64:
    """The latency of steps (n), NO_LATENCY where a step has none: the gap before its token; where the model only
    reads, its wall time a sequence, as the metrics define it.
    """
    steps = trace.steps
    if not only_reads(trace):
        gaps: Int64 = steps.itl_ns[rows]
        return gaps
    return np.where(steps.captured[rows], NO_LATENCY, steps.wall_ns[rows] // steps.batch[rows])


def lengths(trace: Trace, rows: Int64 | slice) -> Int64:
    """What latency grows with (n): the context of a step, or how long its sequences are with their padding."""
    work = work_of(trace, rows)
    return work // trace.steps.batch[rows] if only_reads(trace) else work


def configuration_numbers(trace: Trace) -> Int64:
    """A number for each configuration of the trace such that equal configurations share one:
    (configurations,).
    """
    known: dict[object, int] = {}
    numbers = [known.setdefault(c, len(known)) for c in trace.configurations]
    return np.asarray(numbers or [0], np.int64)
