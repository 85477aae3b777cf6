"""What the roofline shows, computed without Qt: a trace becomes roofs, points and scales.

Both axes are logarithmic: operations for each byte that has to move (arithmetic intensity) against operations a second
that were achieved. A roof is what the machine was measured to achieve: bandwidth × intensity, and the rate of matrix
products. (Williams, Waterman and Patterson 2009, CACM 52(4).)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engine.protocol import Calibrated
from engine.trace.calibration import Calibration
from engine.trace.floor import Part
from engine.trace.generation_view import intensity
from engine.trace.ledger import Int64
from engine.trace.parts import parts_of
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, Trace

Float = npt.NDArray[np.float64]

MOST_POINTS = 4096  # steps behind which older ones on screen are thinned out evenly
LABEL_GAP = 12  # pixels
ALIKE = 1.2  # roofs nearer to each other than this are one line
SHOWN = (Part.ATTENTION, Part.MLP, Part.HEAD, Part.DRAFT)  # what else there is computes next to nothing


@dataclass(frozen=True, slots=True)
class Roof:
    """A level of memory: bytes a second of a working set of so many bytes. `in_use`: the shown step reads from it."""

    bytes_per_s: float
    working_set: int
    is_memory: bool = False  # beyond all caches
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies: operations a byte, and a second; `roof`: what would be possible there, 0 if not known.

    `part`: None for the whole step.
    """

    part: Part | None
    intensity: float
    rate: float
    roof: float


@dataclass(frozen=True)
class RooflineView:
    """Steps on screen: step, kind (n,), intensity, rate (n,): operations a byte and a second; under_roofs (n,): whether
    their floor stands on the same calibration, and the same kind of products, as the roofs.

    `roofs`: from the fastest to memory; `peak`: operations a second of products of `peak_kind`, the fastest that these
    settings multiply with; empty, 0 and "" without a calibration. `shown`: the step that is looked at, `places`: it and
    its parts (those whose time is known).
    """

    step: Int64
    kind: npt.NDArray[np.int8]
    intensity: Float
    rate: Float
    under_roofs: npt.NDArray[np.bool_]
    told: Calibrated | None
    roofs: tuple[Roof, ...]
    peak: float
    peak_kind: str
    shown: int | None
    places: tuple[Place, ...]

    @property
    def kinds(self) -> list[StepKind]:
        """The kinds of step that occur."""
        return [KINDS[number] for number in np.unique(self.kind).tolist()]


def roofline(trace: Trace, rows: slice, shown: int | None) -> RooflineView:
    """The steps of some rows, with step `shown` (if there is one) in detail.

    The roofs are of the calibration that the shown step stands on, or else of the newest.
    """
    steps = trace.steps
    if shown is not None and steps.moved_bytes[shown] <= 0:
        shown = None
    found = _known(trace, rows)
    told = _calibration(trace, shown)
    moved = int(steps.moved_bytes[shown]) if shown is not None else 0
    kind, peak = _peak(trace, shown, told.calibration) if told else ("", 0.0)
    return RooflineView(
        step=found,
        kind=steps.kind[found],
        intensity=steps.operations[found] / steps.moved_bytes[found],
        rate=steps.operations[found] * 1e9 / steps.wall_ns[found],
        under_roofs=_under_roofs(trace, found, told, kind),
        told=told,
        roofs=levels(told.calibration, moved) if told and peak else (),
        peak=peak,
        peak_kind=kind,
        shown=shown,
        places=_places(trace, shown) if shown is not None else (),
    )


def _peak(trace: Trace, shown: int | None, calibration: Calibration) -> tuple[str, float]:
    """The fastest kind of products of the shown step, or else of the settings in force; "" and 0 if not measured."""
    steps = trace.steps
    if shown is None:
        shape = trace.shape(int(steps.configuration[-1]) if len(steps) else 0)
    else:
        shape = trace.shape(int(steps.configuration[shown]))
    return _fastest(shape.computes if shape is not None else (), calibration)


def _fastest(computes: Sequence[str], calibration: Calibration) -> tuple[str, float]:
    return max(
        (pair for pair in calibration.rates if pair[0] in computes), key=lambda p: p[1], default=("", 0.0)
    )


def _under_roofs(trace: Trace, found: Int64, told: Calibrated | None, kind: str) -> npt.NDArray[np.bool_]:
    steps = trace.steps
    if told is None:
        return np.zeros(len(found), np.bool_)
    configurations = steps.configuration[found]
    alike = []
    for number in np.unique(configurations).tolist():
        shape = trace.shape(number)
        if shape is not None and not shape.devices and _fastest(shape.computes, told.calibration)[0] == kind:
            alike.append(number)
    under: npt.NDArray[np.bool_] = (steps.calibration[found] == told.number) & np.isin(configurations, alike)
    return under


def _known(trace: Trace, rows: slice) -> Int64:
    """The steps among some rows whose work is known, the older of many thinned out."""
    steps = trace.steps
    known = (steps.moved_bytes[rows] > 0) & (steps.operations[rows] > 0) & (steps.wall_ns[rows] > 0)
    found: Int64 = rows.start + np.flatnonzero(known)
    thin = 1 + len(found) // MOST_POINTS
    return found if thin == 1 else np.unique(np.append(found[::thin], found[-64:]))


