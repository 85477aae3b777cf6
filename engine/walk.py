"""A walk through all settings that are possible here, one after the other, in a running generation; a table at the end.

Each station is a value of a setting that takes turns with what is in force otherwise, A B B A, a few tokens a turn. The
effect is the time of a token under the value over that in the neighbouring turn without it: what drifts, a growing
context or a machine that others use, falls out. The first station changes nothing and shows what the machine makes of
that. Each station has a generation of its own, no longer than its turns need: a static cache computes over all places
that it reserves, used or not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

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
from engine.trace.alternation import effect_of_plan, is_second, pair_differences
from engine.trace.comparison import comparable_rows, time_of
from engine.trace.phases import StepKind
from engine.trace.sameness import Sameness
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
PAIRS = 8  # of turns at a station
SHORTEST = 3 * PAIRS  # tokens of all turns of a side: of each turn some are left behind those that warm up
OVERSHOOT = 8  # tokens that a turn may make too many, where a step makes several
WARM_UP = 2  # steps of a turn that do not count, at most half of them
#: Restart the engine, load the model anew, or change by themselves what is compared.
LEFT_OUT = ("engine_place", "placement", "auto_detail")
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
    """What a station showed. `turns`: rows of steps of each, begin ≤ row < end, in the order A B B A."""

    station: Station
    turns: list[tuple[int, int]] = field(default_factory=list)
    switch_ns: int | None = None  # of the first switch to the value
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
    """Visits stations. `told` hears of each as it is set out for; `tokens`: under each value and without it."""

    def __init__(self, tokens: int, told: Callable[[str], None]) -> None:
        super().__init__()
        self._turn_tokens = -(-tokens // PAIRS)
        self._told = told
        self._visits: list[Visit] = []
        self._impossible: list[Station] = []
        self._effective: Configuration = ()
        self._waiting: list[Station] = []
        self._generate: Generate | None = None
        self._stage = "load"
        self._is_under = False
        self._tokens_left = 0
        self._begin_row = 0  # of the turn that runs
        self._is_fresh = False  # the generation that runs has made its first token

    def run(self, load: Load, generate: Generate) -> list[Row]:
        """Load, walk, and return the table. `problem` says what went wrong, if anything did."""
        length = 2 + 2 * PAIRS * (self._turn_tokens + OVERSHOOT)
        self._generate = replace(generate, max_new_tokens=length, stop_at_end_token=False)
        self.converse(load)
        rows = [row_of(self.trace, visit) for visit in self._visits]
        return rows + [Row(station.name, reason=station.reason) for station in self._impossible]

    def answer(self, event: Event) -> None:
        """Where a turn or a switch is over, the next command."""
        match event:
            case ModelLoaded():
                self._effective = event.effective
            case SettingsProbed() if self._stage == "load":
                self._begin(event.settings)
            case StateChanged(state=EngineState.READY) if self._stage not in ("load", "end"):
                self._generate_again()
            case StepEnded() if event.kind in (StepKind.DECODE, StepKind.VERIFY):
                self._stepped(event)
            case SettingsChanged() if self._stage == "switch":
                self._switched(event)
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
        # The prompt is read, and one token made, before the next turn.
        self._stage, self._tokens_left, self._is_fresh = "arrive", 1, True
        self.send(self._generate)

    def _stepped(self, event: StepEnded) -> None:
        if self._stage not in ("arrive", "turn"):
            return
        self._tokens_left -= max(1, len(event.tokens) // max(1, event.batch))
        if self._tokens_left > 0:
            return
        if self._stage == "turn":
            self._visits[-1].turns.append((self._begin_row, len(self.trace.steps)))
        self._go_on()

    def _go_on(self) -> None:
        """To the next turn, or where a station has had all of its turns, to the next station."""
        if self._visits and not self._visits[-1].refused and len(self._visits[-1].turns) < 2 * PAIRS:
            self._take_turn(self._visits[-1])
        elif not self._waiting:
            self._end()
        elif not self._is_fresh:
            self._stage = "again"  # the next READY begins another generation
            self.send(Stop())
        else:
            self._visits.append(Visit(self._waiting.pop(0)))
            self._told(self._visits[-1].station.name)
            self._take_turn(self._visits[-1])

    def _take_turn(self, visit: Visit) -> None:
        turn = len(visit.turns)
        if is_second(turn) != self._is_under:
            self._switch(visit, under=is_second(turn))
        else:
            self._count()

    def _switch(self, visit: Visit, *, under: bool) -> None:
        if not under and visit.station.compares and not visit.refused and visit.sameness is None:
            self.send(MeasureSameness(self._back(visit)))
        self._stage, self._is_under = "switch", under
        self.send(Change(visit.station.changes if under else self._back(visit)))

    def _back(self, visit: Visit) -> Configuration:
        keys = [key for key, _ in visit.station.changes]
        return tuple((key, value) for key, value in self._effective if key in keys)

    def _switched(self, event: SettingsChanged) -> None:
        visit = self._visits[-1]
        if self._is_under:
            visit.refused = next((change.reason for change in event.changes if change.reason), "")
            visit.switch_ns = event.switch_ns if visit.switch_ns is None else visit.switch_ns
        if not visit.refused:
            self._count()
        elif self._is_under:
            self._switch(visit, under=False)
        else:
            self._go_on()

    def _count(self) -> None:
        self._stage, self._tokens_left, self._begin_row = "turn", self._turn_tokens, len(self.trace.steps)
        self._is_fresh = False

    def _failed(self, event: Failed) -> None:
        if event.command in ("sameness",):
            return  # the table has no figure then
        if self._visits and self._stage == "turn" and self._is_under:
            self._visits[-1].refused = event.sentence
            self._switch(self._visits[-1], under=False)
            return
        self._end()
        self.problem = self.problem or event.sentence

    def _end(self) -> None:
        self._stage = "end"
        self.send(Shutdown())


def row_of(trace: Trace, visit: Visit) -> Row:
    """The line of a visit: what a token costs under its value, against the turns without it."""
    row = Row(visit.station.name, visit.switch_ns, sameness=visit.sameness, reason=visit.refused)
    if visit.refused or not visit.turns:
        return row
    found = effect_of_plan(pair_differences(np.array([_token_ns(trace, *turn) for turn in visit.turns])))
    under = [comparable_rows(trace, *turn) for at, turn in enumerate(visit.turns) if is_second(at)]
    steps = np.unique(np.concatenate(under)) if under else np.array([], np.int64)
    return replace(
        row,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        verdict=str(found.verdict),
        tokens_per_step=float(trace.steps.token_count[steps].mean()) if len(steps) else None,
    )


def _token_ns(trace: Trace, begin: int, end: int) -> float:
    """Time of a token of each sequence in a turn; NaN where none is left.

    The median of its steps; where they yield different numbers of tokens the mean, which weighs each step by its own.
    """
    rows = comparable_rows(trace, begin + min(WARM_UP, (end - begin) // 2), end)
    if not len(rows):
        return float("nan")
    times = time_of(trace, rows)
    varies = len(np.unique(trace.steps.token_count[rows])) > 1
    return float(np.mean(times) if varies else np.median(times))
