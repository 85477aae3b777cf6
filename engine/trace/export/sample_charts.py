"""Charts of what was sampled of the machine, as SVG elements for a page: a chart a quantity, over seconds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.trace import units
from engine.trace.export.drawing import ABOVE, BOTTOM, LEFT, RIGHT, SERIES, TOP, WIDTH, chart, line, text
from engine.trace.export.excerpt import Excerpt
from engine.trace.export.markup import element, safe
from engine.trace.export.samples import Line, lines
from engine.trace.ledger import Int64
from engine.trace.pooling import HEADROOM, nice_ceiling, ticks
from engine.trace.telemetry import Float

HEIGHT = 136
MOST_COLUMNS = 500  # of a line: each has at most its lowest and its highest value
NARROW = 40  # between the ends of an axis and the next words on it
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_HERTZ = ((1e9, "GHz"), (1e6, "MHz"))

#: How a value of a unit is said.
WORDS: dict[str, Callable[[float | None], str]] = {
    "bytes": units.size,
    "share": units.share,
    "W": units.power,
    "°C": units.temperature,
    "Hz": units.frequency,
}


@dataclass(frozen=True, slots=True)
class _Axes:
    """Seconds from left to right since `begin_ns`, values from `floor` to `ceiling` from bottom to top."""

    begin_ns: int
    end_ns: int
    floor: float
    ceiling: float

    def x(self, at_ns: npt.ArrayLike) -> Float:
        """Where times (ns) lie."""
        share = (np.asarray(at_ns, np.int64) - self.begin_ns) / max(1, self.end_ns - self.begin_ns)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, values: npt.ArrayLike) -> Float:
        """Where values lie; what is above the ceiling lies on it."""
        share = np.clip((np.asarray(values, np.float64) - self.floor) / (self.ceiling - self.floor), 0.0, 1.0)
        return TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM)


def sample_charts(excerpt: Excerpt) -> str:
    """A chart with its legend for each quantity that was sampled; "" where none was."""
    found = lines(excerpt.sampled)
    groups = dict.fromkeys(each.group for each in found)
    return "".join(_chart(group, [each for each in found if each.group == group]) for group in groups)


def _chart(group: str, found: Sequence[Line]) -> str:
    begin_ns = min(int(each.at_ns[0]) for each in found)
    end_ns = max(int(each.at_ns[-1]) for each in found)
    lowest = min(float(each.values.min()) for each in found)
    highest = max(float(each.values.max()) for each in found)
    unit = found[0].unit
    floor = min(0.0, float(np.floor(lowest / 10) * 10))  # only a temperature is ever below
    axes = _Axes(begin_ns, end_ns, floor, _ceiling(highest, unit))
    title = text(LEFT, ABOVE, group)
    parts = [title, *_frame(axes, unit), *(_drawn(axes, each, place) for place, each in enumerate(found))]
    return chart(HEIGHT, f"{group} over time", parts) + _legend(found, WORDS[unit])


def _ceiling(highest: float, unit: str) -> float:
    """Where the axis ends: at a round number of what people read, for a share at 100 %."""
    if unit == "share":
        return max(1.0, highest)
    needed = HEADROOM * max(highest, 1e-3)
    size, _ = _scale(needed, unit)
    return size * nice_ceiling(needed / size)


def _scale(highest: float, unit: str) -> tuple[float, str]:
    """The size and the name of what an axis that reaches so far is labelled in."""
    if unit == "share":
        return 0.01, "%"
    sizes = {"bytes": _BYTES, "Hz": _HERTZ}.get(unit, ((1.0, unit),))
    return next(((size, name) for size, name in sizes if highest >= size), sizes[-1])


def _frame(axes: _Axes, unit: str) -> Iterator[str]:
    right, base = WIDTH - RIGHT, HEIGHT - BOTTOM
    size, name = _scale(axes.ceiling, unit)
    yield element("rect", x=LEFT, y=TOP, width=right - LEFT, height=base - TOP, class_="plot")
    for value in (axes.floor, (axes.floor + axes.ceiling) / 2, axes.ceiling):
        y = float(axes.y(value))
        yield line(LEFT, y, right, y, "grid")
        yield text(LEFT - 7, y + 4, f"{value / size:g}", anchor="end")
    yield text(LEFT - 7, ABOVE, name, "faint", "end")
    seconds = (axes.end_ns - axes.begin_ns) / 1e9
    for tick in ticks(0.0, seconds, 8):
        x = float(axes.x(axes.begin_ns + int(tick * 1e9)))
        yield line(x, base, x, base + 4, "axis")
        if x < right - NARROW:
            yield text(x, base + 17, f"{tick:g}", anchor="middle")
    yield line(LEFT, base, right, base, "axis")
    yield text(right, base + 17, "s", "faint", "end")


def _drawn(axes: _Axes, found: Line, place: int) -> str:
    rows = _shown(found.values)
    points = zip(axes.x(found.at_ns[rows]).tolist(), axes.y(found.values[rows]).tolist(), strict=True)
    data = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{data}h0.1", class_=f"line series-{place % SERIES}")


def _shown(values: Float) -> Int64:
    """The places of what is drawn of a line's values (n): of many neighbours the lowest and the highest."""
    if len(values) <= 2 * MOST_COLUMNS:
        return np.arange(len(values))
    begins = np.linspace(0, len(values), MOST_COLUMNS, endpoint=False).astype(np.int64)
    parts = np.split(np.arange(len(values)), begins[1:])
    extremes = [(part[values[part].argmin()], part[values[part].argmax()]) for part in parts]
    return np.unique(np.array([0, len(values) - 1, *np.ravel(extremes)], np.int64))


def _legend(found: Sequence[Line], words: Callable[[float | None], str]) -> str:
    entries = []
    for place, each in enumerate(found):
        told = f"{each.name}: mean {words(float(each.values.mean()))}, most {words(float(each.values.max()))}"
        entries.append(element("span", element("i", class_=f"swatch series-{place % SERIES}") + safe(told)))
    return element("p", "".join(entries), class_="legend")
