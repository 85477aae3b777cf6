"""From a session file to rows: what the tables hold, its types checked, nothing of it believed yet."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.collecting import uncollected
from engine.protocol import Event, StepEnded, Token
from engine.trace.recording import schema
from engine.trace.recording.checking import checked
from engine.trace.recording.codec import CodecError, from_json
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.opening import opened
from engine.trace.recording.recorded import RecordedSession
from engine.trace.recording.rows import NO_MEMBER, Blobs, Last, Notices, Rows, Texts
from engine.trace.store import Trace

ROWS_TOGETHER = 512  # more of Python's objects at a time do not stay in the processor's cache
MOST_STEPS = 20_000_000  # or tokens
MOST_OF_A_KIND = 100_000  # events, but for samples, and for what every step may have:
OFTEN = {"MemorySampled", "ObserverReport", "SequencesEncoded", "BeamsRanked"}
MOST_OFTEN = 5_000_000
MOST_METADATA, LONGEST_METADATA = 200, 10_000  # entries, characters


def read_trace(path: Path | str) -> Trace:
    """The trace that a session file holds. Raises RecordingError."""
    return read_session(path).trace()


def read_session(path: Path | str) -> RecordedSession:
    """All that a session file holds. Raises RecordingError with one sentence for a file that is none, or damaged."""
    path = Path(path)
    notices = Notices()
    with opened(path) as connection, uncollected():
        _check_counts(path, connection)
        metadata = _metadata(connection)
        events = _events(connection, notices)
        steps = _rows(connection, STEPS, _BlobsRead(_bytes_of(connection, STEPS)), notices)
        tokens = _rows(connection, TOKENS, _TextsRead(), notices)
        return checked(path, metadata, events, steps, tokens, notices)


def _bytes_of(connection: sqlite3.Connection, table: "_Table") -> int:
    """How many bytes the last column of a table takes."""
    (count,) = connection.execute(f"SELECT total(length({table.last})) FROM {table.name}").fetchone()
    return int(count)


class _BlobsRead:
    """A column of blobs, filled a chunk at a time: each byte is copied once, and no object is kept a value."""

    def __init__(self, room: int) -> None:
        self._room, self._end = np.empty(room, np.uint8), 0
        self._lengths: list[npt.NDArray[Any]] = []

    def take(self, values: Sequence[bytes]) -> None:
        """Add a chunk of it."""
        data = np.frombuffer(b"".join(values), np.uint8)
        self._room[self._end : self._end + len(data)] = data
        self._end += len(data)
        self._lengths.append(np.fromiter(map(len, values), np.int64, len(values)))

    def made(self) -> Blobs:
        """All of it."""
        lengths = np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int64)
        return Blobs(self._room[: self._end], np.cumsum(lengths))


class _TextsRead:
    """A column of texts."""

    def __init__(self) -> None:
        self._texts = Texts()

    def take(self, values: Sequence[str]) -> None:
        """Add a chunk of it."""
        self._texts += values

    def made(self) -> Texts:
        """All of it."""
        return self._texts


def read_metadata(path: Path | str) -> dict[str, str]:
    """What a session file says of itself, without a look at its events. Raises RecordingError."""
    with opened(Path(path), whole=False) as connection:
        return _metadata(connection)


def _check_counts(path: Path, connection: sqlite3.Connection) -> None:
    for table in ("steps", "tokens"):
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        if count > MOST_STEPS:
            raise RecordingError(
                f"'{path.name}' has {count:,} {table}, and up to {MOST_STEPS:,} can be shown."
            )
    for kind, count in connection.execute("SELECT kind, count(*) FROM events GROUP BY kind"):
        if count > (MOST_OFTEN if kind in OFTEN else MOST_OF_A_KIND):
            raise RecordingError(
                f"'{path.name}' has {count:,} events of one kind ({str(kind)[:40]}), more than a session can have:"
                " it was not written by Cyclograph, and is not opened."
            )


def _metadata(connection: sqlite3.Connection) -> dict[str, str]:
    rows = connection.execute(
        "SELECT substr(key, 1, ?1), substr(value, 1, ?1) FROM metadata LIMIT ?2",
        (LONGEST_METADATA, MOST_METADATA),
    )
    return {str(key): str(value) for key, value in rows}


def _events(connection: sqlite3.Connection, notices: Notices) -> list[tuple[int, Event]]:
    """The events that are kept as JSON, each with the number of the step that it comes before."""
    found: list[tuple[int, Event]] = []
    unknown: set[str] = set()
    for step, kind, body in connection.execute("SELECT step, kind, body FROM events ORDER BY event"):
        made = schema.KINDS.get(kind)
        if made is None:
            notices.add(f"events of a kind that this version does not know ({str(kind)[:40]})")
            continue
        try:
            found.append((step, from_json(made, body, unknown)))
        except (CodecError, ValueError, TypeError) as error:
            notices.add(f"events that make no sense ({str(error)[:120]})")
    for name in sorted(unknown)[:20]:
        notices.add(f"fields that this version does not know ({name})")
    return found


class _Reader(Protocol[Last]):
    """What gathers the values of a column."""

    def take(self, values: Sequence[Any]) -> None:
        """Add a chunk of it."""

    def made(self) -> Last:
        """All of it."""


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table is read: `kind` is the dataclass whose `fields` its columns hold, by name; `order`: its key.

    `before`: numbers that no field holds. `last`: a column that becomes no array.
    """

    name: str
    kind: Any
    fields: Mapping[str, tuple[str, str, Any]]
    order: str
    before: tuple[str, ...]
    last: str


