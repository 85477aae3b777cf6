"""The recorder of a model on accelerators: at each stamp of the host an event goes into the device's stream.

When the device came to it is read later (see `event_reading`), and told on the host's axis (see `placing`). Where the
layers are split over devices, an event goes into the stream of the one that works: hooks that move what is computed
from one device to the next say so.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns
from typing import Any

from engine.runtime.clocks import StampRecorder
from engine.runtime.device_events import DeviceEvents, TimedEvent
from engine.runtime.event_reading import StepReader, pause
from engine.trace.ledger import END
from engine.trace.phases import HOST_PHASES, Phase


class DeviceRecorder(StampRecorder):
    """Records steps on two clocks. `clock` stamps the host's time and records an event, as wrapped modules bind it.

    `devices`: what makes events of each; steps begin on the first one. `ended`: how many steps have ended.
    """

    def __init__(
        self,
        devices: Sequence[DeviceEvents],
        host_clock: Callable[[], int] = perf_counter_ns,
        pause: Callable[[], None] = pause,
    ) -> None:
        self._devices = devices
        self._numbers = {events.name: number for number, events in enumerate(devices)}
        self._streams: list[Any] = [None] * len(devices)
        self._host_clock = host_clock
        self._reader = StepReader(devices, host_clock, pause)
        self._current = self._reader.free_set()
        self._is_muted = False  # no events are recorded
        self._host_codes: set[int] = set()
        self._transfer_codes: set[int] = set()
        self._open: list[int] = []  # codes of spans that were begun by `begin`
        self.ended = 0
        self._work_on(0)
        super().__init__(self._stamp)
        self._read_code = self.define(Phase.UNATTRIBUTED, name="read the device's clock")
        self._host_codes.add(self._read_code)

    # ------------------------------------------------------------ recording

    def _stamp(self) -> int:
        now_ns = self._host_clock()
        if self._is_muted or self._reader.gave_up:
            self._current.marks.append(None)
            return now_ns
        event = self._pool.next()
        event.record(self._stream)
        self._current.marks.append(event)
        return now_ns

    def define(self, phase: Phase, layer: int = -1, name: str = "") -> int:
        """The code that begins a span of this name."""
        code = super().define(phase, layer, name)
        if phase in HOST_PHASES:
            self._host_codes.add(code)
        if phase is Phase.TRANSFER:
            self._transfer_codes.add(code)
        return code

    def enter(self, device: str) -> None:
        """From now on this device works; what one that is not known does counts as the first one's."""
        number = self._numbers.get(device, 0)
        if number != self._working:
            self._work_on(number)
            self._current.switches.append((len(self._current.marks), number))

    def _work_on(self, number: int) -> None:
        self._working = number
        self._pool, self._stream = self._current.pools[number], self._streams[number]

    def begin(self, code: int) -> None:
        """Begin a span; one of the host alone without an event. Before the host waits, what is over is read."""
        self._open.append(code)
        if code not in self._host_codes:
            super().begin(code)
            return
        self._stamp_host(code)
        if code in self._transfer_codes and self._reader.is_over():
            self._stamp_host(self._read_code)
            self.collect()
            self._stamp_host(END)

    def turn(self, code: int) -> None:
        """End the innermost open span and begin another: each on the clocks that it has."""
        self.end()
        self.begin(code)

    def end(self) -> None:
        """End the innermost open span. Behind a wait, it is noted what is over."""
        code = self._open.pop() if self._open else END
        if code not in self._host_codes:
            super().end()
            return
        self._stamp_host(END)
        if code in self._transfer_codes:
            for waiting in (*self._reader.waiting, self._current):
                if not waiting.look(self._host_clock):
                    break

    def _stamp_host(self, code: int) -> None:
        self.codes.append(code)
        self.times.append(self._host_clock())
        self._current.marks.append(None)

    def launched(self, codes: list[int], events: list[TimedEvent], launch_ns: int) -> None:
        """Marks that were recorded by a launch of their own, all at once: their codes and events."""
        self.codes.extend(codes)
        self.times.extend([launch_ns] * len(codes))
        self._current.marks.extend(events)

    def now(self) -> int:
        """The host's time, without a stamp."""
        return self._host_clock()

    def forget(self, place: int) -> None:
        """Drop all spans that began behind a place; they must have ended."""
        super().forget(place)
        self._work_on(self._current.cut(place + 1))

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Inside, no events are recorded: another stream may be capturing what is launched."""
        was_muted, self._is_muted = self._is_muted, True
        try:
            yield
        finally:
            self._is_muted = was_muted

    def begin_generation(self) -> None:
        """The next step begins with a new anchor."""
        self._reader.begin_anew()

    def begin_step(self) -> None:
        """Forget what was recorded of a step that did not end, and stamp the begin of another."""
        while len(self._reader.waiting) > 1:  # its events are recorded anew now, or with the next step
            self._reader.read_oldest()
        self._streams = [events.stream() for events in self._devices]
        self._reader.anchor(self._streams)
        self._current.clear()
        self._work_on(0)
        self._open.clear()
        super().begin_step()

    def end_step(self) -> tuple[bytes, bytes]:
        """Stamp the end of the step on the host; its events wait to be read."""
        self.times.append(self._host_clock())
        current = self._current
        current.marks.append(None)
        current.host_ns = array("q", self.times)
        current.number = self.ended
        self.ended += 1
        self._reader.add(current)
        self._current = self._reader.free_set()
        self._work_on(0)
        return self.codes.tobytes(), self.times.tobytes()

    # ------------------------------------------------------------ reading

    @property
    def problems(self) -> list[str]:
        """Sentences on what the devices' clocks did not tell, to be taken."""
        return self._reader.problems

    @property
    def reading_ns(self) -> int:
        """Host time spent on reading, to be taken."""
        return self._reader.reading_ns

    @reading_ns.setter
    def reading_ns(self, left_ns: int) -> None:
        self._reader.reading_ns = left_ns

    def take(self, number: int) -> bytes | None:
        """The device stamps of a step (int64 ns, one a stamp), once; None while they have not been read."""
        return self._reader.take(number)

    def collect(self) -> None:
        """Read the steps that the devices are through with."""
        self._reader.collect()

    def settle(self) -> None:
        """Read all steps that have ended. One that a device does not come to the end of has no device times."""
        self._reader.settle()

    def abandon(self) -> None:
        """A device is gone: no step has device times any more."""
        self._reader.abandon()
