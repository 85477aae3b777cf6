"""What is handed from the reading of a file to its checking."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from engine.trace.ledger import Int64

NO_MEMBER = -1  # in place of an enumeration's member, for a value that it does not have
MOST_NOTICES = 12


@dataclass(frozen=True, slots=True)
class Blobs:
    """Values of a column of blobs, n of them, one behind the other: `data` (bytes,), `ends` (n,) in it."""

    data: npt.NDArray[np.uint8]
    ends: Int64

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> Int64:
        """Bytes of each, (n,)."""
        return np.diff(self.ends, prepend=0)

    def __getitem__(self, row: int) -> npt.NDArray[np.uint8]:
        """The bytes of one, a view."""
        return self.data[int(self.ends[row - 1]) if row else 0 : int(self.ends[row])]

    def at(self, places: Int64) -> "Blobs":
        """Those at `places`, in that order."""
        parts = [self[place] for place in places.tolist()]
        data = np.concatenate(parts) if parts else self.data[:0]
        return Blobs(data, np.cumsum(self.lengths[places]))


class Texts(list[str]):
    """Values of a column of texts."""

    def at(self, places: Int64) -> "Texts":
        """Those at `places`, in that order."""
        return Texts(self[place] for place in places.tolist())


Last = TypeVar("Last", Blobs, Texts)


@dataclass(frozen=True, slots=True)
class Rows(Generic[Last]):
    """Rows of a table, n of them: numbers that belong to none of its fields, its fields as arrays (n,), and the column
    that is no array.
    """

    numbers: Mapping[str, Int64]
    fields: Mapping[str, npt.NDArray[Any]]
    last: Last

    def __len__(self) -> int:
        return len(self.last)

    def where(self, kept: npt.NDArray[np.bool_]) -> "Rows[Last]":
        """The rows for which `kept`, (n,), holds."""
        return self if kept.all() else self.at(np.flatnonzero(kept))

    def at(self, places: Int64) -> "Rows[Last]":
        """The rows at `places`, in that order."""
        return Rows(
            {name: column[places] for name, column in self.numbers.items()},
            {name: column[places] for name, column in self.fields.items()},
            self.last.at(places),
        )


class Notices:
    """What was left out, or put right, and how often."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, what: str, count: int = 1) -> None:
        """Note it, `count` times."""
        if count and (what in self._counts or len(self._counts) < MOST_NOTICES):
            self._counts[what] = self._counts.get(what, 0) + int(count)

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence each."""
        return tuple(f"Left out: {count:,} × {what}." for what, count in self._counts.items())
