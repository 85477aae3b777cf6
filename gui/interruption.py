"""Ctrl-C, at any time: before there is a window, and after."""

import signal
from collections.abc import Callable
from types import FrameType


class Interruption:
    """Ctrl-C and a polite kill: they close the window, or are remembered until there is one.

    Nothing is raised, since an exception in the middle of an import or of Qt's work leaves either in pieces. The frame
    timer of the window lets Python see a signal soon. `code`: that of the program where it never came to a window.
    """

    code = 130

    def __init__(self) -> None:
        self.asked = False
        self.close: Callable[[], object] | None = None
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, self._take)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.close is not None:
            self.close()
