"""What the instrument itself costs a step, and how deep it may look so that this stays small. Pure: from a trace.

Marks are told by micro-cost × count and, on request, by taking turns with none (A B B A); drawing and recording by what
their threads spend and, on request, by taking turns with rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.protocol import Configuration, ObserverReport, PartCompared
from engine.trace.alternation import alternation_effect, inverted, pair_differences
from engine.trace.comparison import comparable_rows, time_of
from engine.trace.effects import AlternationEffect, effect_of_alternation
from engine.trace.phases import Detail, StepKind
from engine.trace.statistics import Effect
from engine.trace.store import KINDS, Trace

RECENT = 64
DECODE = KINDS.index(StepKind.DECODE)
BUDGET = 0.01  # of a step: what the instrument may cost
DEEPER_BELOW = (
    0.006  # a deeper level must be expected to cost less than this, so that it does not go to and fro
)
MARKS, DISPLAY, RECORDING = "marks", "display", "recording"


@dataclass(frozen=True, slots=True)
class InstrumentCost:
    """What measuring costs a step: its marks at the cost of one, and handing it over, as a share of the median step."""

    share: float
    marks: int
    mark_ns: float
    emit_ns: float
    step_ns: float

    @property
    def marks_share(self) -> float:
        """That of the marks alone, which lie within the step."""
        return self.marks * self.mark_ns / self.step_ns


def instrument_cost(trace: Trace, report: ObserverReport | None) -> InstrumentCost | None:
    """From the engine's report and the latest decode steps (at most 64); None before there are any."""
    if report is None:
        return None
    recent = slice(-4 * RECENT, None)
    rows = np.flatnonzero((trace.steps.kind[recent] == DECODE) & ~trace.steps.captured[recent])[-RECENT:]
    if not len(rows):
        return None
    step_ns = float(np.median(trace.steps.wall_ns[recent][rows]))
    return InstrumentCost(
        cost_ns(report) / step_ns,
        report.marks_per_step,
        report.mark_cost_ns,
        report.emit_ns_per_step,
        step_ns,
    )


def cost_ns(report: ObserverReport) -> float:
    """What measuring cost a step: its marks, each at what one was tried out to cost, and handing it over."""
    return report.marks_per_step * report.mark_cost_ns + report.emit_ns_per_step


def beyond_budget(cost: InstrumentCost | None, configuration: Configuration) -> str:
    """A sentence on an instrument that costs more than 1 % of a step: what of it does, and what that touches; "" else.

    `configuration`: the one in force.
    """
    if cost is None or cost.share <= BUDGET:
        return ""
    if cost.marks_share > BUDGET:
        settings = dict(configuration)
        if settings.get("detail") == Detail.STEP:
            return (
                "That is more than 1 %, at the least detail there is: steps are too short to be looked into."
            )
        if settings.get("auto_detail") == "on":
            return "Marks take more than 1 %: the detail follows as soon as that is certain."
        return "Marks take more than 1 %, and lie within the step: choose less detail, or let it follow its cost."
    return (
        "That is more than 1 %, at any detail: handing a step over comes between two steps, in the time from token to"
        " token and not in that of a step. Values that take turns bear it alike."
    )


def choose_detail(now: Detail, deepest: Detail, costs_ns: Mapping[Detail, float], step_ns: float) -> Detail:
    """How deep to look so that looking costs at most 1 % of a step of `step_ns`.

    `costs_ns`: what each level was last measured to cost a step; that of `now` is known. Too dear, and it is the
    deepest level above that is not known to be too dear, one that marks nothing in the end. Cheap enough, and it is
    the deepest one, down to `deepest`, that is known to have cost so little that it would stay under 0.6 %.
    """
    levels = list(Detail)
    place = levels.index(now)
    if now not in costs_ns or step_ns <= 0:
        return now
    if costs_ns[now] / step_ns > BUDGET:
        for level in reversed(levels[:place]):
            if level not in costs_ns or costs_ns[level] / step_ns <= BUDGET:
                return level
        return levels[0]
    for level in reversed(levels[place + 1 : levels.index(deepest) + 1]):
        if level in costs_ns and costs_ns[level] / step_ns <= DEEPER_BELOW:
            return level
    return now


def marks_compared(trace: Trace) -> AlternationEffect | None:
    """What marks were last found to do by taking turns with none: time of a step with them over that without."""
    for record in reversed(trace.alternations):
        if record.started.key == "detail" and record.started.second == Detail.STEP:
            return effect_of_alternation(trace, record)
    return None


def part_compared(trace: Trace, part: str) -> PartCompared | None:
    """What a part was last found to do by taking turns with rest."""
    return next((each for each in reversed(trace.parts) if each.part == part), None)


def as_part(part: str, effect: Effect, at_ns: int, step: int, detail: str = "") -> PartCompared:
    """An effect as an event of the trace."""
    return PartCompared(at_ns, step, part, effect.ratio, effect.low, effect.high, effect.count, detail)


def compare_turns(trace: Trace, borders_ns: Sequence[int]) -> tuple[Effect, int]:
    """What something does to a step that was on, off, off, on … from border to border: on over off, and pairs so far.

    borders_ns (turns + 1): wall clock. Only steps that lie within one turn count, each with the time of its tokens; the
    turns of a pair are neighbours, so that a drift of machine or context falls out (see engine.trace.alternation).
    """
    borders = np.asarray(borders_ns, np.int64)
    rows = np.unique(comparable_rows(trace, _first_after(trace, borders), len(trace.steps)))
    begin = trace.steps.begin_ns[rows]
    turn = np.searchsorted(borders, begin, side="right") - 1
    whole = (turn >= 0) & (turn < len(borders) - 1)
    whole &= begin + trace.steps.wall_ns[rows] <= borders[np.minimum(turn + 1, len(borders) - 1)]
    times, turn = time_of(trace, rows[whole]), turn[whole]
    medians = np.full(max(0, len(borders) - 1), np.nan)
    for each in np.unique(turn).tolist():
        medians[each] = np.median(times[turn == each])
    differences = pair_differences(medians)
    return inverted(alternation_effect(differences)), len(differences)


def _first_after(trace: Trace, borders: npt.NDArray[np.int64]) -> int:
    return int(np.searchsorted(trace.steps.begin_ns, borders[0])) if len(borders) else len(trace.steps)
