"""Energy of the tokens, from counters that are read a few times a second: over stretches, never for one token.

A counter goes up in jumps of its own (20 to 100 ms apart with NVML, about 1 ms with RAPL), and is read at the samples
only. So a stretch is measured between the first and the last sample inside of it, its tokens are those that arrived
between the two, and it counts only where it is long against the jumps: at least a second, in which the counter was seen
to move at least four times.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.trace.ledger import Int64
from engine.trace.store import GenerationRecord, Trace
from engine.trace.telemetry import Samples

SHORTEST_NS = 1_000_000_000
FEWEST_MOVES = 4
PAUSE_NS = 250_000_000  # held longer than this, and what the machine draws meanwhile is not the tokens'


@dataclass(frozen=True, slots=True)
class Energy:
    """What some stretches took: joules, seconds, tokens of all sequences, and how many stretches they were.

    `counters`: what was counted ("cuda:0", "processor"). `stretches` is 0 where nothing was long enough.
    """

    joules: float
    seconds: float
    tokens: int
    stretches: int
    counters: tuple[str, ...]

    @property
    def per_token(self) -> float | None:
        """Joules a token."""
        return self.joules / self.tokens if self.tokens else None

    @property
    def power_w(self) -> float | None:
        """Mean power."""
        return self.joules / self.seconds if self.seconds else None


def energy_counters(trace: Trace) -> dict[str, Samples]:
    """The counters that tell what this model's steps take: those of its devices, on the CPU that of the processor.

    Empty where one of them cannot be read: half of the energy would be no answer.
    """
    model = trace.model
    if model is None:
        return {}
    names = [name for name, _ in model.placement] or [model.device]
    devices = [name for name in names if name != "cpu"]
    found = trace.telemetry.devices
    if not devices:
        counters = {"processor": trace.telemetry.host}
    elif all(name in found for name in devices):
        counters = {name: found[name] for name in devices}
    else:
        return {}
    return counters if all(np.isfinite(each["energy_j"]).any() for each in counters.values()) else {}


def energy(
    trace: Trace,
    generations: Sequence[GenerationRecord] | None = None,
    configuration: int | None = None,
) -> Energy:
    """What the steps of some generations (all by default) took; under one configuration only, where that is given."""
    counters = energy_counters(trace)
    total = Energy(0.0, 0.0, 0, 0, tuple(counters))
    if not counters:
        return total
    chosen = trace.generations if generations is None else generations
    for first, end in _stretches(trace, chosen, configuration):
        begin_ns = int(trace.steps.begin_ns[first])
        end_ns = int(trace.steps.begin_ns[end - 1] + trace.steps.wall_ns[end - 1])
        measured = [_between(each, begin_ns, end_ns) for each in counters.values()]
        parts = [part for part in measured if part is not None]
        if len(parts) < len(measured):
            continue
        _, from_ns, to_ns = parts[0]
        arrivals = trace.tokens.arrival_ns[_tokens(trace, first, end)]
        tokens = int(((arrivals > from_ns) & (arrivals <= to_ns)).sum())
        total = Energy(
            total.joules + sum(joules for joules, _, _ in parts),
            total.seconds + (to_ns - from_ns) / 1e9,
            total.tokens + tokens,
            total.stretches + 1,
            total.counters,
        )
    return total


def _tokens(trace: Trace, first: int, end: int) -> slice:
    return slice(trace.tokens_of(first).start, trace.tokens_of(end - 1).stop)


def _stretches(
    trace: Trace, generations: Sequence[GenerationRecord], configuration: int | None
) -> Iterator[tuple[int, int]]:
    """Rows of neighbouring steps, first ≤ row < end, with no pause between them."""
    numbers = None
    if configuration is not None:
        wanted = trace.configurations[configuration]
        numbers = [number for number, other in enumerate(trace.configurations) if other == wanted]
    for generation in generations:
        rows = np.arange(generation.first_step, generation.end_step)
        if numbers is not None:
            rows = rows[np.isin(trace.steps.configuration[rows], numbers)]
        cuts = np.flatnonzero(
            (trace.steps.held_ns[rows] >= PAUSE_NS) | (np.diff(rows, prepend=rows[:1] - 1) > 1)
        )
        for part in np.split(rows, cuts):
            if len(part):
                yield int(part[0]), int(part[-1]) + 1


def _between(samples: Samples, begin_ns: int, end_ns: int) -> tuple[float, int, int] | None:
    """Joules between the first and the last sample of a stretch, and when those were; None where it is too short."""
    at_ns: Int64 = samples.at_ns
    first, end = np.searchsorted(at_ns, (begin_ns, end_ns), side="left").tolist()
    counter = samples["energy_j"][first:end]
    known = np.flatnonzero(np.isfinite(counter))
    if len(known) < 2:
        return None
    from_ns, to_ns = int(at_ns[first + known[0]]), int(at_ns[first + known[-1]])
    moves = np.diff(counter[known])
    if to_ns - from_ns < SHORTEST_NS or (moves > 0).sum() < FEWEST_MOVES or (moves < 0).any():
        return None
    return float(moves.sum()), from_ns, to_ns
