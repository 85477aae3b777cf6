"""What a list of sessions shows of each: read from the few rows that say it, read-only, in bounded time.

A file that cannot be opened is listed, too, with the sentence that says why.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from engine.protocol import LONGEST_NOTE, NoteTaken
from engine.trace.recording.changing import DESCRIPTION, LONGEST, PINNED, TITLE
from engine.trace.recording.codec import CodecError, from_json
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.opening import opened
from engine.trace.recording.reading import metadata_of
from engine.trace.recording.references import LATEST_NS, MOST_NOTED
from engine.trace.recording.session_file import beside, is_written_here
from engine.trace.recording.shelf import Shelf, size_of

LONGEST_NAME = 200  # characters of a model or a device
PATIENCE_S = 1.0  # for a file, however large: a few of its rows are read
LATEST_S = 2**33  # of the time of day, seconds since 1970


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A session as a list shows it. `problem`: why nothing but its file is known; "" for one that can be opened.

    `started_s`: seconds since 1970, of a file that does not say it when it was written last. `length_ns`: from the
    begin of the first step to the end of the last. `notes`: their texts. `is_live`: it is being written.
    """

    path: Path
    size_bytes: int
    started_s: float
    title: str = ""
    description: str = ""
    model: str = ""
    device: str = ""
    length_ns: int = 0
    steps: int = 0
    tokens: int = 0
    notes: tuple[str, ...] = ()
    is_pinned: bool = False
    is_interrupted: bool = False
    is_live: bool = False
    problem: str = ""


Stamp = tuple[int, ...]
_Known = dict[Path, tuple[Stamp, SessionEntry]]


class Listing:
    """Lists a shelf again and again; what has not changed since the last time is not read again."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._known: _Known = {}

    def entries(self) -> Iterator[SessionEntry]:
        """All sessions, one by one as they are read, the one that was written last first."""
        known, self._known = self._known, {}
        for path in self._shelf.sessions():
            stamp = _stamp(path)
            before = known.get(path)
            if before is not None and before[0] == stamp and not before[1].is_live:
                entry = before[1]
            else:
                entry = read_entry(path)
            self._known[path] = stamp, entry
            yield entry


def read_entry(path: Path) -> SessionEntry:
    """What a list shows of a session. Whatever is wrong with the file becomes its `problem`."""
    size, written_s = size_of(path), 0.0
    with contextlib.suppress(OSError):
        written_s = min(max(0.0, path.stat().st_mtime), LATEST_S)
    try:
        with opened(path, whole=False, seconds=PATIENCE_S) as connection:
            return _entry(path, size, written_s, connection)
    except RecordingError as error:
        return SessionEntry(path, size, written_s, is_live=is_written_here(path), problem=str(error))


def _entry(path: Path, size: int, written_s: float, connection: sqlite3.Connection) -> SessionEntry:
    metadata = metadata_of(connection)
    ended = "ended_at" in metadata
    is_live = is_written_here(path) or (not ended and _has_writer(path, metadata.get("pid", "")))
    return SessionEntry(
        path,
        size,
        started_s=_seconds(metadata.get("started_at", "")) or written_s,
        title=metadata.get(TITLE, "")[: LONGEST[TITLE]],
        description=metadata.get(DESCRIPTION, "")[: LONGEST[DESCRIPTION]],
        model=metadata.get("model", "")[:LONGEST_NAME],
        device=metadata.get("device", "")[:LONGEST_NAME],
        length_ns=_length_ns(connection),
        steps=_count(connection, "steps", "step"),
        tokens=_count(connection, "tokens", "token"),
        notes=_notes(connection),
        is_pinned=bool(metadata.get(PINNED)),
        is_interrupted=not is_live and (not ended or bool(metadata.get("interrupted"))),
        is_live=is_live,
    )


def _count(connection: sqlite3.Connection, table: str, key: str) -> int:
    """How many rows a table has, by the last of their numbers: nobody counts them for a list."""
    (last,) = connection.execute(f"SELECT max({key}) FROM {table}").fetchone()
    return min(max(0, last + 1), LATEST_NS) if last is not None else 0


def _length_ns(connection: sqlite3.Connection) -> int:
    columns = {row[1] for row in connection.execute("PRAGMA table_xinfo(steps)")}
    wall = "wall_ns" if "wall_ns" in columns else "0"
    ends = [
        connection.execute(f"SELECT begin_ns, {wall} FROM steps ORDER BY step {way} LIMIT 1").fetchone()
        for way in ("ASC", "DESC")
    ]
    if None in ends:
        return 0
    numbers = [number for row in ends for number in row]
    if not all(isinstance(number, int) for number in numbers):  # of a damaged file
        return 0
    begin_ns, _, last_ns, wall_ns = numbers
    return int(min(max(0, last_ns + wall_ns - begin_ns), LATEST_NS))


def _notes(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The texts of the notes, in the order of their steps."""
    rows = connection.execute(
        "SELECT body FROM events WHERE kind = 'NoteTaken' ORDER BY event LIMIT ?", (MOST_NOTED,)
    )
    latest: dict[int, str] = {}
    for (body,) in rows:
        with contextlib.suppress(CodecError, TypeError):
            note = from_json(NoteTaken, body, set())
            latest[note.step] = note.text[:LONGEST_NOTE]
    return tuple(latest[step] for step in sorted(latest) if latest[step])


def _has_writer(path: Path, pid: str) -> bool:
    """Whether another program still writes: there is a log of one beside the file, and it is there."""
    if not any(each.exists() for each in beside(path)) or not pid.isdecimal() or len(pid) > 9:
        return False
    return int(pid) != os.getpid() and bool(psutil.pid_exists(int(pid)))


def _seconds(at: str) -> float:
    """A time of day as ISO 8601 in seconds since 1970; 0 for none that can be."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        seconds = datetime.fromisoformat(at).timestamp()
        return seconds if 0 <= seconds < LATEST_S else 0.0
    return 0.0


def _stamp(path: Path) -> Stamp:
    """What differs when a session was changed."""
    parts: list[int] = []
    for each in (path, *beside(path)):
        with contextlib.suppress(OSError):
            found = each.stat()
            parts += (found.st_mtime_ns, found.st_ctime_ns, found.st_size)
    return tuple(parts)
