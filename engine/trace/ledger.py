"""From time stamps to phases: the ledger that sums by construction.

A step is recorded as a row of time stamps `t[0] < t[1] < … < t[n]`. The first is its begin, the last its end; each
one between them begins or ends a span, and spans nest. So every gap `t[i+1] - t[i]` lies inside exactly one
innermost open span (or inside none, and is then unattributed). Giving each gap to the phase of that span makes a
ledger in which nothing is counted twice and nothing is lost: its sum is `t[n] - t[0]`, whatever was stamped.
"""

import sys
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from engine.trace.phases import PHASE_COUNT, ROLE_OF, Phase, Role, SpanName

Int64 = npt.NDArray[np.int64]

END = 0  # the code of a stamp that ends the innermost open span; code k > 0 begins span k - 1


def wall_ns(stamps: bytes) -> int:
    """Wall time of a step, from the first of its stamps to the last; both are int64 ns in native byte order."""
    first, last = memoryview(stamps)[:8], memoryview(stamps)[-8:]
    return int.from_bytes(last, sys.byteorder, signed=True) - int.from_bytes(
        first, sys.byteorder, signed=True
    )


@dataclass(frozen=True, slots=True)
class Span:
    """A span of one step, placed: begin relative to the step's begin, `depth` 0 for the outermost."""

    name: SpanName
    depth: int
    begin_ns: int
    duration_ns: int


@dataclass(frozen=True)
class Layout:
    """The order in which a step's spans begin and end. Steps of one kind and detail share a layout.

    `codes` belongs to the stamps between the first and the last: `codes[i]` says what stamp `i + 1` is.
    Raises ValueError when the codes do not nest or name an unknown span.
    """

    names: tuple[SpanName, ...]
    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        depth = 0
        for code in self.codes:
            if not 0 <= code <= len(self.names):
                raise ValueError(
                    f"a step's stamps name span {code - 1}, but only {len(self.names)} are known"
                )
            depth += -1 if code == END else 1
            if depth < 0:
                raise ValueError("a step's stamps end a span that was not begun")
        if depth:
            raise ValueError("a step's stamps leave a span open")

    @property
    def stamp_count(self) -> int:
        """Stamps of a step with this layout, its begin and end among them."""
        return len(self.codes) + 2

    @cached_property
    def gap_owners(self) -> tuple[SpanName | None, ...]:
        """For each gap between neighbouring stamps the innermost span that holds it."""
        owners: list[SpanName | None] = [None]
        open_spans: list[SpanName] = []
        for code in self.codes:
            if code == END:
                open_spans.pop()
            else:
                open_spans.append(self.names[code - 1])
            owners.append(open_spans[-1] if open_spans else None)
        return tuple(owners)

    @cached_property
    def phase_columns(self) -> Int64:
        """For each gap the column of the phase that its time belongs to."""
        return np.array([o.phase if o else Phase.UNATTRIBUTED for o in self.gap_owners], np.int64)

    @cached_property
    def layer_columns(self) -> Int64:
        """For each gap the column of its layer's role, -1 for none."""
        return np.array([_layer_column(o) for o in self.gap_owners], np.int64)

    @cached_property
    def _phase_sum(self) -> "_GroupSum":
        return _GroupSum(self.phase_columns, PHASE_COUNT)

    @cached_property
    def _layer_sum(self) -> "_GroupSum":
        return _GroupSum(self.layer_columns, self.layer_count * len(Role))

    @cached_property
    def layer_count(self) -> int:
        """Layers that this layout tells apart; 0 when it does not."""
        return 1 + max((n.layer for n in self.names), default=-1)

    def phases_ns(self, stamps: Int64) -> Int64:
        """Wall time of each phase: (steps, stamp_count) ns to (steps, PHASE_COUNT) ns. Rows sum to the wall time."""
        return self.phases_of_gaps(np.diff(stamps, axis=1))

    def layers_ns(self, stamps: Int64) -> Int64:
        """Wall time of each layer's attention, MLP and rest: (steps, stamp_count) ns to (steps, layers, 3) ns."""
        return self.layers_of_gaps(np.diff(stamps, axis=1))

    def phases_of_gaps(self, gaps: Int64) -> Int64:
        """The same from the times between neighbouring stamps: (steps, stamp_count - 1) ns to (steps, PHASE_COUNT)."""
        return self._phase_sum(gaps)

    def layers_of_gaps(self, gaps: Int64) -> Int64:
        """The same from the times between neighbouring stamps: (steps, stamp_count - 1) ns to (steps, layers, 3)."""
        return self._layer_sum(gaps).reshape(len(gaps), self.layer_count, len(Role))

    def spans(self, stamps: Int64) -> list[Span]:
        """The spans of one step (stamps of shape (stamp_count,)), in the order in which they begin."""
        spans: list[Span | None] = []
        open_spans: list[tuple[int, SpanName, int]] = []
        origin = int(stamps[0])
        for code, stamp in zip(self.codes, stamps[1:-1].tolist(), strict=True):
            if code != END:
                open_spans.append((len(spans), self.names[code - 1], stamp))
                spans.append(None)
                continue
            place, name, begin = open_spans.pop()
            spans[place] = Span(name, len(open_spans), begin - origin, stamp - begin)
        return [span for span in spans if span is not None]


def _layer_column(owner: SpanName | None) -> int:
    if owner is None or owner.layer < 0:
        return -1
    return owner.layer * len(Role) + ROLE_OF.get(owner.phase, Role.REST)


class _GroupSum:
    """Sums columns that belong to one group, exactly, in int64: (n, columns) to (n, groups). Group -1 is left out."""

    def __init__(self, keys: Int64, group_count: int) -> None:
        order = np.argsort(keys, kind="stable")
        self._order = order[keys[order] >= 0]
        sorted_keys = keys[self._order]
        self._present, self._begins = np.unique(sorted_keys, return_index=True)
        self._group_count = group_count

    def __call__(self, values: Int64) -> Int64:
        sums = np.zeros((len(values), self._group_count), np.int64)
        if len(self._present):
            sums[:, self._present] = np.add.reduceat(values[:, self._order], self._begins, axis=1)
        return sums
