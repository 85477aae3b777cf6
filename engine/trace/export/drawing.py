"""Charts of an excerpt as SVG elements for a page: steps with their phases, latency, layers. Pure functions.

Many steps share a column, which then shows its slowest one. Colours are classes ("phase-mlp", "series-0", "map-15")
that the page's style sheet defines for a light and a dark ground.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.trace import units
from engine.trace.export.excerpt import Excerpt
from engine.trace.export.markup import element, joined, safe
from engine.trace.ledger import Int64
from engine.trace.palette import MAPS
from engine.trace.phases import PHASE_COUNT, Phase, Role
from engine.trace.pooling import (
    HEADROOM,
    bucket_size,
    configuration_numbers,
    is_preparation,
    latency_ns,
    nice_ceiling,
    only_reads,
    scale_kinds,
    slowest,
    ticks,
    usual_ns,
    usual_step_ns,
)
from engine.trace.store import NO_LATENCY

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1040, 56, 10, 24, 26
ABOVE = 11  # where the names of axes and charts stand: clear of the label at the top of an axis
TITLE = 50  # room for the name of an axis
MOST_COLUMNS = 240
SERIES = 8  # colours for configurations
LEVELS = 16  # of a colour map

Boxes = npt.NDArray[np.float64]  # left, top, right, bottom of rectangles: (n, 4)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a chart over steps is drawn: `rows` from left to right, values from 0 to `ceiling` from bottom to top."""

    rows: range
    height: int
    ceiling: float

    @property
    def plot_height(self) -> float:
        """Between the axes."""
        return self.height - TOP - BOTTOM

    @property
    def size(self) -> int:
        """Steps of a column."""
        return bucket_size(len(self.rows), MOST_COLUMNS)

    @property
    def begins(self) -> Int64:
        """The first step of each column, and one behind the last: (columns + 1,)."""
        begins = np.arange(self.rows.start, self.rows.stop, self.size, dtype=np.int64)
        return np.append(begins, self.rows.stop)

    def x(self, steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Where steps begin."""
        width = WIDTH - LEFT - RIGHT
        places: npt.NDArray[np.float64] = np.asarray(steps, np.float64) - self.rows.start
        return LEFT + places / len(self.rows) * width

    def y(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Where values lie; what is above the ceiling lies on it."""
        share = np.clip(np.asarray(values, np.float64) / self.ceiling, 0.0, 1.0)
        return TOP + (1.0 - share) * self.plot_height


# ---------------------------------------------------------------- parts


def path(boxes: Boxes) -> str:
    """Rectangles (n, 4) as the data of one path; empty ones are left out."""
    kept = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return "".join(
        f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}Z"
        for left, top, right, bottom in kept.tolist()
    )


def _filled(boxes: Boxes, class_: str) -> str:
    data = path(boxes)
    return element("path", d=data, class_=class_) if data else ""


def text(x: float, y: float, words: str, class_: str = "label", anchor: str = "start") -> str:
    """Words that begin, end ("end") or have their middle ("middle") at a place."""
    return element("text", safe(words), x=f"{x:.1f}", y=f"{y:.1f}", class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=class_)


def chart(height: int, title: str, parts: Iterable[str]) -> str:
    """A whole chart of parts, of which empty ones are left out."""
    body = joined((element("title", safe(title)), *(part for part in parts if part)))
    return element(
        "svg", body, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}", role="img"
    )


def _axes(frame: Frame, y_ticks: Sequence[tuple[float, str]], unit: str) -> list[str]:
    """Both axes with their ticks: (value, label) from bottom to top, steps from left to right."""
    right, base = WIDTH - RIGHT, frame.height - BOTTOM
    parts = [element("rect", x=LEFT, y=TOP, width=right - LEFT, height=base - TOP, class_="plot")]
    for value, label in y_ticks:
        y = float(frame.y(value))
        parts += [line(LEFT, y, right, y, "grid"), text(LEFT - 7, y + 4, label, anchor="end")]
    parts.append(text(LEFT - 7, ABOVE, unit, "faint", "end"))
    for tick in ticks(frame.rows.start, frame.rows.stop, 10):
        if tick == int(tick) and tick < frame.rows.stop:
            x = float(frame.x(tick))
            parts.append(line(x, base, x, base + 4, "axis"))
            if x < right - TITLE:
                parts.append(text(x, base + 17, f"{int(tick):,}", anchor="middle"))
    return [*parts, line(LEFT, base, right, base, "axis"), text(right, base + 17, "step", "faint", "end")]


def _time_ticks(frame: Frame) -> tuple[list[tuple[float, str]], str]:
    size, unit = units.time_unit(frame.ceiling)
    return [(tick, f"{tick / size:g}") for tick in ticks(0.0, frame.ceiling, 5)], unit


def _mark_lines(excerpt: Excerpt, frame: Frame) -> list[str]:
    """A line for each mark with its number in the table of marks; numbers without room are left out."""
    parts, free = [], 0.0
    base = frame.height - BOTTOM
    for number, mark in enumerate(excerpt.all_marks, start=1):
        x = float(frame.x(min(mark.step, frame.rows.stop)))
        parts.append(line(x, TOP, x, base, "mark"))
        if x >= free:
            parts.append(text(x, TOP - 5, str(number), "label", "middle"))
            free = x + 8 * len(str(number)) + 4
    return parts


def _boxes(left: npt.ArrayLike, top: npt.ArrayLike, right: npt.ArrayLike, bottom: npt.ArrayLike) -> Boxes:
    return np.stack(np.broadcast_arrays(left, top, right, bottom), axis=1).astype(np.float64)


# ---------------------------------------------------------------- charts


