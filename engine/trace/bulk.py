"""Many steps at once, as columns: what a trace takes from a file without an object a step.

A trace that was filled in bulk equals the fold of the same events, to the last number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.protocol import StepEnded, Token
from engine.trace import device_bulk
from engine.trace.ledger import Int64, Layout
from engine.trace.phases import StepKind

TOGETHER = 128  # steps whose gaps are summed at a time: they stay in the processor's cache
_KINDS = tuple(StepKind)


@dataclass(frozen=True, slots=True)
class StepColumns:
    """Steps in order, n of them.

    `fields`: by the name of a field of StepEnded, (n,): int64 (of its kind the place in StepKind), or an array of bytes
    objects. `begin_ns` (n,): the first stamp of each. `gaps`: the times between its stamps, ns, step after step;
    `gap_offsets` (n + 1,): where each step's begin. `layout_places` (n,): the place of each step's in `layouts`.
    `token_offsets` (n + 1,): where each step's tokens begin in `token_fields`, by the name of a field of Token (t,):
    int64, and in `token_text`.
    """

    fields: Mapping[str, npt.NDArray[Any]]
    begin_ns: Int64
    gaps: npt.NDArray[Any]
    gap_offsets: Int64
    layouts: Sequence[Layout]
    layout_places: Int64
    token_fields: Mapping[str, npt.NDArray[Any]]
    token_text: Sequence[str]
    token_offsets: Int64

    def __len__(self) -> int:
        return len(self.begin_ns)

    def part(self, first: int, last: int) -> "StepColumns":
        """The steps first ≤ i < last; arrays are views."""
        gaps = slice(self.gap_offsets[first], self.gap_offsets[last])
        tokens = slice(self.token_offsets[first], self.token_offsets[last])
        return StepColumns(
            {name: column[first:last] for name, column in self.fields.items()},
            self.begin_ns[first:last],
            self.gaps[gaps],
            self.gap_offsets[first : last + 1] - gaps.start,
            self.layouts,
            self.layout_places[first:last],
            {name: column[tokens] for name, column in self.token_fields.items()},
            self.token_text[tokens],
            self.token_offsets[first : last + 1] - tokens.start,
        )

    @property
    def wall_ns(self) -> Int64:
        """Wall time of each step, (n,)."""
        if not len(self):
            return np.zeros(0, np.int64)
        walls: Int64 = np.add.reduceat(self.gaps, self.gap_offsets[:-1], dtype=np.int64)
        return walls

    @property
    def token_count(self) -> Int64:
        """Tokens of each step, (n,)."""
        return np.diff(self.token_offsets)

    @property
    def has_device(self) -> npt.NDArray[np.bool_]:
        """Which steps have times of a device, (n,)."""
        return self.fields["device_stamps"].astype(np.bool_)

    @property
    def stamp_count(self) -> int:
        """Stamps of all steps."""
        return len(self.gaps) + len(self)

    def stamps_of(self, row: int) -> Int64:
        """The stamps of one of the steps, wall_ns: (stamps,)."""
        begin, end = int(self.gap_offsets[row]), int(self.gap_offsets[row + 1])
        stamps = np.empty(end - begin + 1, np.int64)
        stamps[0] = self.begin_ns[row]
        stamps[1:] = self.gaps[begin:end]
        return np.cumsum(stamps, out=stamps)

    def write_stamps(self, stamps: Int64) -> None:
        """Write the stamps of all steps, one after the other, wall_ns, into an array (stamp_count,)."""
        count = len(self)
        ends = self.begin_ns + self.wall_ns
        jumps = self.begin_ns.copy()  # from the last stamp of a step to the first of the next
        jumps[1:] -= ends[:-1]
        per_step = len(self.gaps) // count if count else 0
        if count and (np.diff(self.gap_offsets) == per_step).all():
            rows = stamps.reshape(count, per_step + 1)
            rows[:, 0] = jumps
            rows[:, 1:] = self.gaps.reshape(count, per_step)
        else:
            begins = self.gap_offsets[:-1] + np.arange(count)
            inner = np.ones(len(stamps), np.bool_)
            inner[begins] = False
            stamps[inner] = self.gaps
            stamps[begins] = jumps
        np.cumsum(stamps, out=stamps)

    def write_sums(self, phases: Int64, layers: Int64) -> None:
        """Write wall times, ns: of the phases (n, PHASE_COUNT), of layers' attention, MLP and rest (n, layers, 3).

        Arrays of zeros come in. Layers beyond those of `layers` are left out. By the device's clock where there is one:
        of these steps each stands alone.
        """
        for layout, rows in self._blocks(~self.has_device):
            gaps = self._gaps_of(rows, layout.stamp_count - 1)
            phases[rows] = layout.phases_of_gaps(gaps)
            known = min(layout.layer_count, layers.shape[1])
            if known:
                layers[rows, :known] = layout.layers_of_gaps(gaps)[:, :known]
        for layout, rows in self._blocks(self.has_device):
            gaps, times = self._gaps_of(rows, layout.stamp_count - 1), self._times_of(layout, rows)
            phases[rows], by_layer = device_bulk.ledgers(layout, self.begin_ns[rows], gaps, times)
            known = min(layout.layer_count, layers.shape[1])
            layers[rows, :known] = by_layer[:, :known]

    @property
    def has_entangled_device(self) -> npt.NDArray[np.bool_]:
        """Which steps have times of a device that do not stand alone, (n,)."""
        found = self.has_device
        if not found.any():
            return found
        ends = self.begin_ns + self.wall_ns
        for layout, rows in self._blocks(found.copy()):
            found[rows] = ~device_bulk.stand_alone(self._times_of(layout, rows), ends[rows])
        return found

    def _blocks(self, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[Layout, Int64]]:
        """Steps of those that are chosen, (n,), some of one layout at a time."""
        for place in np.unique(self.layout_places).tolist():
            own = np.flatnonzero(chosen & (self.layout_places == place))
            for begin in range(0, len(own), TOGETHER):
                yield self.layouts[place], own[begin : begin + TOGETHER]

    def _times_of(self, layout: Layout, rows: Int64) -> Int64:
        return device_bulk.device_times(self.fields["device_stamps"][rows].tolist(), layout)

    def _gaps_of(self, rows: Int64, count: int) -> Int64:
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == len(rows):  # neighbours: their gaps lie in a row
            block = self.gaps[self.gap_offsets[first] : self.gap_offsets[last + 1]]
        else:
            block = self.gaps[self.gap_offsets[rows][:, None] + np.arange(count)]
        gaps: Int64 = block.reshape(len(rows), count).astype(np.int64)
        return gaps

    def events(self) -> Iterator[StepEnded]:
        """The steps as events, each exactly as it was."""
        stamps = np.empty(self.stamp_count, np.int64)
        self.write_stamps(stamps)
        begins = (self.gap_offsets + np.arange(len(self) + 1)).tolist()
        columns = {name: column.tolist() for name, column in self.fields.items()}
        columns["kind"] = [_KINDS[kind] for kind in columns["kind"]]
        names = [field.name for field in fields(StepEnded) if field.name in columns]
        tokens = self._tokens()
        offsets = self.token_offsets.tolist()
        for place, values in enumerate(zip(*(columns[name] for name in names), strict=True)):
            yield StepEnded(
                **dict(zip(names, values, strict=True)),
                stamps=stamps[begins[place] : begins[place + 1]].tobytes(),
                tokens=tuple(tokens[offsets[place] : offsets[place + 1]]),
            )

    def _tokens(self) -> list[Token]:
        names = [*self.token_fields, "text"]
        columns = [*(column.tolist() for column in self.token_fields.values()), self.token_text]
        return [Token(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class Waited:
    """Where a gap between two arrivals stands: the last arrival, None at first, and what was held since then, ns."""

    last_arrival_ns: int | None
    held_ns: int


def gaps_between_arrivals(steps: StepColumns, begun: Waited, nothing: int) -> Int64:
    """The gap that each step's last arrival ends, (n,) ns, `nothing` where it ends none.

    As METRICS has it: a gap between distinct arrivals, without the time held, to which that of captured steps belongs.
    A step that read one token on its way and then its own ends the gap between these two. No sequence may have joined.
    """
    found = np.full(len(steps), nothing, np.int64)
    rows, arrivals = _arriving(steps), steps.token_fields["arrival_ns"]
    if not len(rows):
        return found
    held = begun.held_ns + np.cumsum(_held_ns(steps))
    last = arrivals[steps.token_offsets[rows + 1] - 1]
    found[rows[1:]] = np.diff(last) - np.diff(held[rows])
    if begun.last_arrival_ns is not None:
        found[rows[0]] = last[0] - begun.last_arrival_ns - held[rows[0]]
    _within_steps(found, arrivals, steps, rows)
    return found


def waited_after(steps: StepColumns, begun: Waited) -> Waited:
    """Where a gap between two arrivals stands after these steps, `begun` being where it stood before them."""
    rows, held_ns = _arriving(steps), _held_ns(steps)
    if not len(rows):
        return Waited(begun.last_arrival_ns, begun.held_ns + int(held_ns.sum()))
    last = int(rows[-1])
    arrival_ns = steps.token_fields["arrival_ns"][steps.token_offsets[last + 1] - 1]
    return Waited(int(arrival_ns), int(held_ns[last + 1 :].sum()))


def _arriving(steps: StepColumns) -> Int64:
    """The places of the steps whose tokens end gaps."""
    return np.flatnonzero((steps.token_count > 0) & ~steps.fields["captured"])


def _held_ns(steps: StepColumns) -> Int64:
    """What was held before each step, (n,); all of a captured one belongs to it."""
    held_ns: Int64 = steps.fields["held_ns"]
    captured = steps.fields["captured"]
    return held_ns + np.where(captured, steps.wall_ns, 0) if captured.any() else held_ns


def _within_steps(found: Int64, arrivals: Int64, steps: StepColumns, rows: Int64) -> None:
    """Of steps whose tokens did not all arrive together, the gap between their last two arrivals."""
    many = rows[steps.token_count[rows] > 1]
    for row in many.tolist():
        own = arrivals[steps.token_offsets[row] : steps.token_offsets[row + 1]]
        earlier = own[own < own[-1]]
        if len(earlier):
            found[row] = own[-1] - earlier[-1]
