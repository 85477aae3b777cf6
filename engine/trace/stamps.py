"""The time stamps of all steps; those of steps from a file are made when they are asked for."""

from bisect import bisect_right

import numpy as np

from engine.trace.bulk import StepColumns
from engine.trace.columns import Column
from engine.trace.ledger import Int64

FROM_FILE = -1  # in place of where a step's stamps begin


class Stamps:
    """Stamps by step, append-only: as they came, or as the gaps of a file, which take half the room."""

    def __init__(self) -> None:
        self._values = Column(np.int64)
        self._begins = Column(np.int64)  # (steps): where those of each begin in `_values`
        self._counts = Column(np.int64)
        self._parts: list[StepColumns] = []
        self._firsts: list[int] = []  # the first step of each part

    def __len__(self) -> int:
        return len(self._begins)

    def append(self, stamps: Int64) -> None:
        """Add the stamps of one step, wall_ns."""
        begin = len(self._values)
        self._values.extend(stamps)
        self._counts.append(len(stamps))
        self._begins.append(begin)

    def extend(self, steps: StepColumns) -> None:
        """Add those of several steps, of whose arrays views are kept."""
        self._parts.append(steps)
        self._firsts.append(len(self._begins))
        self._counts.extend(np.diff(steps.gap_offsets) + 1)
        self._begins.extend(np.full(len(steps), FROM_FILE))

    def reserve(self, steps: int) -> None:
        """Make room for so many steps more from a file."""
        self._begins.reserve(steps)
        self._counts.reserve(steps)

    def of(self, step: int) -> Int64:
        """The stamps of a step, wall_ns: begin first, end last."""
        step = range(len(self))[step]
        begin, count = int(self._begins.values[step]), int(self._counts.values[step])
        if begin == FROM_FILE:
            place = bisect_right(self._firsts, step) - 1
            return self._parts[place].stamps_of(step - self._firsts[place])
        stamps: Int64 = self._values.values[begin : begin + count]
        return stamps
