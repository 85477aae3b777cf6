"""A recorded session: its events, each exactly as it was, and the trace that they make."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import merge
from pathlib import Path

from engine.protocol import (
    BeamsRanked,
    DisplayReport,
    EngineStarted,
    Event,
    MemorySampled,
    ModelLoaded,
    NoteTaken,
    ObserverReport,
    RecordingReport,
    SamenessMeasured,
    SequencesEncoded,
    StateChanged,
    TelemetryEnded,
    TelemetrySampled,
)
from engine.trace.bulk import StepColumns
from engine.trace.shared_steps import SharedSteps
from engine.trace.store import Trace

#: What they do to a trace has nothing to do with how many of its steps are in it already.
INDIFFERENT = (
    *(MemorySampled, ObserverReport, DisplayReport, RecordingReport, TelemetrySampled),
    TelemetryEnded,
    *(SamenessMeasured, SequencesEncoded, BeamsRanked, StateChanged),
)


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """What a file holds. `preamble`: what the engine said before the model was loaded.

    `others`: all further events but steps, (steps before it, event), in order; notes right behind their steps, whenever
    they were written. `notices`: what was left out or put right, a sentence each.
    """

    path: Path
    metadata: dict[str, str]
    preamble: tuple[Event, ...]
    loaded: ModelLoaded
    others: tuple[tuple[int, Event], ...]
    steps: StepColumns
    notices: tuple[str, ...] = ()

    @property
    def notes(self) -> dict[int, NoteTaken]:
        """The latest note on each step that has or had one, by the row of the step."""
        return {self.row_of(event): event for _, event in self.others if isinstance(event, NoteTaken)}

    def row_of(self, note: NoteTaken) -> int:
        """The row of the step that a note is on; none of the session's where it has no such step."""
        return note.step - int(self.steps.fields["index"][0]) if len(self.steps) else -1

    def with_notes_at_their_steps(self) -> "RecordedSession":
        """The same with each note right behind its step, and only those that were neither replaced nor removed."""
        return self._with_notes(self.notes)

    def with_note(self, note: NoteTaken) -> "RecordedSession":
        """The same with another note; of a step that is not there: the same."""
        row = self.row_of(note)
        return self._with_notes({**self.notes, row: note}) if 0 <= row < len(self.steps) else self

    def _with_notes(self, notes: Mapping[int, NoteTaken]) -> "RecordedSession":
        kept = [(row + 1, notes[row]) for row in sorted(notes) if notes[row].text]
        rest = [placed for placed in self.others if not isinstance(placed[1], NoteTaken)]
        return replace(self, others=tuple(merge(kept, rest, key=lambda placed: placed[0])))

    def events(self, last: int | None = None) -> Iterator[Event]:
        """Everything that was said, in order, up to the first `last` steps and what came with them; all by default."""
        last = len(self.steps) if last is None else last
        yield from (*self.preamble, self.loaded)
        row = 0
        for step, event in self.others:
            if step > last:
                break
            if step > row:
                yield from self.steps.part(row, step).events()
                row = step
            yield event
        if row < last:
            yield from self.steps.part(row, last).events()

    def trace(self, last: int | None = None, whole: Trace | None = None) -> Trace:
        """The trace of the first `last` steps, all by default: the fold of their events, filled in bulk.

        `whole`: the trace of all of them, whose columns are shared then instead of being filled anew.
        """
        last = len(self.steps) if last is None else last
        engine = next((event for event in self.preamble if isinstance(event, EngineStarted)), None)
        trace, row = Trace(self.loaded, engine), 0
        if whole is not None:
            trace.steps = SharedSteps(whole.steps, last)
        trace.steps.reserve(last)
        beside: list[tuple[int, Event]] = []  # they would cut the steps into many small parts
        for step, event in self.others:
            if step > last:
                break
            if isinstance(event, INDIFFERENT):
                beside.append((step, event))
                continue
            if step > row:
                trace.extend_steps(self.steps.part(row, step))
                row = step
            trace.append(event)
        if row < last:
            trace.extend_steps(self.steps.part(row, last))
        for step, event in beside:
            if isinstance(event, TelemetrySampled):
                trace.append_telemetry(event, step)
            else:
                trace.append(event)
        return trace
