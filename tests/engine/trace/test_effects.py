"""The measured effect of a switch, found from a trace."""

import numpy as np
import pytest

from engine.protocol import AlternationEnded, AlternationStarted, SettingChange, SettingsChanged
from engine.trace import effects as effects_module
from engine.trace.alternation import is_second
from engine.trace.effects import Effects, Trust, effect_of_alternation, trust
from engine.trace.statistics import Verdict
from engine.trace.store import Trace
from tests.engine.trace import building
from tests.gui import synthetic

SHAPE = synthetic.Shape(layers=8, mark_every=400, spike_every=0)


def test_a_switch_that_helps_is_called_faster() -> None:
    found = Effects(synthetic.trace(800, SHAPE)).of("attention")
    assert found is not None
    assert found.change.effective == "sdpa"
    assert found.before == "eager"
    assert found.effect.verdict is Verdict.FASTER
    assert found.effect.ratio is not None
    assert 0.5 < found.effect.ratio < 0.95


def test_the_last_change_counts() -> None:
    found = Effects(synthetic.trace(1200, SHAPE)).of("attention")
    assert found is not None
    assert found.change.effective == "eager"
    assert found.effect.verdict is Verdict.SLOWER


def test_too_few_steps_have_no_number() -> None:
    found = Effects(synthetic.trace(410, SHAPE)).of("attention")
    assert found is not None
    assert found.effect.ratio is None
    assert found.effect.verdict is Verdict.UNCLEAR


def test_a_setting_that_never_changed_has_no_effect() -> None:
    assert Effects(synthetic.trace(800, SHAPE)).of("precision") is None


def test_a_verdict_is_computed_once_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = effects_module.effect

    def counted(before: np.ndarray, after: np.ndarray, *contexts: np.ndarray) -> object:
        calls.append(len(after))
        return real(before, after, *contexts)

    monkeypatch.setattr(effects_module, "effect", counted)
    trace = synthetic.trace(400, SHAPE)
    found = Effects(trace)
    events = list(synthetic.events(700, SHAPE))[-301:]
    trace.extend(events[:200])
    assert found.of("attention") is not None
    for event in events[200:208]:
        trace.append(event)
        found.of("attention")
    assert len(calls) == 1


def alternated(ratio: float, steps: int, turn_steps: int) -> Trace:
    """A trace in which, from step 4 on, two values take turns and the second takes `ratio` times as long."""
    trace = Trace(building.loaded())
    trace.append(building.APART)
    trace.append(building.started())
    generator = np.random.default_rng(0)
    first, second = (("attention", "eager"),), (("attention", "sdpa"),)
    for index in range(4 + steps):
        if index == 4:
            trace.append(
                AlternationStarted(0, 4, "attention", "eager", "sdpa", turn_steps, (0, 1), (first, second))
            )
        turn = (index - 4) // turn_steps
        other = index >= 4 and is_second(turn)
        begins = index >= 4 and (index - 4) % turn_steps == 0 and turn_steps > 1
        wall = int(1e7 * generator.normal(1, 0.01) * (ratio if other else 1.0) * (5 if begins else 1))
        trace.append(building.step((index,), stamps=(0, 1, 2, 3, 4, 5, 6, wall), configuration=int(other)))
    return trace


@pytest.mark.parametrize("turn_steps", [1, 4])
def test_values_that_take_turns_have_an_effect(turn_steps: int) -> None:
    trace = alternated(0.8, 130 * turn_steps, turn_steps)
    found = effect_of_alternation(trace, trace.alternations[0])
    assert (found.key, found.first, found.second, found.goes_on) == ("attention", "eager", "sdpa", True)
    assert found.effect.count == 64
    assert found.effect.verdict is Verdict.SLOWER  # the first one, than the second
    assert found.effect.ratio == pytest.approx(1 / 0.8, rel=0.01)
    assert found.effect.low < 1 / 0.8 < found.effect.high


def test_too_few_turns_have_none() -> None:
    trace = alternated(0.8, 100, 1)
    found = effect_of_alternation(trace, trace.alternations[0])
    assert found.effect.ratio is None
    assert found.pairs == 49  # the last of 50 goes on


def test_steps_of_the_other_value_are_not_counted_as_before_a_later_switch() -> None:
    trace = alternated(3.0, 200, 1)
    trace.append(AlternationEnded(0, 204, 0))
    after = (("attention", "flex"),)
    trace.append(SettingsChanged(0, 204, (SettingChange("attention", "flex", "flex"),), 0, 2, after))
    for index in range(204, 300):
        wall = int(1e7 * np.random.default_rng(index).normal(1, 0.01))
        trace.append(building.step((index,), stamps=(0, 1, 2, 3, 4, 5, 6, wall), configuration=2))
    found = Effects(trace).of("attention")
    assert found is not None
    assert found.before == "eager"
    assert found.effect.ratio == pytest.approx(1.0, abs=0.02)


def test_trust_is_in_steps_of_what_is_in_force() -> None:
    trace = alternated(3.0, 200, 1)
    trace.append(AlternationEnded(0, 204, 0))
    assert trust(trace) is None  # hundred of the first value's are too few
    for index in range(204, 604):
        wall = int(1e7 * np.random.default_rng(index).normal(1, 0.01))
        trace.append(building.step((index,), stamps=(0, 1, 2, 3, 4, 5, 6, wall)))
    found = trust(trace)
    assert found is not None
    assert found.holds
    assert found.half_width < 0.02
    trusted = Trust()
    assert trusted.of(trace) == found
    assert trusted.of(trace) is trusted.of(trace)
    for index in range(604, 768):
        trace.append(building.step((index,), stamps=(0, 1, 2, 3, 4, 5, 6, 10_000_000)))
        if index < 767:
            assert trusted.of(trace) == found  # not looked at again before 256 steps more
    assert trusted.of(trace) == trust(trace) != found
