"""What would stop the window is done aside: files are read and written on a thread of its own.

That thread touches nothing of Qt: what it says waits until the thread that asked looks. It is a daemon, since a pipe
that nobody writes to must not keep the program from ending.
"""

from collections import deque
from collections.abc import Callable
from threading import Thread

from PySide6.QtCore import QObject, QTimer

LOOK_EVERY_MS = 15

Say = Callable[..., None]  # say(call, *arguments): have that called on the thread that asked
Work = Callable[[Say], None]


class Aside(QObject):
    """Does one thing after the other, in the order in which they were wished for."""

    def __init__(self, name: str, refusal: type[Exception], parent: QObject) -> None:
        """`name`: of the thread. `refusal`: what work raises with a sentence for the user."""
        super().__init__(parent)
        self._name, self._refusal = name, refusal
        self._waiting: deque[_Errand] = deque()
        self._now: _Errand | None = None
        self._is_over = False
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, or what came of it has not been told yet."""
        return self._now is not None

    def do(
        self, work: Work, failed: Callable[[str], object], problem: str = "That could not be done"
    ) -> None:
        """Have it done; returns at once. Nothing is done any more after `stop`.

        `failed` hears a sentence: that of the refusal, or `problem` and the error that nobody foresaw.
        """
        if self._is_over:
            return
        self._waiting.append(_Errand(self._name, work, self._refusal, failed, problem))
        if self._now is None:
            self._go_on()

    def drop(self) -> None:
        """Nobody wants to hear of what was wished for so far; what is under way does not hold up what comes."""
        self._waiting.clear()
        self._now = None
        self._timer.stop()

    def stop(self) -> None:
        """Do all that was wished for, wait until that is done, and tell nobody."""
        self._is_over = True
        while self._now is not None:
            self._now.join()
            self._go_on()

    def _go_on(self) -> None:
        self._now = self._waiting.popleft() if self._waiting else None
        if self._now is None:
            self._timer.stop()
            return
        self._now.start()
        self._timer.start()

    def _look(self) -> None:
        errand = self._now
        if errand is None:
            return
        is_done = not errand.is_alive()  # asked first: then all that it says has been said
        while errand.said and errand is self._now:  # whoever hears it may drop the rest
            call, arguments = errand.said.popleft()
            call(*arguments)
        if is_done and errand is self._now:
            self._go_on()


class _Errand(Thread):
    """One thing that is done; `said`: what is to be called on the thread that asked."""

    def __init__(
        self,
        name: str,
        work: Work,
        refusal: type[Exception],
        failed: Callable[[str], object],
        problem: str,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work, self._refusal, self._failed, self._problem = work, refusal, failed, problem
        self.said: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()

    def _say(self, call: Callable[..., object], *arguments: object) -> None:
        self.said.append((call, arguments))

    def run(self) -> None:
        """Do it; what nobody foresaw is a fault of the program (`threading.excepthook`) unless it is one of a disk."""
        try:
            self._work(self._say)
        except self._refusal as refusal:
            self._say(self._failed, str(refusal))
        except Exception as error:
            self._say(self._failed, f"{self._problem} ({type(error).__name__}: {error}).")
            if not isinstance(error, OSError):
                raise
