"""What the window says about floors and calibrations, computed without Qt."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from engine.protocol import Calibrated, FloorBeaten
from engine.trace.calibration import Calibration
from engine.trace.floor import Part
from engine.trace.generation_view import utilization
from engine.trace.parts import PartOfStep, computes_of, parts_of
from engine.trace.store import GenerationRecord, Trace
from gui import units

#: Metrics that stand on a calibration.
ON_A_CALIBRATION = ("floor_share", "mbu")
HEADINGS = ("part", "time", "floor", "share", "FLOP/byte")
NOT_APART = (
    "The step is measured in one piece: choose the detail “phase” or deeper to see the time of its parts."
)


def floor_sentence(trace: Trace, step: int) -> str:
    """A step against its floor in one line, or why there is none; "" where its work is not known either."""
    steps = trace.steps
    moved, operations = int(steps.moved_bytes[step]), int(steps.operations[step])
    if moved <= 0:
        return ""
    intensity = f"{units.number(operations / moved)} FLOP/byte"
    floor_ns, told = int(steps.floor_ns[step]), trace.calibrations.get(int(steps.calibration[step]))
    if floor_ns <= 0 or told is None:
        return f"{units.size(moved)} to move · {intensity} · no floor: {why_no_floor(trace, step)}"
    parts = [
        f"floor {units.duration(floor_ns)}",
        f"{units.share(floor_ns / steps.wall_ns[step])} of the step",
    ]
    mbu = float(utilization(trace, slice(step, step + 1))[0])
    if mbu == mbu:
        parts.append(f"MBU {units.share(mbu)}")
    parts.append(intensity)
    if devices := _devices(trace, step):
        return " · ".join((*parts, f"the sum of {' and '.join(devices)}"))
    if rate := told.calibration.rate(computes_of(trace, step)):
        bound = "memory" if told.calibration.is_memory_bound(moved, operations, rate) else "compute"
        parts.append(f"bound by {bound}")
    return " · ".join(parts)


def why_no_floor(trace: Trace, step: int) -> str:
    """Why a step whose work is known has no floor, in words that go on a sentence."""
    shape = trace.shape(int(trace.steps.configuration[step]))
    if shape is not None and shape.no_floor:
        return shape.no_floor
    if int(trace.steps.calibration[step]) not in trace.calibrations:
        devices = _devices(trace, step)
        what = f"not all of {' and '.join(devices)} were" if devices else "this machine was not"
        return f"{what} measured before it"
    kinds = " or ".join(computes_of(trace, step))
    return f"no products of {kinds} were measured here" if kinds else "what it multiplies is not known"


def _devices(trace: Trace, step: int) -> tuple[str, ...]:
    """The devices that a step runs on one after the other, where there are several."""
    shape = trace.shape(int(trace.steps.configuration[step]))
    return shape.devices if shape is not None else ()


def calibration_name(event: Calibrated) -> str:
    """Which calibration: "calibration 0: cpu, 1 thread, measured 2025-11-25 20:45"."""
    found = event.calibration
    return f"calibration {event.number}: {setup(found)}, measured {date(found)}"


def setup(found: Calibration) -> str:
    """What was measured: "cpu, 1 thread"."""
    threads = f", {found.threads} thread{'s' if found.threads != 1 else ''}" if found.device == "cpu" else ""
    return found.device + threads + (f", float32 rounded to {found.mode}" if found.mode else "")


def date(found: Calibration) -> str:
    """When it was measured, by the clock of this place."""
    return datetime.fromtimestamp(found.at_s).strftime("%Y-%m-%d %H:%M")


def figures(found: Calibration) -> list[tuple[str, str, str]]:
    """What a machine achieves, as (name, value, explanation)."""
    fastest_size, fastest = max(found.rungs, key=lambda rung: rung[1])
    ladder = "\n".join(
        f"{units.size(size)}: {units.per_second(rate, 'B')}" for size, rate in reversed(found.rungs)
    )
    largest = units.size(found.rungs[-1][0])
    read = "by matrix–vector products and copies, the fastest of several"
    rows = [
        (
            "memory",
            units.per_second(found.memory_bandwidth, "B"),
            f"bandwidth of a working set of {largest}, beyond all caches, {read}",
        ),
    ]
    if fastest > found.memory_bandwidth:
        rows.append(
            (
                f"caches ({units.size(fastest_size)})",
                units.per_second(fastest, "B"),
                f"bandwidth by working set, {read}:\n{ladder}",
            )
        )
    return rows + [
        (
            f"{kind} products",
            units.per_second(rate, "FLOP"),
            f"of matrices that hold {kind}; a multiplication and an addition are two operations",
        )
        for kind, rate in found.rates
    ]


def doubts(found: Calibration) -> list[str]:
    """Why a calibration is to be taken with care; empty where it is not."""
    apart = (
        f"Two measurements lay {units.share(found.spread)} apart: measure again while the machine is idle."
    )
    remarks = [f"{each[0].upper()}{each[1:]}." for each in found.remark.split("; ") if each]
    if not found.is_confirmed:
        remarks.insert(0, _unconfirmed(found))
    return remarks if found.is_repeatable else [apart, *remarks]


def _unconfirmed(found: Calibration) -> str:
    told, plain = (units.per_second(rate, "B") for rate in (found.memory_bandwidth, found.plain_bandwidth))
    return (
        f"Products and copies gave {told}, reading the same memory by other means {plain}: both cannot be true, and"
        " floors are as doubtful. Measure again while the machine is idle."
    )


def measured_sentence(event: Calibrated) -> str:
    """What came out of a measurement."""
    found = event.calibration
    values = ", ".join(f"{name} {value}" for name, value, _ in figures(found))
    because = f" again, since {event.reason}" if event.reason else ""
    return " ".join((f"This machine was measured{because} ({setup(found)}): {values}.", *doubts(found)))


def beaten_sentence(event: FloorBeaten, row: int) -> str:
    """That a calibration is broken, and what comes of it. `row`: of the step in the trace that is shown."""
    return (
        f"Step {row:,} took {units.duration(event.wall_ns)}, less than its floor of"
        f" {units.duration(event.floor_ns)}: the calibration is broken. It is measured again as soon as the engine"
        " is idle; until then floors are too high."
    )


def calibrations_of(trace: Trace, generations: Sequence[GenerationRecord] | None) -> list[Calibrated]:
    """The calibrations that the steps of some generations (None: all) stand on, in order."""
    records = trace.generations if generations is None else generations
    used: set[int] = set()
    for record in records:
        used.update(np.unique(trace.steps.calibration[record.first_step : record.end_step]).tolist())
    return [trace.calibrations[number] for number in sorted(used) if number in trace.calibrations]


def part_rows(trace: Trace, step: int) -> list[tuple[str, ...]]:
    """The step and each of its parts against their floors, in the columns of HEADINGS; empty where nothing is known.

    A part's time is absent where the step's detail does not tell it apart.
    """
    steps = trace.steps
    moved = int(steps.moved_bytes[step])
    if moved <= 0:
        return []
    floor_ns = int(steps.floor_ns[step])
    whole = _row("step", int(steps.wall_ns[step]), floor_ns, int(steps.operations[step]) / moved)
    return [whole, *(_part_row(each) for each in parts_of(trace, step))]


def _part_row(each: PartOfStep) -> tuple[str, ...]:
    return _row(part_label(each.part), each.wall_ns, each.floor_ns, each.work.intensity)


def part_label(part: Part) -> str:
    """How a part of a model is called on screen."""
    return part.value


def _row(name: str, wall_ns: int | None, floor_ns: int, intensity: float | None) -> tuple[str, ...]:
    known = floor_ns > 0
    share = floor_ns / wall_ns if known and wall_ns else None
    floor = units.duration(floor_ns) if known else units.ABSENT
    return name, units.duration(wall_ns), floor, units.share(share), units.number(intensity)


def part_remark(trace: Trace, step: int) -> str:
    """Why the parts of a step are not shown, or their times are not; "" where everything is."""
    if int(trace.steps.moved_bytes[step]) <= 0:
        return "What this step had to move and to compute is not known."
    parts = parts_of(trace, step)
    if not parts:
        return "What each part of this step had to do cannot be told from the trace."
    if all(each.wall_ns is None for each in parts):
        return NOT_APART
    return ""
