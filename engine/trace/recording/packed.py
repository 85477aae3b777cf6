"""Numbers of the tables `steps` and `tokens` once more, a thousand rows a blob: read without an object a number.

Where they do not fit the rows that are there, the rows themselves are read, which takes longer: so are those of a file
without such blobs, and the last ones of any file. Whoever changes values of rows has to empty this table.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.trace.ledger import Int64
from engine.trace.recording import packing, schema

AT_LEAST = 1024  # rows a blob: fewer would take longer to read than their rows
LEVEL = 1  # of compression: half as many bytes as none, in a tenth of the time of a row's insertion
_WORD = np.dtype("<i8")
Convert = Callable[[Sequence[Any]], Int64]


def pack(columns: Int64) -> bytes:
    """Columns of whole numbers, (columns, rows), as differences of neighbouring rows, byte by byte, compressed."""
    changes = np.diff(columns, axis=1, prepend=0).astype(_WORD, copy=False)
    places = changes.view(np.uint8).reshape(*columns.shape, _WORD.itemsize).transpose(0, 2, 1)
    return zlib.compress(places.tobytes(), LEVEL)


def unpack(blob: bytes, columns: int, rows: int) -> Int64:
    """The columns again, (columns, rows). Raises ValueError for what does not hold so many numbers."""
    size = columns * rows * _WORD.itemsize
    try:
        raw = zlib.decompressobj().decompress(blob, size + 1)
    except zlib.error as error:
        raise ValueError(f"packed numbers cannot be read: {error}") from error
    if len(raw) != size or not size:
        raise ValueError(f"packed numbers take {len(raw)} bytes, not {size}")
    places = np.frombuffer(raw, np.uint8).reshape(columns, _WORD.itemsize, rows).transpose(0, 2, 1)
    changes = np.ascontiguousarray(places).view(_WORD).reshape(columns, rows)
    return np.cumsum(changes, axis=1, dtype=np.int64)


class Packer:
    """Packs the rows of one table as they are written."""

    def __init__(self, table: str, columns: Sequence[str], kinds: dict[str, tuple[str, str, Any]]) -> None:
        """`columns`: all of the table's, in the order of its rows; those of numbers are packed. `kinds`: see schema."""
        self._table = table
        self._taken = {
            name: (place, _converter(kinds[name][2] if name in kinds else int))
            for place, name in enumerate(columns)
            if name not in schema.FOR_PEOPLE and name not in schema.NO_NUMBERS
        }
        self._waiting: list[Int64] = []

    def take(self, columns: Sequence[packing.Column]) -> list[packing.Row]:
        """Rows of `packed` that these rows, all of their columns (at least one row), and those before them make."""
        self._waiting.append(np.stack([convert(columns[place]) for place, convert in self._taken.values()]))
        count = sum(block.shape[1] for block in self._waiting)
        if count < AT_LEAST:
            return []
        numbers = np.concatenate(self._waiting, axis=1)
        self._waiting.clear()
        return [(self._table, count, ",".join(self._taken), pack(numbers))]


def _converter(kind: Any) -> Convert:
    """What makes an array of a column's values: numbers as they are, a member of an enumeration as its place."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        places = {member.value: place for place, member in enumerate(kind)}
        return lambda values: np.fromiter(map(places.__getitem__, values), np.int64, len(values))
    return lambda values: np.fromiter(values, np.int64, len(values))


def unpacked(
    blocks: Iterable[tuple[int, str, bytes]], wanted: Sequence[str], most: int
) -> dict[str, npt.NDArray[np.int64]]:
    """The first rows of a table by column, (n ≤ most,) each; empty where there is nothing to be had.

    Raises ValueError where they are not what a session has.
    """
    parts: dict[str, list[Int64]] = {name: [] for name in wanted}
    count = 0
    for rows, columns, blob in blocks:
        names = columns.split(",")
        count += rows
        if rows < 1 or count > most or not set(wanted) <= set(names):
            raise ValueError("packed numbers do not belong to these rows")
        found = unpack(blob, len(names), rows)
        for name in wanted:
            parts[name].append(found[names.index(name)])
    return {name: np.concatenate(part) if part else np.zeros(0, np.int64) for name, part in parts.items()}
