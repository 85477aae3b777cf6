"""A walk through all settings that are possible here, one after the other, in a running generation; a table at the end.

Each station is a value of a setting: some tokens under what was in force before, as many under the value, and back. The
effect is the time of a token under the value over that of the tokens before and after it, with the drift of a growing
context taken out; the first station changes nothing and shows what the machine makes of that.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.front import Front
from engine.protocol import (
    Change,
    Configuration,
    EngineState,
    Event,
    Failed,
    Generate,
    Load,
    MeasureSameness,
    ModelLoaded,
    SamenessMeasured,
    SettingFacts,
    SettingsChanged,
    SettingsProbed,
    SettingValue,
    Shutdown,
    StateChanged,
    StepEnded,
    Stop,
)
from engine.trace.comparison import comparable_rows
from engine.trace.effects import effect_of_stretch
from engine.trace.phases import StepKind
from engine.trace.sameness import Sameness
from engine.trace.statistics import BLOCK, FEWEST_BLOCKS
from engine.trace.store import Trace

#: Values to try of settings that are numbers; others go one increment up, or to their other end.
EXAMPLES: dict[str, SettingValue] = {
    "temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.1,
    "beams": 4, "batch": 4, "mlp_pruning": 50, "head_pruning": 50, "layer_skipping": 1,
    "prefill_chunk": 64, "kv_window": 64, "draft_length": 8,
}  # fmt: skip
#: What a number has no use without.
COMPANIONS: dict[str, Configuration] = {
    "temperature": (("decoding", "sample"),),
    "top_k": (("decoding", "sample"),),
    "top_p": (("decoding", "sample"),),
    "min_p": (("decoding", "sample"),),
    "seed": (("decoding", "sample"),),
    "top_p_method": (("decoding", "sample"), ("top_p", 0.9)),
    "kv_window": (("kv_cache", "sliding"),),
    "draft_length": (("speculation", "lookup"),),
    "draft_model": (("speculation", "draft"),),
    "cuda_graphs": (("kv_cache", "static"),),
}
#: What only shows what it is good for together.
TOGETHER: tuple[Configuration, ...] = ((("kv_cache", "static"), ("compile", "default")),)
SHORTEST = (
    2 * FEWEST_BLOCKS * BLOCK
)  # tokens of a stretch: enough blocks are left, even if half of it is warm-up
LEFT_OUT = ("engine_place", "placement")  # restart the engine, load the model anew
#: Choose among tokens, or how many are made at once: the distribution of the next one is the same.
SAME_DISTRIBUTION = ("decoding", "speculation", "batch", "measurement")


@dataclass(frozen=True, slots=True)
class Station:
    """What to put into force: the setting itself first, then what it has no use without. Empty: nothing changes."""

    name: str
    changes: Configuration = ()
    compares: bool = False
    reason: str = ""  # why it is impossible here


@dataclass
class Visit:
    """What a station showed. Rows of steps: before it, under its value."""

    station: Station
    before: tuple[int, int]
    under: tuple[int, int] = (0, 0)
    after_end: int = 0
    switch_ns: int = 0
    refused: str = ""
    sameness: Sameness | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `ratio`: time of a token, under the value over otherwise; None where it is not known."""

    station: str
    switch_ns: int | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: str = ""
    tokens_per_step: float | None = None
    sameness: Sameness | None = None
    reason: str = ""


def stations(facts: Sequence[SettingFacts], effective: Configuration) -> list[Station]:
    """All values worth a visit, after one that changes nothing; the impossible ones with their reasons.

    What is made for another setting is visited with it as well: a static cache, with compiled code.
    """
    in_force = dict(effective)
    found = [Station("nothing (control)", compares=True)]
    for setting in facts:
        if setting.key not in LEFT_OUT:
            found += _stations_of(setting, in_force[setting.key])
    alone = {station.changes for station in found if not station.reason}
    for pair in TOGETHER:
        if all((change,) in alone for change in pair):
            found.append(Station(", ".join(f"{key} = {value}" for key, value in pair), pair, compares=True))
    return found


def _stations_of(setting: SettingFacts, now: SettingValue) -> Iterator[Station]:
    compares = setting.family not in SAME_DISTRIBUTION
    companions = COMPANIONS.get(setting.key, ())
    if setting.kind in ("integer", "number"):
        value = _example(setting, now)
        if value != now:
            changes = ((setting.key, value), *companions)
            yield Station(f"{setting.key} = {value}", changes, compares, setting.reason)
        return
    for choice in setting.choices:
        if choice.value != now:
            changes = ((setting.key, choice.value), *companions)
            reason = setting.reason or choice.reason
            yield Station(f"{setting.key} = {choice.value}", changes, compares, reason)


def _example(setting: SettingFacts, now: SettingValue) -> SettingValue:
    value = EXAMPLES.get(setting.key, float(now) + setting.increment)
    if not setting.minimum <= float(value) <= setting.maximum or value == now:
        value = setting.maximum if float(now) < setting.maximum else setting.minimum
    return int(value) if setting.kind == "integer" else float(value)


