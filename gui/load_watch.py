"""Which loads an engine still owes an answer, and for how long one that nobody wants any more has been kept."""

from collections import deque
from collections.abc import Callable

from engine.protocol import Load

PATIENCE_NS = 2_000_000_000  # to give up a load, before force is used


class LoadWatch:
    """Every load that is sent is answered once: it is loaded, it failed, or it was given up.

    The first of those that are owed is the one at work. Nobody wants it once it was cancelled, or another was sent.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        """`clock`: nanoseconds, of any beginning."""
        self._clock = clock
        self._owed: deque[Load] = deque()
        self._unwanted_since_ns: int | None = None
        self._told = False
        self.is_cancelled = False

    @property
    def is_under_way(self) -> bool:
        """Whether the engine has a load to answer."""
        return bool(self._owed)

    def sent(self, load: Load) -> None:
        """A load is on its way to the engine."""
        self._owed.append(load)
        self.is_cancelled = False

    def cancel(self) -> bool:
        """The last load is not wanted any more; whether there was one."""
        self.is_cancelled = self.is_under_way
        return self.is_cancelled

    def answered(self) -> None:
        """The load at work is over."""
        if self._owed:
            self._owed.popleft()
        self._unwanted_since_ns, self._told = None, False
        self.is_cancelled = self.is_cancelled and self.is_under_way

    def forget(self) -> None:
        """There is no engine any more that could answer."""
        self._owed.clear()
        self.answered()

    def is_overdue(self, at_work: bool) -> bool:
        """Whether patience with a load that nobody wants has ended, said once. `at_work`: the engine is loading now.

        An engine that is still starting is not to blame: it has not heard of anything yet.
        """
        if not at_work or not (self.is_cancelled or len(self._owed) > 1):
            self._unwanted_since_ns = None
            return False
        if self._unwanted_since_ns is None:
            self._unwanted_since_ns = self._clock()
        if self._told or self._clock() - self._unwanted_since_ns < PATIENCE_NS:
            return False
        self._told = True
        return True
