"""Lists recorded sessions and does what the user wants of them, one thing after the other, aside."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from PySide6.QtCore import QFile, QObject, Signal

from engine.protocol import NoteTaken
from engine.trace.recording import Recorder, RecordingError
from engine.trace.recording.changing import (
    DESCRIPTION,
    PINNED,
    TITLE,
    add_note,
    change_metadata,
    check_metadata,
)
from engine.trace.recording.report import crash_path, report_path
from engine.trace.recording.session_file import beside, is_written_here
from engine.trace.recording.shelf import Shelf, is_in_use
from gui import units
from gui.aside import Aside, Say, Work

if TYPE_CHECKING:
    from engine.trace.recording.listing import Listing, SessionEntry

SO_FAR_EVERY_S = 0.3  # a list that takes long is shown as far as it is
BELIEVED_S = 10.0


class SessionKeeper(QObject):
    """Nothing here waits: what came of it is said by signals. What goes wrong is a sentence (`failed`)."""

    listed = Signal(object, bool)  # list[SessionEntry], that written last first; whether these are all
    done = Signal(str)  # what was done, a sentence
    failed = Signal(str)
    note_failed = Signal(str)

    def __init__(
        self, shelf: Shelf, recorder: Callable[[], Recorder | None], parent: QObject | None = None
    ) -> None:
        """`recorder`: what writes the session that goes on, if there is one."""
        super().__init__(parent)
        self.shelf = shelf
        self._recorder = recorder
        self._listing: Listing | None = None
        self._aside = Aside("sessions", RecordingError, self)
        self._ending = False
        #: Metadata that is on its way into the files, and until when that is believed (s).
        self._wished: dict[Path, tuple[dict[str, str], float]] = {}

    @property
    def live_path(self) -> Path | None:
        """The file of the session that this program records now."""
        recorder = self._recorder()
        path = recorder.path if recorder is not None else None
        return path if path is not None and is_written_here(path) else None

    def refresh(self) -> None:
        """Read what there is; `listed` says it, perhaps in several goes."""
        self._do(self._list)

    def describe(self, path: Path, changes: Mapping[str, str]) -> None:
        """Change the title or the description of a session, also of the one that is being recorded."""
        try:
            check_metadata(changes)
        except RecordingError as error:
            self.failed.emit(str(error))
            return
        wished, _ = self._wished.get(path, ({}, 0.0))
        self._wished[path] = {**wished, **changes}, monotonic() + BELIEVED_S
        recorder = self._recorder()
        if recorder is not None and path == self.live_path:
            recorder.change(path, changes)
            self.refresh()
        else:
            self._do(lambda say: self._change(path, changes, say))

    def pin(self, path: Path, pinned: bool) -> None:
        """Keep a session whatever room there is, or no longer."""
        self.describe(path, {PINNED: "yes" if pinned else ""})

    def add_note(self, path: Path, note: NoteTaken) -> None:
        """Write a note into a session that is over."""
        self._aside.do(lambda _: self._add_note(path, note), self.note_failed.emit)

    def discard(self, path: Path) -> None:
        """Move a session to the trash, with what lies beside it."""
        self._do(lambda say: self._discard(path, say))

    def make_room(self) -> None:
        """Delete the oldest sessions that are more than may be kept."""
        self._do(self._make_room)

    def stop(self) -> None:
        """Do what was wished for, but for listing, and end."""
        self._ending = True
        self._aside.stop()

    def _do(self, work: Work) -> None:
        self._aside.do(work, self.failed.emit)

    # ------------------------------------------------------------ aside

    def _list(self, say: Say) -> None:
        from engine.trace.recording.listing import Listing  # when a list is wanted: no window starts with it

        self._listing = self._listing or Listing(self.shelf)
        found: list[SessionEntry] = []
        told_s = monotonic()
        for entry in self._listing.entries():
            if self._ending:
                return
            found.append(self._as_wished(entry))
            if monotonic() - told_s > SO_FAR_EVERY_S:
                say(self.listed.emit, list(found), False)
                told_s = monotonic()
        say(self.listed.emit, found, True)

    def _as_wished(self, entry: "SessionEntry") -> "SessionEntry":
        """The session as it will be: whoever has named one does not see the old name again."""
        wished, until_s = self._wished.get(entry.path, ({}, 0.0))
        seen = {TITLE: entry.title, DESCRIPTION: entry.description, PINNED: "yes" if entry.is_pinned else ""}
        if seen == seen | wished or entry.problem or monotonic() > until_s:
            self._wished.pop(entry.path, None)
            return entry
        seen |= wished
        return replace(entry, title=seen[TITLE], description=seen[DESCRIPTION], is_pinned=bool(seen[PINNED]))

    def _own(self, path: Path) -> None:
        if not self.shelf.holds(path):
            raise RecordingError(
                f"'{path.name}' does not lie where sessions are kept ({self.shelf.directory}): it is not changed."
            )

    def _change(self, path: Path, changes: Mapping[str, str], say: Say) -> None:
        try:
            self._own(path)
            change_metadata(path, changes)
        except RecordingError:
            self._wished.pop(path, None)
            raise
        finally:
            self._list(say)

    def _add_note(self, path: Path, note: NoteTaken) -> None:
        self._own(path)
        add_note(path, note)

    def _discard(self, path: Path, say: Say) -> None:
        self._own(path)
        if is_in_use(path):
            raise RecordingError(f"'{path.name}' is in use, here or in another window: it was not deleted.")
        if not QFile.moveToTrash(str(path)):
            raise RecordingError(
                f"There is no trash for '{path}', so nothing was deleted: delete it in the file manager."
            )
        left = [each for each in (*beside(path), report_path(path), crash_path(path)) if each.exists()]
        stuck = [each.name for each in left if not QFile.moveToTrash(str(each))]
        if stuck:
            raise RecordingError(
                f"'{path.name}' is in the trash, but these could not be moved: {', '.join(stuck)}."
            )
        say(self.done.emit, f"“{path.stem}” was moved to the trash.")
        self._list(say)

    def _make_room(self, say: Say) -> None:
        before = self.shelf.bytes
        deleted = self.shelf.make_room()
        if deleted:
            freed = units.size(before - self.shelf.bytes)
            say(self.done.emit, f"{len(deleted):,} session{'s' * (len(deleted) > 1)} deleted, {freed} freed.")
        self._list(say)
