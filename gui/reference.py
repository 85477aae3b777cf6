"""The one reference of the window: pinned from the trace or from a recorded session, until it is unpinned.

It stays when the trace is cleared and when another model is loaded. A file is read aside; what is measured here is
pinned at once, since only the thread that appends to a trace knows how far it is (20,000 steps take about as long as a
frame).
"""

from datetime import datetime
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from engine.trace.export import Excerpt, excerpt_of
from engine.trace.recording import RecordingError, read_session
from engine.trace.reference import Reference, reference_of
from engine.trace.store import Trace
from gui.aside import Aside, Say


class References(QObject):
    """Holds the reference. Signals come on the thread that asked; the latest wish counts."""

    changed = Signal(object)  # Reference, or None
    failed = Signal(str)  # a sentence
    noticed = Signal(str)  # what of a file was left out or put right

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.reference: Reference | None = None
        self._aside = Aside("reference", RecordingError, self)

    def pin(self, trace: Trace, rows: range | None = None) -> None:
        """Pin the steps of some rows of a trace, by default all that there are now."""
        count = len(trace.steps)
        chosen = range(count) if rows is None else range(max(0, rows.start), min(rows.stop, count))
        if not len(chosen):
            self.failed.emit("There are no steps to pin as a reference: run a prompt first.")
            return
        excerpt = excerpt_of(trace, chosen.start, chosen.stop - 1)
        self._aside.drop()
        self._show(reference_of(excerpt, live_name(excerpt, datetime.now().astimezone())))

    def pin_file(self, path: Path) -> None:
        """Pin all of a recorded session, as soon as it is read."""
        self._aside.drop()
        problem = f"'{path.name}' could not be pinned"
        self._aside.do(lambda say: self._read(path, say), self.failed.emit, problem)

    def unpin(self) -> None:
        """Compare with nothing."""
        self._aside.drop()
        self._show(None)

    def stop(self) -> None:
        """Wait for what is under way, and tell nobody."""
        self._aside.stop()

    def _read(self, path: Path, say: Say) -> None:
        session = read_session(path)
        if not len(session.steps):
            raise RecordingError(f"'{path.name}' has no steps to compare with: choose another session.")
        name = session.metadata.get("title") or path.stem
        say(self._show, reference_of(excerpt_of(session.trace()), name))
        if session.notices:
            say(self.noticed.emit, " ".join(session.notices))

    def _show(self, reference: Reference | None) -> None:
        if reference is not self.reference:
            self.reference = reference
            self.changed.emit(reference)


def live_name(excerpt: Excerpt, at: datetime) -> str:
    """What a reference of this window is called: its model, which steps, and when it was pinned."""
    model = excerpt.trace.model.name if excerpt.trace.model else "no model"
    rows = excerpt.rows
    which = "" if excerpt.is_whole else f", steps {rows.start:,}–{rows.stop - 1:,}"
    return f"{model}{which}, {at:%H:%M}"
