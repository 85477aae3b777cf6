"""What was measured against a reference: ratios of metrics, what differs in the settings, and a verdict on step times.

A ratio is told for whatever both have a value of; what may be believed of it is only told of the time of a step, with
an interval, as for a switch (see engine.trace.statistics). Both sides are runs of their own: what the machine did
between them is in the ratio, and in no interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.protocol import Configuration
from engine.trace import units
from engine.trace.comparison import comparable_rows, time_of, work_of
from engine.trace.effects import MOST, look
from engine.trace.generation_view import Bool
from engine.trace.ledger import Int64
from engine.trace.metrics import METRICS, Measured
from engine.trace.pooling import only_reads
from engine.trace.reference import Reference
from engine.trace.statistics import BLOCK, LOOKS, Effect, Verdict, effect, warm_up
from engine.trace.store import Trace

RUNS = "in these two runs"  # what a verdict on them is about
CAUSE = "Two runs that did not take turns cannot tell why they differ"
NOTHING = Effect(None, None, None, Verdict.UNCLEAR, 0)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric of both. `ratio`: measured over reference, None where either has no value, or the reference's is 0."""

    reference: Measured
    measured: Measured
    ratio: float | None


def ratio_to(reference: Mapping[str, Measured], measured: Measured) -> Ratio:
    """A metric over the same one of a reference."""
    key = measured.metric.key
    other = reference.get(key, Measured(METRICS[key], None, 0))
    if measured.value is None or not other.value or not measured.count or not other.count:
        return Ratio(other, measured, None)
    return Ratio(other, measured, measured.value / other.value)


def differences(of: Configuration, other: Configuration) -> list[tuple[str, object, object]]:
    """What one configuration has otherwise than another one: key, its value, the other's; None for a key it lacks."""
    mine, theirs = dict(of), dict(other)
    keys = [key for key in dict.fromkeys((*mine, *theirs)) if str(mine.get(key)) != str(theirs.get(key))]
    return [(key, mine.get(key), theirs.get(key)) for key in keys]


def reference_lines(reference: Reference, now: Configuration) -> list[str]:
    """What a reference is, a line each: its model and device, its steps, and where its settings differ from `now`."""
    lines = []
    model = reference.model
    if model is not None:
        random = ", random weights" if model.random_weights else ""
        size = f"{units.count(model.parameters)} parameters"
        on = f"{model.device}, {reference.processor}" if reference.processor else model.device
        lines.append(f"{model.name} · {size}, {model.dtype}{random} · on {on}")
    several = f"; what is drawn over steps is the longest of its {reference.generations:,} generations"
    lines.append(reference.steps + (several if reference.generations > 1 else ""))
    return [*lines, *configuration_lines(reference, now)]


def configuration_lines(reference: Reference, now: Configuration) -> list[str]:
    """The settings of a reference, as far as they differ from `now`, and whether they changed within it."""
    if not reference.configurations:
        return []
    first, *others = reference.configurations
    different = [
        f"{key} {then if then is not None else 'not known'} (here {value if value is not None else 'not known'})"
        for key, then, value in differences(first, now)
    ]
    lines = [f"other settings: {', '.join(different)}" if different else "the same settings as here"]
    if others:
        more = f"{len(others)} more configuration{'' if len(others) == 1 else 's'}"
        lines.append(f"these were in force for most of its steps; it has {more}")
    return lines


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The median time of a step over that of the reference, where both had the same lengths of context.

    `steps`, `reference_steps`: how many each side has there; `configuration`: the one that those steps ran under.
    """

    effect: Effect
    steps: int
    reference_steps: int
    configuration: Configuration


class Against:
    """Step times of a trace against a reference. A bootstrap is computed once a look, so asking often costs little."""

    def __init__(self, reference: Reference, trace: Trace) -> None:
        self._reference = reference
        self._trace = trace
        self._known: tuple[tuple[int, ...], Effect] = ((), NOTHING)

    def step_times(self, rows: range) -> StepTimes:
        """Of the steps among these rows of the trace that ran under the settings of the last one that can be compared,
        and at a length of context that the reference had, too: the first of them, against those of the reference at the
        same lengths.
        """
        trace, reference = self._trace, self._reference
        under = self._rows(rows)
        if not len(under):
            return StepTimes(NOTHING, 0, 0, ())
        number = int(trace.steps.configuration[under[-1]])
        configuration = trace.configurations[number] if trace.configurations else ()
        work = work_of(trace, under)
        chosen = under[_between(work, reference.work)][:MOST]
        time = time_of(trace, chosen)
        blocks = look(time)
        if blocks:
            chosen = chosen[: warm_up(time[: LOOKS[0] * BLOCK]) + blocks * BLOCK]
        within = _between(reference.work, work_of(trace, chosen))
        first = int(chosen[0]) if len(chosen) else -1
        name = (first, number, blocks if blocks else -(len(chosen) // BLOCK))
        if self._known[0] != name:
            self._known = name, self._effect(chosen, within)
        return StepTimes(self._known[1], len(chosen), int(within.sum()), configuration)

    def _rows(self, rows: range) -> Int64:
        """Comparable steps under the settings of the last of them; none of a model that does another kind of work."""
        trace = self._trace
        if only_reads(trace) != self._reference.reads:
            return np.zeros(0, np.int64)
        found = comparable_rows(trace, rows.start, rows.stop)
        settings = trace.configurations
        if not len(found) or not settings:
            return found
        used = trace.steps.configuration[found]
        alike = [number for number, other in enumerate(settings) if other == settings[int(used[-1])]]
        under: Int64 = found[np.isin(used, alike)]
        return under

    def _effect(self, chosen: Int64, within: Bool) -> Effect:
        if not len(chosen):
            return NOTHING
        reference, trace = self._reference, self._trace
        work = reference.work[within], work_of(trace, chosen)
        return effect(reference.time_ns[within], time_of(trace, chosen), *work)


def _between(values: Int64, bounds: Int64) -> Bool:
    """Which values (n,) lie between the least and the largest of some others; none where there are no others."""
    if not len(bounds):
        return np.zeros(len(values), np.bool_)
    inside: Bool = (values >= bounds.min()) & (values <= bounds.max())
    return inside
