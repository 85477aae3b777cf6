"""Rolling quantiles of latencies, each configuration by itself."""

import numpy as np

from engine.trace.rolling import ENOUGH, ROLLING_WINDOW, RollingByConfiguration


def test_values_of_another_configuration_are_in_no_median() -> None:
    rolled = RollingByConfiguration().extend(np.array([10, 1000, 20, 3000, 60]), np.array([0, 1, 0, 1, 0]))
    assert rolled[:, 0].tolist() == [10, 1000, 15, 2000, 20]


def test_it_goes_on_where_it_was() -> None:
    values, numbers = np.arange(300) % 37, np.arange(300) // 50 % 2
    whole = RollingByConfiguration().extend(values, numbers)
    parts = RollingByConfiguration()
    pieces = [parts.extend(values[at : at + 70], numbers[at : at + 70]) for at in range(0, 300, 70)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_percentile_of_few_values_is_none() -> None:
    rolled = RollingByConfiguration().extend(np.arange(ENOUGH + 2), np.zeros(ENOUGH + 2, np.int64))
    assert np.isnan(rolled[:ENOUGH, 1]).all()
    assert np.isfinite(rolled[ENOUGH:, 1]).all()


def test_only_the_latest_count() -> None:
    values = np.concatenate((np.full(ROLLING_WINDOW, 5), np.full(ROLLING_WINDOW, 9)))
    rolled = RollingByConfiguration().extend(values, np.zeros(len(values), np.int64))
    assert rolled[ROLLING_WINDOW - 1, 0] == 5
    assert rolled[-1, 0] == 9
