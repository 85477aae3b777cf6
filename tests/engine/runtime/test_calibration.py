"""Measuring this machine, for real and small, and with clocks and loads that misbehave."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.runtime import calibration as calibrating
from engine.runtime.calibration import (
    KINDS,
    MIB,
    CalibrationInterrupted,
    CalibrationRefused,
    HostTimer,
    Machine,
    busy_words,
    last_level_cache,
    measure,
)
from engine.runtime.calibration_records import directory, path_of, remember, remembered
from engine.runtime.plain_reading import _read_together, plain_reads
from engine.trace.calibration import checked
from tests.engine.trace.test_floor import calibration

CPU = torch.device("cpu")
STEADY_NS = 10_000_000
HERE = Machine("a processor", CPU, 1)


class Fake:
    """A timer of a machine whose times are chosen: what the n-th call takes, n from 1 on."""

    def __init__(self, times: Callable[[int], int]) -> None:
        self._times = times
        self.calls = 0

    def time_ns(self, work: Callable[[], object], times: int) -> int:
        self.calls += 1
        return self._times(self.calls) * times


def test_a_small_working_set_for_real() -> None:
    found = checked(measure(HERE, largest=8 * MIB))
    assert [size for size, _ in found.rungs] == [MIB // 4, MIB, 4 * MIB, 8 * MIB]
    assert all(1e8 < rate < 1e13 for _, rate in found.rungs)
    assert [kind for kind, _ in found.rates] == sorted(set(KINDS) - {"float8"})  # processors widen that
    assert all(1e7 < rate < 1e14 for _, rate in found.rates)
    assert found.took_ns < 10e9
    assert found.cache_bytes == last_level_cache(CPU)


def test_products_that_a_device_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*matrices: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    monkeypatch.setitem(calibrating._MULTIPLY, "int8", missing)
    found = measure(HERE, timer=Fake(lambda call: STEADY_NS), largest=MIB)
    assert [kind for kind, _ in found.rates] == ["bfloat16", "float16", "float32"]


def test_products_of_float8_are_measured_where_a_device_has_them() -> None:
    bench = calibrating._Bench(HERE, Fake(lambda call: STEADY_NS), lambda: False, MIB)
    # 16 rows times 256 × 256, in 10 ms; the processor has this operator, if no instructions for it
    assert bench._rate("float8", 16, 256) == pytest.approx(2 * 16 * 256**2 * 100)


class Honest:
    """A timer of a machine that reads 10 GB/s by all means, but for one that is `factor` times as fast as it can be."""

    def __init__(self, means: str = "", factor: float = 1.0) -> None:
        self._means, self._factor = means, factor

    def time_ns(self, work: Callable[[], object], times: int) -> int:
        if getattr(work, "__name__", "") == "one_after_the_other":  # small working sets: anything but nothing
            return STEADY_NS * times
        means, nbytes = self._read(work)
        rate = 10 * (self._factor if means == self._means else 1.0)  # bytes a ns
        return times * max(1, round(nbytes / rate))

    @staticmethod
    def _read(work: Callable[[], object]) -> tuple[str, int]:
        if not isinstance(work, partial):
            return "calls", 0
        if work.func is functional.linear:
            return str(work.args[1].dtype), work.args[1].nbytes
        if work.func in (np.max, torch.amax):
            return "plain", work.args[0].nbytes
        if work.func is _read_together:
            return "plain", sum(part.nbytes for part in work.args[1])
        return "copies", 2 * work.args[0].nbytes if work.args else 0


@pytest.fixture
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are tried once for real, whatever the timer says that they take; caches hold 8 MiB."""
    monkeypatch.setattr(calibrating, "_SIDES", (256,))
    monkeypatch.setattr(calibrating, "last_level_cache", lambda device: 8 * MIB)


@pytest.mark.usefixtures("small_products")
def test_other_means_read_for_real_what_is_beyond_the_caches() -> None:
    assert 1e8 < measure(HERE, largest=16 * MIB).plain_bandwidth < 1e13
    inside = measure(HERE, largest=8 * MIB)
    assert inside.plain_bandwidth == 0  # caches outrun whatever else is done with a byte
    assert inside.is_confirmed


