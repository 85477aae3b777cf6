"""The two lanes of a step: what the host launched and what the device ran, and what that says about its limit.

All times are relative to the step's begin on the host. The device's lane is told apart into work, time in which the
device may have waited for the host's next launch, and time in which nothing was there to run at all.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from engine.trace.calibration import SECOND_NS
from engine.trace.device_ledger import device_gaps, device_spans
from engine.trace.ledger import Span
from engine.trace.phases import Phase
from engine.trace.store import Trace

#: Of the time from the device's first to its last stamp: from here on it is the host's launches that limit a step.
LAUNCH_BOUND_FROM = 0.5
#: Of the device's time: what bytes or operations need at least, from here on they are said to be the limit.
EXPLAINED_FROM = 0.5


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of the device's lane. `most_ns`: of it, the most that can be waiting (all of it, where it is idle)."""

    begin_ns: int
    duration_ns: int
    most_ns: int


@dataclass(frozen=True, slots=True)
class LaneTimes:
    """What both lanes of a step come to, relative to its begin on the host.

    `begin_ns`, `end_ns`: of the device's first and last stamp. `starved_ns`: the most of the time between in which the
    device waited for launches, or had nothing to run. `waiting_ns`: of the host, for the token (TRANSFER).
    `launching_ns`: of the host, from the device's first stamped place to its last.
    """

    begin_ns: int
    end_ns: int
    starved_ns: int
    waiting_ns: int
    launching_ns: int
    wall_ns: int

    @property
    def device_ns(self) -> int:
        """From the device's first stamp to its last."""
        return self.end_ns - self.begin_ns


@dataclass(frozen=True, slots=True)
class Lanes:
    """Both lanes of a step, relative to its begin on the host.

    `launched`, `ran`: the spans as the host stamped them and as the device ran them. `starved`: stretches that hold
    work, but whose end the host came to after the device had come to their begin: up to `most_ns` of each the device
    waited for a launch, which kernels alone could tell apart. `idle`: stretches of the step in which the device had
    nothing of it to run.
    """

    times: LaneTimes
    launched: tuple[Span, ...]
    ran: tuple[Span, ...]
    starved: tuple[Stretch, ...]
    idle: tuple[Stretch, ...]


def lane_times(trace: Trace, step: int) -> LaneTimes | None:
    """What the lanes of a step come to; None where the device has no clock, or did not answer."""
    device_stamps = trace.device_stamps(step)
    if device_stamps is None:
        return None
    layout, stamps = trace.layout(step), trace.stamps(step)
    gaps = device_gaps(layout, stamps, device_stamps)
    known = np.flatnonzero(device_stamps >= 0)
    first, last, origin = int(known[0]), int(known[-1]), int(stamps[0])
    between = device_stamps[last] - device_stamps[first] - (gaps.end_ns - gaps.begin_ns).sum()
    return LaneTimes(
        begin_ns=int(device_stamps[first]) - origin,
        end_ns=int(device_stamps[last]) - origin,
        starved_ns=int(between + gaps.waited_ns.sum()),
        waiting_ns=int(np.diff(stamps)[layout.phase_columns == Phase.TRANSFER].sum()),
        launching_ns=int(stamps[last] - stamps[first]),
        wall_ns=int(stamps[-1]) - origin,
    )


def lanes(trace: Trace, step: int) -> Lanes | None:
    """Both lanes of a step; None as in `lane_times`."""
    times, device_stamps = lane_times(trace, step), trace.device_stamps(step)
    if times is None or device_stamps is None:
        return None
    layout, stamps = trace.layout(step), trace.stamps(step)
    origin, end = int(stamps[0]), int(stamps[-1])
    gaps = device_gaps(layout, stamps, device_stamps)
    rows = zip(gaps.begin_ns.tolist(), gaps.end_ns.tolist(), gaps.waited_ns.tolist(), strict=True)
    starved = [Stretch(begin - origin, stop - begin, most) for begin, stop, most in rows if most]
    begins = [max(origin, _ran_until(trace, step - 1)), *gaps.end_ns.tolist()]
    ends = [*gaps.begin_ns.tolist(), end]
    idle = [Stretch(a - origin, b - a, b - a) for a, b in zip(begins, ends, strict=True) if b > a]
    return Lanes(
        times=times,
        launched=tuple(trace.spans(step)),
        ran=tuple(device_spans(layout, stamps, device_stamps)),
        starved=tuple(starved),
        idle=tuple(idle),
    )


