"""What a machine was measured to achieve: how fast it reads, for each size of what is read, and how fast it multiplies.

A record belongs to one machine, device and number of threads. It is measured in
engine.runtime.calibration, stored for the next time, and travels in the trace, so that a floor can be told anew from a
recording.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

SECOND_NS = 1_000_000_000
#: Repeated measurements that lie further apart than this are not repeatable: the record says so.
REPEATABLE = 0.05
#: Rates of the same memory, read by unlike means, that lie further apart than this cannot both be true: none of them
#: can read what memory does not give. Products read 1.1 to 1.4 × as fast as bytes are compared on a core of ours,
#: since they hide latency better, and never slower. So these are bounds of that ratio: an error by a factor of two
#: leaves them wherever the true one is between 0.85 and 1.6.
CONFIRMED = 0.8, 1.7
_SLOWEST, _FASTEST = 1e6, 1e16  # bytes or operations a second that no measurement of ours can leave


@dataclass(frozen=True, slots=True)
class Calibration:
    """One machine's record.

    `mode`: what products of float32 are rounded to inside ("tf32", "bf16"), "" for nothing. `rungs`: (bytes of a
    working set that is read again and again, bytes a second), the smallest first; the larger ones lie beyond the
    last-level cache.
    `rates`: (what matrices hold, "float32", "int8", …, operations a second of their products, a multiplication and an
    addition being two), of all that this device multiplies. `spread`: how far two
    measurements of the largest rung and of the products lay apart, relative to the larger. `at_s`: when it was
    measured, seconds since 1970. `cache_bytes`: of the last-level cache, 0 where the system does not say. `remark`:
    what is to be said of it, "" for nothing. `is_disturbed`: the machine was busy meanwhile. `plain_bandwidth`: bytes a
    second of the largest rung, read by means that share nothing with those of the rungs; 0 where it was not checked.
    """

    processor: str
    device: str
    threads: int
    mode: str
    at_s: float
    rungs: tuple[tuple[int, float], ...]
    rates: tuple[tuple[str, float], ...]
    spread: float
    cache_bytes: int = 0
    took_ns: int = 0
    remark: str = ""
    is_disturbed: bool = False
    plain_bandwidth: float = 0.0

    @property
    def is_repeatable(self) -> bool:
        """Whether it was measured twice with the same result, ± 5 %."""
        return self.spread <= REPEATABLE

    @property
    def is_confirmed(self) -> bool:
        """Whether other means read about as fast (see CONFIRMED), or nobody tried any."""
        least, most = CONFIRMED
        plain = self.plain_bandwidth
        return not plain or least * plain <= self.memory_bandwidth <= most * plain

    def bandwidth(self, working_set: float) -> float:
        """Bytes a second that can be read of a working set of so many bytes.

        That of the next smaller rung, which is read at least as fast: a floor may be too low, never too high.
        """
        sizes, rates = _ladder(self.rungs)
        return rates[max(0, bisect_right(sizes, working_set) - 1)]

    def bandwidths(self, working_sets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The same for several working sets (n,)."""
        sizes, rates = _ladder(self.rungs)
        places = np.maximum(0, np.searchsorted(sizes, working_sets, side="right") - 1)
        found: npt.NDArray[np.float64] = np.asarray(rates, np.float64)[places]
        return found

    @property
    def memory_bandwidth(self) -> float:
        """Bytes a second beyond all caches."""
        return self.rungs[-1][1]

    def rate(self, kinds: Sequence[str]) -> float:
        """Operations a second of the fastest of some ways to multiply; 0 where none of them was measured."""
        return max((rate for kind, rate in self.rates if kind in kinds), default=0.0)

    def floor_ns(self, nbytes: float, operations: float, rate: float, working_set: float = 0.0) -> int:
        """The least time, at least 1 ns, in which so much can be moved and computed: the roofline.

        max(bytes / bandwidth, operations / rate) (Williams, Waterman and Patterson 2009, "Roofline: an insightful
        visual performance model", CACM 52(4)), with the bandwidth of the level of memory that so many bytes come from.
        `working_set`: how many different ones they are, where a step reads them several times.
        """
        seconds = max(nbytes / self.bandwidth(working_set or nbytes), operations / rate)
        return max(1, math.floor(seconds * SECOND_NS))

    def is_memory_bound(self, nbytes: float, operations: float, rate: float) -> bool:
        """Whether moving takes longer than computing."""
        return nbytes * rate >= operations * self.bandwidth(nbytes)

    def best_with(self, other: "Calibration") -> "Calibration":
        """What was achieved in either of two records of the same key; date and remark are the newer one's."""
        newer = self if self.at_s >= other.at_s else other
        older = other if newer is self else self
        return replace(
            newer,
            rungs=_best_of(older.rungs, newer.rungs),
            rates=_best_of(older.rates, newer.rates),
            plain_bandwidth=max(older.plain_bandwidth, newer.plain_bandwidth),
        )


_Key = TypeVar("_Key", int, str)


def _best_of(
    older: Sequence[tuple[_Key, float]], newer: Sequence[tuple[_Key, float]]
) -> tuple[tuple[_Key, float], ...]:
    best = dict(older)
    for key, rate in newer:
        best[key] = max(rate, best.get(key, 0.0))
    return tuple(sorted(best.items()))


@lru_cache(maxsize=64)
def _ladder(rungs: tuple[tuple[int, float], ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Sizes, and for each the fastest of its rung and all larger ones: a smaller set is read at least as fast."""
    rates: list[float] = []
    for _, rate in reversed(rungs):
        rates.append(max(rate, rates[-1]) if rates else rate)
    return tuple(size for size, _ in rungs), tuple(reversed(rates))


def checked(calibration: Calibration) -> Calibration:
    """The same record. Raises ValueError, with a sentence, where its numbers can be no measurement."""
    sizes = [size for size, _ in calibration.rungs]
    rates = [rate for _, rate in calibration.rungs]
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 1:
        raise ValueError("a calibration needs the bandwidth of working sets of ascending size")
    if not calibration.rates:
        raise ValueError("a calibration needs the rate of some matrix product")
    for rate in (*rates, *(rate for _, rate in calibration.rates)):
        if not _SLOWEST <= rate <= _FASTEST:
            raise ValueError(f"{rate:.3g} a second is no rate that a machine achieves")
    plain = calibration.plain_bandwidth
    if plain and not _SLOWEST <= plain <= _FASTEST:
        raise ValueError(f"{plain:.3g} bytes a second are not what a machine achieves")
    if calibration.threads < 1 or not 0 <= calibration.spread < math.inf or not 0 <= calibration.at_s < 1e11:
        raise ValueError("the threads, the spread or the date of a calibration make no sense")
    return calibration


def from_record(record: Mapping[str, Any]) -> Calibration:
    """A calibration from plain values, as `dataclasses.asdict` makes them. Raises ValueError for what is none."""
    try:
        return checked(
            Calibration(
                processor=str(record["processor"]),
                device=str(record["device"]),
                threads=int(record["threads"]),
                mode=str(record["mode"]),
                at_s=float(record["at_s"]),
                rungs=tuple((int(size), float(rate)) for size, rate in record["rungs"]),
                rates=tuple((str(kind), float(rate)) for kind, rate in record["rates"]),
                spread=float(record["spread"]),
                cache_bytes=int(record["cache_bytes"]),
                took_ns=int(record["took_ns"]),
                remark=str(record["remark"]),
                is_disturbed=bool(record["is_disturbed"]),
                plain_bandwidth=float(record["plain_bandwidth"]),
            )
        )
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"this is no calibration: {error}") from error
