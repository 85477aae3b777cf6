"""What was sampled of the machine meanwhile, as it is exported: by source, as lines over time, and as plain values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engine.trace.ledger import Int64
from engine.trace.records import Record
from engine.trace.store import Trace
from engine.trace.telemetry import Float, Samples, rates_of

MACHINE, ENGINE = "machine", "engine"  # sources beside the devices
FLAGS = ("throttled", "on_battery")
COUNTS = ("processors", "took_ns")  # whole numbers, as bytes are


@dataclass(frozen=True, slots=True)
class Sampled:
    """Samples of one source: MACHINE, what the ENGINE says of its memory, or a device by the engine's name for it.

    at_ns (n): when, wall clock. columns (n) by name: float64, NaN where nothing was said.
    """

    source: str
    at_ns: Int64
    columns: Mapping[str, Float]

    def __len__(self) -> int:
        return len(self.at_ns)


@dataclass(frozen=True, slots=True)
class Line:
    """A number over time. `group`: the lines of one group share an axis. at_ns, values (n), none of them NaN."""

    group: str
    name: str
    unit: str  # "bytes", "share", "W", "°C", "Hz"
    at_ns: Int64
    values: Float


def sampled(trace: Trace, begin_ns: int | None = None, end_ns: int | None = None) -> tuple[Sampled, ...]:
    """What was sampled between two times, both included; sources that said nothing are left out."""
    telemetry = trace.telemetry
    sources = {MACHINE: telemetry.host, ENGINE: telemetry.engine, **telemetry.devices}
    parts = (_part(source, samples, begin_ns, end_ns) for source, samples in sources.items())
    return tuple(part for part in parts if len(part))


def _part(source: str, samples: Samples, begin_ns: int | None, end_ns: int | None) -> Sampled:
    at_ns = samples.at_ns
    first = 0 if begin_ns is None else int(np.searchsorted(at_ns, begin_ns, side="left"))
    end = len(at_ns) if end_ns is None else int(np.searchsorted(at_ns, end_ns, side="right"))
    columns = {name: samples[name][first:end] for name in samples.names}
    return Sampled(source, at_ns[first:end], columns)


def is_whole(column: str) -> bool:
    """Whether a column holds whole numbers."""
    return column.endswith("_bytes") or column in COUNTS or column in FLAGS


# ---------------------------------------------------------------- lines

_Told = tuple[tuple[str, str, str, str], ...]
#: By kind of source: group, name, unit and column. Names of devices' lines end with the device.
_OF_MACHINE: _Told = (
    ("utilization", "processors in use", "share", "cpu"),
    ("memory", "memory used on the machine", "bytes", "memory_used_bytes"),
    ("temperature", "temperature of the processor", "°C", "temperature_c"),
    ("clock", "clock of the processor", "Hz", "clock_hz"),
)
KV_CACHE = "KV cache"
_OF_ENGINE: _Told = (
    ("memory", "memory of the engine", "bytes", "process_bytes"),
    ("memory", "weights", "bytes", "weight_bytes"),
    ("memory", KV_CACHE, "bytes", "cache_bytes"),
    ("memory", "device memory allocated", "bytes", "device_allocated_bytes"),
    ("memory", "device memory reserved", "bytes", "device_reserved_bytes"),
)
_OF_DEVICE: _Told = (
    ("utilization", "utilization of", "share", "utilization"),
    ("memory", "memory used on", "bytes", "memory_used_bytes"),
    ("temperature", "temperature of", "°C", "temperature_c"),
    ("clock", "clock of", "Hz", "clock_hz"),
)
GROUPS = ("memory", "utilization", "power", "temperature", "clock")


def lines(parts: tuple[Sampled, ...]) -> list[Line]:
    """The lines of all sources, those of one group together; none for what no sensor says."""
    found = [line for part in parts for line in _lines(part) if len(line.values)]
    return sorted(found, key=lambda line: GROUPS.index(line.group))


def _lines(part: Sampled) -> Iterator[Line]:
    columns = part.columns
    if part.source == ENGINE:
        table, of, counted = _OF_ENGINE, "", ""
    elif part.source == MACHINE:
        table, of, counted = _OF_MACHINE, "", "power of the processor"
    else:
        table, of, counted = _OF_DEVICE, f" {part.source}", f"power of {part.source}"
    for group, name, unit, column in table:
        yield _line(group, name + of, unit, part.at_ns, columns[column])
    if counted:
        told = columns.get("power_w")
        known = told is not None and bool(np.isfinite(told).any())
        power = told if told is not None and known else rates_of(columns["energy_j"], part.at_ns)
        yield _line("power", counted, "W", part.at_ns, power)


def _line(group: str, name: str, unit: str, at_ns: Int64, values: Float) -> Line:
    known = np.isfinite(values)
    return Line(group, name, unit, at_ns[known], values[known])


# ---------------------------------------------------------------- plain values


def telemetry_records(parts: tuple[Sampled, ...]) -> Iterator[tuple[int, Record]]:
    """Every sample of the machine with its time: the numbers of a TelemetrySampled, with those of its devices."""
    devices: dict[int, list[Record]] = {}
    for part in parts:
        if part.source not in (MACHINE, ENGINE):
            for row, at_ns in enumerate(part.at_ns.tolist()):
                devices.setdefault(at_ns, []).append({"device": part.source, **_values(part, row)})
    for part in parts:
        if part.source == MACHINE:
            for row, at_ns in enumerate(part.at_ns.tolist()):
                told = {"event": "telemetry", "at_ns": at_ns, **_values(part, row)}
                yield at_ns, told | {"devices": devices.get(at_ns, [])}


def _values(part: Sampled, row: int) -> Record:
    return {name: plain(name, float(column[row])) for name, column in part.columns.items()}


def plain(column: str, value: float) -> bool | int | float | None:
    """A value of a column as it was said; None for what was not."""
    if not np.isfinite(value):
        return None
    if column in FLAGS:
        return bool(value)
    return int(value) if is_whole(column) else value
