"""Changing a session that is over: what it says of itself, and notes on its steps. Nothing that was measured changes.

A file is written to only after the same checks as when it is opened, alone, and where it holds no triggers: these
would do what a stranger wants. When it was written last stays as it was, since the shelf goes by that.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.protocol import LONGEST_NOTE, NoteTaken
from engine.trace.recording.codec import to_json
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.opening import (
    BYTES_A_SECOND,
    as_sentences,
    check_header,
    check_pages,
    check_schema,
    set_limits,
)
from engine.trace.recording.references import MOST_NOTED
from engine.trace.recording.session_file import is_written_here

TITLE, DESCRIPTION = "title", "description"  # keys of the metadata
PINNED = "pinned"  # its value is "yes"
LONGEST = {TITLE: 200, DESCRIPTION: 2000, PINNED: 3}  # characters, of what can be changed
PATIENCE_S = 5.0
LOCK_S = 1.0  # somebody who only reads is gone by then


def pin(path: Path, pinned: bool) -> None:
    """Keep a session whatever room there is, or no longer. Raises RecordingError."""
    change_metadata(path, {PINNED: "yes" if pinned else ""})


def change_metadata(path: Path, changes: Mapping[str, str]) -> None:
    """Write lines of metadata, those of LONGEST, into a session that nobody writes. Raises RecordingError."""
    check_metadata(changes)
    with _alone(path) as connection:
        connection.executemany("INSERT OR REPLACE INTO metadata VALUES (?, ?)", list(changes.items()))


def check_metadata(changes: Mapping[str, str]) -> None:
    """Raise RecordingError unless these lines can be changed, and are not too long."""
    for key, value in changes.items():
        if key not in LONGEST:
            raise RecordingError(f"The {key} of a session is what was measured: it cannot be changed.")
        if len(value) > LONGEST[key]:
            raise RecordingError(
                f"The {key} has {len(value):,} characters, and up to {LONGEST[key]:,} are kept."
            )
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RecordingError(f"The {key} has half a character in it: type it anew.") from error


def add_note(path: Path, note: NoteTaken) -> None:
    """Write a note into a session that nobody writes. Raises RecordingError."""
    if len(note.text) > LONGEST_NOTE:
        raise RecordingError(f"A note has up to {LONGEST_NOTE:,} characters, not {len(note.text):,}.")
    with _alone(path) as connection:
        (noted,) = connection.execute("SELECT count(*) FROM events WHERE kind = 'NoteTaken'").fetchone()
        if noted >= MOST_NOTED and note.text:
            raise RecordingError(f"'{path.name}' has {noted:,} notes, and no more are kept.")
        connection.execute(
            "INSERT INTO events (step, at_ns, kind, body)"
            " SELECT coalesce(max(step) + 1, 0), ?, 'NoteTaken', ? FROM steps",
            (note.at_ns, to_json(note)),
        )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that may write, in one transaction, to a file that passes all checks and that nobody else has open.

    Raises RecordingError, also from the block.
    """
    if is_written_here(path):
        raise RecordingError(f"'{path.name}' is being recorded: try again when that is over.")
    size, before = check_header(path), path.stat()
    with as_sentences(path), contextlib.closing(writable(path, size, LOCK_S)) as connection:
        _lock(path, connection)
        check_schema(path, connection)
        (triggers,) = connection.execute(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchone()
        if triggers:
            raise RecordingError(f"'{path.name}' holds triggers, which no session has: it is not changed.")
        check_pages(path, connection)
        with connection:
            yield connection
    with contextlib.suppress(OSError):
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def writable(path: Path, size: int = 0, lock_s: float = 0.0) -> sqlite3.Connection:
    """A connection that may write, within a time for `size` bytes."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=lock_s)
    set_limits(connection, PATIENCE_S + size / BYTES_A_SECOND, read_only=False)
    return connection


def _lock(path: Path, connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        raise RecordingError(
            f"'{path.name}' is open in another program: try again when that is closed."
        ) from error
