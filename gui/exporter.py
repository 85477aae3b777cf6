"""Writes exports on a thread of its own: a long session, or a slow disk, must not stop the window."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from PySide6.QtCore import QObject, QTimer, Signal

from engine.trace.export import Excerpt, ExportCancelled, ExportRefused, export

LOOK_EVERY_MS = 100


@dataclass(frozen=True, slots=True)
class Wish:
    """What to write, and where. `what`: one table, or None; `replace`: the user has allowed it."""

    excerpt: Excerpt
    path: Path
    what: str | None = None
    replace: bool = False


class Exporter(QObject):
    """Writes one export at a time. The signals come on the thread that asked."""

    goes_on = Signal()  # it takes a while; `fraction` says how far it is
    written = Signal(list)  # the files
    failed = Signal(str)  # a sentence
    cancelled = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._writing: _Writing | None = None
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)

    @property
    def is_busy(self) -> bool:
        """Whether something is being written."""
        return self._writing is not None

    @property
    def fraction(self) -> float:
        """How far it is, from 0 to 1."""
        return self._writing.fraction if self._writing is not None else 0.0

    def start(self, wish: Wish) -> None:
        """Write it; returns at once. While something is being written, `failed` says so."""
        if self._writing is not None:
            self.failed.emit("Another export is being written: wait for it, or cancel it.")
            return
        self._writing = _Writing(wish)
        self._writing.start()
        self._timer.start()

    def cancel(self) -> None:
        """Give up what is being written; nothing of it stays."""
        if self._writing is not None:
            self._writing.given_up.set()

    def stop(self) -> None:
        """Give up what is being written, and wait until it is gone. Nobody is told."""
        self._timer.stop()
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.given_up.set()
            writing.join()

    def _look(self) -> None:
        writing = self._writing
        if writing is None:
            return
        if writing.is_alive():
            self.goes_on.emit()
            return
        self._timer.stop()
        self._writing = None
        writing.tell(self)


class _Writing(Thread):
    def __init__(self, wish: Wish) -> None:
        super().__init__(name="export")
        self._wish = wish
        self.given_up = Event()
        self.fraction = 0.0
        self.tell: Callable[[Exporter], None] = lambda _: None  # what came of it

    def run(self) -> None:
        wish = self._wish
        try:
            files = export(wish.excerpt, wish.path, wish.what, replace=wish.replace, tick=self._tick)
        except ExportCancelled:
            self.tell = lambda exporter: exporter.cancelled.emit()
        except ExportRefused as refusal:
            sentence = str(refusal)
            self.tell = lambda exporter: exporter.failed.emit(sentence)
        else:
            self.tell = lambda exporter: exporter.written.emit(files)

    def _tick(self, fraction: float) -> None:
        self.fraction = fraction
        if self.given_up.is_set():
            raise ExportCancelled
