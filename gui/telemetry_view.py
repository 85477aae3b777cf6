"""What the telemetry chart draws, computed without Qt: lanes of what was sampled, on the axis of the steps.

A sample lies where its time lies among the steps: between the begin of one and of the next. What was sampled while
nothing ran has no width on that axis and is not seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.trace.ledger import Int64
from engine.trace.store import Trace
from engine.trace.telemetry import Samples
from gui import units
from gui.view_state import Float, StepScale, nice_ceiling, visible_slice

Int32 = npt.NDArray[np.int32]

CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a lane. values (n): of the first n `samples`, NaN where nothing was said."""

    name: str
    samples: Samples
    values: Float

    @property
    def at_ns(self) -> Int64:
        """When each value was sampled (n)."""
        return self.samples.at_ns[: len(self.values)]

    @property
    def latest(self) -> float:
        """The last value that was said; NaN without one."""
        known = self.values[np.isfinite(self.values)]
        return float(known[-1]) if len(known) else float("nan")

    @property
    def peak(self) -> float:
        """The largest value; NaN without one."""
        known = self.values[np.isfinite(self.values)]
        return float(known.max()) if len(known) else float("nan")


@dataclass(frozen=True, slots=True)
class Lane:
    """One quantity over time. `floor`, `ceiling`: where its axis begins and ends. `text`: a value as people read it."""

    title: str
    series: tuple[Series, ...]
    ceiling: float
    text: Callable[[float | None], str]
    floor: float = 0.0


def lanes(trace: Trace) -> list[Lane]:
    """The lanes for which something was sampled, of the devices that the model uses (or of the machine on the CPU)."""
    found = (
        _lane("memory", _memory(trace), units.size, _binary_ceiling),
        _lane("utilization", _utilization(trace), units.share, lambda _: 1.0),
        _lane("power", _of_devices(trace, "power_w") or _host_power(trace), units.power),
        _lane(
            "temperature",
            _of_devices(trace, "temperature_c") or _host(trace, "temperature_c"),
            units.temperature,
        ),
        _lane("clock", _of_devices(trace, "clock_hz") or _host(trace, "clock_hz"), units.frequency),
    )
    return [lane for lane in found if lane is not None]


def devices_of(trace: Trace) -> list[str]:
    """The accelerators that the model lies on."""
    model = trace.model
    names = [name for name, _ in model.placement] or [model.device] if model else []
    return [name for name in names if name != CPU]


def _lane(
    title: str,
    series: list[Series],
    text: Callable[[float | None], str],
    ceiling: Callable[[float], float] = nice_ceiling,
) -> Lane | None:
    known = tuple(each for each in series if np.isfinite(each.values).any())
    if not known:
        return None
    return Lane(title, known, ceiling(max(each.peak for each in known)), text)


def _binary_ceiling(size: float) -> float:
    """The least round number of bytes, KiB, MiB, … that is not below a size."""
    unit = 1024.0 ** math.floor(math.log(max(size, 1.0), 1024))
    return unit * (1024.0 if size > 800 * unit else nice_ceiling(size / unit))


def _series(name: str, samples: Samples, column: str) -> Series:
    return Series(name, samples, samples[column])


def _memory(trace: Trace) -> list[Series]:
    telemetry, devices = trace.telemetry, devices_of(trace)
    found = [
        _series(f"used on {name}", telemetry.devices[name], "memory_used_bytes")
        for name in devices
        if name in telemetry.devices
    ]
    if devices:
        found += [
            _series("reserved", telemetry.engine, "device_reserved_bytes"),
            _series("allocated", telemetry.engine, "device_allocated_bytes"),
        ]
    else:
        found.append(_series("engine", telemetry.host, "engine_bytes"))
    return [
        *found,
        _series("weights", telemetry.engine, "weight_bytes"),
        _series("KV cache", telemetry.engine, "cache_bytes"),
    ]


def _utilization(trace: Trace) -> list[Series]:
    host, latest = trace.telemetry.host, trace.telemetry.latest
    found = _of_devices(trace, "utilization")
    if latest is None:
        return found
    for name, column in (("engine", "engine_cpu"), ("others", "others_cpu")):
        found.append(Series(name, host, host[column] / latest.processors))
    return found


def _of_devices(trace: Trace, column: str) -> list[Series]:
    found = trace.telemetry.devices
    series = [_series(name, found[name], column) for name in devices_of(trace) if name in found]
    return [each for each in series if np.isfinite(each.values).any()]


def _host(trace: Trace, column: str) -> list[Series]:
    """The processor's own, unless the model lies elsewhere: it would be taken for the device's."""
    return [] if devices_of(trace) else [_series("processor", trace.telemetry.host, column)]


