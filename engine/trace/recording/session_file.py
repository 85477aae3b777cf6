"""A session file that grows: events in, rows out, one transaction a batch."""

import contextlib
import errno
import sqlite3
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from engine.protocol import Event, GenerationStarted, LayoutDefined, NoteTaken, StepEnded
from engine.trace.ledger import Layout
from engine.trace.recording import packing, schema
from engine.trace.recording.codec import to_json
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.packed import Packer
from engine.trace.recording.report import write_report

PAGE_BYTES = 16 * 1024
CACHE_KIB = 32 * 1024
LOG_BYTES = 32 * 1024 * 1024  # of the log, until what is in it is moved into the file
Rows = list[packing.Row]
STAMP_BYTES = 8
NO_LAYOUT: tuple[None, int] = (None, 0)
TOGETHER = 64  # rows a statement: the interpreter's lock is let go and taken again at each


#: Files that this process writes. Nobody else in it may open and close one except by SQLite: that drops its locks.
_written_here: set[Path] = set()


def is_written_here(path: Path) -> bool:
    """Whether this process writes the file."""
    return path.resolve() in _written_here


class SessionFile:
    """Writes the events of one session. Raises RecordingError from every method that cannot do what it says.

    `steps`, `tokens`: how many are in the file for good. `left_out`: kinds of events that could not be written down,
    and why the last of them could not.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str], overwrite: bool = False) -> None:
        self.path = path
        self.steps = 0
        self.tokens = 0
        self.left_out: dict[str, str] = {}
        self._layouts: dict[int, tuple[Layout | None, int]] = {}  # and how many bytes its stamps take
        self._step_packer = Packer("steps", packing.STEP_COLUMNS, schema.STEP_FIELDS)
        self._token_packer = Packer("tokens", packing.TOKEN_COLUMNS, schema.TOKEN_FIELDS)
        self._at_ns = 0
        self._last_step: StepEnded | None = None
        self._connection = _created(path, metadata, overwrite)
        _written_here.add(path.resolve())

    def write(self, events: Iterable[Event]) -> None:
        """Write events down, all of them or none."""
        steps: list[StepEnded] = []
        layouts: list[Layout] = []
        others: list[packing.Row] = []
        gaps: list[packing.Row] = []
        for event in events:
            if isinstance(event, StepEnded):
                layout, size = self._layouts.get(event.layout, NO_LAYOUT)
                if layout is not None and len(event.stamps) == size:  # else no trace can take it either
                    steps.append(event)
                    layouts.append(layout)
                    self._last_step = event
                continue
            kind = type(event).__name__
            if kind not in schema.KINDS:
                continue
            try:
                body = to_json(event)
            except (TypeError, ValueError, AttributeError) as error:  # of types that it does not declare
                self.left_out[kind] = str(error)
                continue
            if isinstance(event, LayoutDefined):
                layout = Layout(event.names, event.codes)
                self._layouts[event.layout] = layout, STAMP_BYTES * layout.stamp_count
                gaps += schema.layout_gap_rows(event.layout, layout)
            self._at_ns = event_ns(event, self._now_ns())
            others.append((self.steps + len(steps), self._at_ns, kind, body))
        self._store(steps, layouts, others, gaps)

    def _now_ns(self) -> int:
        """When the last of what was written ended."""
        if self._last_step is None:
            return self._at_ns
        return max(self._at_ns, int.from_bytes(self._last_step.stamps[-8:], sys.byteorder, signed=True))

    def _store(self, steps: list[StepEnded], layouts: list[Layout], others: Rows, gaps: Rows) -> None:
        tokens = 0
        try:
            with self._connection:
                self._insert("INSERT OR REPLACE INTO layout_gaps", 7, gaps)
                self._insert("INSERT INTO events (step, at_ns, kind, body)", 4, others)
                if steps:
                    columns = packing.step_columns(self.steps, steps, layouts)
                    self._insert_columns("steps", columns, self._step_packer)
                    columns = packing.token_columns(self.tokens, self.steps, steps)
                    tokens = len(columns[0])
                    if tokens:
                        self._insert_columns("tokens", columns, self._token_packer)
        except (sqlite3.Error, OSError) as error:
            raise RecordingError(_sentence(self.path, error)) from error
        self.steps += len(steps)
        self.tokens += tokens

    def _insert_columns(self, table: str, columns: Sequence[packing.Column], packer: Packer) -> None:
        self._insert(f"INSERT INTO {table}", len(columns), list(zip(*columns, strict=True)))
        self._insert("INSERT INTO packed (source, count, columns, numbers)", 4, packer.take(columns))

    def _insert(self, into: str, columns: int, rows: Sequence[packing.Row]) -> None:
        row = f"({', '.join('?' * columns)})"
        together = f"{into} VALUES {', '.join([row] * TOGETHER)}"
        whole = len(rows) // TOGETHER * TOGETHER
        for begin in range(0, whole, TOGETHER):
            self._connection.execute(together, tuple(chain.from_iterable(rows[begin : begin + TOGETHER])))
        self._connection.executemany(f"{into} VALUES {row}", rows[whole:])

    def note(self, metadata: Mapping[str, str]) -> None:
        """Write metadata down, replacing what has the same key."""
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO metadata VALUES (?, ?)", list(metadata.items())
                )
        except sqlite3.Error as error:
            raise RecordingError(_sentence(self.path, error)) from error

    def report(self) -> None:
        """Write a report beside the file: how far the session has come, and what its engine last said."""
        with contextlib.suppress(sqlite3.Error):
            metadata = dict(self._connection.execute("SELECT key, value FROM metadata").fetchall())
            write_report(self.path, self._connection, metadata)

    def close(self) -> None:
        """Let go of the file; it is one file then, with nothing beside it, where nobody else has it open."""
        try:
            with contextlib.suppress(sqlite3.OperationalError):  # somebody reads it: the next start tidies up
                self._connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise RecordingError(_sentence(self.path, error)) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        _written_here.discard(self.path.resolve())


def event_ns(event: Event, before_ns: int) -> int:
    """When an event was, wall clock; one that does not say so comes right behind the one before it.

    So does a note: when it was written, which may be much later, is nothing of the session.
    """
    if isinstance(event, GenerationStarted):
        return event.submitted_ns + event.tokenize_ns
    at_ns: int = before_ns if isinstance(event, NoteTaken) else getattr(event, "at_ns", before_ns)
    return at_ns


def _created(path: Path, metadata: Mapping[str, str], overwrite: bool) -> sqlite3.Connection:
    """A new file with empty tables. Nothing is overwritten unless that is allowed."""
    try:
        with contextlib.ExitStack() as undo:
            if overwrite:
                remove(path)
            path.touch(exist_ok=False)
            undo.callback(remove, path)
            connection = sqlite3.connect(path, check_same_thread=False)
            undo.callback(connection.close)
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.USER_VERSION}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                "PRAGMA synchronous = NORMAL"
            )  # a dead process loses nothing; a dead machine may
            with connection:
                for statement in (*schema.TABLES.values(), *schema.VIEWS):
                    connection.execute(statement)
                connection.executemany("INSERT INTO metadata VALUES (?, ?)", list(metadata.items()))
            undo.pop_all()
            return connection
    except FileExistsError:
        raise RecordingError(
            f"There is a file '{path}' already, and nothing is overwritten: choose another name, or add --force."
        ) from None
    except (sqlite3.Error, OSError) as error:
        raise RecordingError(_sentence(path, error)) from error


def remove(path: Path) -> None:
    """Remove a session file with what SQLite keeps beside it."""
    for each in (path, *beside(path)):
        each.unlink(missing_ok=True)


def beside(path: Path) -> tuple[Path, ...]:
    """The files that SQLite keeps beside an open database, or leaves there when its program dies."""
    return tuple(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))


def _sentence(path: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", None)
    full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if full:
        return f"The disk is full: recording to '{path}' stopped; make room, or delete old sessions."
    return f"Recording to '{path}' stopped ({error}): choose another place, or look whether the disk is well."
