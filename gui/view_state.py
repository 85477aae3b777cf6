"""What the charts draw, computed without Qt: a trace and view settings become arrays and scales.

Several steps can share a pixel. They are pooled in buckets of a power of two steps, anchored at step 0, so
that a step always falls into the same bucket however the view moves, and each bucket shows its slowest
step: spikes never vanish, and a stacked bar is always one real step whose phases sum to its wall time.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.trace.comparison import work_of
from engine.trace.generation_view import writes
from engine.trace.ledger import Int64
from engine.trace.phases import PHASE_COUNT, Phase, Role, StepKind
from engine.trace.statistics import RollingQuantiles
from engine.trace.store import KINDS, NO_LATENCY, Column, Trace

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]

ROLLING_WINDOW = 64
QUANTILES = (0.5, 0.95)
ENOUGH = 20  # a 95th percentile of fewer values would be little else than their largest
HEADROOM = 1.25
_SAMPLED = 4096  # a scale is found from at most this many steps
#: Steps that yield no token; a scale that suits them is of no use for the others.
_PREFILL_LIKE = [KINDS.index(kind) for kind in (StepKind.PREFILL, StepKind.ENCODE, StepKind.BACKWARD)]
_CEILINGS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

#: Phases from the bottom of a bar to its top.
STACK = tuple(Phase)


# ---------------------------------------------------------------- scales


@dataclass(frozen=True, slots=True)
class StepScale:
    """Where steps lie in pixels. Charts with the same range, left edge and width put the same step on the
    same pixels.
    """

    first: float
    last: float
    left: int
    width: int

    @property
    def pixels_per_step(self) -> float:
        """Width of one step."""
        return self.width / (self.last - self.first)

    @property
    def bucket(self) -> int:
        """Steps pooled in one column."""
        return bucket_size(self.last - self.first, self.width)

    def x(self, steps: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """Left edges of steps (n) in pixels, on whole pixels."""
        places = (np.asarray(steps, np.float64) - self.first) * self.pixels_per_step
        return (np.floor(places) + self.left).astype(np.int32)

    def step_at(self, x: float) -> float:
        """The place on the step axis under pixel x."""
        return self.first + (x - self.left) / self.pixels_per_step

    def bucket_at(self, x: int) -> int:
        """The bucket whose column holds pixel x: what `x` draws decides where the division rounds otherwise."""
        bucket = math.ceil(self.step_at(x + 1) / self.bucket) - 1
        if self.x(bucket * self.bucket) > x:
            return bucket - 1
        return bucket + 1 if self.x((bucket + 1) * self.bucket) <= x else bucket

    def buckets(self, count: int) -> range:
        """The buckets that are on screen and hold some of `count` steps."""
        size = self.bucket
        first = max(0, math.floor(self.first)) // size
        end = -(-min(count, math.ceil(self.last)) // size)
        return range(first, max(first, end))


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


def held_ceiling(current: float, needed: float) -> float:
    """The end of an axis that does not jump: it stays while `needed` fits and fills at least half of it."""
    return current if current / 2 <= needed <= current else nice_ceiling(needed)


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
    thin = 1 + len(values) // _SAMPLED
    values, kinds = values[::thin], kinds[::thin]
    usual = values[~np.isin(kinds, _PREFILL_LIKE)]
    chosen = usual if len(usual) else values
    if not len(chosen):
        return 0.0
    place = (len(chosen) - 1) * (99 if len(chosen) >= 100 else 95) // 100
    return float(np.partition(chosen, place)[place])


def visible_slice(scale: StepScale, count: int) -> slice:
    """The rows of `Steps` that are on screen."""
    first = min(count, max(0, math.floor(scale.first)))
    return slice(first, min(count, max(first, math.ceil(scale.last))))


# ---------------------------------------------------------------- token strip


@dataclass(frozen=True, slots=True)
class StripColumns:
    """Stacked columns. begin, end (c): first step of a column and of the next. step (c): the slowest step
    in it.

    edges_ns (c, PHASE_COUNT + 1): from 0 over the tops of the phases, in the order of STACK, to the step's
    wall time.
    """

    begin: Int64
    end: Int64
    step: Int64
    edges_ns: Int64
    prefill: Bool


def strip_columns(trace: Trace, size: int, buckets: range) -> StripColumns:
    """The columns of the token strip for some buckets of `size` steps."""
    steps = trace.steps
    count = len(steps)
    begin = np.arange(buckets.start, buckets.stop, dtype=np.int64) * size
    step = slowest(steps.wall_ns, size, buckets)
    edges = np.zeros((len(step), PHASE_COUNT + 1), np.int64)
    np.cumsum(steps.phases_ns[step], axis=1, out=edges[:, 1:])
    prefill = is_preparation(trace, steps.kind[step])
    return StripColumns(begin, np.minimum(begin + size, max(count, 1)), step, edges, prefill)


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


# ---------------------------------------------------------------- layer map


def map_columns(trace: Trace, role: Role, size: int, buckets: range) -> Int64:
    """The largest time of each layer in each bucket: (buckets, layers) ns. Zero: not told apart there."""
    values = trace.steps.layers_ns
    first, end = buckets.start * size, min(buckets.stop * size, len(values))
    part: Int64 = values[first:end, :, role]
    if size == 1 or not part.size:
        return part
    whole = len(part) // size
    layers = part.shape[1]
    pooled = np.empty((-(-len(part) // size), layers), np.int64)
    # copied to be contiguous first: three times as fast as np.maximum.reduceat along the first axis
    np.ascontiguousarray(part[: whole * size]).reshape(whole, size, layers).max(axis=1, out=pooled[:whole])
    if whole * size < len(part):
        pooled[whole] = part[whole * size :].max(axis=0)
    return pooled


def map_ceiling_ns(trace: Trace, role: Role, rows: slice) -> float:
    """The usual largest layer time among the steps on screen, which is the top of the colour scale."""
    values = trace.steps.layers_ns[rows, :, role]
    if not values.size:
        return 0.0
    thin = 1 + values.size // (8 * _SAMPLED)
    return usual_ns(values[::thin].max(axis=1), trace.steps.kind[rows][::thin])


# ---------------------------------------------------------------- latency


def latency_ns(trace: Trace, rows: Int64 | slice) -> Int64:
    """The latency of steps (n), NO_LATENCY where a step has none: the gap before its token; where the model only
    reads, its wall time a sequence, as the metrics define it.
    """
    steps = trace.steps
    latency: Int64 = steps.wall_ns[rows] // steps.batch[rows] if only_reads(trace) else steps.itl_ns[rows]
    return latency


def lengths(trace: Trace, rows: Int64 | slice) -> Int64:
    """What latency grows with (n): the context of a step, or how long its sequences are with their padding."""
    work = work_of(trace, rows)
    return work // trace.steps.batch[rows] if only_reads(trace) else work


@dataclass(frozen=True, slots=True)
class LatencyColumns:
    """Latency of buckets that hold an arrival. begin, end (c): steps. low, high, median, p95 (c): ns.

    configuration (c): the number of the configuration of the bucket's last step (see
    `configuration_numbers`).
    """

    begin: Int64
    end: Int64
    low: Int64
    high: Int64
    median: Float
    p95: Float
    configuration: Int64


class ArrivalSeries:
    """The latencies of a trace with rolling quantiles, brought up to date as the trace grows.

    A quantile is over the last 64 arrivals *under the same configuration*: one over both sides of a switch
    would hide what the switch did, and for alternating configurations it would be a mixture that no step
    ever had.
    """

    def __init__(self) -> None:
        self._steps = Column(np.int64)
        self._quantiles = Column(np.float64, (len(QUANTILES),))
        self._rolling: dict[int, RollingQuantiles] = {}
        self._seen = 0

    def update(self, trace: Trace, numbers: Int64) -> None:
        """Take in the steps that came since. `numbers`: see `configuration_numbers`."""
        count = len(trace.steps)
        if count == self._seen:
            return
        itl = latency_ns(trace, slice(self._seen, count))
        rows = np.flatnonzero(itl != NO_LATENCY)
        self._steps.extend(rows + self._seen)
        self._quantiles.extend(self._roll(itl[rows], numbers[trace.steps.configuration[rows + self._seen]]))
        self._seen = count

    def _roll(self, itl: Int64, numbers: Int64) -> Float:
        rolled = np.empty((len(itl), len(QUANTILES)))
        for number in np.unique(numbers).tolist():
            own = np.flatnonzero(numbers == number)
            rolling = self._rolling.setdefault(number, RollingQuantiles(ROLLING_WINDOW, QUANTILES))
            before = len(rolling)
            rolling.extend(itl[own])
            rolled[own] = np.stack([rolling.of(q)[before:] for q in QUANTILES], axis=1)
            rolled[own[: max(0, ENOUGH - before)], 1] = np.nan
        return rolled

    @property
    def steps(self) -> Int64:
        """The steps that have a latency (arrivals)."""
        return self._steps.values

    @property
    def rolling(self) -> Float:
        """Rolling median and 95th percentile at each arrival: (arrivals, 2) ns; NaN where too few came
        before.
        """
        return self._quantiles.values

    def columns(self, trace: Trace, numbers: Int64, size: int, buckets: range) -> LatencyColumns:
        """The latency of each bucket that holds an arrival."""
        arrivals = self.steps
        edges = np.arange(buckets.start, buckets.stop + 1, dtype=np.int64) * size
        places = np.searchsorted(arrivals, edges)
        held = places[1:] > places[:-1]
        begin, end = edges[:-1][held], np.minimum(edges[1:][held], max(1, len(trace.steps)))
        starts, last = places[:-1][held], places[1:][held] - 1
        if not len(starts):
            nothing, none = np.zeros(0, np.int64), np.zeros(0)
            return LatencyColumns(nothing, nothing, nothing, nothing, none, none, nothing)
        values = latency_ns(trace, arrivals[starts[0] : last[-1] + 1])
        begins = starts - starts[0]
        return LatencyColumns(
            begin,
            end,
            np.minimum.reduceat(values, begins),
            np.maximum.reduceat(values, begins),
            self.rolling[last, 0],
            self.rolling[last, 1],
            numbers[trace.steps.configuration[arrivals[last]]],
        )


def configuration_numbers(trace: Trace) -> Int64:
    """A number for each configuration of the trace such that equal configurations share one:
    (configurations,).
    """
    known: dict[object, int] = {}
    numbers = [known.setdefault(c, len(known)) for c in trace.configurations]
    return np.asarray(numbers or [0], np.int64)
