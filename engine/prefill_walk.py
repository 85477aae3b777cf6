"""What settings do to the reading of a prompt: each value takes turns with the one in force, A B B A, a prompt a turn.

Decoding moves the weights once a token, prefill multiplies many tokens with them at once: what makes one faster can
make the other slower (16-bit products on a processor that has none of them). So prefill has a table of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from engine.front import Front
from engine.protocol import (
    Change,
    Configuration,
    Event,
    Failed,
    Generate,
    GenerationEnded,
    Load,
    ModelLoaded,
    Prompt,
    SettingFacts,
    SettingsChanged,
    SettingsProbed,
    SettingValue,
    Shutdown,
)
from engine.trace.alternation import effect_of_plan, is_second, pair_differences
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, Trace
from engine.walk import Row, Station, stations

PAIRS = 8
#: Families whose values a prefill step runs under; all others begin behind it, or leave it as it is.
FAMILIES = ("precision", "quantization", "pruning", "attention")
KEYS = ("threads", "prefill_chunk")


class PrefillWalk(Front):
    """Lets each value take turns with what is in force. `told` hears of each station as it is set out for."""

    def __init__(self, told: Callable[[str], None], pairs: int = PAIRS) -> None:
        super().__init__()
        self._told = told
        self._pairs = pairs
        self._stations: list[Station] = []
        self._rows: list[Row] = []
        self._effective: dict[str, SettingValue] = {}
        self._generate = Generate(Prompt())
        self._touched: list[str] = []
        self._turn = 0
        self._walls: list[float] = []
        self._switch_ns = 0

    def run(self, load: Load, prompt: Prompt) -> list[Row]:
        """Load, let all values take their turns, and return the table. `problem` says what went wrong, if anything."""
        self._generate = Generate(prompt, max_new_tokens=1, stop_at_end_token=False)
        self.converse(load)
        return self._rows

    def answer(self, event: Event) -> None:
        """Each turn is a change, a prompt that is read, and its one token."""
        match event:
            case ModelLoaded():
                self._effective = dict(event.effective)
            case SettingsProbed() if not self._stations:
                self._begin(event.settings)
            case SettingsChanged() if self._stations:
                self._changed(event)
            case GenerationEnded() if self._stations:
                self._read(event.generation)
            case Failed():
                self.give_up(event.sentence)
            case _:
                pass

    def _begin(self, facts: Sequence[SettingFacts]) -> None:
        chosen = [fact for fact in facts if fact.family in FAMILIES or fact.key in KEYS]
        self._stations = [s for s in stations(chosen, tuple(self._effective.items())) if not s.reason]
        self._set_out()

    def _set_out(self) -> None:
        station = self._stations[0]
        self._told(f"prefill: {station.name}")
        self._touched += [key for key, _ in station.changes if key not in self._touched]
        # the first prompt of each value warms up, and is a turn before those that count
        self._turn, self._walls, self._switch_ns = -2, [], 0
        self._take_turn()

    def _take_turn(self) -> None:
        under = is_second(self._turn) if self._turn >= 0 else self._turn == -1
        self.send(Change(self._stations[0].changes if under else self._back()))

    def _back(self) -> Configuration:
        return tuple((key, self._effective[key]) for key in self._touched)

    def _changed(self, event: SettingsChanged) -> None:
        refused = next((change.reason for change in event.changes if change.reason), "")
        if refused:
            self._next(Row(self._stations[0].name, reason=refused))
            return
        if self._turn == -1:
            self._switch_ns = event.switch_ns
        self.send(self._generate)

    def _read(self, generation: int) -> None:
        if self._turn >= 0:
            self._walls.append(prefill_ns(self.trace, generation))
        self._turn += 1
        if self._turn < 2 * self._pairs:
            self._take_turn()
            return
        self._next(row_of_turns(Row(self._stations[0].name, switch_ns=self._switch_ns), self._walls))

    def _next(self, row: Row) -> None:
        self._rows.append(row)
        self._stations.pop(0)
        if self._stations:
            self._set_out()
        else:
            self.send(Shutdown())


def prefill_ns(trace: Trace, generation: int) -> float:
    """Wall time of all prefill steps of a generation."""
    steps = trace.steps
    own = (steps.generation == generation) & (steps.kind == KINDS.index(StepKind.PREFILL))
    return float(steps.wall_ns[own].sum())


def row_of_turns(row: Row, walls_ns: Sequence[float]) -> Row:
    """The line of a station from the wall times of its turns, in the order A B B A."""
    found = effect_of_plan(pair_differences(np.asarray(walls_ns, np.float64)))
    return replace(row, ratio=found.ratio, low=found.low, high=found.high, verdict=str(found.verdict))