def step_chart(excerpt: Excerpt, height: int = 250) -> str:
    """Every step as a bar of its phases, in a fixed order; hatched where they are not like the others."""
    steps, rows = excerpt.trace.steps, excerpt.rows
    walls = steps.wall_ns[rows.start : rows.stop]
    frame = Frame(
        rows, height, nice_ceiling(HEADROOM * usual_step_ns(excerpt.trace, slice(rows.start, rows.stop)))
    )
    columns = len(frame.begins) - 1
    shown = rows.start + slowest(walls, frame.size, range(columns))
    edges = np.zeros((columns, PHASE_COUNT + 1), np.int64)
    np.cumsum(steps.phases_ns[shown], axis=1, out=edges[:, 1:])
    y = frame.y(edges)
    x = frame.x(frame.begins)
    gap = 0.8 if columns and (x[1] - x[0]) > 3 else 0.0
    left, right = x[:-1], x[1:] - gap
    bars = [
        _filled(_boxes(left, y[:, phase + 1], right, y[:, phase]), f"phase-{phase.name.lower()}")
        for phase in Phase
    ]
    prepares = is_preparation(excerpt.trace, steps.kind[shown]) | steps.captured[shown]
    hatched = _boxes(left[prepares], y[prepares, -1], right[prepares], y[prepares, 0])
    cut = edges[:, -1] > frame.ceiling
    caps = _boxes(left[cut], np.full(cut.sum(), TOP), right[cut], np.full(cut.sum(), TOP + 3))
    parts = [*_axes(frame, *_time_ticks(frame)), *bars, _filled(hatched, "hatched"), _filled(caps, "cap")]
    return chart(height, "Wall time of each step, by phase", [*parts, *_mark_lines(excerpt, frame)])


def latency_chart(excerpt: Excerpt, height: int = 200) -> str:
    """The latency of every arrival, coloured by configuration; a column of several steps spans them, with its median.

    Empty where no step has a latency.
    """
    trace, rows = excerpt.trace, excerpt.rows
    latency = latency_ns(trace, slice(rows.start, rows.stop))
    arrivals = np.flatnonzero(latency != NO_LATENCY)
    if not len(arrivals):
        return ""
    values = latency[arrivals]
    frame = Frame(
        rows, height, nice_ceiling(HEADROOM * usual_ns(values, trace.steps.kind[rows.start + arrivals]))
    )
    column = arrivals // frame.size
    firsts = np.flatnonzero(np.diff(column, prepend=-1))
    groups = np.split(values, firsts[1:])
    low, high = np.minimum.reduceat(values, firsts), np.maximum.reduceat(values, firsts)
    middle = np.array([np.median(group) for group in groups])
    begins = frame.begins
    left, right = frame.x(begins[column[firsts]]), frame.x(begins[column[firsts] + 1])
    right = np.maximum(right, left + 1.5)
    last = np.append(firsts[1:], len(values)) - 1
    numbers = configuration_numbers(trace)[trace.steps.configuration[rows.start + arrivals[last]]] % SERIES
    spans = _boxes(left, frame.y(high) - 1, right, frame.y(low) + 1)
    medians = _boxes(left, frame.y(middle) - 1, right, frame.y(middle) + 1)
    parts = _axes(frame, *_time_ticks(frame))
    for number in np.unique(numbers).tolist():
        parts.append(_filled(spans[numbers == number], f"series-{number} spread"))
        parts.append(_filled(medians[numbers == number], f"series-{number}"))
    cut = high > frame.ceiling
    caps = _boxes(left[cut], np.full(cut.sum(), TOP), right[cut], np.full(cut.sum(), TOP + 3))
    title = "Time a sequence of each step" if only_reads(trace) else "Inter-token latency of each arrival"
    return chart(height, title, [*parts, _filled(caps, "cap"), *_mark_lines(excerpt, frame)])


def layer_chart(excerpt: Excerpt, role: Role, height: int = 170) -> str:
    """Layers over steps: the largest time of each layer in a column as a colour. Empty where nothing is told apart."""
    trace, rows = excerpt.trace, excerpt.rows
    values = trace.steps.layers_ns[rows.start : rows.stop, :, role]
    if not values.any():
        return ""
    top = usual_ns(values.max(axis=1), scale_kinds(trace, slice(rows.start, rows.stop)))
    layers = values.shape[1]
    frame = Frame(rows, height, float(layers))
    begins = frame.begins
    cells = np.maximum.reduceat(values, begins[:-1] - rows.start, axis=0)
    levels = np.minimum(cells / max(1.0, top) * LEVELS, LEVELS - 1).astype(np.int64)
    levels[cells <= 0] = -1
    x, edges = frame.x(begins), frame.y(np.arange(layers + 1))
    labels = [(tick + 0.5, f"{int(tick)}") for tick in ticks(0, layers - 1, 6) if tick == int(tick)]
    parts = _axes(frame, [], "layer")
    parts += [text(LEFT - 7, float(frame.y(at)) + 4, label, anchor="end") for at, label in labels]
    for level in range(LEVELS):
        column, layer = np.nonzero(levels == level)
        boxes = _boxes(x[column], edges[layer + 1], x[column + 1], edges[layer])
        parts.append(_filled(boxes, f"map-{level}"))
    name = "MLP or mixer" if role is Role.MLP else role.name.lower()
    scale = f"{name}: dark 0, bright {units.duration(top)} and more"
    return chart(height, f"Time of each layer: {scale}", [*parts, text(LEFT, ABOVE, scale, "label")])


def map_colors(name: str = "viridis") -> list[str]:
    """The colours of a map's levels, as "#rrggbb": (LEVELS,)."""
    anchors = MAPS[name].split()
    places = np.linspace(0, len(anchors) - 1, LEVELS).round().astype(int)
    return [f"#{anchors[place]}" for place in places]