@pytest.mark.usefixtures("small_products")
@pytest.mark.parametrize(("factor", "tried"), [(0.4, False), (0.6, True)])
def test_a_way_that_is_slow_beyond_the_caches_is_not_tried_inside(
    factor: float, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int, set[str]] = {}
    bandwidths = calibrating._Bench.bandwidths

    def noted(bench: calibrating._Bench, size: int, ways: Sequence[str] = ()) -> dict[str, float]:
        found = bandwidths(bench, size, ways)
        asked.setdefault(size, set(found))
        return found

    monkeypatch.setattr(calibrating._Bench, "bandwidths", noted)
    measure(HERE, timer=Honest("torch.bfloat16", factor), largest=64 * MIB)
    assert asked[64 * MIB] == {"torch.float32", "torch.bfloat16", "copies"}
    inside = {"torch.float32", "copies"} | ({"torch.bfloat16"} if tried else set())
    assert asked[16 * MIB] == asked[MIB] == inside


@pytest.mark.usefixtures("small_products")
@pytest.mark.parametrize("threads", [1, 2])
def test_means_that_agree_confirm_a_bandwidth(threads: int) -> None:
    found = measure(replace(HERE, threads=threads), timer=Honest(), largest=128 * MIB)
    assert found.memory_bandwidth == pytest.approx(10e9, rel=1e-3)
    assert found.plain_bandwidth == pytest.approx(10e9, rel=1e-3)
    assert found.is_confirmed


@pytest.mark.usefixtures("small_products")
@pytest.mark.parametrize(
    ("means", "factor"),
    [
        ("torch.float32", 2.0),
        ("torch.bfloat16", 2.0),
        ("copies", 2.0),
        ("plain", 2.0),
        ("plain", 0.5),
    ],
)
def test_a_rate_that_is_wrong_by_a_factor_of_two_is_noticed(means: str, factor: float) -> None:
    found = measure(HERE, timer=Honest(means, factor), largest=64 * MIB)
    assert not found.is_confirmed


@pytest.mark.parametrize("times", [lambda call: 0, lambda call: -5], ids=["stands still", "runs back"])
def test_a_clock_that_does_not_run_is_refused(times: Callable[[int], int]) -> None:
    with pytest.raises(CalibrationRefused, match="clock of this machine stands still or jumps"):
        measure(HERE, timer=Fake(times), largest=4 * MIB)


def test_a_clock_that_jumps_back_now_and_then_is_passed_over() -> None:
    steady = measure(HERE, timer=Fake(lambda call: STEADY_NS), largest=4 * MIB)
    jumpy = measure(HERE, timer=Fake(lambda call: -7 if call % 3 == 0 else STEADY_NS), largest=4 * MIB)
    assert jumpy.rungs == steady.rungs


def test_times_that_no_machine_can_have_are_refused() -> None:
    with pytest.raises(CalibrationRefused, match="makes no sense"):
        measure(HERE, timer=Fake(lambda call: 10**19), largest=4 * MIB)


def test_what_calls_cost_is_subtracted_up_to_half() -> None:
    # every piece of work takes as long as an empty call: at most half of that can be calls
    found = measure(HERE, timer=Fake(lambda call: STEADY_NS), largest=MIB)
    size, rate = found.rungs[-1]
    assert size == MIB
    assert rate == pytest.approx(MIB * 1e9 / (STEADY_NS / 2))


