"""Events held back while steps wait for the times of the device, so that all of them leave in order and whole.

A step's events are read while the next step runs; until then everything that is said behind it waits as well.
"""

from collections import deque
from dataclasses import replace
from time import perf_counter_ns

from engine.protocol import Emit, Event, Noticed, StepEnded
from engine.runtime.device_clock import DeviceRecorder


class HeldBack:
    """An `Emit` between whoever measures and whoever listens."""

    def __init__(self, emit: Emit, recorder: DeviceRecorder) -> None:
        self._emit = emit
        self._recorder = recorder
        self._events: deque[tuple[Event, int | None]] = deque()  # with a step: which one of the recorder
        self._expected: deque[int] = deque()  # steps of the recorder whose events are to come, in their order

    def expect(self) -> None:
        """The step that the recorder ended last will be told."""
        self._expected.append(self._recorder.ended - 1)

    def emit(self, event: Event) -> None:
        """Take an event; a StepEnded is of the step that was expected first."""
        if isinstance(event, StepEnded):
            self._events.append((event, self._expected.popleft()))
            self.release()
        elif self._events:
            self._events.append((event, None))
        else:
            self._emit(event)

    def settle(self) -> None:
        """Read what has not been read, waiting for it, and let everything go."""
        try:
            self._recorder.settle()
        except Exception:  # a device that fails says so to whoever runs the step; here it only has no times
            self._recorder.abandon()
        self.release()

    def release(self) -> None:
        """Let go what need not wait any more."""
        while self._events:
            event, number = self._events[0]
            if number is not None and isinstance(event, StepEnded):
                stamps = self._recorder.take(number)
                if stamps is None:
                    break
                event = replace(event, device_stamps=stamps)
            self._events.popleft()
            self._emit(event)
        self._tell_problems()

    def _tell_problems(self) -> None:
        problems = self._recorder.problems
        while problems:
            self._emit(Noticed(perf_counter_ns(), problems.pop(0), "device clock"))
