"""Rolling quantiles of latencies, each configuration by itself: one over both sides of a switch would hide what the
switch did, and for values that take turns it would be a mixture that no step ever had.
"""

import numpy as np

from engine.trace.ledger import Int64
from engine.trace.statistics import Float, RollingQuantiles

ROLLING_WINDOW = 64
QUANTILES = (0.5, 0.95)
ENOUGH = 20  # a 95th percentile of fewer values would be little else than their largest


class RollingByConfiguration:
    """Rolling median and 95th percentile of the last 64 values of the same configuration, kept up as values come in."""

    def __init__(self) -> None:
        self._rolling: dict[int, RollingQuantiles] = {}

    def extend(self, values: Int64, numbers: Int64) -> Float:
        """Take new values (n,) ns with the numbers of their configurations (n,); the quantiles at each of them:
        (n, 2) ns, NaN where too few came before.
        """
        rolled = np.empty((len(values), len(QUANTILES)))
        for number in np.unique(numbers).tolist():
            own = np.flatnonzero(numbers == number)
            rolling = self._rolling.setdefault(number, RollingQuantiles(ROLLING_WINDOW, QUANTILES))
            before = len(rolling)
            rolling.extend(values[own])
            rolled[own] = np.stack([rolling.of(q)[before:] for q in QUANTILES], axis=1)
            rolled[own[: max(0, ENOUGH - before)], 1] = np.nan
        return rolled
