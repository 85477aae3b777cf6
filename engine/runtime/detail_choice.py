"""The level of detail chosen by what it costs: looked at now and then, changed between two steps, and said.

What is to be spent on looking is decided elsewhere (engine.trace.observer.choose_detail); this keeps the books. While
the user has chosen a level, while values take turns, and while code is compiled or captured with its marks in it,
nothing is chosen here.
"""

from statistics import fmean, median
from time import perf_counter_ns
from typing import TYPE_CHECKING

from engine.protocol import SettingChange, SettingsChanged
from engine.trace.observer import choose_detail
from engine.trace.phases import Detail, StepKind

if TYPE_CHECKING:
    from engine.runtime.workbench import Workbench

FEWEST_STEPS = 64  # of one level, before it is judged
SHORTEST_NS = 1_000_000_000  # and for so long: nobody could read what changes faster
JUDGED = (StepKind.DECODE, StepKind.VERIFY, StepKind.ENCODE)


class DetailChoice:
    """Watches what measuring costs under a level, and changes the level where that is too much, or little enough."""

    def __init__(self, bench: "Workbench", deepest: Detail) -> None:
        self._bench = bench
        self._deepest = deepest
        self._costs_ns: dict[Detail, float] = {}
        self._next: Detail | None = None
        self._cause = ""
        self._begin_again(bench.live.detail)

    def _begin_again(self, level: Detail) -> None:
        self._level = level
        self._configuration = self._bench.configuration
        self._walls: list[int] = []
        self._marks: list[int] = []
        self._begin_ns = perf_counter_ns()
        self._next = None

    @property
    def is_due(self) -> bool:
        """Whether another level is to be in force before the next step."""
        return self._next is not None

    def after_step(self, kind: StepKind, wall_ns: int, marks: int, resting: bool) -> None:
        """Take a step with so many marks into account. `resting`: whatever it costs, nothing is to be changed now."""
        bench = self._bench
        changed = bench.live.detail is not self._level or bench.configuration != self._configuration
        if resting or changed or self._is_fixed():
            self._begin_again(bench.live.detail)
            return
        if kind not in JUDGED:
            return
        self._walls.append(wall_ns)
        self._marks.append(marks)
        if len(self._walls) >= FEWEST_STEPS and perf_counter_ns() - self._begin_ns >= SHORTEST_NS:
            self._judge()

    def _is_fixed(self) -> bool:
        """Whether somebody chose the level, or changing it would mean to compile or to capture anew."""
        live = self._bench.live
        return not live.auto_detail or live.compiled is not None or live.replayed is not None

    def _judge(self) -> None:
        report = self._bench.observer.report
        if report is None:
            return
        step_ns = float(median(self._walls))
        cost_ns = fmean(self._marks) * report.mark_cost_ns + report.emit_ns_per_step
        self._costs_ns[self._level] = cost_ns
        wanted = choose_detail(self._level, self._deepest, self._costs_ns, step_ns)
        wanted_cost_ns = self._costs_ns.get(wanted, 0.0)
        self._begin_again(self._level)
        if wanted is self._level:
            return
        self._next = wanted
        if list(Detail).index(wanted) < list(Detail).index(self._level):
            self._cause = f"measuring took {cost_ns / step_ns:.1%} of a step".replace("%", " %")
        else:
            self._cause = f"it would take {wanted_cost_ns / step_ns:.1%} of a step".replace("%", " %")

    def follow(self) -> bool:
        """Put the level into force that is due; whether one was. Call it between two steps with no token on its way."""
        level, self._next = self._next, None
        if level is None or self._is_fixed():
            return False
        bench, begin_ns = self._bench, perf_counter_ns()
        (change,) = bench.apply((("detail", str(level)),))
        bench.configuration = bench.next_configuration()
        switch_ns = perf_counter_ns() - begin_ns
        told = SettingChange("detail", str(level), change.effective, change.reason)
        bench.emit(
            SettingsChanged(
                begin_ns,
                bench.step_index,
                (told,),
                switch_ns,
                bench.configuration,
                bench.effective(),
                self._cause,
            )
        )
        self._begin_again(bench.live.detail)
        return True
