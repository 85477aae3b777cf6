"""Handing steps over: what a step was is noted as soon as it has ended, and told as an event some milliseconds later.

A step of a model sweeps the processor's caches, so whatever runs behind it begins cold, and takes three times what it
takes warm. So as little as possible is done behind each step: what could not be read any more afterwards is noted. The
rest (its floor, its event, what is remembered of it) is done for several steps at once, which pay the cold start once.
Whatever else is said comes behind the steps before it: whoever says it has them handed over first.
"""

from array import array
from typing import TYPE_CHECKING, NamedTuple

from engine.protocol import (
    BeamsRanked,
    Emit,
    Flush,
    LayoutDefined,
    ProbeTraining,
    SequencesEncoded,
    StepEnded,
)
from engine.runtime.floors import Found
from engine.runtime.generation import Stepped
from engine.runtime.past_steps import PastGeneration
from engine.trace import ledger

if TYPE_CHECKING:
    from engine.runtime.workbench import Workbench

MOST = 64  # steps that wait


class Made(NamedTuple):
    """A step that was made, with all of it that is gone once the next one begins.

    `routed`: experts that it read, None where that is not known. `probe`: what a training step was.
    `past`: where it is remembered, None where it cannot be done again. `counts`: what it took says something about the
    level of detail.
    """

    step: int
    generation: int
    configuration: int
    stepped: Stepped
    found: Found
    held_ns: int
    context_length: int
    cache_bytes: int
    routed: int | None = None
    probe: ProbeTraining | None = None
    past: PastGeneration | None = None
    counts: bool = False
    captured: bool = False


class Handing:
    """Takes the steps of a workbench, and tells them when `gather_ns` have passed since the first that waits."""

    def __init__(self, bench: "Workbench", emit: Emit, flush: Flush, gather_ns: int) -> None:
        self._bench = bench
        self._emit, self._flush = emit, flush
        self._gather_ns = gather_ns
        self._made: list[Made] = []
        self._due_ns = 0
        self._layouts: dict[bytes, int] = {}

    def take(self, made: Made, now_ns: int) -> bool:
        """Note a step that ended just now; whether it is time to hand over."""
        if not self._made:
            self._due_ns = now_ns + self._gather_ns
        self._made.append(made)
        return now_ns >= self._due_ns or len(self._made) >= MOST

    def hand_over(self) -> None:
        """Tell all steps that wait. The settings in force are still those that they ran under."""
        made, self._made = self._made, []
        if not made:
            return
        self._bench.note_settings()
        for each in made:
            self._tell(each)
        self._flush()

    def _tell(self, made: Made) -> None:
        bench, stepped = self._bench, made.stepped
        if made.past is not None:
            made.past.note(made.step, made.found, stepped, made.configuration)
        self._emit(self._event(made))
        bench.floors.after_step()
        if stepped.results:
            self._emit(SequencesEncoded(made.step, made.generation, stepped.results))
        if stepped.beams:
            self._emit(BeamsRanked(made.step, made.generation, stepped.beams))
        if made.past is not None:
            bench.detail_choice.after_step(
                stepped.kind, ledger.wall_ns(stepped.stamps), marks_of(stepped), not made.counts
            )

    def _event(self, made: Made) -> StepEnded:
        stepped, floors = made.stepped, self._bench.floors
        fed = floors.fed(made.found, stepped, made.routed, made.probe)
        floor = floors.told(made.configuration, made.step, fed, stepped.stamps)
        return StepEnded(
            made.step,
            made.generation,
            stepped.kind,
            made.configuration,
            self.layout(stepped.codes),
            stepped.stamps,
            made.held_ns,
            made.context_length,
            made.cache_bytes,
            stepped.tokens,
            stepped.prompt_tokens,
            stepped.batch,
            stepped.padding_tokens,
            stepped.drafted,
            stepped.accepted,
            *floor,
            made.captured,
        )

    def layout(self, codes: bytes) -> int:
        """The number of the layout with these codes (uint16); defines it, as an event, when it is new."""
        known = self._layouts.get(codes)
        if known is None:
            known = self._layouts[codes] = len(self._layouts)
            self._emit(LayoutDefined(known, self._bench.recorder.names, tuple(array("H", codes))))
        return known


def marks_of(stepped: Stepped) -> int:
    """Stamps of a step: one a code, its begin and its end."""
    return len(stepped.codes) // 2 + 2
