"""What numbers may be said about noisy times: quantiles, rolling quantiles, effects with an interval and a
verdict.

Quantiles interpolate linearly between order statistics, as numpy's method "linear" (Hyndman and Fan's type
7). Where there are too few samples the answer is None or UNCLEAR, never a number that looks like one. All
randomness is seeded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from engine.trace.store import Column

Float = npt.NDArray[np.float64]
Samples = npt.ArrayLike  # one-dimensional numbers: an array, or a list of them

BLOCK = 8  # consecutive steps in a block: neighbours resemble each other (lag-1 correlation 0.55 to 0.76)
# Blocks after which a running comparison is looked at: who looks at every step finds anything.
LOOKS = (8, 16, 32, 64)
RESAMPLES = 2000
NOMINAL = 0.995  # of a percentile bootstrap: over few, correlated blocks it covers the 95 % claimed
SAME_WITHIN = 0.01
FIT_BINS = 48
FIT_SAMPLES = 16
STEADY_RUN = 3


def _array(samples: Samples) -> Float:
    return np.asarray(samples, np.float64)


def percentiles(samples: Samples, percents: Sequence[float]) -> tuple[float, ...] | None:
    """The percentiles of samples (n,), linear between order statistics; None without samples."""
    values = _array(samples)
    if not len(values):
        return None
    return tuple(float(v) for v in np.percentile(values, percents))


def median(samples: Samples) -> float | None:
    """The middle of samples (n,); None without samples."""
    values = _array(samples)
    return float(np.median(values)) if len(values) else None


def median_absolute_deviation(samples: Samples) -> float | None:
    """MAD: the median distance from the median, not scaled to a standard deviation; None without samples."""
    values = _array(samples)
    return float(np.median(np.abs(values - np.median(values)))) if len(values) else None


class RollingQuantiles:
    """Quantiles of the last `window` values at every value, kept up as values come in.

    At the beginning, where there are fewer, of all so far. Each chunk of k new values costs one sort of k
    short rows.
    """

    _ROWS = 4096  # at most so many windows at once, so that a long chunk needs little memory

    def __init__(self, window: int = 64, quantiles: Sequence[float] = (0.5, 0.95)) -> None:
        if window < 1:
            raise ValueError(f"a rolling window of {window} values is empty: use 1 or more")
        self.window = window
        self._columns = {q: Column(np.float64) for q in quantiles}
        self._tail = np.full(window - 1, np.inf)  # missing values sort to the end and are never reached
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, quantile: float) -> Float:
        """One of the quantiles at every value so far, (n,): a view. Raises KeyError for one not kept."""
        values: Float = self._columns[quantile].values
        return values

    def extend(self, samples: Samples) -> None:
        """Take new values (k,), in order."""
        values = _array(samples)
        for begin in range(0, len(values), self._ROWS):
            self._extend(values[begin : begin + self._ROWS])

    def _extend(self, values: Float) -> None:
        joined = np.concatenate((self._tail, values))
        windows = np.sort(sliding_window_view(joined, self.window), axis=1)
        counts = np.minimum(self._count + 1 + np.arange(len(values)), self.window)
        for quantile, column in self._columns.items():
            column.extend(quantile_of_sorted_rows(windows, counts, quantile))
        self._tail = joined[len(joined) - self.window + 1 :]
        self._count += len(values)


def quantile_of_sorted_rows(rows: Float, counts: npt.NDArray[np.int64], quantile: float) -> Float:
    """The quantile of the first `counts[i]` entries of each sorted row (numpy's method "linear")."""
    place = quantile * (counts - 1)
    below = place.astype(np.int64)
    above = np.minimum(below + 1, counts - 1)
    row = np.arange(len(rows))
    low, high = rows[row, below], rows[row, above]
    between: Float = low + (place - below) * (high - low)
    return between


@dataclass(frozen=True, slots=True)
class Outliers:
    """Samples outside of Tukey's fences: beyond 1.5 IQR of the quartiles, and (of these) 3 IQR."""

    beyond_inner: int
    beyond_outer: int


def tukey_outliers(samples: Samples) -> Outliers | None:
    """Counts samples outside of the fences, on both sides; None below four samples. Drops none."""
    values = _array(samples)
    if len(values) < 4:
        return None
    low, high = np.percentile(values, (25, 75))
    distance = np.maximum(low - values, values - high)
    fences = (1.5 * (high - low), 3.0 * (high - low))
    inner, outer = (int(np.count_nonzero(distance > fence)) for fence in fences)
    return Outliers(inner, outer)


def warm_up(samples: Samples) -> int:
    """How many of the first samples (n,) are warm-up, at most half of them.

    The second half says what is steady: its median, within 2 % or 5 MAD, whichever is wider. Warm-up ends at
    the first three samples in a row that lie within that.
    """
    values = _array(samples)
    half = len(values) // 2
    if half < STEADY_RUN:
        return 0
    steady = float(np.median(values[half:]))
    spread = float(np.median(np.abs(values[half:] - steady)))
    inside: npt.NDArray[np.bool_] = np.abs(values - steady) <= max(0.02 * steady, 5 * spread)
    runs = np.asarray(sliding_window_view(inside, STEADY_RUN).all(axis=1))[: half + 1]
    return int(np.argmax(runs)) if runs.any() else half


@dataclass(frozen=True, slots=True)
class ContextFit:
    """latency = intercept + slope · context: weights and launches apart from cache and attention. `count`:
    samples.
    """

    intercept_ns: float
    slope_ns: float  # for each token of context
    count: int


def fit_context(context: Samples, wall_ns: Samples) -> ContextFit | None:
    """Fits wall_ns (n,) against context (n,), robustly; None below 16 samples or where the context does not
    change.

    Theil-Sen on bins: samples in order of context in up to 48 bins of equal count, the median of each bin,
    then the median of the slopes of all pairs of bins. Stalls in fewer than half of a bin, or in some bins,
    do not move it.
    """
    x, y = _array(context), _array(wall_ns)
    if len(x) < FIT_SAMPLES:
        return None
    order = np.argsort(x, kind="stable")
    bins = min(FIT_BINS, len(x) // 4)
    bin_x, bin_y = _medians_of_bins(x[order], bins), _medians_of_bins(y[order], bins)
    first, second = np.triu_indices(bins, 1)
    run = bin_x[second] - bin_x[first]
    if not (run > 0).any():
        return None
    slope = float(np.median((bin_y[second] - bin_y[first])[run > 0] / run[run > 0]))
    return ContextFit(float(np.median(bin_y - slope * bin_x)), slope, len(x))


def _medians_of_bins(values: Float, bins: int) -> Float:
    """The median of each of some bins of neighbours (n,), the first of which hold one more where n does not divide."""
    each, longer = divmod(len(values), bins)
    split = longer * (each + 1)
    parts = (values[:split].reshape(longer, each + 1), values[split:].reshape(bins - longer, each))
    return np.concatenate([np.median(part, axis=1) for part in parts if len(part)])


class Verdict(StrEnum):
    """What may be said of two configurations."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"  # the whole interval lies within ±1 % of no change
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Effect:
    """Median wall time of a step after over before: below 1 is faster. `low`, `high`: the 95 % interval.

    No numbers while there are too few blocks. `count`: blocks it stands on, both sides together. `warm_up`:
    steps left out after the switch.
    """

    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    count: int
    warm_up: int = 0


def verdict_of(low: float, high: float, same_within: float = SAME_WITHIN) -> Verdict:
    """SAME when the interval lies within ±same_within, else FASTER or SLOWER when it leaves out 1, else
    UNCLEAR.
    """
    if 1 - same_within <= low and high <= 1 + same_within:
        return Verdict.SAME
    if high < 1:
        return Verdict.FASTER
    return Verdict.SLOWER if low > 1 else Verdict.UNCLEAR


def effect(
    before_wall_ns: Samples,
    after_wall_ns: Samples,
    before_context: Samples | None = None,
    after_context: Samples | None = None,
    *,
    seed: int = 0,
) -> Effect:
    """What a switch did: the last steps before it (n,) against the first steady ones after it (m,), wall ns.

    Steps are cut into blocks of 8 neighbours and blocks are resampled, never steps. It is looked at when 8,
    16, 32 and 64 blocks have come in after the switch and stays as it is between, so that watching it does
    not make it true. Where the contexts of the steps (n,) and (m,) are given, what growing context alone
    would have done (the common slope of log wall time within the two stretches) is taken out of the ratio,
    and its uncertainty is in the interval. A machine that grew slower meanwhile looks just like growing context:
    so what is seen only once that is taken out, while the times themselves moved the other way, is UNCLEAR.
    """
    before, after = _array(before_wall_ns), _array(after_wall_ns)
    skipped = warm_up(after[: LOOKS[0] * BLOCK])
    looked = max((n for n in LOOKS if n * BLOCK <= len(after) - skipped), default=0)
    earlier = min(len(before) // BLOCK, LOOKS[-1])
    if not looked or earlier < LOOKS[0]:
        available = min(LOOKS[-1], (len(after) - skipped) // BLOCK)
        return Effect(None, None, None, Verdict.UNCLEAR, earlier + available, skipped)
    old = slice(len(before) - earlier * BLOCK, len(before))
    new = slice(skipped, skipped + looked * BLOCK)
    contexts = None
    if before_context is not None and after_context is not None:
        contexts = _blocks(_array(before_context)[old]), _blocks(_array(after_context)[new])
    ratio, low, high = bootstrap_ratio(_blocks(before[old]), _blocks(after[new]), contexts, seed=seed)
    verdict = verdict_of(low, high)
    moved = np.median(after[new]) / np.median(before[old])
    if (verdict is Verdict.FASTER and moved >= 1) or (verdict is Verdict.SLOWER and moved <= 1):
        verdict = Verdict.UNCLEAR
    return Effect(ratio, low, high, verdict, earlier + looked, skipped)


def _blocks(values: Float) -> Float:
    return values.reshape(-1, BLOCK)


def bootstrap_ratio(
    before: Float, after: Float, contexts: tuple[Float, Float] | None = None, *, seed: int = 0
) -> tuple[float, float, float]:
    """Ratio of medians, after over before, with its interval by block bootstrap: (ratio, low, high).

    before (blocks, steps) and after (blocks, steps): positive wall times; contexts: the same shapes. Whole
    blocks are drawn with replacement 2,000 times; the interval is the percentile one at nominal 99.5 %, which
    over few correlated blocks covers about the 95 % that are claimed. Raises ValueError without blocks.
    """
    if not before.size or not after.size:
        raise ValueError("a comparison needs at least one block of steps on either side")
    generator = np.random.default_rng(seed)
    sides = [_Resampled(side, generator) for side in (before, after)]
    logs = sides[1].log_median - sides[0].log_median
    if contexts is not None:
        logs = logs - _drift(sides, contexts)
    tail = (1 - NOMINAL) / 2
    low, high = np.quantile(logs[1:], (tail, 1 - tail))
    return math.exp(logs[0]), math.exp(low), math.exp(high)


class _Resampled:
    """One side, as measured (row 0) and resampled by blocks (the other rows)."""

    def __init__(self, blocks: Float, generator: "np.random.Generator") -> None:
        count = len(blocks)
        drawn = generator.integers(0, count, (RESAMPLES, count))
        self.rows = np.concatenate((np.arange(count)[None], drawn))
        self.log_median = np.log(np.median(blocks[self.rows].reshape(len(self.rows), -1), axis=1))
        self._log_blocks = np.log(np.median(blocks, axis=1))

    def moments(self, context: Float) -> tuple[Float, Float, Float]:
        """Of each row: mean context, its sum of squares about that, and its sum of products with the log
        medians.
        """
        x = context.mean(axis=1)[self.rows]
        y = self._log_blocks[self.rows]
        mean = x.mean(axis=1)
        x = x - mean[:, None]
        return mean, (x * x).sum(axis=1), (x * y).sum(axis=1)


def _drift(sides: Sequence[_Resampled], contexts: tuple[Float, Float]) -> Float:
    """What context alone changed between the sides, in log wall time: their common least-squares slope ×
    distance.
    """
    before, after = (side.moments(context) for side, context in zip(sides, contexts, strict=True))
    squares = before[1] + after[1]
    slope = np.divide(before[2] + after[2], squares, out=np.zeros_like(squares), where=squares > 0)
    drift: Float = slope * (after[0] - before[0])
    return drift
