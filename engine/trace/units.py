"""Numbers as people read them, in one place. What is absent is an en dash, never a zero."""

import math

ABSENT = "–"

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_BYTES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_COUNTS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with about `digits` significant figures and no exponent: 8.42, 312, 12300."""
    if value is None or not math.isfinite(value):
        return ABSENT
    value = float(f"{value:.{digits}g}")  # rounded first, since 999.96 has four figures before the point
    if value == 0:
        return "0"
    whole = math.floor(math.log10(abs(value))) + 1
    return f"{value:.{max(0, min(9, digits - whole))}f}"


def duration(ns: float | None, digits: int = 3) -> str:
    """Nanoseconds: "8.42 ms", "1.20 s", "310 µs"."""
    if ns is None or not math.isfinite(ns):
        return ABSENT
    for size, unit in _TIMES:
        # compared after rounding, so that 999.96 µs is "1.00 ms" and not "1000 µs"
        if abs(ns) >= size * (1 - 0.5 * 10**-digits):
            return f"{number(ns / size, digits)} {unit}" if size > 1 else f"{ns:.0f} ns"
    return "0 ns"


def time_unit(ns: float) -> tuple[float, str]:
    """The unit for an axis that reaches `ns`: its size in ns and its name."""
    return next(((size, unit) for size, unit in _TIMES if ns >= size), _TIMES[-1])


def milliseconds(ns: float | None, digits: int = 2) -> str:
    """Nanoseconds in milliseconds with fixed decimals and no unit, for columns: "8.42"."""
    return ABSENT if ns is None or not math.isfinite(ns) else f"{ns / 1e6:.{digits}f}"


def microseconds(ns: float | None) -> str:
    """Nanoseconds in exact microseconds: "1,234.567 µs"."""
    return ABSENT if ns is None or not math.isfinite(ns) else f"{ns / 1e3:,.3f} µs"


def count(value: float | None) -> str:
    """A count: "312", "12.3 k", "1.24 G"."""
    if value is None or not math.isfinite(value):
        return ABSENT
    for size, unit in _COUNTS:
        if abs(value) >= size * 0.9995:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f}" if float(value).is_integer() else number(value)


def size(value: float | None) -> str:
    """Bytes: "248 MiB", "1.50 GiB"."""
    if value is None or not math.isfinite(value):
        return ABSENT
    for unit_size, unit in _BYTES:
        if abs(value) >= unit_size * 0.9995:
            return f"{number(value / unit_size)} {unit}"
    return f"{value:.0f} B"


def rate(per_second: float | None, what: str = "tok") -> str:
    """Things a second: "118 tok/s"."""
    return ABSENT if per_second is None or not math.isfinite(per_second) else f"{number(per_second)} {what}/s"


def per_second(value: float | None, what: str) -> str:
    """A rate with an SI prefix: "12.3 GB/s", "48.1 GFLOP/s"."""
    return ABSENT if value is None or not math.isfinite(value) else f"{_prefixed(value)}{what}/s"


def _prefixed(value: float) -> str:
    text = count(value)
    return text if text[-1].isalpha() else f"{text} "


def share(fraction: float | None) -> str:
    """A fraction of one as a percentage: "12.5 %"; small ones keep a figure: "0.04 %"."""
    if fraction is None or not math.isfinite(fraction):
        return ABSENT
    percent = fraction * 100
    return f"{percent:.1f} %" if abs(percent) >= 1 or percent == 0 else f"{number(percent, 2)} %"


def power(watts: float | None) -> str:
    """Watts: "312 W", "8.40 W"."""
    return ABSENT if watts is None or not math.isfinite(watts) else f"{number(watts)} W"


def energy(joules: float | None) -> str:
    """Joules: "1.24 J", "310 mJ"."""
    if joules is None or not math.isfinite(joules):
        return ABSENT
    return f"{number(joules)} J" if abs(joules) >= 0.9995 or not joules else f"{number(joules * 1e3)} mJ"


def temperature(celsius: float | None) -> str:
    """Degrees Celsius: "61 °C"."""
    return ABSENT if celsius is None or not math.isfinite(celsius) else f"{celsius:.0f} °C"


def frequency(hertz: float | None) -> str:
    """Cycles a second: "2.45 GHz", "800 MHz"."""
    if hertz is None or not math.isfinite(hertz):
        return ABSENT
    return f"{number(hertz / 1e9)} GHz" if hertz >= 0.9995e9 else f"{number(hertz / 1e6)} MHz"


def ratio(value: float | None) -> str:
    """A ratio: "1.39×"."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.2f}×"


def fine_ratio(value: float | None) -> str:
    """A ratio near one, where a tenth of a percent counts: "1.004×"."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.3f}×"


def visible(text: str) -> str:
    """A token's text with what cannot be seen made visible: line ends and tabs as arrows, spaces at the
    ends as ␣.
    """
    shown = text.replace("\r", "").replace("\n", "↵").replace("\t", "⇥")
    bare = shown.strip(" ")
    left = len(shown) - len(shown.lstrip(" "))
    right = len(shown) - len(bare) - left if bare else 0
    return "␣" * left + bare + "␣" * right
