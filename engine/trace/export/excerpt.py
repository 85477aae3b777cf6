"""What of a trace is to be written: all steps that there are now, or some of them, with what belongs to them."""

import re
from dataclasses import dataclass, replace

from engine.protocol import (
    BeamsRanked,
    DisplayReport,
    MemorySampled,
    ObserverReport,
    PartCompared,
    RecordingReport,
    SequencesEncoded,
)
from engine.trace.export.refused import ExportRefused
from engine.trace.export.samples import Sampled, sampled
from engine.trace.metrics import Measured, summary
from engine.trace.store import (
    AlternationRecord,
    GapMark,
    GenerationRecord,
    JoinMark,
    Mark,
    NoteMark,
    Trace,
    WarningMark,
)

_RANGE = re.compile(r"(\d{0,18}):(\d{0,18})")


#: What tables of marks hold.
PlacedMark = Mark | JoinMark | GapMark | NoteMark | WarningMark
#: What the instrument says of itself.
Observed = ObserverReport | DisplayReport | RecordingReport | PartCompared


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Steps of a trace, rows `rows` of `Steps`, and what belongs to them, as it was when the excerpt was made.

    A trace that still grows can be written from another thread than the one that appends: rows that are there stay as
    they are. `of`: how many steps the trace had then. `generations`: those that have some of the steps (or, of a whole
    trace, none yet), with all of their steps so far. `marks`, `joins`, `gaps`, `warnings`: those before one of the
    steps (of a whole trace also behind the last). `notes`: those on the steps. `captures`: the rows of steps that were
    captured in depth. `sampled`: what sensors said from the first step's begin to the last one's end (of a whole trace
    all).
    """

    trace: Trace
    rows: range
    of: int
    generations: tuple[GenerationRecord, ...]
    marks: tuple[Mark, ...]
    joins: tuple[JoinMark, ...]
    gaps: tuple[GapMark, ...]
    warnings: tuple[WarningMark, ...]
    captures: tuple[int, ...]
    sampled: tuple[Sampled, ...]
    notes: tuple[NoteMark, ...]
    alternations: tuple[AlternationRecord, ...]
    results: tuple[SequencesEncoded, ...]
    beams: tuple[BeamsRanked, ...]
    memory: tuple[MemorySampled, ...]
    observer: tuple[Observed, ...]

    @property
    def tokens(self) -> range:
        """The rows of `Tokens` that the steps yielded."""
        if not len(self.rows):
            return range(0)
        trace = self.trace
        return range(trace.tokens_of(self.rows[0]).start, trace.tokens_of(self.rows[-1]).stop)

    @property
    def measured(self) -> dict[str, Measured]:
        """Every metric, over the steps of the excerpt: a generation that is cut has no latencies of its own."""
        return summary(self.trace, self.generations, counted=self.rows)

    @property
    def all_marks(self) -> list[PlacedMark]:
        """Changes, joins, gaps, notes and warnings in the order in which they lie on the trace."""
        marks: list[PlacedMark] = [*self.marks, *self.joins, *self.gaps, *self.notes, *self.warnings]
        return sorted(marks, key=lambda mark: mark.step)

    @property
    def is_whole(self) -> bool:
        """Whether these are all steps."""
        return len(self.rows) == self.of

    @property
    def words(self) -> str:
        """Which steps these are: "all 128 steps", "steps 10 to 20 of 128"."""
        if self.is_whole:
            return f"all {self.of:,} steps" if self.of > 1 else "its one step"
        return f"steps {self.rows.start:,} to {self.rows.stop - 1:,} of {self.of:,}"


def excerpt_of(trace: Trace, first: int = 0, last: int | None = None) -> Excerpt:
    """The steps first ≤ step ≤ last of a trace; by default all of them. Call it on the thread that appends.

    Raises ExportRefused when there is nothing measured, or no such step.
    """
    count = len(trace.steps)
    if not count:
        raise ExportRefused("Nothing has been measured, so there is nothing to export: run a prompt first.")
    if first < 0 or (last is not None and last < first):
        raise ExportRefused(f"No step lies from {first:,} to {last}: give the earlier step first, from 0 on.")
    if first >= count:
        raise ExportRefused(
            f"There is no step {first:,}: the session has {count:,}, from 0 to {count - 1:,}."
        )
    rows = range(first, count if last is None else min(last + 1, count))
    is_whole = len(rows) == count
    begin_ns, end_ns = _times(trace, rows)

    def holds(step: int) -> bool:
        return step in rows or (is_whole and step == count)

    generations = (replace(g, end_step=min(g.end_step, count)) for g in trace.generations)
    return Excerpt(
        trace=trace,
        rows=rows,
        of=count,
        generations=tuple(g for g in generations if is_whole or _overlap(g, rows)),
        marks=tuple(mark for mark in trace.marks if holds(mark.step)),
        joins=tuple(join for join in trace.joins if holds(join.step)),
        gaps=tuple(gap for gap in trace.gaps if holds(gap.step)),
        warnings=tuple(warning for warning in trace.warnings if holds(warning.step)),
        captures=tuple(row for row in sorted(trace.captures) if row in rows),
        sampled=sampled(trace) if is_whole else sampled(trace, begin_ns, end_ns),
        notes=tuple(note for note in trace.notes if note.step in rows),
        alternations=tuple(a for a in trace.alternations if _overlap(a, rows)),
        results=tuple(r for r in trace.results if r.step - trace.first_index in rows),
        beams=tuple(b for b in trace.beams if b.step - trace.first_index in rows),
        memory=tuple(m for m in trace.memory if is_whole or begin_ns <= m.at_ns <= end_ns),
        observer=tuple(o for o in _observed(trace) if is_whole or begin_ns <= o.at_ns <= end_ns),
    )


def _observed(trace: Trace) -> list[Observed]:
    """What the instrument has said of itself, in order."""
    told: list[Observed] = [*trace.observer, *trace.display, *trace.recording, *trace.parts]
    return sorted(told, key=lambda each: each.at_ns)


def _overlap(record: GenerationRecord | AlternationRecord, rows: range) -> bool:
    return record.first_step < rows.stop and rows.start < record.end_step


def _times(trace: Trace, rows: range) -> tuple[int, int]:
    """When these steps began and ended, wall clock (ns)."""
    steps, last = trace.steps, rows[-1]
    return int(steps.begin_ns[rows[0]]), int(steps.begin_ns[last]) + int(steps.wall_ns[last])


def parse_steps(text: str) -> tuple[int, int | None]:
    """A selection as the command line takes it, "A:B" with both ends in it, either left out; (first, last or None).

    Raises ExportRefused with a sentence.
    """
    found = _RANGE.fullmatch(text.strip())
    if not found:
        raise ExportRefused(
            f"'{text}' is not a range of steps: write A:B, for example 100:199, or 100: for the rest."
        )
    return int(found[1] or 0), int(found[2]) if found[2] else None
