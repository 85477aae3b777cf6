"""How far two outputs lie apart, by hand arithmetic."""

import math

import numpy as np
import pytest

from engine.trace.sameness import compare, log_softmax


def logits(*rows: list[float]) -> np.ndarray:
    """Logits of these probabilities, moved by a constant that must not matter."""
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows, np.float32)) + 7


def test_the_same_output_is_at_no_distance() -> None:
    rows = logits([0.5, 0.25, 0.25], [0.1, 0.2, 0.7])
    found = compare(rows, rows + 3, np.array([0, 2]), 1)
    assert (found.forced, found.text, found.first_difference, found.top1) == (2, 1, -1, 1.0)
    assert found.greedy_is_same
    assert (found.kl_mean, found.kl_p99, found.nll_change) == pytest.approx((0, 0, 0), abs=1e-6)


def test_distances_by_hand() -> None:
    reference = logits([0.5, 0.5], [0.8, 0.2], [0.9, 0.1])
    moved = logits([0.25, 0.75], [0.8, 0.2], [0.1, 0.9])
    found = compare(reference, moved, np.array([0, 0, 0]), 2)
    first = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    last = 0.9 * math.log(9) + 0.1 * math.log(1 / 9)
    assert found.kl_mean == pytest.approx((first + last) / 3, rel=1e-5)
    assert found.kl_p99 == pytest.approx(max(first, last), rel=1e-5)
    assert found.nll_change == pytest.approx(
        math.log(0.5 / 0.25) / 2, rel=1e-5
    )  # of the two tokens of the text
    assert found.top1 == pytest.approx(1 / 3)
    assert found.first_difference == 0  # the first greedy token is the third forced one


def test_what_the_reference_rules_out_adds_nothing_and_what_this_rules_out_is_infinitely_far() -> None:
    assert compare(logits([0.0, 1.0]), logits([0.5, 0.5]), np.array([1]), 0).kl_mean == pytest.approx(
        math.log(2)
    )
    assert compare(logits([0.5, 0.5]), logits([0.0, 1.0]), np.array([1]), 0).kl_mean == math.inf


def test_probabilities_sum_to_one_however_large_the_logits() -> None:
    assert np.exp(log_softmax(np.array([[1e4, 1e4, -1e4]], np.float32))).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("ids", [[], [1, 1]])
def test_what_does_not_belong_together_is_refused(ids: list[int]) -> None:
    rows = logits([0.5, 0.5])[: len(ids)]
    with pytest.raises(ValueError, match="do not belong together"):
        compare(rows, rows, np.array(ids, np.int64), 0)
