"""Two values that take turns: differences by hand, coverage where nothing differs, and what is not said too early."""

import numpy as np
import pytest

from engine.trace import alternation
from engine.trace.alternation import (
    alternation_effect,
    is_second,
    pair_differences,
    self_test,
    turn_medians,
)
from engine.trace.statistics import Verdict


def noisy_steps(count: int, seed: int) -> np.ndarray:
    """Wall times as of a real decode loop: neighbours alike (lag-1 correlation 0.7), context growing, some stalls."""
    generator = np.random.default_rng(seed)
    noise = np.zeros(count)
    for i in range(1, count):
        noise[i] = 0.7 * noise[i - 1] + generator.normal(0, 0.02)
    stalls = np.where(generator.random(count) < 0.02, 3.0, 1.0)
    return 1e7 * (1 + np.arange(count) * 2e-4) * np.exp(noise) * stalls


def alternated(count: int, ratio: float, seed: int) -> np.ndarray:
    """Such steps in turns of one, those of B times `ratio`."""
    second = np.array([is_second(turn) for turn in range(count)])
    return noisy_steps(count, seed) * np.where(second, ratio, 1.0)


def test_the_order_is_a_b_b_a() -> None:
    assert [is_second(turn) for turn in range(8)] == [False, True, True, False] * 2


def test_medians_of_turns_leave_out_what_follows_a_switch_and_the_turn_that_goes_on() -> None:
    walls = [900, 10, 12, 800, 20, 24, 700, 1]
    turns = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    assert turn_medians(walls, turns, discarded=1).tolist() == [11.0, 22.0]
    assert np.isnan(turn_medians(walls, turns, discarded=3)).all()
    assert len(turn_medians([], np.array([], np.int64))) == 0


@pytest.mark.parametrize("seed", range(20))
def test_medians_of_any_turns_are_those_of_numpy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    turns = np.sort(generator.integers(0, 9, 50))
    walls = np.where(generator.random(50) < 0.2, np.nan, generator.random(50))
    borders = np.flatnonzero(np.diff(turns)) + 1
    parts = [part[1:][~np.isnan(part[1:])] for part in np.split(walls, borders)[:-1]]
    expected = [np.median(part) if len(part) else np.nan for part in parts]
    assert np.array_equal(turn_medians(walls, turns, discarded=1), expected, equal_nan=True)


def test_the_same_pairs_are_resampled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resampled = []
    interval = alternation._interval
    monkeypatch.setattr(
        alternation, "_interval", lambda values, seed: resampled.append(len(values)) or interval(values, seed)
    )
    alternation._effect_of.cache_clear()
    differences = pair_differences(alternated(300, 1.1, 7))
    found = [alternation_effect(differences[:count]) for count in range(64, 150)]
    assert resampled == [64, 128]  # whoever looks four times a second asks for the same again and again
    assert found[0] == found[63] != found[64] == found[-1]


def test_differences_are_b_minus_a_in_both_orders() -> None:
    medians = np.array([10.0, 20.0, 40.0, 10.0, 7.0])  # A B, B A, and a turn without its partner
    assert pair_differences(medians) == pytest.approx([np.log(2), np.log(4)])
    assert pair_differences(np.array([10.0, np.nan, 40.0, 10.0])) == pytest.approx([np.log(4)])


def test_a_drift_falls_out() -> None:
    walls = 1e6 * 1.001 ** np.arange(256)
    found = alternation_effect(pair_differences(walls))
    assert found.ratio == pytest.approx(1.0, abs=1.1e-3)
    assert found.verdict is Verdict.SAME


@pytest.mark.parametrize(("ratio", "verdict"), [(0.9, Verdict.FASTER), (1.1, Verdict.SLOWER)])
def test_ten_percent_are_seen_in_noise(ratio: float, verdict: Verdict) -> None:
    found = [alternation_effect(pair_differences(alternated(512, ratio, seed))) for seed in range(10)]
    assert {effect.verdict for effect in found} == {verdict}
    assert all(effect.ratio == pytest.approx(ratio, rel=0.02) for effect in found)


def test_where_nothing_differs_at_least_95_percent_of_the_intervals_say_so() -> None:
    effects = [alternation_effect(pair_differences(alternated(256, 1.0, seed))) for seed in range(200)]
    held = [effect.low <= 1 <= effect.high for effect in effects if effect.low and effect.high]
    assert len(held) == 200
    assert np.mean(held) >= 0.95


def test_nothing_is_said_below_64_pairs_and_nothing_new_between_two_looks() -> None:
    differences = pair_differences(alternated(512, 1.3, 0))
    early = alternation_effect(differences[:63])
    assert (early.ratio, early.verdict, early.count) == (None, Verdict.UNCLEAR, 63)
    assert alternation_effect(differences[:64]) == alternation_effect(differences[:127])
    assert alternation_effect(differences[:128]).count == 128


def test_the_self_test_of_a_quiet_machine_holds_and_says_what_it_can_resolve() -> None:
    found = self_test(noisy_steps(1_000, 3))
    assert found is not None
    assert found.tried == (1_000 - 128) // 16 + 1
    assert found.holds
    assert 0.001 < found.half_width < 0.05
    assert self_test(noisy_steps(255, 3)) is None


def test_the_self_test_fails_where_the_machine_swings_in_step_with_the_turns() -> None:
    second = np.array([is_second(turn) for turn in range(600)])
    found = self_test(noisy_steps(600, 1) * np.where(second, 1.2, 1.0))
    assert found is not None
    assert not found.holds