def _host_power(trace: Trace) -> list[Series]:
    host = trace.telemetry.host
    return [] if devices_of(trace) else [Series("processor", host, host.rates("energy_j"))]


def places(trace: Trace, at_ns: Int64) -> Float:
    """Where times (n) lie on the axis of the steps: step and fraction of it; -1 before the first step."""
    begins = trace.steps.begin_ns
    if not len(begins):
        return np.full(len(at_ns), -1.0)
    rows = np.searchsorted(begins, at_ns, side="right") - 1
    row = np.maximum(rows, 0)
    lasts = trace.steps.wall_ns[row]
    share = np.clip((at_ns - begins[row]) / np.maximum(lasts, 1), 0.0, 1.0)
    found: Float = np.where(rows < 0, -1.0, row + share)
    return found


@dataclass(frozen=True, slots=True)
class Spans:
    """The samples that are on screen. rows (n): which. left, right (n): pixels from each to the next."""

    rows: Int64
    left: Int32
    right: Int32

    def since(self, x: int) -> "Spans":
        """Those that reach beyond pixel x, with the one before them, from which the first one rises."""
        first = max(0, int(np.searchsorted(self.right, x, side="right")) - 1)
        return Spans(self.rows[first:], self.left[first:], self.right[first:])


def spans(trace: Trace, scale: StepScale, at_ns: Int64) -> Spans:
    """Where samples taken at some times (n) lie on a scale, those that have a width among the steps on it."""
    steps = trace.steps
    shown = visible_slice(scale, len(steps))
    if shown.start == shown.stop:
        return Spans(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    last = shown.stop - 1
    ends_ns = steps.begin_ns[shown.start], steps.begin_ns[last] + steps.wall_ns[last]
    first, end = np.searchsorted(at_ns, ends_ns).tolist()
    first = max(0, first - 1)  # the one before the first holds until that
    at = places(trace, at_ns[first:end])
    ends = np.append(at[1:], shown.stop) if len(at) else at
    wide = np.flatnonzero((ends > at) & (at >= 0))
    left = scale.x(at[wide])
    return Spans(wide + first, left, np.maximum(scale.x(ends[wide]), left + 1))


@dataclass(frozen=True, slots=True)
class LineColumns:
    """A step line in whole pixels: columns (c) from left to right, each spanning top to bottom and going on at last."""

    left: Int32
    right: Int32
    top: Int32
    bottom: Int32
    last: Int32


def line_columns(left: Int32, right: Int32, y: Int32) -> LineColumns:
    """The columns of values (n) that hold from left to right at height y. A value like the one before needs none.

    A column reaches to where the column before ended, if they touch.
    """
    changes = np.ones(len(y), np.bool_)
    changes[1:] = (y[1:] != y[:-1]) | (left[1:] > right[:-1])
    begins = np.flatnonzero(changes)
    ends = np.append(begins[1:], len(y)) - 1
    left, right, y = left[begins], np.maximum.accumulate(right)[ends], y[begins]
    starts = np.flatnonzero(np.diff(left, prepend=left[:1] - 1))
    lasts = np.append(starts[1:], len(left)) - 1
    top, bottom = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    left, right, last = left[starts], right[lasts], y[lasts]
    touches = np.flatnonzero(left[1:] <= right[:-1])
    top[touches + 1] = np.minimum(top[touches + 1], last[touches])
    bottom[touches + 1] = np.maximum(bottom[touches + 1], last[touches])
    return LineColumns(left, right, top, bottom, last)


def lane_words(lane: Lane) -> list[tuple[str, int]]:
    """What stands in a lane, with the place of the series whose colour it has (-1: none): names, latest, peak."""
    words = [(lane.title, -1)]
    for place, series in enumerate(lane.series):
        name = f"{series.name} " if len(lane.series) > 1 else ""
        words.append((f"{name}{lane.text(series.latest)}", place))
        if place == 0:
            words.append((f"peak {lane.text(series.peak)}", -1))
    return words


def sample_sentences(trace: Trace, step: int) -> list[str]:
    """What was sampled last before the end of a step, a line a lane; nothing before the first sample."""
    end_ns = int(trace.steps.begin_ns[step] + trace.steps.wall_ns[step])
    lines = []
    for lane in lanes(trace):
        parts = []
        for series in lane.series:
            row = int(np.searchsorted(series.at_ns, end_ns, side="right")) - 1
            if row >= 0 and np.isfinite(series.values[row]):
                name = f"{series.name} " if len(lane.series) > 1 else ""
                parts.append(f"{name}{lane.text(float(series.values[row]))}")
        if parts:
            lines.append(f"{lane.title}: {' · '.join(parts)}")
    return lines
