"""From a session file to rows: what the tables hold, its types checked, nothing of it believed yet."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.protocol import Event, StepEnded, Token
from engine.trace.recording import schema
from engine.trace.recording.checking import checked
from engine.trace.recording.codec import CodecError, from_json
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.opening import opened
from engine.trace.recording.recorded import RecordedSession
from engine.trace.recording.rows import NO_MEMBER, Notices, Rows
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
    with opened(path) as connection:
        _check_counts(path, connection)
        metadata = metadata_of(connection)
        events = _events(connection, notices)
        steps, tokens = _rows(connection, STEPS, notices), _rows(connection, TOKENS, notices)
    return checked(path, metadata, events, steps, tokens, notices)


def read_metadata(path: Path | str) -> dict[str, str]:
    """What a session file says of itself, without a look at its events. Raises RecordingError."""
    with opened(Path(path), whole=False) as connection:
        return metadata_of(connection)


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


def metadata_of(connection: sqlite3.Connection) -> dict[str, str]:
    """The lines of metadata, so many and so long as are read."""
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


@dataclass(frozen=True, slots=True)
class _Table:
    """How a table is read: `kind` is the dataclass whose `fields` its columns hold, by name; `order`: its key.

    `before`: numbers that no field holds. `last`: a column that becomes a list.
    """

    name: str
    kind: Any
    fields: Mapping[str, tuple[str, str, Any]]
    order: str
    before: tuple[str, ...]
    last: str


STEPS = _Table("steps", StepEnded, schema.STEP_FIELDS, "step", ("step", "begin_ns"), "gaps")
TOKENS = _Table("tokens", Token, schema.TOKEN_FIELDS, "token", ("step",), "text")


def _rows(connection: sqlite3.Connection, table: _Table, notices: Notices) -> Rows:
    """The rows of a table, in order. A field that an older file lacks has its default."""
    present = {row[1] for row in connection.execute(f"PRAGMA table_xinfo({table.name})")}
    known = {*table.fields, *table.before, table.last, table.order, *schema.FOR_PEOPLE}
    for column in sorted(present - known):
        notices.add(f"a column that this version does not know ({table.name}.{column[:40]})")
    wanted = [name for name in table.fields if name in present and name != table.last]
    chunks: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in (*table.before, *wanted)}
    last: list[Any] = []
    cursor = connection.execute(
        f"SELECT {', '.join((*chunks, table.last))} FROM {table.name} ORDER BY {table.order}"
    )
    while rows := cursor.fetchmany(ROWS_TOGETHER):
        *columns, values = zip(*rows, strict=True)
        for name, column in zip(chunks, columns, strict=True):
            chunks[name].append(_array(column, table.fields.get(name), name))
        last += values
    arrays = {
        name: np.concatenate(parts) if parts else _array((), table.fields.get(name), name)
        for name, parts in chunks.items()
    }
    before = {name: arrays.pop(name) for name in table.before}
    found = {table.fields[name][0]: array for name, array in arrays.items()}
    for name, facts in table.fields.items():
        if name not in present:
            found[facts[0]] = _default(table, name, len(last))
    return Rows(before, found, last)


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
