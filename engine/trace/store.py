"""Trace: everything measured in a session, as append-only columns of int64 nanoseconds. The fold of an engine's events.

Columns grow by doubling and are read as views: a window of a trace costs nothing. One thread appends and reads (the
one that draws, or the one that writes); nothing here locks.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.protocol import (
    AlternationEnded,
    AlternationStarted,
    BeamsRanked,
    Calibrated,
    Configuration,
    DisplayReport,
    EngineReplaced,
    EngineStarted,
    Event,
    FloorBeaten,
    GenerationEnded,
    GenerationStarted,
    KernelsCaptured,
    LayoutDefined,
    MemorySampled,
    ModelFacts,
    ModelLoaded,
    NoteTaken,
    ObserverReport,
    PartCompared,
    RecordingReport,
    SamenessMeasured,
    SequenceJoined,
    SequencesEncoded,
    SettingsChanged,
    ShapeDefined,
    StepEnded,
    TelemetryEnded,
    TelemetrySampled,
)
from engine.trace import device_ledger
from engine.trace.bulk import StepColumns, Waited, gaps_between_arrivals, waited_after
from engine.trace.columns import Column as Column
from engine.trace.device_ledger import DeviceGaps
from engine.trace.kernels import Capture
from engine.trace.ledger import Int64, Layout, Span, wall_ns
from engine.trace.phases import PHASE_COUNT, Role, StepKind
from engine.trace.shapes import ModelShape
from engine.trace.stamps import Stamps
from engine.trace.telemetry import Telemetry
from engine.trace.units import visible
from engine.trace.warnings import MachineWarning, Watchman, signs

KINDS = tuple(StepKind)
STEPPING_NS = 500_000_000  # without a step for longer, nothing runs
NO_LATENCY = -1  # in `itl_ns` and `wall-per-token` columns: this step has no such value


class Steps:
    """The columns of all steps; row i is step i of the trace.

    wall_ns (n): begin to end. phases_ns (n, PHASE_COUNT): sums to wall_ns. layers_ns (n, layers, 3): attention, MLP,
    rest; zeros where the detail did not tell layers apart. Both are times of the device where there are any
    (`device_offset` (n): where they lie, -1 for a step of the host's clock alone). itl_ns (n): gap between this step's
    last arrival of text and the one before in its generation without the time held by the user, NO_LATENCY where there
    is none. held_ns (n):
    time before the step that the user held the engine. first_token, token_count (n): its rows in `Trace.tokens`.
    batch, prompt_tokens, padding_tokens (n): its rows, the tokens it read, the positions it computed for nothing.
    drafted, accepted (n): tokens that were proposed to it, and those of them that it found right. moved_bytes,
    operations, floor_ns (n): what it had to move and to compute, and the least time for that; 0 where not known.
    calibration (n): the number of the calibration that the floor stands on, -1 without one.
    captured (n): it ran under the profiler, and belongs to no statistic.
    """

    def __init__(self, layers: int) -> None:
        self._columns = {
            name: Column(dtype)
            for name, dtype in {
                "begin_ns": np.int64,
                "wall_ns": np.int64,
                "held_ns": np.int64,
                "itl_ns": np.int64,
                "kind": np.int8,
                "generation": np.int32,
                "configuration": np.int32,
                "layout": np.int32,
                "context_length": np.int64,
                "cache_bytes": np.int64,
                "first_token": np.int64,
                "token_count": np.int32,
                "prompt_tokens": np.int32,
                "batch": np.int32,
                "padding_tokens": np.int32,
                "drafted": np.int32,
                "accepted": np.int32,
                "moved_bytes": np.int64,
                "operations": np.int64,
                "floor_ns": np.int64,
                "calibration": np.int32,
                "captured": np.bool_,
                "device_offset": np.int64,
            }.items()
        }
        self._columns["phases_ns"] = Column(np.int64, (PHASE_COUNT,))
        self._columns["layers_ns"] = Column(np.int64, (layers, len(Role)))
        self.stamps = Stamps()
        self.device_stamps = Column(np.int64)

    def __len__(self) -> int:
        return len(self._columns["wall_ns"])

    def __getattr__(self, name: str) -> npt.NDArray[Any]:
        try:
            return self.__dict__["_columns"][name].values  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None

    def append(self, **row: Any) -> None:
        """Add one step: a value for every column."""
        for name, column in self._columns.items():
            column.append(row[name])

    def extend(self, steps: StepColumns, others: Callable[[], dict[str, Int64]]) -> None:
        """Add several steps; `others`: makes an array for every column that says neither what they were told nor how
        long they took.
        """
        count, rows = len(steps), others()
        phases, layers = self._columns["phases_ns"].claim(count), self._columns["layers_ns"].claim(count)
        steps.write_sums(phases, layers)
        rows["begin_ns"], rows["wall_ns"] = steps.begin_ns, steps.wall_ns
        rows["device_offset"] = self._extend_device(steps)
        for name, column in self._columns.items():
            if name not in ("phases_ns", "layers_ns"):
                column.extend(rows[name] if name in rows else steps.fields[name])
        self.stamps.extend(steps)

    def _extend_device(self, steps: StepColumns) -> Int64:
        """Add the stamps of devices; returns where those of each step lie, (n,), -1 for none."""
        blobs = steps.fields["device_stamps"].tolist()
        counts = np.fromiter(map(len, blobs), np.int64, len(blobs)) // np.dtype(np.int64).itemsize
        offsets: Int64 = np.where(counts, len(self.device_stamps) + np.cumsum(counts) - counts, -1)
        self.device_stamps.extend(np.frombuffer(b"".join(blobs), np.int64))
        return offsets

    def reserve(self, steps: int) -> None:
        """Make room for so many steps more: columns need not grow, and what is not used costs nothing."""
        for column in self._columns.values():
            column.reserve(steps)
        self.stamps.reserve(steps)

    @property
    def source(self) -> "Steps":
        """What these steps are the beginning of: of two traces with the same, one has the first steps of the other."""
        return self


class Tokens:
    """All tokens in order: id (n), arrival_ns (n), step (n), sequence (n), and `text` (a list of n pieces)."""

    def __init__(self) -> None:
        self._id, self._arrival, self._step = Column(np.int64), Column(np.int64), Column(np.int64)
        self._sequence = Column(np.int32)
        self.text: list[str] = []

    def __len__(self) -> int:
        return len(self.text)

    @property
    def id(self) -> Int64:
        """Token ids."""
        return self._id.values

    @property
    def arrival_ns(self) -> Int64:
        """When each token's text was on the host, wall clock."""
        return self._arrival.values

    @property
    def step(self) -> Int64:
        """The step (row of `Steps`) that yielded each token."""
        return self._step.values

    @property
    def sequence(self) -> npt.NDArray[np.int32]:
        """Which of the sequences that are decoded together each token continues."""
        return self._sequence.values

    def append(self, id: int, arrival_ns: int, step: int, text: str, sequence: int = 0) -> None:
        """Add one token."""
        self._sequence.append(sequence)
        self._id.append(id)
        self._arrival.append(arrival_ns)
        self._step.append(step)
        self.text.append(text)

    def extend(self, steps: StepColumns, first_step: int) -> None:
        """Add the tokens of several steps, the first of which is `first_step`."""
        self._sequence.extend(steps.token_fields["sequence"])
        self._id.extend(steps.token_fields["id"])
        self._arrival.extend(steps.token_fields["arrival_ns"])
        self._step.extend(first_step + np.repeat(np.arange(len(steps)), steps.token_count))
        self.text.extend(steps.token_text)


@dataclass(frozen=True, slots=True)
class Mark:
    """An event pinned to a place: before step `step` of the trace. `before`: the configuration that was in force."""

    step: int
    at_ns: int
    kind: str  # "settings"
    text: str
    event: SettingsChanged
    before: int = 0


@dataclass(frozen=True, slots=True)
class JoinMark:
    """A sequence that joined a generation: from step `step` of the trace on its prompt was read."""

    step: int
    event: SequenceJoined

    @property
    def text(self) -> str:
        """What it says on the trace."""
        count = len(self.event.prompt_ids)
        return f"joined: {count:,} token{'' if count == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class GapMark:
    """Where the engine was lost and another one goes on: before step `step` of the trace."""

    step: int
    event: EngineReplaced

    @property
    def text(self) -> str:
        """What it says on the trace."""
        return "engine replaced"


@dataclass(frozen=True, slots=True)
class CaptureMark:
    """A step that was captured in depth, by its row."""

    step: int
    event: KernelsCaptured
    text: str = "captured"


@dataclass(frozen=True, slots=True)
class WarningMark:
    """Something about the machine that makes the steps from `step` on doubtful, until its warning ends."""

    step: int
    at_ns: int
    warning: MachineWarning

    @property
    def text(self) -> str:
        """What it says on the trace."""
        return str(self.warning.trouble)


@dataclass(frozen=True, slots=True)
class NoteMark:
    """A note of whoever watched, on step `step` of the trace."""

    step: int
    event: NoteTaken

    @property
    def text(self) -> str:
        """What it says on the trace."""
        return f"“{visible(self.event.text)}”"


AnyMark = Mark | JoinMark | GapMark | CaptureMark | WarningMark | NoteMark


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """A generation and where its steps lie: rows first_step ≤ i < end_step of `Steps`; `ended` None while it runs."""

    started: GenerationStarted
    first_step: int
    end_step: int
    ended: GenerationEnded | None = None


@dataclass(frozen=True, slots=True)
class AlternationRecord:
    """Two values that took turns, and where: rows first_step ≤ i < end_step of `Steps`; `ended` None while they do."""

    started: AlternationStarted
    first_step: int
    end_step: int
    ended: AlternationEnded | None = None


class Trace:
    """All that one loaded model did. A new model begins a new trace.

    `revision` grows with every event that changes what could be drawn of the steps; samples of the machine come while
    nothing runs, too, and are counted by `telemetry`. `engine`: what it ran on and with, None where nobody has said;
    `observer`: what that said of the cost of measuring. `first_index`: the number that the engine gave to the step of
    row 0, since a trace can begin in the middle of a session. `captures`: by the row of their step, the latest of each.
    `notes`: in the order of their steps.
    """

    def __init__(self, loaded: ModelLoaded | None = None, engine: EngineStarted | None = None) -> None:
        self.engine = engine
        self.observer: list[ObserverReport] = []
        self.first_index = 0
        self.model: ModelFacts | None = loaded.model if loaded else None
        self.configurations: list[Configuration] = [loaded.effective] if loaded else []
        self.steps = Steps(len(loaded.model.layer_names) if loaded else 0)
        self.tokens = Tokens()
        self.results: list[SequencesEncoded] = []
        self.beams: list[BeamsRanked] = []
        self.marks: list[Mark] = []
        self.joins: list[JoinMark] = []
        self.gaps: list[GapMark] = []
        self.notes: list[NoteMark] = []
        self.alternations: list[AlternationRecord] = []
        self.sameness: list[SamenessMeasured] = []
        self.generations: list[GenerationRecord] = []
        self.memory: list[MemorySampled] = []
        self.calibrations: dict[int, Calibrated] = {}  # by the number with which steps refer to them
        self.beaten_floors: list[FloorBeaten] = []
        #: Of configurations that have another one than the model's facts.
        self.shapes: dict[int, ShapeDefined] = {}
        self.captures: dict[int, KernelsCaptured] = {}
        self.telemetry = Telemetry()
        self.warnings: list[WarningMark] = []
        self.display: list[DisplayReport] = []
        self.recording: list[RecordingReport] = []
        self.parts: list[PartCompared] = []
        self.layouts: dict[int, Layout] = {}
        self.revision = 0
        self._watchman = Watchman()
        self._in_force = 0
        self._layer_count = len(loaded.model.layer_names) if loaded else 0
        self._device_ahead: DeviceGaps = device_ledger.NOTHING  # what ran on beyond the end of the last step
        self._last_arrival_ns: int | None = None
        self._held_since_arrival_ns = 0
        self._newcomers: set[int] = set()  # sequences that have joined and have no token yet
        self._first_arrivals: dict[
            int, tuple[int, int]
        ] = {}  # of those since: when, and what was held by then

    def emptied(self, loaded: ModelLoaded) -> "Trace":
        """A new trace of the same model that goes on where this one is: what steps refer to by number is known."""
        fresh = Trace(loaded, self.engine)
        fresh.observer = self.observer[-1:]
        fresh.layouts, fresh.configurations = dict(self.layouts), list(self.configurations)
        fresh._in_force = self._in_force
        fresh.calibrations, fresh.shapes = dict(self.calibrations), dict(self.shapes)
        return fresh

    @property
    def layer_count(self) -> int:
        """Layers of the model."""
        return self._layer_count

    @property
    def configuration(self) -> Configuration:
        """The configuration in force at the end of the trace."""
        return self.configurations[self._in_force] if self.configurations else ()

    def shape(self, configuration: int) -> ModelShape | None:
        """What the steps of a configuration read and multiply; None where that is not known."""
        other = self.shapes.get(configuration)
        if other is not None:
            return other.shape
        return self.model.shape if self.model else None

    def append(self, event: Event) -> None:
        """Fold one event in. Events that say nothing about what was measured are ignored.

        Raises ValueError when a step does not fit its layout or its times run backwards, KeyError when its layout was
        never defined.
        """
        match event:
            case StepEnded():
                self._append_step(event)
            case LayoutDefined():
                self.layouts[event.layout] = Layout(event.names, event.codes)
            case GenerationStarted():
                row = len(self.steps)
                self.generations.append(GenerationRecord(event, row, row))
                self._last_arrival_ns, self._held_since_arrival_ns = None, 0
                self._newcomers.clear()
                self._first_arrivals.clear()
            case SequenceJoined():
                self.joins.append(JoinMark(len(self.steps), event))
                self._newcomers.add(event.sequence)
            case GenerationEnded():
                self._end_generation(event)
            case SequencesEncoded():
                self.results.append(event)
            case BeamsRanked():
                self.beams.append(event)
            case SettingsChanged():
                self._append_mark(event)
            case EngineReplaced():
                self._append_gap(event)
            case NoteTaken():
                self._append_note(event)
            case AlternationStarted():
                self._begin_alternation(event)
            case AlternationEnded():
                self._end_alternation(event)
            case SamenessMeasured():
                self.sameness.append(event)
            case MemorySampled():
                self.memory.append(event)
                self.telemetry.append_memory(event)
            case ShapeDefined():
                self.shapes[event.configuration] = event
            case Calibrated():
                self.calibrations[event.number] = event
            case FloorBeaten():
                self.beaten_floors.append(event)
            case KernelsCaptured():
                self._append_capture(event)
            case PartCompared():
                self.parts.append(event)
            case TelemetrySampled():
                self.append_telemetry(event, len(self.steps))
                return
            case _:
                self._note(event)
                return
        self.revision += 1

    def _note(self, event: Event) -> None:
        """Keep what is told with a trace, but not drawn: of the engine, and what the instrument says of itself."""
        match event:
            case EngineStarted():
                self.engine = event
            case ObserverReport():
                self.observer.append(event)
            case DisplayReport():
                self.display.append(event)
            case RecordingReport():
                self.recording.append(event)
            case TelemetryEnded():
                self.telemetry.ended = event.sentence
                self._watchman = Watchman()  # nobody would see a warning's cause end
            case _:
                pass

    @property
    def warnings_in_force(self) -> tuple[MachineWarning, ...]:
        """What about the machine makes numbers doubtful now."""
        return self._watchman.in_force

    def append_telemetry(self, event: TelemetrySampled, row: int) -> None:
        """Fold in a sample that came before step `row`, which may be there already, and those behind it, too."""
        self.telemetry.append(event)
        tracer = self.observer[-1].tracer if self.observer else ""
        stepping = self._is_stepping(event.at_ns, row)
        for warning in self._watchman.take(event.at_ns, signs(event, stepping, tracer)):
            self.warnings.append(WarningMark(row, event.at_ns, warning))

    def _is_stepping(self, at_ns: int, row: int) -> bool:
        """Whether a step was under way shortly before; a step that is long has not been told of yet."""
        if not row:
            return False
        wall_ns = int(self.steps.wall_ns[row - 1])
        return at_ns - int(self.steps.begin_ns[row - 1]) - wall_ns < max(STEPPING_NS, 3 * wall_ns)

    def extend(self, events: Sequence[Event]) -> None:
        """Fold several events in."""
        for event in events:
            self.append(event)

    def extend_steps(self, steps: StepColumns) -> None:
        """Fold in steps that follow one another without another event between them, as `append` would one by one.

        Their layouts are known to the trace; their stamps fit.
        """
        entangled = [*np.flatnonzero(steps.has_entangled_device).tolist(), len(steps)]
        first = 0
        while first < len(steps):
            plain = entangled[bisect_left(entangled, first)]
            if plain > first and self._all_is_plain:
                self._append_steps(steps if plain - first == len(steps) else steps.part(first, plain))
                first = plain
                continue
            self.extend(list(steps.part(first, first + 1).events()))
            first += 1

    @property
    def _all_is_plain(self) -> bool:
        """Whether nothing of the steps so far reaches into the next one but its generation, and the last arrival."""
        joining = self._newcomers or self._first_arrivals
        return not joining and not len(self._device_ahead.end_ns)

    def kind(self, step: int) -> StepKind:
        """What a step was for."""
        return KINDS[int(self.steps.kind[step])]

    def spans(self, step: int) -> list[Span]:
        """The spans of a step, nested, in the order in which they begin."""
        return self.layouts[int(self.steps.layout[step])].spans(self.stamps(step))

    def stamps(self, step: int) -> Int64:
        """The time stamps of a step: (stamps,) wall_ns, begin first, end last."""
        return self.steps.stamps.of(step)

    def device_stamps(self, step: int) -> Int64 | None:
        """When the device came to the same places, (stamps,) device_ns on the host's axis, NO_TIME where only the host
        has a stamp; None for a step of the host's clock alone.
        """
        layout = self.layouts[int(self.steps.layout[step])]
        offset = int(self.steps.device_offset[step])
        if offset < 0:
            return None
        stamps: Int64 = self.steps.device_stamps.values[offset : offset + layout.stamp_count]
        return stamps

    def layout(self, step: int) -> Layout:
        """The order of a step's stamps."""
        return self.layouts[int(self.steps.layout[step])]

    def capture(self, step: int) -> Capture | None:
        """What a step was made of, where it was captured in depth."""
        event = self.captures.get(step)
        return None if event is None else Capture(event, self.layouts[event.layout])

    def tokens_of(self, step: int) -> range:
        """The rows of `tokens` that a step yielded."""
        first = int(self.steps.first_token[step])
        return range(first, first + int(self.steps.token_count[step]))

    def token_indices(self, generation: GenerationRecord) -> range:
        """The rows of `tokens` that a generation yielded so far."""
        if generation.first_step == generation.end_step:
            return range(len(self.tokens), len(self.tokens))
        return range(
            self.tokens_of(generation.first_step).start, self.tokens_of(generation.end_step - 1).stop
        )

    def text_of(self, generation: GenerationRecord, sequence: int = 0) -> str:
        """The text of a generation's sequence so far; that of the first with what was incomplete at its end."""
        rows = self.token_indices(generation)
        tail = generation.ended.tail if generation.ended and not sequence else ""
        own = rows.start + np.flatnonzero(self.tokens.sequence[rows.start : rows.stop] == sequence)
        return "".join(self.tokens.text[row] for row in own) + tail

    def sequences_of(self, generation: GenerationRecord) -> list[int]:
        """The numbers of the sequences of a generation that have tokens, in the order in which they began."""
        rows = self.token_indices(generation)
        numbers: list[int] = np.unique(self.tokens.sequence[rows.start : rows.stop]).tolist()
        return numbers

    def join_of(self, generation: GenerationRecord, sequence: int) -> SequenceJoined | None:
        """How a sequence joined a generation; None for one that was there from the beginning, or branched off."""
        number = generation.started.generation
        found = (join.event for join in self.joins if join.event.generation == number)
        return next((event for event in found if event.sequence == sequence), None)

    def _append_step(self, event: StepEnded) -> None:
        layout = self.layouts[event.layout]
        stamps = np.frombuffer(event.stamps, np.int64)
        if len(stamps) != layout.stamp_count:
            raise ValueError(f"step {event.index} has {len(stamps)} stamps, its layout {layout.stamp_count}")
        if (stamps[1:] < stamps[:-1]).any():  # no ledger sums over such times
            raise ValueError(
                f"the times of step {event.index} run backwards: the clock of this machine jumped"
            )
        device_stamps = device_ledger.checked(layout, event.device_stamps)
        phases, layers = self._ledger(layout, stamps, device_stamps)
        row = len(self.steps)
        if not row:
            self.first_index = event.index
        self.steps.append(
            begin_ns=stamps[0],
            wall_ns=stamps[-1] - stamps[0],
            held_ns=event.held_ns,
            itl_ns=self._inter_token_ns(event),
            kind=KINDS.index(event.kind),
            generation=event.generation,
            configuration=event.configuration,
            layout=event.layout,
            context_length=event.context_length,
            cache_bytes=event.cache_bytes,
            first_token=len(self.tokens),
            token_count=len(event.tokens),
            prompt_tokens=event.prompt_tokens,
            batch=event.batch,
            padding_tokens=event.padding_tokens,
            drafted=event.drafted,
            accepted=event.accepted,
            moved_bytes=event.moved_bytes,
            operations=event.operations,
            floor_ns=event.floor_ns,
            calibration=event.calibration,
            captured=event.captured,
            device_offset=-1 if device_stamps is None else len(self.steps.device_stamps),
            phases_ns=phases,
            layers_ns=self._layers(layers),
        )
        self.steps.stamps.append(stamps)
        if device_stamps is not None:
            self.steps.device_stamps.extend(device_stamps)
        for token in event.tokens:
            self.tokens.append(token.id, token.arrival_ns, row, token.text, token.sequence)
        self._steps_ended(row + 1)

    def _append_steps(self, steps: StepColumns) -> None:
        row, count = len(self.steps), len(steps)
        if not row:
            self.first_index = int(steps.fields["index"][0])
        begun = Waited(self._last_arrival_ns, self._held_since_arrival_ns)
        first_token = len(self.tokens) + steps.token_offsets[:-1]
        self.steps.extend(
            steps,
            lambda: {
                "itl_ns": gaps_between_arrivals(steps, begun, NO_LATENCY),
                "first_token": first_token,
                "token_count": steps.token_count,
            },
        )
        left = waited_after(steps, begun)
        self._last_arrival_ns, self._held_since_arrival_ns = left.last_arrival_ns, left.held_ns
        self.tokens.extend(steps, row)
        self._steps_ended(row + count)
        self.revision += count

    def _steps_ended(self, end: int) -> None:
        """The generation and the alternation that go on reach up to here."""
        if self.generations:
            self.generations[-1] = replace(self.generations[-1], end_step=end)
        if self.alternations and self.alternations[-1].ended is None:
            self.alternations[-1] = replace(self.alternations[-1], end_step=end)

    def _ledger(self, layout: Layout, stamps: Int64, device_stamps: Int64 | None) -> tuple[Int64, Int64]:
        """Times of the phases (PHASE_COUNT,) and of the layers that the layout knows (layers, 3): the device's, where
        there are any.
        """
        own = device_ledger.NOTHING
        if device_stamps is not None:
            own = device_ledger.device_gaps(layout, stamps, device_stamps)
            layers = device_ledger.layers_ns(layout, own)
        else:
            layers = layout.layers_ns(stamps[None])[0]
            if not len(self._device_ahead.end_ns):
                return layout.phases_ns(stamps[None])[0], layers
        ran = device_ledger.joined(self._device_ahead, own)
        self._device_ahead = device_ledger.after(ran, int(stamps[-1]))
        return device_ledger.phases_ns(layout, stamps, ran), layers

    def _append_capture(self, event: KernelsCaptured) -> None:
        row = event.step - self.first_index
        if 0 <= row < len(self.steps):  # else the trace has been emptied since
            Capture(event, self.layouts[event.layout])  # raises where it does not fit
            self.captures[row] = event

    def _layers(self, told_apart: Int64) -> Int64:
        layers = np.zeros((self._layer_count, len(Role)), np.int64)
        known = min(len(told_apart), self._layer_count)
        layers[:known] = told_apart[:known]
        return layers

    def _inter_token_ns(self, event: StepEnded) -> int:
        """METRICS: a gap between distinct arrivals; tokens that arrive together add none; held time is left out.

        The first token of a sequence that joined ends no gap: the others still wait for their next one.
        """
        self._held_since_arrival_ns += event.held_ns
        if event.captured:  # as if it had not been: its time is held, and its tokens end no gap
            self._held_since_arrival_ns += wall_ns(event.stamps)
            return NO_LATENCY
        if not event.tokens:
            return NO_LATENCY
        if self._newcomers and event.tokens[0].sequence in self._newcomers:
            newest = event.tokens[-1]
            self._newcomers.remove(newest.sequence)
            self._first_arrivals[newest.sequence] = newest.arrival_ns, self._held_since_arrival_ns
            return NO_LATENCY
        arrival, before = event.tokens[-1].arrival_ns, self._last_arrival_ns
        own = [token.arrival_ns for token in event.tokens if token.arrival_ns < arrival]
        if own:  # a step that read the token on its way, and then its own
            gap = arrival - own[-1]
        else:
            gap = NO_LATENCY if before is None else arrival - before - self._held_since_arrival_ns
        if self._first_arrivals:
            gap = self._without_others(event, gap)
        self._last_arrival_ns, self._held_since_arrival_ns = arrival, 0
        return gap

    def _without_others(self, event: StepEnded, gap: int) -> int:
        """The longest that one of a step's sequences has waited: `gap`, unless all of them have just joined."""
        arrival, held = event.tokens[-1].arrival_ns, self._held_since_arrival_ns
        firsts = [self._first_arrivals.get(token.sequence) for token in event.tokens]
        self._first_arrivals.clear()
        waits = [arrival - first[0] - (held - first[1]) for first in firsts if first is not None]
        return max(waits) if len(waits) == len(firsts) else gap

    def _end_generation(self, event: GenerationEnded) -> None:
        for place in range(len(self.generations) - 1, -1, -1):
            if self.generations[place].started.generation == event.generation:
                self.generations[place] = replace(self.generations[place], ended=event)
                return

    def _append_note(self, event: NoteTaken) -> None:
        """Keep the note of a step that is there, in place of the one that it had."""
        row = event.step - self.first_index
        if not 0 <= row < len(self.steps):
            return
        place = bisect_left(self.notes, row, key=lambda note: note.step)
        has_one = place < len(self.notes) and self.notes[place].step == row
        self.notes[place : place + has_one] = [NoteMark(row, event)] if event.text else []

    def note_on(self, row: int) -> str:
        """The text of the note on a step; empty where it has none."""
        return next((note.event.text for note in self.notes if note.step == row), "")

    def _configure(self, number: int, effective: Configuration) -> None:
        while len(self.configurations) <= number:
            self.configurations.append(effective)
        self.configurations[number] = effective

    def _begin_alternation(self, event: AlternationStarted) -> None:
        for number, effective in zip(event.configurations, event.effective, strict=True):
            self._configure(number, effective)
        row = len(self.steps)
        self.alternations.append(AlternationRecord(event, row, row))

    def _end_alternation(self, event: AlternationEnded) -> None:
        if self.alternations:
            self.alternations[-1] = replace(self.alternations[-1], ended=event)
        self._in_force = event.configuration

    def _append_gap(self, event: EngineReplaced) -> None:
        self._configure(event.configuration, event.effective)
        self._in_force, self._device_ahead = event.configuration, device_ledger.NOTHING
        if self.alternations and self.alternations[-1].ended is None:
            ended = AlternationEnded(event.at_ns, event.step, event.configuration, event.reason)
            self.alternations[-1] = replace(self.alternations[-1], ended=ended)
        self.gaps.append(GapMark(len(self.steps), event))

    def _append_mark(self, event: SettingsChanged) -> None:
        self._configure(event.configuration, event.effective)
        before, self._in_force = self._in_force, event.configuration
        self.marks.append(Mark(len(self.steps), event.at_ns, "settings", mark_text(event), event, before))


def mark_text(event: SettingsChanged) -> str:
    """What a change says on the trace: "precision → bfloat16", with what was asked for where it differs."""
    words = ", ".join(
        f"{c.key} → {c.effective}" + (f" (asked: {c.requested})" if c.requested != c.effective else "")
        for c in event.changes
    )
    return f"{words}, since {event.cause}" if event.cause else words
