"""Work that may block (the network) on a thread of its own, so that whoever waits can tell, lose patience, or give up.

Such a thread cannot be ended from outside: work that nobody waits for any more ends at its next `came`, or when the
library's own time-out is over, and touches nothing but its own file until then.
"""

from collections.abc import Callable
from threading import Event, Thread
from time import perf_counter_ns
from typing import Generic, TypeVar

Result = TypeVar("Result")

#: How often the waiting side looks around: below what people notice as a delay.
POLL_S = 0.05


class Silence(Exception):
    """Nothing has come for as long as one was ready to wait, which is `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came within {seconds:g} s")
        self.seconds = seconds


class Abandoned(BaseException):
    """Raised in work that nobody waits for any more. Not an Exception, so that no library tries once more."""


class Background(Generic[Result]):
    """One piece of work, started by `wait`. `patience_s`: how long it may go without anything coming."""

    def __init__(self, work: "Callable[[Background[Result]], Result]", patience_s: float) -> None:
        self._work = work
        self._patience_s = patience_s
        self._came_ns = perf_counter_ns()
        self._abandoned = Event()
        self._done = Event()
        self._result: list[Result] = []
        self._error: BaseException | None = None

    def came(self) -> None:
        """The work says that something came. Raises Abandoned when nobody waits for it."""
        self._came_ns = perf_counter_ns()
        if self._abandoned.is_set():
            raise Abandoned

    def wait(self, look: Callable[[], None]) -> Result:
        """What the work returns or raises; meanwhile `look` is called, whose exceptions abandon it. Raises Silence."""
        Thread(target=self._run, name="hub", daemon=True).start()
        try:
            look()
            while not self._done.wait(POLL_S):
                look()
                if perf_counter_ns() > self._came_ns + self._patience_s * 1e9:
                    raise Silence(self._patience_s)
        except BaseException:
            self._abandoned.set()
            self._done.wait(POLL_S)  # where something comes all the time, the work ends at once
            raise
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._work(self))
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()
