"""What a switch did: the steps before a mark against those after it, or two values that took turns, with a verdict."""

from dataclasses import dataclass

import numpy as np

from engine.protocol import SettingChange
from engine.trace.alternation import (
    SelfTest,
    alternation_effect,
    inverted,
    pair_differences,
    self_test,
    turn_medians,
)
from engine.trace.comparison import comparable_rows, comparable_steps, time_of, work_of
from engine.trace.ledger import Int64
from engine.trace.statistics import BLOCK, LOOKS, Effect, effect, warm_up
from engine.trace.store import AlternationRecord, Mark, Trace

TRUST_EVERY = 256  # steps
TRUSTED_STEPS = 2048  # the latest, on which the self-test stands
MOST = (LOOKS[-1] + 8) * BLOCK  # steps on a side that can matter: the blocks of the last look, and warm-up


@dataclass(frozen=True, slots=True)
class MeasuredEffect:
    """The effect of the last mark that changed a setting's value, and what else changed with it."""

    mark: Mark
    change: SettingChange
    before: object  # the value in force before, None where it is not known
    together: tuple[str, ...]
    effect: Effect


class Effects:
    """The latest effect of each setting. Bootstraps are computed once a look, so asking often costs little."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._known: dict[tuple[int, int, int], Effect] = {}

    def of(self, key: str) -> MeasuredEffect | None:
        """The effect of the last change of this setting; None where it never changed."""
        marks = self._trace.marks
        for place in range(len(marks) - 1, -1, -1):
            change = next((c for c in marks[place].event.changes if c.key == key), None)
            if change is not None and self._changed(place, key):
                together = tuple(
                    c.key for c in marks[place].event.changes if c.key != key and self._changed(place, c.key)
                )
                return MeasuredEffect(
                    marks[place], change, self._before(place, key), together, self._effect(place)
                )
        return None

    def _before(self, place: int, key: str) -> object:
        return dict(self._trace.configurations[self._trace.marks[place].before]).get(key)

    def _changed(self, place: int, key: str) -> bool:
        """Whether another value has been in force since this mark."""
        return self._before(place, key) != dict(self._trace.marks[place].event.effective).get(key)

    def _is_border(self, place: int) -> bool:
        """Whether anything changed at this mark: a refused change is no border."""
        mark = self._trace.marks[place]
        return self._trace.configurations[mark.before] != mark.event.effective

    def _effect(self, place: int) -> Effect:
        marks = self._trace.marks
        borders = [m.step for i, m in enumerate(marks) if self._is_border(i) or i == place]
        at = borders.index(marks[place].step)
        begin = borders[at - 1] if at else 0
        end = next((b for b in borders[at:] if b > marks[place].step), len(self._trace.steps))
        mark = marks[place]
        before = self._rows(begin, mark.step, mark.before)[-MOST:]
        after = self._rows(mark.step, end, mark.event.configuration)[:MOST]
        time = time_of(self._trace, after)
        looked = look(time)
        name = (place, len(before), looked if looked else -(len(after) // BLOCK))
        if name not in self._known:
            work = work_of(self._trace, before), work_of(self._trace, after)
            self._known[name] = effect(time_of(self._trace, before), time, *work)
        return self._known[name]

    def _rows(self, begin: int, end: int, configuration: int) -> Int64:
        """Comparable steps under one configuration: where values took turns, those of the other one are left out."""
        settings = self._trace.configurations
        alike = [number for number, other in enumerate(settings) if other == settings[configuration]]
        rows = comparable_rows(self._trace, begin, end)
        found: Int64 = rows[np.isin(self._trace.steps.configuration[rows], alike)]
        return found


@dataclass(frozen=True, slots=True)
class AlternationEffect:
    """Two values of a setting that take turns, or took: `effect` is the first's time over the second's."""

    key: str
    first: object  # in force before and afterwards
    second: object
    turn_steps: int
    pairs: int
    goes_on: bool
    effect: Effect


def effect_of_alternation(trace: Trace, alternation: AlternationRecord) -> AlternationEffect:
    """What the first of two values that took turns does to a step, against the second."""
    started = alternation.started
    rows = comparable_steps(trace, alternation.first_step, alternation.end_step)
    turns = np.arange(len(rows)) // started.turn_steps  # a step that was captured in depth had its turn, too
    discarded = 1 if started.turn_steps > 1 else 0
    times = np.where(trace.steps.captured[rows], np.nan, time_of(trace, rows))
    differences = pair_differences(turn_medians(times, turns, discarded))
    return AlternationEffect(
        key=started.key,
        first=started.first,
        second=started.second,
        turn_steps=started.turn_steps,
        pairs=len(differences),
        goes_on=alternation.ended is None,
        effect=inverted(alternation_effect(differences)),
    )


def trust(trace: Trace) -> SelfTest | None:
    """How far verdicts of taking turns can be trusted now: A against A on the last steps under what is in force."""
    configurations, steps = trace.configurations, trace.steps
    begin = max(0, len(steps) - TRUSTED_STEPS)
    alike = [number for number, other in enumerate(configurations) if other == trace.configuration]
    rows = comparable_rows(trace, begin, len(steps))
    return self_test(time_of(trace, rows[np.isin(steps.configuration[rows], alike)]))


class Trust:
    """The same, found anew every TRUST_EVERY steps: it changes slowly, and costs some time to find out."""

    def __init__(self) -> None:
        self._known: tuple[Trace, int, SelfTest | None] | None = None

    def of(self, trace: Trace) -> SelfTest | None:
        """What was found of a trace last."""
        age = len(trace.steps) // TRUST_EVERY
        if self._known is None or self._known[0] is not trace or self._known[1] != age:
            self._known = trace, age, trust(trace)
        return self._known[2]


def look(after: Int64) -> int:
    """How many blocks of steps after a switch, (n,) ns, the next verdict stands on: it changes with these only."""
    if len(after) < LOOKS[0] * BLOCK:
        return 0
    steady = len(after) - warm_up(after[: LOOKS[0] * BLOCK])
    return max((n for n in LOOKS if n * BLOCK <= steady), default=0)