def _calibration(trace: Trace, shown: int | None) -> Calibrated | None:
    if shown is not None:
        told = trace.calibrations.get(int(trace.steps.calibration[shown]))
        if told is not None:
            return told
    return trace.calibrations[max(trace.calibrations)] if trace.calibrations else None


def levels(calibration: Calibration, moved: int) -> tuple[Roof, ...]:
    """The levels of memory that are worth a line: the fastest, the one that `moved` bytes come from, and memory.

    One that is hardly faster than the next is left out. `moved`: 0 where no step is looked at.
    """
    sizes = [size for size, _ in calibration.rungs]
    in_use = max((size for size in sizes if size <= moved), default=sizes[0]) if moved else 0
    found = [Roof(calibration.memory_bandwidth, sizes[-1], is_memory=True, in_use=in_use == sizes[-1])]
    for size in dict.fromkeys((in_use or sizes[-1], sizes[0])):
        rate = calibration.bandwidth(size)
        if rate >= ALIKE * found[-1].bytes_per_s:
            found.append(Roof(rate, size, in_use=size == in_use))
        elif size == in_use:
            found[-1] = replace(found[-1], in_use=True)
    return tuple(reversed(found))


def _places(trace: Trace, step: int) -> tuple[Place, ...]:
    steps = trace.steps
    operations, wall_ns, floor_ns = (
        int(column[step]) for column in (steps.operations, steps.wall_ns, steps.floor_ns)
    )
    if not operations or not wall_ns:
        return ()
    whole = float(intensity(trace, slice(step, step + 1))[0])
    found = [Place(None, whole, operations * 1e9 / wall_ns, _possible(operations, floor_ns))]
    for each in parts_of(trace, step):
        own = each.work.intensity
        if each.part in SHOWN and own and each.rate:
            found.append(Place(each.part, own, each.rate, _possible(each.work.operations, each.floor_ns)))
    return tuple(found)


def _possible(operations: float, floor_ns: int) -> float:
    return operations * 1e9 / floor_ns if floor_ns else 0.0


# ---------------------------------------------------------------- scales


@dataclass(frozen=True, slots=True)
class LogScale:
    """A logarithmic axis: low … high, of `length` pixels from pixel `begin` on; negative where it goes up."""

    low: float
    high: float
    begin: int
    length: int

    def place(self, values: npt.ArrayLike) -> Float:
        """Where values (n) lie in pixels."""
        share = np.log10(np.asarray(values, np.float64) / self.low) / math.log10(self.high / self.low)
        places: Float = self.begin + share * self.length
        return places

    def ticks(self) -> list[float]:
        """The powers of ten on it."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]

    def value(self, place: float) -> float:
        """What lies under a pixel."""
        return float(self.low * (self.high / self.low) ** ((place - self.begin) / self.length))


def x_range(view: RooflineView) -> tuple[float, float]:
    """Operations a byte that are on the axis: all points, and where memory's roof turns."""
    wanted = [*view.intensity.tolist(), *(view.peak / roof.bytes_per_s for roof in view.roofs)]
    return _decades(wanted or [0.1, 100.0], margin=2.5)


def y_range(view: RooflineView) -> tuple[float, float]:
    """Operations a second that are on the axis: all points, and what the machine achieves at most."""
    wanted = [*view.rate.tolist(), *(place.rate for place in view.places)]
    return _decades([*wanted, *([view.peak] if view.peak else [])] or [1e6, 1e9], margin=1.6)


def _decades(values: Sequence[float], margin: float) -> tuple[float, float]:
    """Round ends of a logarithmic axis (1, 2 or 5 times a power of ten) that hold values, with some room on each side,
    and at least two decades.
    """
    low, high = _round_down(min(values) / margin), _round_up(max(values) * margin)
    if high < 100 * low:
        middle = math.sqrt(low * high)
        low, high = _round_down(middle / 10), _round_up(middle * 10)
    return low, high


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return float(power * max(m for m in (1, 2, 5) if m * power <= value * (1 + 1e-9)))


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return float(power * min(m for m in (1, 2, 5, 10) if m * power >= value * (1 - 1e-9)))


def label_column(
    points: Sequence[tuple[float, float]],
    widths: Sequence[int],
    left: int,
    right: int,
    bottom: int,
    height: int,
) -> list[tuple[int, int]]:
    """Where labels of some widths go so that none lies on another, nor on a point: (x, middle y) each.

    They stand in one column to the right of all points, or to the left of them where there is no room before `right`:
    in the order of their points, each at least `height` below the one before it, and the last one above `bottom`.
    """
    if not points:
        return []
    x = int(max(px for px, _ in points)) + LABEL_GAP
    if x + max(widths) > right:
        x = max(left, int(min(px for px, _ in points)) - LABEL_GAP - max(widths))
    order = sorted(range(len(points)), key=lambda number: points[number][1])
    rows: dict[int, int] = {}
    lowest = bottom - height // 2 - height * (len(points) - 1)
    before: int | None = None
    for place, number in enumerate(order):
        y = min(int(points[number][1]), lowest + height * place)
        before = rows[number] = y if before is None else max(y, before + height)
    return [(x, rows[number]) for number in range(len(points))]
