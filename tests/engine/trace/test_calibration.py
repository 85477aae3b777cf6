"""Records of what a machine achieves: which level of memory counts, what is merged, and what is no record."""

import json
from dataclasses import asdict, replace

import pytest

from engine.trace.calibration import Calibration, checked, from_record
from tests.engine.trace.test_floor import MIB, calibration

LADDER = ((MIB, 50e9), (16 * MIB, 40e9), (64 * MIB, 12e9), (512 * MIB, 10e9))


@pytest.mark.parametrize(
    ("working_set", "rate"),
    [(1, 50e9), (MIB, 50e9), (15 * MIB, 50e9), (16 * MIB, 40e9), (63 * MIB, 40e9), (2**34, 10e9)],
)
def test_the_level_is_that_of_the_next_smaller_rung(working_set: int, rate: float) -> None:
    machine = calibration(rungs=LADDER)
    assert machine.bandwidth(working_set) == rate
    assert machine.bandwidths([working_set]).tolist() == [rate]  # type: ignore[arg-type]


def test_a_rung_that_a_larger_one_surpassed_was_disturbed() -> None:
    machine = calibration(rungs=((MIB, 9e9), (16 * MIB, 40e9), (64 * MIB, 12e9)))
    assert machine.bandwidth(MIB) == 40e9


def test_a_floor_grows_with_the_bytes_across_levels() -> None:
    machine = calibration(rungs=LADDER)
    floors = [machine.floor_ns(count * MIB, 0, 1e12) for count in range(1, 1024)]
    assert floors == sorted(floors)


def test_no_work_takes_no_time_but_the_least_that_can_be_told() -> None:
    assert calibration().floor_ns(0, 0, 1e12) == 1


def test_the_best_of_two_records_counts() -> None:
    first = calibration(rungs=((MIB, 50e9), (64 * MIB, 9e9)), rates=(("float32", 2e12),), at_s=100.0)
    second = calibration(
        rungs=((MIB, 40e9), (64 * MIB, 10e9)), rates=(("float32", 1e12), ("int8", 5e12)), at_s=200.0
    )
    for best in (first.best_with(second), second.best_with(first)):
        assert best.rungs == ((MIB, 50e9), (64 * MIB, 10e9))
        assert best.rates == (("float32", 2e12), ("int8", 5e12))
        assert best.at_s == 200.0


def test_repeatable() -> None:
    assert calibration(spread=0.05).is_repeatable
    assert not calibration(spread=0.06).is_repeatable


@pytest.mark.parametrize(
    ("plain", "confirmed"),
    [(0.0, True), (10e9, True), (6e9, True), (12.4e9, True), (5.8e9, False), (20e9, False)],
)
def test_other_means_confirm_a_bandwidth(plain: float, confirmed: bool) -> None:
    assert calibration(plain_bandwidth=plain).is_confirmed is confirmed


def test_a_record_comes_back_from_json() -> None:
    machine = calibration(rungs=LADDER, remark="busy", plain_bandwidth=11e9)
    assert from_record(json.loads(json.dumps(asdict(machine)))) == machine


@pytest.mark.parametrize(
    "change",
    [
        {"rungs": ()},
        {"rungs": ((MIB, 0.0),)},
        {"rungs": ((MIB, float("nan")),)},
        {"rungs": ((MIB, float("inf")),)},
        {"rungs": ((0, 1e9),)},
        {"rungs": ((64 * MIB, 1e9), (MIB, 1e9))},
        {"rates": (("float32", -1.0),)},
        {"rates": (("float32", 1e20),)},
        {"rates": ()},
        {"spread": float("nan")},
        {"threads": 0},
        {"at_s": -5.0},
        {"plain_bandwidth": float("nan")},
        {"plain_bandwidth": -1e9},
    ],
)
def test_what_no_machine_achieves_is_refused(change: dict[str, object]) -> None:
    absurd: Calibration = replace(calibration(), **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"calibration|machine achieves"):
        checked(absurd)


@pytest.mark.parametrize("record", [{}, {"rungs": 3}, asdict(calibration()) | {"rungs": [1]}])
def test_what_is_no_record_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no calibration"):
        from_record(record)