def _ran_until(trace: Trace, step: int) -> int:
    """When the device was done with a step, ns; 0 where that is not known."""
    stamps = trace.device_stamps(step) if step >= 0 else None
    return 0 if stamps is None else int(stamps.max())


class Bound(StrEnum):
    """What limits a step."""

    LAUNCH = "launch-bound"
    MEMORY = "memory-bound"
    COMPUTE = "compute-bound"
    DEVICE = "device-bound"  # and by what of the device is not known


@dataclass(frozen=True, slots=True)
class Verdict:
    """What limits a step, and by which measured times, in one sentence."""

    bound: Bound
    reason: str


def verdict_of(trace: Trace, step: int, times: LaneTimes) -> Verdict:
    """What limits a step of the trace, held against what this machine was measured to reach where that is known."""
    return verdict(times, *least_ns(trace, step))


def least_ns(trace: Trace, step: int) -> tuple[float | None, float | None]:
    """What moving a step's bytes and doing its operations takes at least (ns), by the calibration that its floor
    stands on; None and None without one, or with one for each of several devices.
    """
    steps = trace.steps
    shape = trace.shape(int(steps.configuration[step]))
    if shape is not None and shape.devices:
        return None, None
    calibrated = trace.calibrations.get(int(steps.calibration[step]))
    if calibrated is None or steps.floor_ns[step] <= 0:
        return None, None
    found, nbytes = calibrated.calibration, float(steps.moved_bytes[step])
    bytes_ns = nbytes / found.bandwidth(nbytes) * SECOND_NS
    fastest = max((rate for _, rate in found.rates), default=0.0)
    operations_ns = float(steps.operations[step]) / fastest * SECOND_NS if fastest > 0 else 0.0
    # the floor is the larger of both, by the rate at which the step's precision can be multiplied
    floor_ns = float(steps.floor_ns[step])
    return bytes_ns, max(operations_ns, floor_ns if floor_ns > bytes_ns else 0.0)


def verdict(times: LaneTimes, bytes_ns: float | None = None, operations_ns: float | None = None) -> Verdict:
    """What limits a step.

    `bytes_ns`, `operations_ns`: what moving its bytes and doing its operations takes at least at the rates that this
    machine was measured to reach; None where it was not measured.
    """
    if times.starved_ns >= LAUNCH_BOUND_FROM * times.device_ns:
        return Verdict(
            Bound.LAUNCH,
            f"Up to {_ms(times.starved_ns)} of the device's {_ms(times.device_ns)} went by until the host launched the"
            f" next piece; the host waited {_ms(times.waiting_ns)} for the token.",
        )
    ran = (
        f"The device ran for {_ms(times.device_ns)}; the host launched that in {_ms(times.launching_ns)} and waited"
        f" {_ms(times.waiting_ns)} for the token"
    )
    if bytes_ns is None or operations_ns is None:
        return Verdict(
            Bound.DEVICE, f"{ran}. Without a calibration it is not known what of the device is the limit."
        )
    least, bound, what = max(
        (bytes_ns, Bound.MEMORY, "moving its bytes"), (operations_ns, Bound.COMPUTE, "its operations")
    )
    if least < EXPLAINED_FROM * times.device_ns:
        return Verdict(
            Bound.DEVICE,
            f"{ran}, though its bytes take {_ms(bytes_ns)} at least and its operations {_ms(operations_ns)}: its"
            " kernels are far from what the device can do.",
        )
    return Verdict(bound, f"{ran}; {what} takes at least {_ms(least)} of the device's time.")


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.2f} ms"
