"""Any order and any speed of switching, valid or not, in one generation: the engine stays whole. Seeded."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.protocol import (
    Change,
    Command,
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
    SettingValue,
    Shutdown,
    StepEnded,
)
from engine.trace.store import Trace
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.runtime.test_session import of, play

TOKENS = 120
NONSENSE: tuple[SettingValue, ...] = ("nonsense", -1, 10**9, float("nan"), "", True)
#: Compiling takes minutes for each shape: it has tests of its own. The engine does not move itself.
LEFT_OUT = ("compile", "cuda_graphs", "engine_place", "placement")
#: They keep the tokens that one sequence gets, but not how many there are of them.
NOT_ALONE = ("batch", "beams")


class Monkey:
    """Changes one to three settings before most steps. `lossless`: only such as must not change a token."""

    def __init__(self, seed: int, lossless: bool) -> None:
        self._random = random.Random(seed)
        self._lossless = lossless
        self._facts: tuple[SettingFacts, ...] = ()

    def answer(self, event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, ModelLoaded):
            self._facts = tuple(facts for facts in event.settings if self._may(facts))
        if isinstance(event, StepEnded) and self._random.random() < 0.7:
            for _ in range(self._random.randint(1, 2)):
                send(Change(self._changes()))
        if isinstance(event, GenerationEnded):
            send(Shutdown())

    def _may(self, facts: SettingFacts) -> bool:
        if facts.key in LEFT_OUT or facts.key in NOT_ALONE:
            return facts.key not in LEFT_OUT and not self._lossless
        return facts.lossless or not self._lossless

    def _changes(self) -> Configuration:
        chosen = self._random.sample(self._facts, k=self._random.randint(1, 3))
        return tuple((facts.key, self._value(facts)) for facts in chosen)

    def _value(self, facts: SettingFacts) -> SettingValue:
        if self._random.random() < 0.1:
            return self._random.choice(NONSENSE)
        if facts.kind == "choice":
            choices = [
                c for c in facts.choices if not self._lossless or getattr(c, "lossless", None) is not False
            ]
            return self._random.choice(choices).value
        if facts.kind == "integer":
            return self._random.randint(int(facts.minimum), int(min(facts.maximum, facts.minimum + 12)))
        return self._random.uniform(facts.minimum, facts.maximum)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


def run(model: Path, answer: Callable[[Event, Callable[[Command], None]], None]) -> list[Event]:
    settings = (("threads", 1), ("precision", "float32"))
    generate = Generate(Prompt("any order, any speed"), TOKENS, stop_at_end_token=False)
    return play([Load(str(model), "cpu", settings), generate], answer)


def end(event: Event, send: Callable[[Command], None]) -> None:
    if isinstance(event, GenerationEnded):
        send(Shutdown())


def text_of(events: list[Event]) -> list[int]:
    return [t.id for s in of(events, StepEnded) for t in s.tokens if getattr(t, "sequence", 0) == 0]


def check(events: list[Event]) -> Trace:
    """Nothing failed, every ledger sums, every refusal is a sentence, and the trace can be folded."""
    assert [failed.sentence for failed in of(events, Failed)] == []
    loaded = of(events, ModelLoaded)[0]
    trace = Trace(loaded)
    trace.extend(events[events.index(loaded) + 1 :])
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()
    assert (np.diff(trace.steps.begin_ns) > 0).all()
    for mark in of(events, SettingsChanged):
        for change in mark.changes:
            assert not change.reason or change.reason.rstrip()[-1] in ".?", change
    assert of(events, GenerationEnded)[-1].reason == "length"
    return trace


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_switched_the_engine_stays_whole(model: Path, seed: int) -> None:
    events = run(model, Monkey(seed, lossless=False).answer)
    trace = check(events)
    assert len(text_of(events)) >= TOKENS
    assert len(trace.marks) > 60


@pytest.mark.parametrize("seed", range(3))
def test_whatever_lossless_is_switched_the_tokens_stay(model: Path, seed: int) -> None:
    expected = text_of(run(model, end))
    events = run(model, Monkey(seed, lossless=True).answer)
    check(events)
    assert text_of(events) == expected
