"""The instrument measured by itself, on request: marks against none, then drawing against a window that is still.

Both in turns, A B B A, so that the machine's drift falls out. Where a generation ends before enough turns were taken,
the next is started from the same prompt.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np

from engine.protocol import EngineState
from engine.trace.alternation import PAIR_LOOKS, is_second
from engine.trace.effects import trust
from engine.trace.observer import DISPLAY, as_part, compare_turns, marks_compared
from engine.trace.phases import Detail
from engine.trace.statistics import Effect, Verdict
from engine.trace.store import Trace
from gui import units
from gui.engine_thread import EngineThread
from gui.panels.experiment import trust_text

TURN_NS = 160_000_000  # some frames
TURN_STEPS = 3  # at least, where steps are slow
LOOKS = PAIR_LOOKS[:2]
MOST_TURNS = 8 * LOOKS[-1]  # then turns without a step are too many to go on


class Stage(StrEnum):
    """What is being measured."""

    MARKS = "marks"
    DISPLAY = "display"
    OVER = "over"


class DisplayTurns:
    """Turns of drawing (A) and of a window that is still (B); `borders_ns`: where one ended and the next began."""

    def __init__(self, now_ns: int) -> None:
        self.borders_ns = [now_ns]

    @property
    def taken(self) -> int:
        """Turns that are over."""
        return len(self.borders_ns) - 1

    def is_still(self, now_ns: int, step_ns: float) -> bool:
        """Whether the window is to be still now. `step_ns`: what a step takes."""
        if now_ns - self.borders_ns[-1] >= max(TURN_NS, TURN_STEPS * step_ns):
            self.borders_ns.append(now_ns)
        return is_second(self.taken)


class InstrumentTrial:
    """One trial, from a key to its result. `generate` starts a generation; `told` hears the result in a sentence."""

    def __init__(
        self, engine: EngineThread, generate: Callable[[], None], told: Callable[[str], None], now_ns: int
    ) -> None:
        self._engine = engine
        self._generate = generate
        self._told = told
        self._trace: Trace = engine.trace
        self._alternations = len(engine.trace.alternations)
        self._asked = False  # for the marks to take turns
        self._started = engine.state is EngineState.RUNNING  # or a generation was, and is on its way
        self._turns: DisplayTurns | None = None
        self._looked = 0
        self.stage = Stage.MARKS

    def frame(self, now_ns: int) -> bool:
        """Go on; whether the window is to be still in this frame."""
        if self._engine.trace is not self._trace or self._engine.state is None:
            self.stage = Stage.OVER  # another model, or what was measured is gone
        if self.stage is Stage.OVER:
            return False
        if self._engine.state is EngineState.READY and not self._started:
            self._started = True
            self._generate()
        elif self._engine.state is EngineState.RUNNING:
            self._started = False  # should it end, another is needed
        if self.stage is Stage.MARKS:
            self._go_on_with_marks(now_ns)
            return False
        return self._go_on_with_display(now_ns)

    def stop(self) -> None:
        """Give up; what was measured of the marks stays."""
        if self.stage is Stage.MARKS and self._alternates():
            self._engine.stop_alternating()
        self.stage = Stage.OVER

    def refused(self, now_ns: int) -> None:
        """The marks cannot take turns (there are none, say): go on with drawing."""
        if self.stage is Stage.MARKS and self._asked:
            self._begin_display(now_ns)

    @property
    def progress(self) -> str:
        """How far it is."""
        if self.stage is Stage.MARKS:
            found = (
                marks_compared(self._trace) if len(self._trace.alternations) > self._alternations else None
            )
            return f"measuring marks: {found.pairs if found else 0} of {LOOKS[0]} pairs"
        turns = self._turns.taken // 2 if self._turns is not None else 0
        return f"measuring drawing: {min(turns, LOOKS[-1])} of {LOOKS[0]} pairs"

    # ------------------------------------------------------------ marks

    def _alternates(self) -> bool:
        records = self._trace.alternations
        return len(records) > self._alternations and records[-1].ended is None

    def _go_on_with_marks(self, now_ns: int) -> None:
        trace = self._trace
        if len(trace.alternations) > self._alternations:
            if trace.alternations[-1].ended is not None:
                self._begin_display(now_ns)
            return
        if self._asked or self._engine.state is not EngineState.RUNNING or not trace.generations:
            return
        latest = trace.generations[-1]
        if latest.ended is None and latest.end_step > latest.first_step:  # from its first token on
            self._asked = True
            self._engine.alternate("detail", str(Detail.STEP))

    # ------------------------------------------------------------ display

    def _begin_display(self, now_ns: int) -> None:
        self.stage, self._turns = Stage.DISPLAY, DisplayTurns(now_ns)

    def _go_on_with_display(self, now_ns: int) -> bool:
        assert self._turns is not None
        if self._engine.state is not EngineState.RUNNING:
            return False
        before = self._turns.taken
        still = self._turns.is_still(now_ns, self._step_ns())
        if self._turns.taken > before and not still and self._turns.taken % 2 == 0:
            self._look(now_ns)
        return still

    def _step_ns(self) -> float:
        recent = self._trace.steps.wall_ns[-16:]
        return float(np.median(recent)) if len(recent) else 0.0

    def _look(self, now_ns: int) -> None:
        """Is it decided? Looked at when 64 and 128 pairs are there, and not in between."""
        assert self._turns is not None
        turns = self._turns.taken
        due = LOOKS[self._looked] if self._looked < len(LOOKS) else LOOKS[-1]
        if turns // 2 < due:
            return
        effect, pairs = compare_turns(self._trace, self._turns.borders_ns)
        if pairs < due and turns < MOST_TURNS:
            return  # some turns had no step
        self._looked += 1
        decided = effect.ratio is not None and effect.verdict is not Verdict.UNCLEAR
        if decided or pairs >= LOOKS[-1] or turns >= MOST_TURNS:
            self._end(effect, now_ns)

    def _end(self, effect: Effect, now_ns: int) -> None:
        self.stage = Stage.OVER
        step = self._trace.first_index + len(self._trace.steps)
        words = f"{self._engine.place} engine, window drawing against still"
        self._engine.observe(as_part(DISPLAY, effect, now_ns, step, words))
        marks = marks_compared(self._trace)
        self._told(
            f"The instrument: {effect_words('marks', marks.effect if marks else None)};"
            f" {effect_words('drawing', effect)}. {trust_text(trust(self._trace))}"
        )


def effect_words(what: str, effect: Effect | None) -> str:
    """What a part of the instrument does to a step, in words."""
    if effect is None or effect.ratio is None or effect.low is None or effect.high is None:
        return f"{what}: too few turns for a number"
    return (
        f"{what} {units.fine_ratio(effect.ratio)} the time of a step"
        f" ({units.fine_ratio(effect.low)} to {units.fine_ratio(effect.high)}, {effect.count} pairs)"
    )
