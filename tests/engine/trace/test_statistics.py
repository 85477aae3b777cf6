"""Quantiles against the plain definition; effects and verdicts on seeded data of which the truth is known."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.trace.statistics import (
    BLOCK,
    LOOKS,
    Effect,
    RollingQuantiles,
    Verdict,
    bootstrap_ratio,
    effect,
    fit_context,
    median,
    median_absolute_deviation,
    percentiles,
    tukey_outliers,
    verdict_of,
    warm_up,
)

Float = npt.NDArray[np.float64]


def noisy_steps(count: int, seed: int, correlation: float = 0.6, spread: float = 0.05) -> Float:
    """Wall times around 1 ms whose neighbours resemble each other (log-normal, autoregressive)."""
    generator = np.random.default_rng(seed)
    shocks = generator.normal(0, spread * np.sqrt(1 - correlation**2), count)
    logs = np.empty(count)
    logs[0] = generator.normal(0, spread)
    for i in range(1, count):
        logs[i] = correlation * logs[i - 1] + shocks[i]
    times: Float = 1e6 * np.exp(logs)
    return times


def test_percentiles_are_linear_between_order_statistics() -> None:
    assert percentiles([10, 20, 30, 40], (0, 50, 90, 100)) == (10, 25, pytest.approx(37), 40)
    assert percentiles([7], (5, 50)) == (7, 7)
    assert percentiles([], (50,)) is None


def test_median_and_mad() -> None:
    assert median([3, 1, 2, 10]) == 2.5
    assert median_absolute_deviation([1, 1, 2, 2, 4, 6, 9]) == 1
    assert median([]) is None
    assert median_absolute_deviation([]) is None


@given(
    st.lists(st.integers(0, 10**12), max_size=80),
    st.integers(1, 20),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
)
def test_rolling_quantiles_however_the_values_come_in(
    values: list[int], window: int, chunks: list[int]
) -> None:
    rolling, begin, turn = RollingQuantiles(window, (0.5, 0.95)), 0, 0
    while begin < len(values):
        rolling.extend(values[begin : begin + chunks[turn % len(chunks)]])
        begin, turn = begin + chunks[turn % len(chunks)], turn + 1
    assert len(rolling) == len(values)
    for quantile in (0.5, 0.95):
        naive = [np.quantile(values[max(0, i - window + 1) : i + 1], quantile) for i in range(len(values))]
        np.testing.assert_allclose(rolling.of(quantile), np.array(naive, np.float64), rtol=1e-12)


def test_rolling_quantiles_of_a_chunk_longer_than_they_work_through_at_once() -> None:
    values = np.random.default_rng(0).integers(1, 10**9, 9000)
    at_once, in_turn = RollingQuantiles(), RollingQuantiles()
    at_once.extend(values)
    for part in np.array_split(values, 37):
        in_turn.extend(part)
    for quantile in (0.5, 0.95):
        np.testing.assert_array_equal(at_once.of(quantile), in_turn.of(quantile))
    assert at_once.of(0.5)[5000] == np.median(values[5001 - 64 : 5001])


def test_rolling_quantiles_refuse_what_they_do_not_keep() -> None:
    with pytest.raises(ValueError, match="empty"):
        RollingQuantiles(0)
    with pytest.raises(KeyError):
        RollingQuantiles().of(0.99)


def test_tukey_fences_on_both_sides() -> None:
    body = list(range(10, 31))  # quartiles 15 and 25: fences at 0 and 40, at -15 and 55
    found = tukey_outliers([*body])
    assert found is not None
    assert (found.beyond_inner, found.beyond_outer) == (0, 0)
    body = [20] * 5 + [10] * 10 + [30] * 10
    found = tukey_outliers([*body, 61, 95, -25, -55])  # quartiles 10 and 30: fences at -20, 60 and -50, 90
    assert found is not None
    assert (found.beyond_inner, found.beyond_outer) == (4, 2)
    assert tukey_outliers([1, 2, 3]) is None


def test_warm_up_is_the_run_before_three_steady_samples() -> None:
    steady = [100.0, 101, 99] * 10
    assert warm_up(steady) == 0
    assert warm_up([500, 300, 150, *steady]) == 3
    assert warm_up([500, 100, 300, *steady]) == 3
    assert warm_up([*np.linspace(1000, 500, 20), *[100.0] * 20]) == 20
    assert warm_up([5, 1, 1]) == 0
    assert warm_up([]) == 0


@given(st.lists(st.floats(1, 1e9), max_size=100))
def test_warm_up_leaves_out_at_most_half(values: list[float]) -> None:
    assert 0 <= warm_up(values) <= len(values) // 2


def test_context_fit_finds_the_line_through_stalls() -> None:
    context = np.arange(100, 500)
    wall = 2e6 + 300.0 * context
    wall[::17] *= 20
    fit = fit_context(context, wall)
    assert fit is not None
    assert fit.slope_ns == pytest.approx(300)
    assert fit.intercept_ns == pytest.approx(2e6)
    assert fit.count == 400


def test_context_fit_does_not_depend_on_the_order() -> None:
    order = np.random.default_rng(3).permutation(200)
    fit = fit_context(order + 10, 50.0 * (order + 10) + 7)
    assert fit is not None
    assert (fit.slope_ns, fit.intercept_ns) == (pytest.approx(50), pytest.approx(7))


def test_context_fit_needs_samples_and_contexts_that_differ() -> None:
    assert fit_context(range(15), range(15)) is None
    assert fit_context([8] * 100, range(100)) is None
    assert fit_context([], []) is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.80, 0.95, Verdict.FASTER),
        (1.05, 1.20, Verdict.SLOWER),
        (0.995, 1.005, Verdict.SAME),
        (0.992, 0.998, Verdict.SAME),
        (0.95, 1.05, Verdict.UNCLEAR),
        (0.98, 0.9999, Verdict.FASTER),
        (0.98, 1.0, Verdict.UNCLEAR),
        (1.0, 1.02, Verdict.UNCLEAR),
    ],
)
def test_verdicts(low: float, high: float, verdict: Verdict) -> None:
    assert verdict_of(low, high) is verdict


@pytest.mark.parametrize(
    ("factor", "spread", "verdict"),
    [
        (0.7, 0.05, Verdict.FASTER),
        (1.4, 0.05, Verdict.SLOWER),
        (1.0, 0.002, Verdict.SAME),
        (1.01, 0.3, Verdict.UNCLEAR),
    ],
)
def test_effects_of_known_size(factor: float, spread: float, verdict: Verdict) -> None:
    measured = effect(noisy_steps(200, 1, spread=spread), factor * noisy_steps(200, 2, spread=spread))
    assert measured.verdict is verdict
    assert measured.ratio is not None
    assert measured.low is not None
    assert measured.high is not None
    assert measured.low <= factor <= measured.high
    assert measured.low <= measured.ratio <= measured.high


def test_the_ratio_is_that_of_the_medians() -> None:
    before, after = noisy_steps(64, 5), noisy_steps(64, 6)
    ratio, low, high = bootstrap_ratio(before.reshape(-1, BLOCK), after.reshape(-1, BLOCK))
    assert ratio == pytest.approx(np.median(after) / np.median(before))
    assert low < ratio < high
    with pytest.raises(ValueError, match="at least one block"):
        bootstrap_ratio(before.reshape(-1, BLOCK), np.empty((0, BLOCK)))


def test_too_few_blocks_are_unclear_and_have_no_numbers() -> None:
    steady = np.full(500, 1e6)
    enough = LOOKS[0] * BLOCK
    assert effect(steady, 0.1 * steady[: enough - 1]) == Effect(None, None, None, Verdict.UNCLEAR, 62 + 7)
    assert effect(steady[: enough - 1], 0.1 * steady) == Effect(None, None, None, Verdict.UNCLEAR, 7 + 62)
    assert effect([], []) == Effect(None, None, None, Verdict.UNCLEAR, 0)
    assert effect(steady[:enough], 0.1 * steady[:enough]).verdict is Verdict.FASTER


def test_it_is_looked_at_by_plan_only_and_the_same_data_give_the_same_answer() -> None:
    before, after = noisy_steps(300, 1), noisy_steps(300, 2)
    looks = {effect(before, after[:n], seed=4) for n in range(140, 250, 10)}
    assert len(looks) == 1
    assert effect(before, after, seed=4) not in looks


def test_the_first_steps_after_a_switch_are_left_out_and_counted() -> None:
    after = np.concatenate(([9e6, 5e6], noisy_steps(80, 2, spread=0.001)))
    measured = effect(noisy_steps(80, 1, spread=0.001), after)
    assert measured.warm_up == 2
    assert measured.verdict is Verdict.SAME


def test_growing_context_is_not_taken_for_an_effect() -> None:
    context = np.arange(100.0, 356)
    wall = noisy_steps(256, 8, spread=0.01) * np.exp(0.001 * context)
    blind = effect(wall[:128], wall[128:])
    seeing = effect(wall[:128], wall[128:], context[:128], context[128:])
    assert blind.verdict is Verdict.SLOWER
    assert seeing.verdict in {Verdict.SAME, Verdict.UNCLEAR}
    halved = effect(wall[:128], 0.5 * wall[128:], context[:128], context[128:])
    assert halved.ratio == pytest.approx(0.5, rel=0.05)
    assert halved.verdict is Verdict.FASTER


def test_a_machine_that_grew_slower_is_not_taken_for_growing_context() -> None:
    context = np.arange(100.0, 356)
    wall = noisy_steps(256, 8, spread=0.01)
    wall[:128] *= np.linspace(1.0, 2.2, 128)  # something else began to run before the switch, and goes on
    wall[128:] *= np.linspace(2.0, 2.2, 128)
    measured = effect(wall[:128], wall[128:], context[:128], context[128:])
    assert measured.high is not None
    assert measured.high < 1  # with context taken out it looks faster, though every step took longer
    assert measured.verdict is Verdict.UNCLEAR


@pytest.mark.parametrize("with_context", [False, True])
def test_nothing_changed_is_called_a_change_in_at_most_one_of_ten(with_context: bool) -> None:
    """A/A: 40 seeded runs of correlated steps; 5 % are promised, and 4 of 40 leave room for chance."""
    context = np.arange(128.0)
    alarms = 0
    for seed in range(40):
        wall = noisy_steps(128, 100 + seed)
        contexts = (context[:64], context[64:]) if with_context else (None, None)
        measured = effect(wall[:64], wall[64:], *contexts, seed=seed)
        alarms += measured.verdict in {Verdict.FASTER, Verdict.SLOWER}
    assert alarms <= 4
