"""A device that is not there: a stream that works off what is launched, a timer of its own, and a host's clock.

True time is one axis. The host's clock moves on with each look at it; the device comes to an event when it has done
what was launched before. Its timer may drift, jump, or stop to answer; events are read only once they are over.
"""

from collections.abc import Callable, Sequence
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
TRANSFER_NS = 12_000  # from one device to another


class FakeDevice(DeviceEvents):
    """`work_ns`: launched between two stamps of a span, which takes the host `launch_ns`; `tick_ns`: of the host, a
    look at its clock. `beside`: another device of the same host. `timer_ns`: what its timer says at true time 0.
    """

    def __init__(
        self,
        work_ns: int = 0,
        launch_ns: int = 0,
        *,
        tick_ns: int = 500,
        drift: float = 0.0,
        beside: "FakeDevice | None" = None,
        name: str = "cpu:0",
        timer_ns: int = 0,
    ) -> None:
        self.name = name
        self._host = self if beside is None else beside._host
        self._now_ns = 1_000_000_000
        self.busy_until_ns = 0
        self.work_ns = work_ns
        self.launch_ns = launch_ns
        self.tick_ns = tick_ns
        self.drift = drift
        self.jumped_ns = timer_ns
        self.is_stuck = False
        self.error: Exception | None = None
        self.made: list[FakeEvent] = []
        self.synchronizations = self.pauses = self.reads = self.waits = 0
        self.waited_ns = 0

    @property
    def now_ns(self) -> int:
        """The host's time."""
        return self._host._now_ns

    @now_ns.setter
    def now_ns(self, at_ns: int) -> None:
        self._host._now_ns = at_ns

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

    def receive(self, source: "FakeDevice", took_ns: int = TRANSFER_NS) -> None:
        """What another device has computed comes here: the copy waits for that, and what is launched here for it."""
        source.launch(took_ns)
        self.busy_until_ns = max(self.busy_until_ns, source.busy_until_ns)

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
        if later._device is not self._device:
            raise RuntimeError("invalid device ordinal: events of two devices have no time between them")
        for event in (self, later):
            if event.at_ns is None or event.at_ns > self._device.now_ns:
                raise RuntimeError("device not ready: an event was read that is not over")
        return float(np.float32(later.timer_ms - self.timer_ms))


class FakeRecorder(DeviceRecorder):
    def __init__(self, devices: Sequence[FakeDevice]) -> None:
        self._fakes = devices
        super().__init__(devices, devices[0].clock, devices[0].pause)

    def _stamp(self) -> int:
        """Work comes inside of spans; between two of them nothing is launched."""
        codes = self.codes.tolist()
        before = codes[: len(self.times) - 1] if len(self.times) else []
        if not self._is_muted and not self._reader.gave_up and sum(1 if code else -1 for code in before) > 0:
            device = self._fakes[self._working]
            device.now_ns += device.launch_ns
            device.launch(device.work_ns)
        return super()._stamp()

    def enter(self, device: str) -> None:
        """What is computed moves along."""
        before = self._working
        super().enter(device)
        if self._working != before:
            self._fakes[self._working].receive(self._fakes[before])


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


def install(device: FakeDevice, patch: pytest.MonkeyPatch, *others: FakeDevice) -> FakeDevice:
    """Models that are loaded from now on run on this device (split ones on others, too), as far as clocks say."""
    choose: Callable[..., torch.Tensor] = Chooser.choose

    def chosen(self: Chooser, *args: Any) -> torch.Tensor:
        return choose(self, *args).as_subclass(OnDevice)

    patch.setattr(OnDevice, "device_of_it", device, raising=False)
    patch.setattr(workbench, "open_events", lambda *_: ([device, *others], ""))
    patch.setattr(workbench, "DeviceRecorder", FakeRecorder)
    patch.setattr(Chooser, "choose", chosen)
    patch.setattr("engine.runtime.pipelining.copies_from", lambda _: FakeCopies(device))
    return device
