"""The directory in which sessions are kept: named by their time, bounded in size, put right after a crash.

What is written last has the room; the oldest goes first, unless it is pinned or still written to.
"""

import contextlib
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine.protocol import ModelLoaded
from engine.trace.recording.changing import PINNED, writable
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.opening import check_header, check_pages, check_schema
from engine.trace.recording.reading import read_metadata
from engine.trace.recording.report import crash_path, report_path, write_report
from engine.trace.recording.session_file import beside, is_written_here, remove

SUFFIX = ".cyclograph"
MOST_BYTES = 2 * 2**30
LONGEST_NAME = 40  # characters of a model's name in that of a file


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A session whose program died: put right, and whole again. `report`: what is known of its end, if anything."""

    path: Path
    model: str
    started_at: str
    steps: int
    tokens: int
    report: Path | None = None


class Shelf:
    """Sessions in a directory, which need not exist yet."""

    def __init__(
        self, directory: Path, most_bytes: int = MOST_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self.directory = directory
        self.most_bytes = most_bytes
        self._clock = clock

    def place(self, loaded: ModelLoaded) -> Path:
        """A name for a new session: when it begins and of which model. Makes room for it.

        Raises RecordingError where there can be no such directory.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(
                f"Sessions cannot be kept in '{self.directory}' ({error.strerror}): choose another place."
            ) from error
        self.make_room()
        named = re.sub(r"[^A-Za-z0-9._]+", "-", loaded.model.name)
        stem = (
            f"{datetime.fromtimestamp(self._clock()):%Y-%m-%d %H.%M.%S} {named[-LONGEST_NAME:].strip('-. ')}"
        )
        path, number = self.directory / f"{stem}{SUFFIX}", 1
        while path.exists():
            number += 1
            path = self.directory / f"{stem} {number}{SUFFIX}"
        return path

    def sessions(self) -> list[Path]:
        """The files of all sessions, the one that was written to last first."""
        with contextlib.suppress(OSError):
            return sorted(self.directory.glob(f"*{SUFFIX}"), key=_written_at, reverse=True)
        return []

    def holds(self, path: Path) -> bool:
        """Whether a file is one of these sessions: it lies in the directory itself, and not elsewhere by a link."""
        own = path.suffix == SUFFIX and not path.is_symlink()
        return own and path.parent.resolve() == self.directory.resolve()

    @property
    def bytes(self) -> int:
        """What all sessions take on the disk."""
        return sum(map(size_of, self.sessions()))

    def make_room(self, keep: Path | None = None) -> list[Path]:
        """Delete the oldest sessions until the rest fits; returns them. Spared: `keep`, pinned ones, ones in use."""
        deleted: list[Path] = []
        total = self.bytes
        for path in reversed(self.sessions()):
            if total <= self.most_bytes:
                break
            if path == keep or _is_pinned(path) or is_in_use(path):
                continue
            total -= size_of(path)
            self.delete(path)
            deleted.append(path)
        return deleted

    def keep_room(self, path: Path) -> None:
        """See to it that all sessions fit while `path` grows. Raises RecordingError where it alone is too large."""
        self.make_room(path)
        if size_of(path) > self.most_bytes:
            raise RecordingError(
                f"The session fills the {self.most_bytes / 2**30:,.2g} GiB that sessions may take: recording stopped,"
                " and what was written is kept."
            )

    def delete(self, path: Path) -> None:
        """Delete a session and what lies beside it."""
        with contextlib.suppress(OSError):
            remove(path)
            for each in (report_path(path), crash_path(path)):
                each.unlink(missing_ok=True)

    def interrupted(self) -> list[Interrupted]:
        """Put right what a crash has left: sessions become one whole file each. The latest first; each is told of once.

        A session that another program still writes is left alone.
        """
        found: list[Interrupted] = []
        for path in self.sessions():
            if not any(each.exists() for each in beside(path)) or is_in_use(path):
                continue
            with contextlib.suppress(RecordingError, sqlite3.Error, OSError):
                if (session := _put_right(path)) is not None:
                    found.append(session)
        return found


def is_in_use(path: Path) -> bool:
    """Whether a program has the session open: it is asked for alone, which SQLite then refuses."""
    if is_written_here(path):
        return True
    try:
        with contextlib.closing(writable(path)) as own:
            own.execute("PRAGMA locking_mode = EXCLUSIVE")
            own.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return False


def _put_right(path: Path) -> Interrupted | None:
    """Make one file of a session and its log. None for one that had ended, and for one in which nothing had run."""
    if not path.stat().st_size:
        remove(path)
        return None
    check_header(path)
    with contextlib.closing(writable(path)) as connection:
        check_schema(path, connection)
        check_pages(path, connection)
        metadata = dict(connection.execute("SELECT key, value FROM metadata LIMIT 100").fetchall())
        steps, tokens = (
            connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("steps", "tokens")
        )
        connection.execute("PRAGMA journal_mode = DELETE")
        if "ended_at" in metadata or not steps:
            report = None
        else:
            with connection:
                connection.execute("INSERT OR REPLACE INTO metadata VALUES ('interrupted', 'yes')")
            report = write_report(path, connection, metadata)
    if not steps:
        remove(path)
    if "ended_at" in metadata or not steps:
        return None
    return Interrupted(path, metadata.get("model", ""), metadata.get("started_at", ""), steps, tokens, report)


def _written_at(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def size_of(path: Path) -> int:
    """What a session takes on the disk, with what lies beside it while it is written, bytes."""
    total = 0
    for each in (path, *beside(path)):
        with contextlib.suppress(OSError):
            total += each.stat().st_size
    return total


def _is_pinned(path: Path) -> bool:
    try:
        return bool(read_metadata(path).get(PINNED))
    except RecordingError:
        return False  # damaged, or no session: whoever keeps it on purpose keeps it elsewhere
