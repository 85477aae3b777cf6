"""What may be said when two values of a setting took turns, A B B A, within one generation; and how far to trust it.

Neighbouring turns see the same machine, almost the same context, and swap places: what drifts falls out. A pair is two
neighbouring turns, one of each; its difference is d = log median(B) - log median(A) of the steps in them. The effect is
exp(median d), its interval a percentile bootstrap over pairs. It is looked at when 64, 128 and 256 pairs are there:
whoever looks all the time finds anything. (Duet benchmarking: Bulej et al., arXiv 2001.05811. That single tokens must
not be resampled, and that turns of one token resolve 5 % in 400 tokens, was measured on token streams of this program.)
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from engine.trace.ledger import Int64
from engine.trace.statistics import RESAMPLES, Effect, Float, Samples, Verdict, verdict_of

PAIR_LOOKS = (64, 128, 256)
FEWEST_PAIRS = 6
NOMINAL = 0.99  # of the percentile bootstrap over pairs: it covers about the 95 % that are claimed
ORDER = (False, True, True, False)  # which turns of four are B's


def is_second(turn: int) -> bool:
    """Whether turn `turn` (counted from 0) is B's, in the order A B B A."""
    return ORDER[turn % len(ORDER)]


def turn_medians(wall_ns: Samples, turns: Int64, discarded: int = 0) -> Float:
    """Median wall time of each turn, (turns,), from that of each step, (n,), and the turn that it was in, (n,).

    Turns come in order, from 0 on. The first `discarded` steps of each are left out, steps without a time (NaN), and
    the last turn, which may still go on. NaN for a turn of which nothing is left.
    """
    walls = np.asarray(wall_ns, np.float64)
    begins = np.concatenate(([0], np.flatnonzero(np.diff(turns)) + 1))
    over = int(begins[-1])  # the last turn begins here
    place = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    timed = (np.arange(over) - begins[place] >= discarded) & ~np.isnan(walls[:over])
    place, walls = place[timed], walls[:over][timed]
    ordered = walls[np.lexsort((walls, place))]
    counts = np.bincount(place, minlength=len(begins) - 1)
    first = np.cumsum(counts) - counts
    medians = np.full(len(counts), np.nan)
    some = counts > 0
    low, high = (first + (counts - 1) // 2)[some], (first + counts // 2)[some]
    medians[some] = (ordered[low] + ordered[high]) / 2
    return medians


def pair_differences(medians: Float) -> Float:
    """Differences of log time, B - A, of pairs of neighbouring turns, (turns // 2,), less those without times."""
    pairs = medians[: len(medians) // 2 * 2].reshape(-1, 2)
    signs = np.where(np.arange(len(pairs)) % 2 == 0, 1.0, -1.0)  # A B, then B A
    differences = signs * (np.log(pairs[:, 1]) - np.log(pairs[:, 0]))
    found: Float = differences[~np.isnan(differences)]
    return found


def alternation_effect(differences: Samples, *, seed: int = 0) -> Effect:
    """B's time over A's from differences of log time (n,): below 1 B is faster. No numbers below 64 pairs."""
    values = np.asarray(differences, np.float64)
    looked = max((n for n in PAIR_LOOKS if n <= len(values)), default=0)
    if not looked:
        return Effect(None, None, None, Verdict.UNCLEAR, len(values))
    return effect_of_plan(values[:looked], seed=seed)


def effect_of_plan(differences: Samples, *, seed: int = 0) -> Effect:
    """The same where the number of pairs was fixed beforehand: it is looked at once, when all are there.

    No numbers below 6 pairs: fewer lie on one side by chance more often than in 1 of 20 cases (2 · 0.5^5). Asking again
    of the same pairs costs little.
    """
    return _effect_of(np.asarray(differences, np.float64).tobytes(), seed)


@lru_cache(maxsize=256)
def _effect_of(differences: bytes, seed: int) -> Effect:
    values = np.frombuffer(differences, np.float64)
    if len(values) < FEWEST_PAIRS:
        return Effect(None, None, None, Verdict.UNCLEAR, len(values))
    low, high = _interval(values, seed)
    return Effect(math.exp(np.median(values)), low, high, verdict_of(low, high), len(values))


def is_decided(effect: Effect) -> bool:
    """Whether more turns would tell no more: there is a verdict, or the last look was taken."""
    return effect.count >= PAIR_LOOKS[-1] or (
        effect.ratio is not None and effect.verdict is not Verdict.UNCLEAR
    )


def inverted(effect: Effect) -> Effect:
    """The same the other way round: A's time over B's."""
    if effect.ratio is None or effect.low is None or effect.high is None:
        return effect
    swapped = {Verdict.FASTER: Verdict.SLOWER, Verdict.SLOWER: Verdict.FASTER}
    verdict = swapped.get(effect.verdict, effect.verdict)
    return replace(effect, ratio=1 / effect.ratio, low=1 / effect.high, high=1 / effect.low, verdict=verdict)


def _interval(values: Float, seed: int) -> tuple[float, float]:
    middle = _middle_ranks(len(values), seed)
    medians = np.sort(values)[middle].mean(axis=1)
    tail = (1 - NOMINAL) / 2
    low, high = np.quantile(medians, (tail, 1 - tail))
    return math.exp(low), math.exp(high)


@lru_cache(maxsize=8)
def _middle_ranks(count: int, seed: int) -> Int64:
    """For each resample of `count` values, the ranks of its two middle ones among those values: (RESAMPLES, 2).

    Draws that name values by rank are as good as draws that name them by place, and a median of ranks needs no values:
    so it is found once for all, and a bootstrap is a look into sorted values.
    """
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    ranks: Int64 = np.sort(drawn, axis=1)[:, [(count - 1) // 2, count // 2]]
    return ranks


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What alternation finds where there is nothing to find: A against A, on steps of one configuration.

    `covered`: how many of `tried` intervals held 1, as 95 % of them should; `half_width`: the median half-width of an
    interval, as a share: smaller differences cannot be told on this machine now.
    """

    tried: int
    covered: int
    half_width: float

    @property
    def holds(self) -> bool:
        """Whether verdicts may be believed: the share that held 1 is not clearly below 95 %.

        Tries overlap, so that they count as fewer: two standard deviations of that many are allowed for.
        """
        apart = max(1.0, self.tried * SELF_TEST_STRIDE / (2 * SELF_TEST_PAIRS))
        return self.covered / self.tried >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / apart)


SELF_TEST_PAIRS = PAIR_LOOKS[0]
SELF_TEST_STRIDE = 16  # steps between the beginnings of two tries: they overlap, as looks at a live trace do


def self_test(wall_ns: Samples) -> SelfTest | None:
    """Pretend that steady steps of one configuration, (n,) ns, were two that took turns; None below 256 steps."""
    walls = np.asarray(wall_ns, np.float64)
    length = 2 * SELF_TEST_PAIRS
    begins = range(0, len(walls) - length + 1, SELF_TEST_STRIDE)
    if len(walls) < 2 * length:
        return None
    effects = [alternation_effect(pair_differences(walls[b : b + length])) for b in begins]
    bounds = [(e.low, e.high) for e in effects if e.low is not None and e.high is not None]
    covered = sum(low <= 1 <= high for low, high in bounds)
    widths = [(high - low) / 2 for low, high in bounds]
    return SelfTest(len(bounds), covered, float(np.median(widths)))
