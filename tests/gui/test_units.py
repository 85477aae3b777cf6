"""Numbers as people read them."""

import math

import pytest

from gui import units


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "–"), (math.nan, "–"), (0, "0 ns"), (1, "1 ns"), (310_000, "310 µs"), (8_420_000, "8.42 ms"),
        (999_960, "1.00 ms"), (999_400, "999 µs"), (1_200_000_000, "1.20 s"), (75e9, "75.0 s"),
    ],
)  # fmt: skip
def test_durations(ns: float | None, text: str) -> None:
    assert units.duration(ns) == text


def test_other_units() -> None:
    assert units.count(12_300) == "12.3 k"
    assert units.count(312) == "312"
    assert units.count(None) == "–"
    assert units.size(248 * 2**20) == "248 MiB"
    assert units.size(1.5 * 2**30) == "1.50 GiB"
    assert units.size(12) == "12 B"
    assert units.rate(118.2) == "118 tok/s"
    assert units.per_second(12.34e9, "B") == "12.3 GB/s"
    assert units.per_second(48.06e9, "FLOP") == "48.1 GFLOP/s"
    assert units.per_second(312, "B") == "312 B/s"
    assert units.per_second(None, "B") == "–"
    assert units.share(0.125) == "12.5 %"
    assert units.share(0.0004) == "0.040 %"
    assert units.ratio(1.389) == "1.39×"
    assert units.fine_ratio(1.0042) == "1.004×"
    assert units.power(312.4) == "312 W"
    assert units.power(None) == "–"
    assert units.energy(1.239) == "1.24 J"
    assert units.energy(0.31) == "310 mJ"
    assert units.temperature(61.4) == "61 °C"
    assert units.temperature(math.nan) == "–"
    assert units.frequency(2.446e9) == "2.45 GHz"
    assert units.frequency(8e8) == "800 MHz"
    assert units.milliseconds(8_421_000) == "8.42"
    assert units.microseconds(1_234_567) == "1,234.567 µs"
    assert units.time_unit(2e6) == (1e6, "ms")


def test_invisible_text_is_made_visible() -> None:
    assert units.visible(" a\n") == "␣a↵"
    assert units.visible(" ") == "␣"
    assert units.visible("中文") == "中文"
    assert units.visible("") == ""
