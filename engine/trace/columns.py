"""Columns: append-only arrays that grow by doubling and are read as views."""

from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt


class Column:
    """An append-only array of rows: (count, *shape), doubling its room. `values` is a view, never a copy."""

    def __init__(self, dtype: npt.DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self._room = np.zeros((256, *shape), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def values(self) -> npt.NDArray[Any]:
        """All rows so far."""
        return self._room[: self._count]

    def append(self, row: Any) -> None:
        """Add one row."""
        if self._count == len(self._room):
            self._grow(self._count + 1)
        self._room[self._count] = row
        self._count += 1

    def extend(self, rows: npt.NDArray[Any]) -> None:
        """Add several rows."""
        end = self._count + len(rows)
        if end > len(self._room):
            self._grow(end)
        self._room[self._count : end] = rows
        self._count = end

    def claim(self, rows: int) -> npt.NDArray[Any]:
        """Add several rows of zeros; returns them, to be written."""
        self.reserve(rows)
        self._count += rows
        return self._room[self._count - rows : self._count]

    def reserve(self, rows: int) -> None:
        """Make room for so many rows more."""
        if self._count + rows > len(self._room):
            self._grow(self._count + rows)

    def covered(self, count: int) -> "Column":
        """An empty column that has the first `count` rows of this one in store: `uncover` adds them, uncopied."""
        made = copy(self)
        made._room, made._count = self._room[:count], 0
        return made

    def uncover(self, rows: int) -> None:
        """Add so many rows of those in store."""
        self._count += rows

    def _grow(self, needed: int) -> None:
        room = np.zeros((max(needed, 2 * len(self._room)), *self._room.shape[1:]), self._room.dtype)
        room[: self._count] = self._room[: self._count]
        self._room = room
