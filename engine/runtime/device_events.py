"""Events of a device: what its clock is read by. They are recorded into its stream, and timed by the device itself."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch


class TimedEvent(Protocol):
    """A place in the stream of a device, with the time at which the device came there."""

    def record(self, stream: Any = None) -> None:
        """Put it behind what was launched so far."""
        ...

    def query(self) -> bool:
        """Whether the device has come there."""
        ...

    def synchronize(self) -> None:
        """Wait until it has."""
        ...

    def elapsed_time(self, later: Any) -> float:
        """Milliseconds from here to a later event; both must have been come to."""
        ...


class DeviceEvents:
    """Makes the events of one device: of CUDA and ROCm by torch.cuda, of the others by torch.Event.

    `name`: the device's, with its number: "cuda:0".
    """

    def __init__(self, device: torch.device) -> None:
        self.name = f"{device.type}:{device.index or 0}"
        self._device = device

    def make(self) -> TimedEvent:
        """An event that has not been recorded."""
        event: TimedEvent
        if self._device.type == "cuda":  # whose graphs want events of the same kind
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        else:
            event = torch.Event(self._device, enable_timing=True)
        return event

    def stream(self) -> Any:
        """The stream that this thread launches into now, asked for once a step; None where there is only one."""
        if self._device.type == "cuda":
            return torch.cuda.current_stream(self._device)
        if self._device.type == "xpu":
            return torch.accelerator.current_stream(self._device)
        return None


def open_events(device: torch.device, others: Sequence[torch.device] = ()) -> tuple[list[DeviceEvents], str]:
    """What makes events of a device, and of others that layers are split over, all of which have been tried to keep
    time; nothing, and why, where one does not.

    The CPU runs what is launched at once, and needs none: nothing without a reason.
    """
    if device.type == "cpu":
        return [], ""
    opened = {events.name: events for events in map(DeviceEvents, (device, *others))}
    reason = next(filter(None, map(_why_no_time, opened.values())), "")
    return ([], reason) if reason else (list(opened.values()), "")


def _why_no_time(events: DeviceEvents) -> str:
    """Why events of a device keep no time; "" where they do."""
    try:
        first, second, stream = events.make(), events.make(), events.stream()
        first.record(stream)
        second.record(stream)
        second.synchronize()
        goes_on = first.elapsed_time(second) >= 0
    except (RuntimeError, TypeError, NotImplementedError, ValueError) as error:
        return f"Events of {events.name} keep no time here ({str(error).splitlines()[0].rstrip('.')})."
    return "" if goes_on else f"The clock of {events.name} goes backwards."
