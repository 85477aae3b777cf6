"""What the charts draw, computed without Qt: a trace and view settings become arrays and scales.

Several steps can share a pixel. They are pooled in buckets of a power of two steps, anchored at step 0, so
that a step always falls into the same bucket however the view moves, and each bucket shows its slowest
step: spikes never vanish, and a stacked bar is always one real step whose phases sum to its wall time.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.trace.ledger import Int64
from engine.trace.phases import PHASE_COUNT, Phase, Role
from engine.trace.pooling import HEADROOM as HEADROOM
from engine.trace.pooling import SAMPLED, scale_kinds
from engine.trace.pooling import bucket_size as bucket_size
from engine.trace.pooling import configuration_numbers as configuration_numbers
from engine.trace.pooling import is_preparation as is_preparation
from engine.trace.pooling import latency_ns as latency_ns
from engine.trace.pooling import lengths as lengths
from engine.trace.pooling import nice_ceiling as nice_ceiling
from engine.trace.pooling import only_reads as only_reads
from engine.trace.pooling import slowest as slowest
from engine.trace.pooling import ticks as ticks
from engine.trace.pooling import usual_ns as usual_ns
from engine.trace.pooling import usual_step_ns as usual_step_ns
from engine.trace.rolling import QUANTILES, RollingByConfiguration
from engine.trace.store import NO_LATENCY, Column, Trace

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]

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


def held_ceiling(current: float, needed: float) -> float:
    """The end of an axis that does not jump: it stays while `needed` fits and fills at least half of it."""
    return current if current / 2 <= needed <= current else nice_ceiling(needed)


def visible_slice(scale: StepScale, count: int) -> slice:
    """The rows of `Steps` that are on screen."""
    first = min(count, max(0, math.floor(scale.first)))
    return slice(first, min(count, max(first, math.ceil(scale.last))))


# ---------------------------------------------------------------- token strip


@dataclass(frozen=True, slots=True)
class StripColumns:
    """Stacked columns. begin, end (c): first step of a column and of the next. step (c): the slowest step
    in it.

    prefill (c): whether it is of another kind than what is compared: it takes in a prompt, or was captured in depth.
    edges_ns (c, PHASE_COUNT + 1): from 0 over the tops of the phases, in the order of STACK, to the step's
    wall time. floor_ns (c): the floor of that same step, 0 where it is not known.
    """

    begin: Int64
    end: Int64
    step: Int64
    edges_ns: Int64
    prefill: Bool
    floor_ns: Int64


def strip_columns(trace: Trace, size: int, buckets: range) -> StripColumns:
    """The columns of the token strip for some buckets of `size` steps."""
    steps = trace.steps
    count = len(steps)
    begin = np.arange(buckets.start, buckets.stop, dtype=np.int64) * size
    step = slowest(steps.wall_ns, size, buckets)
    edges = np.zeros((len(step), PHASE_COUNT + 1), np.int64)
    np.cumsum(steps.phases_ns[step], axis=1, out=edges[:, 1:])
    prefill = is_preparation(trace, steps.kind[step]) | steps.captured[step]
    ends = np.minimum(begin + size, max(count, 1))
    return StripColumns(begin, ends, step, edges, prefill, steps.floor_ns[step])


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
    thin = 1 + values.size // (8 * SAMPLED)
    return usual_ns(values[::thin].max(axis=1), scale_kinds(trace, rows)[::thin])


# ---------------------------------------------------------------- latency


def latency_floor_ns(trace: Trace, rows: Int64 | slice) -> Int64:
    """The least that the latency of steps (n) could be, 0 where that is not known: a gap holds at least its step.

    Of a model that only reads it is divided by the sequences, as its latency is.
    """
    steps = trace.steps
    floor: Int64 = steps.floor_ns[rows] // steps.batch[rows] if only_reads(trace) else steps.floor_ns[rows]
    return floor


@dataclass(frozen=True, slots=True)
class LatencyColumns:
    """Latency of buckets that hold an arrival. begin, end (c): steps. low, high, median, p95 (c): ns.

    configuration (c): the number of the configuration of the bucket's last step (see
    `configuration_numbers`). floor (c): ns, of that same step; 0 where it is not known.
    """

    begin: Int64
    end: Int64
    low: Int64
    high: Int64
    median: Float
    p95: Float
    configuration: Int64
    floor: Int64


class ArrivalSeries:
    """The latencies of a trace with rolling quantiles of each configuration, brought up to date as the trace grows.

    What was found of one trace serves for another that has its first steps, or more of them.
    """

    def __init__(self) -> None:
        self._steps = Column(np.int64)
        self._quantiles = Column(np.float64, (len(QUANTILES),))
        self._rolling = RollingByConfiguration()
        self._seen = 0
        self._shown = 0

    def update(self, trace: Trace, numbers: Int64) -> None:
        """Take in the steps that came since. `numbers`: see `configuration_numbers`."""
        count = len(trace.steps)
        if count > self._seen:
            self._extend(trace, numbers, count)
        self._shown = int(np.searchsorted(self._steps.values, count))

    def _extend(self, trace: Trace, numbers: Int64, count: int) -> None:
        itl = latency_ns(trace, slice(self._seen, count))
        rows = np.flatnonzero(itl != NO_LATENCY)
        self._steps.extend(rows + self._seen)
        own = numbers[trace.steps.configuration[rows + self._seen]]
        self._quantiles.extend(self._rolling.extend(itl[rows], own))
        self._seen = count

    @property
    def steps(self) -> Int64:
        """The steps that have a latency (arrivals)."""
        return self._steps.values[: self._shown]

    @property
    def rolling(self) -> Float:
        """Rolling median and 95th percentile at each arrival: (arrivals, 2) ns; NaN where too few came
        before.
        """
        return self._quantiles.values[: self._shown]

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
            return LatencyColumns(nothing, nothing, nothing, nothing, none, none, nothing, nothing)
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
            latency_floor_ns(trace, arrivals[last]),
        )