class Walk(Front):
    """Visits stations. `told` hears of each as it is set out for; `tokens`: of each stretch."""

    def __init__(self, tokens: int, told: Callable[[str], None]) -> None:
        super().__init__()
        self._tokens = tokens
        self._told = told
        self._visits: list[Visit] = []
        self._impossible: list[Station] = []
        self._effective: Configuration = ()
        self._waiting: list[Station] = []
        self._generate: Generate | None = None
        self._stage = "load"
        self._tokens_left = 0
        self._stretch = 0  # the row at which the stretch that runs began

    def run(self, load: Load, generate: Generate) -> list[Row]:
        """Load, walk, and return the table. `problem` says what went wrong, if anything did."""
        self._generate = replace(generate, max_new_tokens=1_000_000, stop_at_end_token=False)
        self.converse(load)
        rows = [row_of(self.trace, visit) for visit in self._visits]
        return rows + [Row(station.name, reason=station.reason) for station in self._impossible]

    def answer(self, event: Event) -> None:
        """Where a stretch or a switch is over, the next command."""
        match event:
            case ModelLoaded():
                self._effective = event.effective
            case SettingsProbed() if self._stage == "load":
                self._begin(event.settings)
            case StateChanged(state=EngineState.READY) if self._stage not in ("load", "end"):
                self._generate_again()
            case StepEnded() if event.kind in (StepKind.DECODE, StepKind.VERIFY):
                self._stepped(event)
            case SettingsChanged():
                self._changed(event)
            case SamenessMeasured():
                self._visits[-1].sameness = event.sameness
            case Failed():
                self._failed(event)
            case _:
                pass

    def _begin(self, settings: Sequence[SettingFacts]) -> None:
        found = stations(settings, self._effective)
        self._waiting = [station for station in found if not station.reason]
        self._impossible = [station for station in found if station.reason]
        self._generate_again()

    def _generate_again(self) -> None:
        assert self._generate is not None
        if not self._waiting and self._stage != "under":
            self._end()
            return
        self.send(self._generate)
        self._count("before")

    def _count(self, stage: str) -> None:
        """From here on, as many tokens as asked for, then on to what follows the stage."""
        self._stage, self._tokens_left, self._stretch = stage, self._tokens, len(self.trace.steps)

    def _stepped(self, event: StepEnded) -> None:
        if self._stage not in ("before", "under"):
            return
        self._tokens_left -= max(1, len(event.tokens) // max(1, event.batch))
        if self._tokens_left > 0:
            return
        stretch = (self._stretch, len(self.trace.steps))
        if self._stage == "before":
            if self._visits and not self._visits[-1].after_end:
                self._visits[-1].after_end = stretch[1]
            self._depart(stretch)
        else:
            self._return(stretch)

    def _depart(self, before: tuple[int, int]) -> None:
        """The stretch before a station is over: put its value into force."""
        if not self._waiting:
            self._stage = "end"
            self.send(Stop())
            self._end()
        elif self._is_full():
            self._stage = "again"  # the next READY begins another generation
            self.send(Stop())
        else:
            station = self._waiting.pop(0)
            self._told(station.name)
            self._visits.append(Visit(station, before))
            self._stage = "change"
            self.send(Change(station.changes))

    def _is_full(self) -> bool:
        model = self.trace.model
        room = model.context_limit - int(self.trace.steps.context_length[-1]) if model else 0
        return room < 3 * self._tokens

    def _changed(self, event: SettingsChanged) -> None:
        visit = self._visits[-1] if self._visits else None
        if visit is None or self._stage not in ("change", "back"):
            return
        if self._stage == "back":
            self._count("before")
            return
        visit.switch_ns = event.switch_ns
        visit.refused = next((change.reason for change in event.changes if change.reason), "")
        if visit.refused:
            self._go_back(visit)
            return
        self._count("under")

    def _return(self, under: tuple[int, int]) -> None:
        visit = self._visits[-1]
        visit.under = under
        if visit.station.compares:
            keys = [key for key, _ in visit.station.changes]
            before = tuple((key, value) for key, value in self._effective if key in keys)
            self.send(MeasureSameness(before))
        self._go_back(visit)

    def _go_back(self, visit: Visit) -> None:
        keys = [key for key, _ in visit.station.changes]
        self._stage = "back"
        self.send(Change(tuple((k, v) for k, v in self._effective if k in keys)))

    def _failed(self, event: Failed) -> None:
        if event.command in ("sameness",):
            return  # the table has no figure then
        if self._visits and self._stage == "under":
            self._visits[-1].refused = event.sentence
            self._go_back(self._visits[-1])
            return
        self._stage = "end"
        self.give_up(event.sentence)

    def _end(self) -> None:
        self._stage = "end"
        self.send(Shutdown())


def row_of(trace: Trace, visit: Visit) -> Row:
    """The line of a visit: what its tokens cost against those before and after it."""
    row = Row(visit.station.name, visit.switch_ns, sameness=visit.sameness, reason=visit.refused)
    if visit.refused or not visit.under[1]:
        return row
    found = effect_of_stretch(trace, visit.before, visit.under, (visit.under[1], visit.after_end))
    steps = np.unique(comparable_rows(trace, *visit.under))
    per_step = float(trace.steps.token_count[steps].mean()) if len(steps) else None
    return replace(
        row,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        verdict=str(found.verdict),
        tokens_per_step=per_step,
    )
