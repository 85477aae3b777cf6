"""A device that is not there: a stream that works off what is launched, a timer of its own, and a host's clock.

True time is one axis. The host's clock moves on with each look at it; the device comes to an event when it has done
what was launched before. Its timer may drift, jump, or stop to answer; events are read only once they are over.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engine.runtime import workbench
from engine.runtime.device_clock import DeviceRecorder
from engine.runtime.device_events import DeviceEvents
from engine.runtime.read_back import Arrival
from engine.runtime.sampling import Chooser

LATENCY_NS = 4_000  # from a launch to the device


class FakeDevice(DeviceEvents):
    """`work_ns`: launched between two stamps of a span, which takes the host `launch_ns`; `tick_ns`: of the host, a
    look at its clock.
    """

    def __init__(
        self, work_ns: int = 0, launch_ns: int = 0, *, tick_ns: int = 500, drift: float = 0.0
    ) -> None:
        self.now_ns = 1_000_000_000
        self.busy_until_ns = 0
        self.work_ns = work_ns
        self.launch_ns = launch_ns
        self.tick_ns = tick_ns
        self.drift = drift
        self.jumped_ns = 0
        self.is_stuck = False
        self.error: Exception | None = None
        self.made: list[FakeEvent] = []
        self.synchronizations = self.pauses = self.reads = self.waits = 0
        self.waited_ns = 0

    def clock(self) -> int:
        self.now_ns += self.tick_ns
        return self.now_ns

    def pause(self) -> None:
        self.pauses += 1
        self.now_ns += 200_000

    def make(self) -> "FakeEvent":
        self.made.append(FakeEvent(self))
        return self.made[-1]

    def stream(self) -> None:
        return None

    def launch(self, work_ns: int) -> None:
        """The host launches something that takes the device so long."""
        self.busy_until_ns = max(self.busy_until_ns, self.now_ns + LATENCY_NS) + work_ns

    def timer(self, at_ns: int) -> float:
        """What the device's timer says at a true time."""
        return at_ns * (1 + self.drift) + self.jumped_ns

    def wait_until(self, at_ns: int) -> None:
        """The host waits for the device, as to read a token."""
        self.waits += 1
        self.waited_ns += max(0, at_ns - self.now_ns)
        self.now_ns = max(self.now_ns, at_ns)


class FakeEvent:
    def __init__(self, device: FakeDevice) -> None:
        self._device = device
        self.at_ns: int | None = None
        self.timer_ms = 0.0

    def record(self, stream: Any = None) -> None:
        device = self._device
        if device.error is not None:
            raise device.error
        device.launch(0)
        self.at_ns = device.busy_until_ns
        self.timer_ms = device.timer(self.at_ns) / 1e6

    def query(self) -> bool:
        device = self._device
        device.now_ns += 100
        if device.error is not None:
            raise device.error
        assert self.at_ns is not None, "an event was asked for that was never recorded"
        return not device.is_stuck and self.at_ns <= device.now_ns

    def synchronize(self) -> None:
        self._device.synchronizations += 1
        assert self.at_ns is not None
        self._device.now_ns = max(self._device.now_ns, self.at_ns)

    def elapsed_time(self, later: "FakeEvent") -> float:
        self._device.reads += 1
        for event in (self, later):
            if event.at_ns is None or event.at_ns > self._device.now_ns:
                raise RuntimeError("device not ready: an event was read that is not over")
        return float(np.float32(later.timer_ms - self.timer_ms))


class FakeRecorder(DeviceRecorder):
    def __init__(self, events: FakeDevice) -> None:
        self._device = events
        super().__init__(events, events.clock, events.pause)

    def _stamp(self) -> int:
        """Work comes inside of spans; between two of them nothing is launched."""
        codes = self.codes.tolist()
        before = codes[: len(self.times) - 1] if len(self.times) else []
        if not self._silent and sum(1 if code else -1 for code in before) > 0:
            self._device.now_ns += self._device.launch_ns
            self._device.launch(self._device.work_ns)
        return super()._stamp()


class OnDevice(torch.Tensor):
    """A chosen token that has to be waited for."""

    device_of_it: FakeDevice

    def item(self) -> Any:
        fake = type(self).device_of_it
        fake.wait_until(fake.busy_until_ns)
        return self.as_subclass(torch.Tensor).item()


class FakeCopies:
    """Pipelined read-back: a token has come when the device has come to the event behind its copy."""

    def __init__(self, device: FakeDevice) -> None:
        self._device = device

    def begin(self, token: torch.Tensor) -> Arrival:
        event = self._device.make()
        event.record()
        id = int(token)

        def wait() -> int:
            assert event.at_ns is not None
            self._device.wait_until(event.at_ns)
            return id

        return wait


def install(device: FakeDevice, patch: pytest.MonkeyPatch) -> FakeDevice:
    """Models that are loaded from now on run on this device, as far as clocks are concerned."""
    choose: Callable[..., torch.Tensor] = Chooser.choose

    def chosen(self: Chooser, *args: Any) -> torch.Tensor:
        return choose(self, *args).as_subclass(OnDevice)

    patch.setattr(OnDevice, "device_of_it", device, raising=False)
    patch.setattr(workbench, "open_events", lambda *_: (device, ""))
    patch.setattr(workbench, "DeviceRecorder", FakeRecorder)
    patch.setattr(Chooser, "choose", chosen)
    patch.setattr("engine.runtime.pipelining.copies_from", lambda _: FakeCopies(device))
    return device
