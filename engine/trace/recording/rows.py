"""What is handed from the reading of a file to its checking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.trace.ledger import Int64

NO_MEMBER = -1  # in place of an enumeration's member, for a value that it does not have
MOST_NOTICES = 12


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a table, n of them: numbers that belong to none of its fields, its fields as arrays (n,), and a list."""

    numbers: Mapping[str, Int64]
    fields: Mapping[str, npt.NDArray[Any]]
    last: Sequence[Any]

    def __len__(self) -> int:
        return len(self.last)

    def where(self, kept: npt.NDArray[np.bool_]) -> "Rows":
        """The rows for which `kept`, (n,), holds."""
        return self if kept.all() else self.at(np.flatnonzero(kept))

    def at(self, places: Int64) -> "Rows":
        """The rows at `places`, in that order."""
        return Rows(
            {name: column[places] for name, column in self.numbers.items()},
            {name: column[places] for name, column in self.fields.items()},
            [self.last[place] for place in places.tolist()],
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
