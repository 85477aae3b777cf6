"""What a switch did: the steps before a mark against those after it, with the verdict of engine.trace.statistics."""

from dataclasses import dataclass

from engine.protocol import SettingChange
from engine.trace.comparison import comparable_rows, time_of, work_of
from engine.trace.ledger import Int64
from engine.trace.statistics import BLOCK, LOOKS, Effect, effect, warm_up
from engine.trace.store import Mark, Trace

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
        number = self._trace.marks[place].event.configuration - 1
        return dict(self._trace.configurations[number]).get(key) if number >= 0 else None

    def _changed(self, place: int, key: str) -> bool:
        """Whether another value has been in force since this mark."""
        return self._before(place, key) != dict(self._trace.marks[place].event.effective).get(key)

    def _is_border(self, place: int) -> bool:
        """Whether anything changed at this mark: a refused change is no border."""
        event = self._trace.marks[place].event
        number = event.configuration - 1
        return number < 0 or self._trace.configurations[number] != event.effective

    def _effect(self, place: int) -> Effect:
        marks = self._trace.marks
        borders = [m.step for i, m in enumerate(marks) if self._is_border(i) or i == place]
        at = borders.index(marks[place].step)
        begin = borders[at - 1] if at else 0
        end = next((b for b in borders[at:] if b > marks[place].step), len(self._trace.steps))
        before = comparable_rows(self._trace, begin, marks[place].step)[-MOST:]
        after = comparable_rows(self._trace, marks[place].step, end)[:MOST]
        time = time_of(self._trace, after)
        looked = _look(time)
        name = (place, len(before), looked if looked else -(len(after) // BLOCK))
        if name not in self._known:
            work = work_of(self._trace, before), work_of(self._trace, after)
            self._known[name] = effect(time_of(self._trace, before), time, *work)
        return self._known[name]


def _look(after: Int64) -> int:
    """How many blocks after a switch the next verdict stands on: it changes with these only."""
    if len(after) < LOOKS[0] * BLOCK:
        return 0
    steady = len(after) - warm_up(after[: LOOKS[0] * BLOCK])
    return max((n for n in LOOKS if n * BLOCK <= steady), default=0)
