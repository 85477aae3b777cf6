"""Writes exports beside the window's work: a session may be long, or a disk slow."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

from PySide6.QtCore import QObject, Signal

from engine.trace.export import Excerpt, ExportCancelled, ExportRefused, export
from gui.aside import Aside, Say

TOLD_AFTER_S = 0.1  # what is written sooner needs no button to give it up


@dataclass(frozen=True, slots=True)
class Wish:
    """What to write, and where. `what`: one table, or None; `replace`: the user has allowed it."""

    excerpt: Excerpt
    path: Path
    what: str | None = None
    replace: bool = False


class Exporter(QObject):
    """Writes one export at a time. The signals come on the thread that asked."""

    goes_on = Signal()  # it takes a while; said once
    written = Signal(list)  # the files
    failed = Signal(str)  # a sentence
    cancelled = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._given_up = Event()
        self._aside = Aside("export", ExportRefused, self)

    @property
    def is_busy(self) -> bool:
        """Whether something is being written."""
        return self._aside.is_busy

    def start(self, wish: Wish) -> None:
        """Write it; returns at once. While something is being written, `failed` says so."""
        if self.is_busy:
            self.failed.emit("Another export is being written: wait for it, or cancel it.")
            return
        self._given_up.clear()
        self._aside.do(
            lambda say: self._write(wish, say), self.failed.emit, "The export could not be written"
        )

    def cancel(self) -> None:
        """Give up what is being written; nothing of it stays."""
        self._given_up.set()

    def stop(self) -> None:
        """Give up what is being written, and wait until it is gone. Nobody is told."""
        self.cancel()
        self._aside.stop()

    def _write(self, wish: Wish, say: Say) -> None:
        tell_at_s: float | None = monotonic() + TOLD_AFTER_S

        def tick(_fraction: float) -> None:
            nonlocal tell_at_s
            if self._given_up.is_set():
                raise ExportCancelled
            if tell_at_s is not None and monotonic() >= tell_at_s:
                tell_at_s = None
                say(self.goes_on.emit)

        try:
            files = export(wish.excerpt, wish.path, wish.what, replace=wish.replace, tick=tick)
        except ExportCancelled:
            say(self.cancelled.emit)
        else:
            say(self.written.emit, files)