def test_repeatability_is_how_far_two_measurements_lie_apart() -> None:
    assert measure(HERE, timer=Fake(lambda call: STEADY_NS), largest=4 * MIB).spread == 0
    drifting = measure(HERE, timer=Fake(lambda call: STEADY_NS + STEADY_NS // 10 * call), largest=4 * MIB)
    assert drifting.spread > 0.05
    assert not drifting.is_repeatable


def test_who_waits_is_not_kept_waiting() -> None:
    asked = iter([False] * 5 + [True] * 1_000)
    timer = Fake(lambda call: STEADY_NS)
    with pytest.raises(CalibrationInterrupted):
        measure(HERE, lambda: next(asked), timer, largest=64 * MIB)
    assert timer.calls == 5


def test_little_memory_is_refused_with_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 3 * MIB

    monkeypatch.setattr(calibrating.psutil, "virtual_memory", Little)
    with pytest.raises(CalibrationRefused, match="3 MiB are free: close other programs"):
        measure(HERE)


def test_a_working_set_that_memory_makes_small_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Some:
        available = 256 * MIB

    monkeypatch.setattr(calibrating.psutil, "virtual_memory", Some)
    monkeypatch.setattr(calibrating, "last_level_cache", lambda device: 16 * MIB)
    found = measure(HERE, timer=Fake(lambda call: STEADY_NS))
    assert found.rungs[-1][0] == 64 * MIB
    assert "only 4.0 × the last-level cache" in found.remark


def test_large_caches_ask_for_large_working_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plenty:
        available = 2**40

    monkeypatch.setattr(calibrating.psutil, "virtual_memory", Plenty)
    sizes = [calibrating._largest(CPU, cache * MIB)[0] // MIB for cache in (0, 32, 128, 1024)]
    assert sizes == [512, 512, 1024, 2048]


def test_what_disturbs_is_told() -> None:
    assert busy_words(cores=2, threads=1, others=0.1, stolen=0.0) == ""
    assert busy_words(cores=2, threads=1, others=0.9, stolen=0.0) == (
        "other programs used 0.9 of 2 cores meanwhile"
    )
    assert busy_words(cores=64, threads=8, others=3.0, stolen=0.0) == ""
    assert busy_words(cores=64, threads=62, others=3.0, stolen=0.0) != ""
    assert busy_words(cores=2, threads=1, others=0.0, stolen=0.1) == (
        "10% of the processor's time went to other machines on this host"
    )


def test_the_host_timer_counts_all_times() -> None:
    ticks = iter([100, 350])
    done = []
    assert HostTimer(CPU, lambda: next(ticks)).time_ns(lambda: done.append(1), 3) == 250
    assert len(done) == 3


# ---------------------------------------------------------------- records


@pytest.fixture(autouse=True)
def records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_record_is_found_again_by_its_machine_only() -> None:
    assert remembered(HERE) is None
    record = calibration()
    assert remember(HERE, record) == ""
    assert remembered(HERE) == record
    assert remembered(replace(HERE, threads=2)) is None
    assert remembered(replace(HERE, mode="tf32")) is None
    newer = calibration(rates=(("float32", 3e12),))
    assert remember(HERE, newer) == ""
    assert remembered(HERE) == newer
    assert len(list(directory().iterdir())) == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "[" * 100_000, json.dumps({"rungs": []}), "x" * 100_000]
)
def test_a_broken_file_is_measured_anew(text: str) -> None:
    path = path_of(HERE)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert remembered(HERE) is None


def test_a_record_that_says_another_machine_is_none() -> None:
    remember(HERE, calibration(threads=4))
    assert remembered(HERE) is None


def test_where_nothing_can_be_written_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "cyclograph").write_text("a file where a directory should be")
    assert "could not be kept for the next time" in remember(HERE, calibration())


# ---------------------------------------------------------------- reading by other means


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_other_means_read_every_byte_once(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.plain_reading._ALONE", 4096)
    monkeypatch.setattr("engine.runtime.plain_reading._TOGETHER", 2048)
    memory = torch.zeros(5_003, dtype=torch.float32)
    with plain_reads(memory, threads) as reads:
        parts = [part for read in reads for part in (read.args[1] if threads > 1 else read.args)]
        assert all(read() is None or threads == 1 for read in reads)
    assert sum(part.nbytes for part in parts) == memory.nbytes
    for part in parts:
        part += 1
    assert (memory.view(torch.uint8) == 1).all()


def test_an_accelerator_reads_by_itself() -> None:
    with plain_reads(torch.zeros(3 * 2**24, device="meta"), threads=1) as reads:
        assert [read.args[0].nbytes for read in reads] == [64 * MIB] * 3
