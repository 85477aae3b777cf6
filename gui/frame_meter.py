"""What drawing costs: the processor time of the thread that draws, measured from frame to frame."""

from collections import deque
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns, thread_time_ns

WINDOW_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class DisplayCost:
    """`frame_ns`: median processor time of the drawing thread for a frame that drew, None when none did lately.

    `frames_per_second`: frames that drew. `core_share`: processor time of the thread over wall time, 1.0 = one core.
    """

    frame_ns: float | None
    frames_per_second: float
    core_share: float


class FrameMeter:
    """Told of every frame, by the thread that draws.

    A frame's cost is all that the thread did from this frame to the next: taking events, laying out, painting (which
    Qt does after the timer's call has returned), and whatever else came in between. Nothing is left out.
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[int, int, bool]] = (
            deque()
        )  # wall at its end, processor time, whether it drew
        self._begin: tuple[int, int] | None = None
        self._drew = False

    def frame(self, drew: bool) -> None:
        """A frame has begun; `drew` tells whether it changed anything on screen."""
        now = perf_counter_ns(), thread_time_ns()
        if self._begin is not None:
            self._frames.append((now[0], now[1] - self._begin[1], self._drew))
        self._begin, self._drew = now, drew
        while self._frames and self._frames[0][0] < now[0] - WINDOW_NS:
            self._frames.popleft()

    def cost(self) -> DisplayCost | None:
        """Over the last two seconds; None before there are two frames."""
        if len(self._frames) < 2:
            return None
        costs = [cost for _, cost, drew in self._frames if drew]
        wall = self._frames[-1][0] - self._frames[0][0]
        spent = sum(cost for _, cost, _ in self._frames) - self._frames[0][1]
        if wall <= 0:
            return None
        return DisplayCost(float(median(costs)) if costs else None, len(costs) * 1e9 / wall, spent / wall)
