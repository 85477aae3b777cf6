"""The tables of steps and of tokens as arrays: their types checked, nothing of them believed yet."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from engine.protocol import StepEnded, Token
from engine.trace.ledger import Int64
from engine.trace.recording import schema
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.packed import unpacked
from engine.trace.recording.rows import NO_MEMBER, Blobs, Last, Notices, Rows, Texts

MOST_ROWS = 20_000_000
ROWS_TOGETHER = 512  # more of Python's objects at a time do not stay in the processor's cache
Arrays = dict[str, npt.NDArray[Any]]


def read_steps(path: Path, connection: sqlite3.Connection, notices: Notices) -> Rows[Blobs]:
    """The table `steps`, in order. Raises RecordingError."""
    return _Reading(path, connection, STEPS).rows(_BlobsRead(path, connection), notices)


def read_tokens(path: Path, connection: sqlite3.Connection, notices: Notices) -> Rows[Texts]:
    """The table `tokens`, in order. Raises RecordingError."""
    return _Reading(path, connection, TOKENS).rows(_TextsRead(), notices)


# ---------------------------------------------------------------- the column that becomes no array


class _Gathered(ABC, Generic[Last]):
    """The values of a column, gathered a chunk at a time."""

    @abstractmethod
    def take(self, values: Sequence[Any]) -> None:
        """Add a chunk."""

    @abstractmethod
    def made(self) -> Last:
        """All of it."""


class _BlobsRead(_Gathered[Blobs]):
    """A column of blobs: each byte is copied once, and no object is kept a value."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        ((pages,),) = connection.execute("PRAGMA page_count")
        ((page_bytes,),) = connection.execute("PRAGMA page_size")
        self._path = path
        self._room, self._end = np.empty(pages * page_bytes, np.uint8), 0  # what is not used takes no memory
        self._lengths: list[Int64] = []

    def take(self, values: Sequence[bytes]) -> None:
        """Add a chunk."""
        try:
            data = np.frombuffer(b"".join(values), np.uint8)
        except TypeError as error:
            raise RecordingError("The column 'gaps' holds what are no times: the file is damaged.") from error
        if self._end + len(data) > len(self._room):
            raise RecordingError(f"'{self._path.name}' is damaged (values share pages) and cannot be opened.")
        self._room[self._end : self._end + len(data)] = data
        self._end += len(data)
        self._lengths.append(np.fromiter(map(len, values), np.int64, len(values)))

    def made(self) -> Blobs:
        """All of it."""
        lengths = np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int64)
        return Blobs(self._room[: self._end], np.cumsum(lengths))


class _TextsRead(_Gathered[Texts]):
    """A column of texts."""

    def __init__(self) -> None:
        self._texts = Texts()

    def take(self, values: Sequence[str]) -> None:
        """Add a chunk."""
        self._texts += values

    def made(self) -> Texts:
        """All of it."""
        return self._texts


# ---------------------------------------------------------------- rows


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
TOKENS = _Table("tokens", Token, schema.TOKEN_FIELDS, "token", ("token", "step"), "text")


class _Reading:
    """One table of a file on its way to arrays."""

    def __init__(self, path: Path, connection: sqlite3.Connection, table: _Table) -> None:
        self._path, self._connection = path, connection
        self._table = table

    def rows(self, last: _Gathered[Last], notices: Notices) -> Rows[Last]:
        """The rows of the table, in order. A field that an older file lacks has its default."""
        table: _Table = self._table
        present = {row[1] for row in self._connection.execute(f"PRAGMA table_xinfo({table.name})")}
        known = {*table.fields, *table.before, table.last, *schema.FOR_PEOPLE}
        for column in sorted(present - known):
            notices.add(f"a column that this version does not know ({table.name}.{column[:40]})")
        wanted = [name for name in (*table.before, *table.fields) if name in present and name != table.last]
        apart: list[str] = [name for name in wanted if name in schema.NO_NUMBERS]
        arrays = self._selected([table.order, *apart], last=last)
        order = arrays[table.order]
        arrays |= self._numbers([name for name in wanted if name not in apart], order)
        before = {name: arrays.pop(name) for name in table.before}
        found = {table.fields[name][0]: array for name, array in arrays.items()}
        for name, facts in table.fields.items():
            if name not in present:
                found[facts[0]] = _default(table, name, len(order))
        return Rows(before, found, last.made())

    def _numbers(self, names: Sequence[str], order: Int64) -> Arrays:
        """Columns of numbers: of the first rows as they were packed, where they were; of all others one by one."""
        packed = self._packed(names, order)
        count = len(packed[self._table.order])
        if count == len(order):
            return packed
        since = f"WHERE {self._table.order} > {order[count - 1]}" if count else ""
        rest = self._selected(names, since)
        return {name: np.concatenate([packed[name], rest[name]]) for name in names}

    def _packed(self, names: Sequence[str], order: Int64) -> Arrays:
        """What is packed of the first rows; nothing where it does not belong to the rows that are there."""
        nothing = {name: self._array((), name) for name in names}
        if not self._connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'packed'").fetchone():
            return nothing
        blocks = self._connection.execute(
            "SELECT count, columns, numbers FROM packed WHERE source = ? ORDER BY block", (self._table.name,)
        )
        try:
            found = unpacked(blocks, names, len(order))
        except ValueError:
            return nothing
        packed_order = found[self._table.order]
        if (packed_order != order[: len(packed_order)]).any():
            return nothing
        return {name: found[name].astype(nothing[name].dtype, copy=False) for name in names}

    def _selected(self, names: Sequence[str], where: str = "", last: _Gathered[Any] | None = None) -> Arrays:
        """Columns of the rows as arrays, in order; `last` is given the one that becomes none."""
        table: _Table = self._table
        columns = [*names, table.last] if last else names
        parts: dict[str, list[npt.NDArray[Any]]] = {name: [self._array((), name)] for name in names}
        cursor = self._connection.execute(
            f"SELECT {', '.join(columns)} FROM {table.name} {where} ORDER BY {table.order} LIMIT {MOST_ROWS + 1}"
        )
        count = 0
        while rows := cursor.fetchmany(ROWS_TOGETHER):
            count += len(rows)
            values = list(zip(*rows, strict=True))
            if last:
                last.take(values.pop())
            for name, column in zip(names, values, strict=True):
                parts[name].append(self._array(column, name))
        if count > MOST_ROWS:
            raise RecordingError(
                f"'{self._path.name}' has more {table.name} than the {MOST_ROWS:,} that can be shown."
            )
        return {name: np.concatenate(part) for name, part in parts.items()}

    def _array(self, values: Sequence[Any], name: str) -> npt.NDArray[Any]:
        return _array(values, self._table.fields.get(name), name)


# ---------------------------------------------------------------- columns


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