STEPS = _Table("steps", StepEnded, schema.STEP_FIELDS, "step", ("step", "begin_ns"), "gaps")
TOKENS = _Table("tokens", Token, schema.TOKEN_FIELDS, "token", ("step",), "text")


def _rows(connection: sqlite3.Connection, table: _Table, last: _Reader[Last], notices: Notices) -> Rows[Last]:
    """The rows of a table, in order. A field that an older file lacks has its default."""
    present = {row[1] for row in connection.execute(f"PRAGMA table_xinfo({table.name})")}
    known = {*table.fields, *table.before, table.last, table.order, *schema.FOR_PEOPLE}
    for column in sorted(present - known):
        notices.add(f"a column that this version does not know ({table.name}.{column[:40]})")
    wanted = [name for name in table.fields if name in present and name != table.last]
    chunks: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in (*table.before, *wanted)}
    cursor = connection.execute(
        f"SELECT {', '.join((*chunks, table.last))} FROM {table.name} ORDER BY {table.order}"
    )
    while rows := cursor.fetchmany(ROWS_TOGETHER):
        *columns, values = zip(*rows, strict=True)
        for name, column in zip(chunks, columns, strict=True):
            chunks[name].append(_array(column, table.fields.get(name), name))
        last.take(values)
    arrays = {
        name: np.concatenate(parts) if parts else _array((), table.fields.get(name), name)
        for name, parts in chunks.items()
    }
    before = {name: arrays.pop(name) for name in table.before}
    found = {table.fields[name][0]: array for name, array in arrays.items()}
    made = last.made()
    for name, facts in table.fields.items():
        if name not in present:
            found[facts[0]] = _default(table, name, len(made))
    return Rows(before, found, made)


def _array(values: Sequence[Any], facts: tuple[str, str, Any] | None, name: str) -> npt.NDArray[Any]:
    """A column as an array: numbers, or an object a value for bytes; the values of an enumeration as their places.

    Raises RecordingError for values of another type.
    """
    kind = facts[2] if facts else int
    if isinstance(kind, type) and issubclass(kind, Enum):
        places = {member.value: place for place, member in enumerate(kind)}
        return np.array([places.get(value, NO_MEMBER) for value in values], np.int64)
    if kind is bytes:
        return _objects(values)
    array = np.array(values) if values else np.zeros(0, np.float64 if kind is float else np.int64)
    if array.dtype.kind != ("f" if kind is float else "i"):
        raise RecordingError(f"The column '{name}' holds what is no number of its kind: the file is damaged.")
    return array.astype(np.bool_) if kind is bool else array


def _objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _default(table: _Table, column: str, count: int) -> npt.NDArray[Any]:
    field = next(each for each in fields(table.kind) if each.name == table.fields[column][0])
    if field.default is MISSING:
        raise RecordingError(f"The file lacks the column '{table.name}.{column}': it is damaged.")
    default = int(field.default) if isinstance(field.default, bool) else field.default
    return _array([default] * count, table.fields[column], column)
