"""What every benchmark shares: interleaved turns, ratios with an A/A control, one JSON line as the result.

Arms take turns, each round in another order, so that a machine that drifts drifts for all of them. A ratio is the
median over rounds of (arm / baseline of the same round). The baseline runs twice a round: the ratio of the two is
the A/A control, and its spread (95 % of the rounds lie within) says what difference the machine can show at all.
"""

import json
import platform
import random
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Turn = Callable[[], float]


def interleave(
    baseline: Turn, arms: Mapping[str, Turn], rounds: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """Values of each round by arm; the baseline under "baseline", its control under "control"."""
    turns = {"baseline": baseline, "control": baseline, **arms}
    values: dict[str, list[float]] = {name: [] for name in turns}
    order = list(turns)
    shuffle = random.Random(0).shuffle
    for round_number in range(warm_up + rounds):
        shuffle(order)
        for name in order:
            value = turns[name]()
            if round_number >= warm_up:
                values[name].append(value)
    return values


def ratios(values: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """For each arm and the control: the median of its ratio to the baseline, and an interval of that median."""
    baseline = np.asarray(values["baseline"])
    result = {}
    for name, series in values.items():
        if name != "baseline":
            result[name] = median_with_interval(np.asarray(series) / baseline)
    return result


def median_with_interval(samples: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> dict[str, float]:
    """Median with its 95 % interval by bootstrap over rounds (seeded)."""
    generator = np.random.default_rng(0)
    drawn = generator.choice(samples, (2000, len(samples)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return {
        "ratio": round(float(np.median(samples)), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }


def median_ms(values: Mapping[str, list[float]]) -> dict[str, float]:
    """Median of each arm in milliseconds (values are seconds)."""
    return {name: round(statistics.median(series) * 1e3, 4) for name, series in values.items()}


def machine() -> str:
    """The processor that this was measured on, and how many cores it showed."""
    import os

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {os.cpu_count()} cores"


def report(benchmark: str, **fields: object) -> None:
    """Print the result as one JSON line."""
    print(json.dumps({"benchmark": benchmark, "machine": machine(), **fields}), flush=True)
