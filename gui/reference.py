"""The one reference of the window: pinned from the trace or from a recorded session, until it is unpinned.

It stays when the trace is cleared and when another model is loaded. A file is read on a thread of its own; what is
measured here is pinned at once, since only the thread that appends to a trace knows how far it is (20,000 steps take
about as long as a frame).
"""

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
        self._reading: _Reading | None = None
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)

    def pin(self, trace: Trace, rows: range | None = None) -> None:
        """Pin the steps of some rows of a trace, by default all that there are now."""
        count = len(trace.steps)
        chosen = range(count) if rows is None else range(max(0, rows.start), min(rows.stop, count))
        if not len(chosen):
            self.failed.emit("There are no steps to pin as a reference: run a prompt first.")
            return
        excerpt = excerpt_of(trace, chosen.start, chosen.stop - 1)
        self._show(reference_of(excerpt, live_name(excerpt, datetime.now().astimezone())))

    def pin_file(self, path: Path) -> None:
        """Pin all of a recorded session, as soon as it is read."""
        self._reading = _Reading(path)
        self._reading.start()
        self._timer.start()

    def unpin(self) -> None:
        """Compare with nothing."""
        self._show(None)

    def stop(self) -> None:
        """Wait for what is under way, and tell nobody."""
        self._timer.stop()
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.join()

    def _look(self) -> None:
        reading = self._reading
        if reading is None or reading.is_alive():
            return
        self._show(reading.reference or self.reference)
        if reading.reference is None:
            self.failed.emit(reading.problem)
        elif reading.notices:
            self.noticed.emit(" ".join(reading.notices))

    def _show(self, reference: Reference | None) -> None:
        self._reading = None
        self._timer.stop()
        if reference is not self.reference:
            self.reference = reference
            self.changed.emit(reference)


class _Reading(Thread):
    """Reads a recorded session: then `reference` is there, or `problem` says why it is not."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="reference", daemon=True)
        self._path = path
        self.reference: Reference | None = None
        self.notices: tuple[str, ...] = ()
        self.problem = f"'{path.name}' could not be pinned: choose another session."

    def run(self) -> None:
        try:
            session = read_session(self._path)
            if not len(session.steps):
                raise RecordingError(
                    f"'{self._path.name}' has no steps to compare with: choose another session."
                )
        except RecordingError as error:
            self.problem = str(error)
            return
        name = session.metadata.get("title") or self._path.stem
        self.reference, self.notices = reference_of(excerpt_of(session.trace()), name), session.notices


def live_name(excerpt: Excerpt, at: datetime) -> str:
    """What a reference of this window is called: its model, which steps, and when it was pinned."""
    model = excerpt.trace.model.name if excerpt.trace.model else "no model"
    rows = excerpt.rows
    which = "" if excerpt.is_whole else f", steps {rows.start:,}–{rows.stop - 1:,}"
    return f"{model}{which}, {at:%H:%M}"
