"""The one reference of the window: pinned from the trace or from a recorded session, until it is unpinned.

It stays when the trace is cleared and when another model is loaded. What a reference is made of is computed on a thread
of its own: a long session must not stop the window.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Thread

from PySide6.QtCore import QObject, QTimer, Signal

from engine.trace.export import Excerpt, excerpt_of
from engine.trace.recording import RecordingError, read_session
from engine.trace.reference import Reference, reference_of
from engine.trace.store import Trace

LOOK_EVERY_MS = 30


class References(QObject):
    """Holds the reference. Signals come on the thread that asked; the latest wish counts."""

    changed = Signal(object)  # Reference, or None
    failed = Signal(str)  # a sentence
    noticed = Signal(str)  # what of a file was left out or put right

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.reference: Reference | None = None
        self._making: _Making | None = None
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)

    def pin(self, trace: Trace, rows: range | None = None) -> None:
        """Pin the steps of some rows of a trace that may still grow, by default all that there are now."""
        count = len(trace.steps)
        chosen = range(count) if rows is None else range(max(0, rows.start), min(rows.stop, count))
        if not len(chosen):
            self.failed.emit("There are no steps to pin as a reference: run a prompt first.")
            return
        excerpt = excerpt_of(trace, chosen.start, chosen.stop - 1)
        name = live_name(excerpt, datetime.now().astimezone())
        self._make(lambda: (reference_of(excerpt, name), ()))

    def pin_file(self, path: Path) -> None:
        """Pin all of a recorded session."""
        self._make(lambda: _of_file(path))

    def unpin(self) -> None:
        """Compare with nothing."""
        self._making = None
        self._timer.stop()
        self._show(None)

    def stop(self) -> None:
        """Wait for what is under way, and tell nobody."""
        self._timer.stop()
        making, self._making = self._making, None
        if making is not None:
            making.join()

    def _make(self, how: "How") -> None:
        self._making = _Making(how)
        self._making.start()
        self._timer.start()

    def _look(self) -> None:
        making = self._making
        if making is None or making.is_alive():
            return
        self._timer.stop()
        self._making = None
        if making.reference is None:
            self.failed.emit(making.problem)
            return
        self._show(making.reference)
        if making.notices:
            self.noticed.emit(" ".join(making.notices))

    def _show(self, reference: Reference | None) -> None:
        if reference is not self.reference:
            self.reference = reference
            self.changed.emit(reference)


How = Callable[[], tuple[Reference, tuple[str, ...]]]


class _Making(Thread):
    """Makes a reference: then it is there, or `problem` says why it is not."""

    def __init__(self, how: How) -> None:
        super().__init__(name="reference", daemon=True)
        self._how = how
        self.reference: Reference | None = None
        self.notices: tuple[str, ...] = ()
        self.problem = "The reference could not be computed: try again."

    def run(self) -> None:
        try:
            self.reference, self.notices = self._how()
        except RecordingError as error:
            self.problem = str(error)


def _of_file(path: Path) -> tuple[Reference, tuple[str, ...]]:
    """A recorded session as a reference, and what is to be said of the file. Raises RecordingError."""
    session = read_session(path)
    if not len(session.steps):
        raise RecordingError(f"'{path.name}' has no steps to compare with: choose another session.")
    return reference_of(
        excerpt_of(session.trace()), session.metadata.get("title") or path.stem
    ), session.notices


def live_name(excerpt: Excerpt, at: datetime) -> str:
    """What a reference of this window is called: its model, which steps, and when it was pinned."""
    model = excerpt.trace.model.name if excerpt.trace.model else "no model"
    rows = excerpt.rows
    which = "" if excerpt.is_whole else f", steps {rows.start:,}–{rows.stop - 1:,}"
    return f"{model}{which}, {at:%H:%M}"
