"""The host's clock, and the recorder that stamps where phases begin and end. What waits for a device does it here.

The host clock is `time.perf_counter_ns`: one clock for everything that shares an axis. On an accelerator its stamps
say when work was *launched*; when the device ran it is told by events (see `device_clock`).
"""

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns

import torch

from engine.trace.ledger import END
from engine.trace.phases import Phase, SpanName


class StampRecorder:
    """Records one step: a code and a time stamp wherever a span begins or ends.

    The two arrays are cleared, never replaced, so that wrapped modules may bind their `append` once. `clock` returns
    int nanoseconds and can be replaced by a scripted one in tests.
    """

    def __init__(self, clock: Callable[[], int] = perf_counter_ns) -> None:
        self.clock = clock
        self.times = array("q")
        self.codes = array("H")
        self._names: dict[SpanName, int] = {}

    def define(self, phase: Phase, layer: int = -1, name: str = "") -> int:
        """The code that begins a span of this name: the same name has the same code, at least 1."""
        return self._names.setdefault(SpanName(phase, layer, name), len(self._names) + 1)

    @property
    def names(self) -> tuple[SpanName, ...]:
        """All defined names; the name of code k is names[k - 1]."""
        return tuple(self._names)

    def begin(self, code: int) -> None:
        """Begin a span."""
        self.codes.append(code)
        self.times.append(self.clock())

    def end(self) -> None:
        """End the innermost open span."""
        self.codes.append(END)
        self.times.append(self.clock())

    def turn(self, code: int) -> None:
        """End the innermost open span and begin another, at the same time."""
        now_ns = self.clock()
        self.codes.append(END)
        self.times.append(now_ns)
        self.codes.append(code)
        self.times.append(now_ns)

    def place(self) -> int:
        """How much has been recorded of the step: a place to go back to."""
        return len(self.codes)

    def forget(self, place: int) -> None:
        """Drop all spans that began behind a place; they must have ended."""
        del self.codes[place:]
        del self.times[place + 1 :]  # one stamp more: the begin of the step

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Inside, stamps are no part of a step, and no event of a device goes with them."""
        yield

    def begin_step(self) -> None:
        """Forget what was recorded and stamp the begin of a step."""
        del self.codes[:]
        del self.times[:]
        self.times.append(self.clock())

    def end_step(self) -> tuple[bytes, bytes]:
        """Stamp the end of the step. Returns its codes (uint16) and its stamps (int64 ns), one more at each end."""
        self.times.append(self.clock())
        return self.codes.tobytes(), self.times.tobytes()


def wait_for_device(device: torch.device) -> None:
    """Wait until everything launched on the device has run (nothing to wait for on the CPU)."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
