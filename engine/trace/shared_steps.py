"""The first steps of a trace once more, without adding their times up again: a recording is looked at anywhere."""

from collections.abc import Callable
from typing import Any

from engine.trace.bulk import StepColumns
from engine.trace.ledger import Int64
from engine.trace.store import Steps


class SharedSteps(Steps):
    """Takes the steps that another trace has, in the order in which that has them: rows are uncovered, not written.

    Steps behind the first `count` are added as to any other, which copies what was shared before.
    """

    def __init__(self, whole: Steps, count: int) -> None:
        super().__init__(whole.layers_ns.shape[1])
        self._source = whole.source
        self._columns = {name: column.covered(count) for name, column in whole._columns.items()}
        self._left = count

    @property
    def source(self) -> Steps:
        """The steps that these are the beginning of, also those that are added."""
        return self._source

    def append(self, **row: Any) -> None:
        """Add one step."""
        if self._left:
            self._uncover(1)
        else:
            super().append(**row)

    def extend(self, steps: StepColumns, others: Callable[[], dict[str, Int64]]) -> None:
        """Add several steps: all of them are shared, and `others` are not asked for; or none is."""
        if self._left:
            self._uncover(len(steps))
            self.stamps.extend(steps)
        else:
            super().extend(steps, others)

    def reserve(self, steps: int) -> None:
        """Make room for so many steps more, unless there is: what is shared has its room."""
        if not self._left:
            super().reserve(steps)

    def _uncover(self, steps: int) -> None:
        self._left -= steps
        for column in self._columns.values():
            column.uncover(steps)
