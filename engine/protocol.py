"""What is said between a front end and an engine: commands one way, events the other. Frozen, picklable, versioned.

An engine turns commands into events. A trace is the fold of its events; a recording is those events written down; a
replay is the same stream from a file. Nothing measured reaches a screen on any other path.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from engine.trace.calibration import Calibration
from engine.trace.phases import SpanName, StepKind
from engine.trace.sameness import Sameness
from engine.trace.shapes import ModelShape

PROTOCOL_VERSION = 3

#: With this code an engine process ends whose device failed for good: a new process can use it again.
DEVICE_LOST = 86

SettingValue = str | int | float | bool
#: In place of a step's index: the one that comes next.
NEXT_STEP = -1
#: All settings together, sorted by key.
Configuration = tuple[tuple[str, SettingValue], ...]


# ---------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model, replacing the one before. `model`: "demo", a preset's name, a local directory, or a hub id.

    `device`: "auto", a torch device string, or "split" (layers over all devices, what is left over on the CPU).
    `settings`: requested from the start (others take their defaults). A load that still runs is cancelled first.
    """

    model: str
    device: str = "auto"
    settings: Configuration = ()


@dataclass(frozen=True, slots=True)
class CancelLoad:
    """Give up the load that runs: what it took is let go, and the engine is empty. Nothing happens without one.

    Of a draft model that a switch waits for, too: then the setting is refused, and everything else goes on.
    """


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat. `role`: "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given: plain text, or (with `turns`) a chat that the model's own template turns into text.

    `thinking`: whether the model is to think first, where its template knows of that (None: as the template says).
    `truncate`: a prompt too long for the context loses its beginning instead of being refused.
    A model without a decoder takes each line of `text` as an input of its own.
    """

    text: str = ""
    turns: tuple[Turn, ...] = ()
    thinking: bool | None = None
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class Generate:
    """Start a generation; one that runs is stopped first. `paused`: wait before the first step (for single steps).

    `batch`: inputs a step, for a model without a decoder (which makes no new tokens: `max_new_tokens` is ignored).
    `lines`: each line of a decoder's prompt is a prompt of its own; they are continued together, as sequences 0, 1, …
    """

    prompt: Prompt
    max_new_tokens: int = 128
    stop_at_end_token: bool = True
    paused: bool = False
    batch: int = 1
    lines: bool = False


@dataclass(frozen=True, slots=True)
class Join:
    """Add a sequence with a prompt of its own to the generation of a decoder, at the next step boundary.

    Its prompt is prefilled in steps of its own while the others wait; then all go on together. Answered by
    SequenceJoined, or by Failed with the command "join": nothing else changes then.
    """

    prompt: Prompt
    max_new_tokens: int = 128
    stop_at_end_token: bool = True


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Ask how many tokens a prompt has; answered by TokensCounted, between steps of nothing: never while one runs.

    Of several questions that wait only the last is answered. `request`: comes back with the answer.
    """

    request: int
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait at the next step boundary."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause."""


@dataclass(frozen=True, slots=True)
class SingleStep:
    """Do one step and pause again (pauses a running generation after its step)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End the generation at the next step boundary."""


@dataclass(frozen=True, slots=True)
class Change:
    """Change settings at the next step boundary, all at once."""

    settings: Configuration


@dataclass(frozen=True, slots=True)
class Alternate:
    """Let a value of a setting take turns with the one in force, A B B A, until the generation ends or StopAlternating.

    Only settings whose SettingFacts give `turn_steps` can.
    """

    key: str
    value: SettingValue


@dataclass(frozen=True, slots=True)
class StopAlternating:
    """Put the value from before the alternation back into force, at the next step boundary."""


@dataclass(frozen=True, slots=True)
class MeasureSameness:
    """Ask how far the output moved from what it would be under `reference` (only the settings that differ).

    Answered by SamenessMeasured, between two steps of a generation; the generation waits meanwhile.
    """

    reference: Configuration


@dataclass(frozen=True, slots=True)
class ProbeTraining:
    """Make one training step (forward, loss, backward) on the text of the generation, and throw its gradients away.

    Answered by a StepEnded of kind BACKWARD, between two steps of the generation. `mixed`: automatic mixed precision
    (bfloat16); `accumulate`: pieces of the text whose gradients add up.
    """

    mixed: bool = False
    accumulate: int = 1


@dataclass(frozen=True, slots=True)
class Calibrate:
    """Measure what this machine achieves with the settings in force, now and anew; between generations only.

    Answered by Calibrated within about two seconds, or by Failed with the command "calibrate". What was remembered is
    replaced. An engine that is idle does so by itself where nothing is known, or a step has beaten its floor.
    """


@dataclass(frozen=True, slots=True)
class CaptureStep:
    """Run one step under torch's profiler, and say what it was made of, down to operations and kernels.

    `step` NEXT_STEP: the next step of the generation. It yields its tokens as ever, and no statistic knows of it; the
    time that profiling takes is held. A paused generation makes this one step. Else the index of a step that was made:
    its work is done again, on a copy of the context that it found; the generation that runs is not touched.
    Answered by KernelsCaptured, or by Failed with the command "capture": nothing else changes then.
    """

    step: int = NEXT_STEP


@dataclass(frozen=True, slots=True)
class ListModels:
    """Ask what models there are; answered by CatalogueListed."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask what can be known, before it is loaded, of a model that no catalogue lists: a directory or a hub id.

    Of a hub id the hub is asked. Answered by LookedUp, beside whatever else the engine does; of several questions
    only the last one is. `request`: comes back with the answer.
    """

    request: int
    model: str


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End the engine, cooperatively."""


Command = (
    Load
    | CancelLoad
    | Generate
    | Join
    | CountTokens
    | Pause
    | Resume
    | SingleStep
    | Stop
    | Change
    | Alternate
    | StopAlternating
    | MeasureSameness
    | ProbeTraining
    | Calibrate
    | CaptureStep
    | ListModels
    | LookUp
    | Shutdown
)


# ---------------------------------------------------------------- facts carried by events


class EngineState(StrEnum):
    """What an engine is doing."""

    STARTING = "starting"  # importing torch
    EMPTY = "empty"  # no model
    LOADING = "loading"
    READY = "ready"  # a model, no generation
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that a setting can take. `reason`: why it is impossible here (empty: possible).

    `lossless`: greedy tokens stay the same with it; None: as the setting says.
    """

    value: SettingValue
    label: str
    reason: str = ""
    expected: str = ""  # what it is expected to do, one sentence
    lossless: bool | None = None


@dataclass(frozen=True, slots=True)
class SettingFacts:
    """A setting as the front end needs it. Numbers have a range, others choices: of a text these are suggestions.

    `lossless`: greedy tokens stay the same whatever value is chosen, unless a choice says otherwise. `reason`: why the
    whole setting is impossible.
    `turn_steps`: steps of a turn when two of its values alternate; 0: switching costs too much for that.
    """

    key: str
    family: str
    label: str
    kind: str  # "choice", "integer", "number", "text"
    default: SettingValue
    choices: tuple[Choice, ...] = ()
    minimum: float = 0.0
    maximum: float = 0.0
    increment: float = 1.0
    unit: str = ""
    expected: str = ""
    lossless: bool = True
    reason: str = ""
    turn_steps: int = 0


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device that a model can run on: "cpu", "cuda:0", … `identity`: its driver's name for it, where known."""

    device: str
    label: str
    memory_bytes: int
    available_bytes: int
    identity: str = ""


class Family(StrEnum):
    """What kind of model it is, by what it does with a prompt."""

    DECODER = "decoder"  # continues it, token by token
    ENCODER_DECODER = "encoder-decoder"  # reads it once, then writes an answer token by token
    ENCODER = "encoder"  # reads each of its lines; writes nothing


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The loaded model. `layer_names`: one a layer, in the order in which they run (an encoder's come first).

    `task`: what its head does: "text generation", "fill-mask", "classification", "features".
    `load_stages_ns`: wall time of each stage of `load_ns`, in order ("download", "read weights", …).
    `special_tokens`: (id, text) of the tokens that are not text. `has_chat_template`, `knows_thinking`: of its
    tokenizer. `placement`: (device, number of layers) where layers are split over devices, else empty.
    `shape`: what its steps read and multiply, with the settings that it was loaded with; None where it is not known.
    """

    name: str
    architecture: str
    parameters: int
    weight_bytes: int
    dtype: str
    device: str
    layer_names: tuple[str, ...]
    hidden_size: int
    vocabulary: int
    context_limit: int
    random_weights: bool
    tokenizer: str
    load_ns: int
    warnings: tuple[str, ...] = ()
    family: Family = Family.DECODER
    task: str = "text generation"
    encoder_layers: int = 0  # how many of `layer_names` are the encoder's
    load_stages_ns: tuple[tuple[str, int], ...] = ()
    special_tokens: tuple[tuple[int, str], ...] = ()
    has_chat_template: bool = False
    knows_thinking: bool = False
    placement: tuple[tuple[str, int], ...] = ()
    shape: ModelShape | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model fits on a device ("cpu", "cuda:0", …, or "split"), by the memory that is free there now.

    `weight_bytes`: of its weights in the precision that it would be loaded in there. `reason`: why not ("": it fits).
    """

    device: str
    weight_bytes: int
    reason: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model that could be loaded. `kind`: "demo", "preset", "cached"; if looked up also "directory", "hub".

    `reason`: why it will not work, wherever it is loaded ("": it will). `fits`: what each device says to its size, the
    one that "auto" means first; empty where the size is not known. `parameters`, `weight_bytes` (on that first
    device), `disk_bytes` and `context` are 0 where they are not known before loading. `used_s`: when its files were
    last read, seconds since 1970 (0: not known).
    """

    name: str
    kind: str
    architecture: str
    parameters: int
    weight_bytes: int
    context: int
    remark: str = ""
    reason: str = ""
    disk_bytes: int = 0
    used_s: float = 0.0
    family: Family = Family.DECODER
    fits: tuple[Fit, ...] = ()

    def fit_on(self, device: str = "auto") -> Fit:
        """What a device says to the model's size; one that was not asked about says nothing."""
        if device == "auto" and self.fits:
            return self.fits[0]
        return next((fit for fit in self.fits if fit.device == device), Fit(device, self.weight_bytes))


@dataclass(frozen=True, slots=True)
class SequenceResult:
    """What a model without a decoder made of one input.

    `text`: the input. `tokens`: its length, without padding. `outputs`: (label, probability), best first: classes, or
    for fill-mask the words for its mask (`mask` counts masks from 0; -1 where the head has none).
    """

    text: str
    tokens: int
    outputs: tuple[tuple[str, float], ...] = ()
    mask: int = -1


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it became available: its text is complete characters only ("" while one is incomplete).

    `sequence`: which of the sequences that are decoded together it continues; 0 is the one that was asked for. A
    sequence that branches off or joins later gets a number of its own, which is never used again in that generation.
    """

    id: int
    text: str
    arrival_ns: int  # wall clock (perf_counter) at which its text was on the host
    sequence: int = 0

    def __reduce__(self) -> tuple[type["Token"], tuple[int, str, int, int]]:
        """As one call of its class: a frozen dataclass pickles itself field by field, several times slower."""
        return Token, (self.id, self.text, self.arrival_ns, self.sequence)


@dataclass(frozen=True, slots=True)
class Beam:
    """A beam as a step of beam search left it.

    `text`: what it says behind the tokens that all beams share (those have been yielded). `tokens`: how many that are.
    `score`: sum of its tokens' log-probabilities (nats) over their count to the power of the length penalty.
    `finished`: it ended with an end token and waits for the others.
    """

    text: str
    tokens: int
    score: float
    finished: bool = False


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting of a change: what was asked for, what is in force, and why they differ (if they do)."""

    key: str
    requested: SettingValue
    effective: SettingValue
    reason: str = ""


# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class EngineStarted:
    """The engine runs and has imported what it needs."""

    at_ns: int
    protocol: int
    pid: int
    versions: tuple[tuple[str, str], ...]
    devices: tuple[DeviceFacts, ...]
    processor: str
    cores: int


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The engine does something else from now on."""

    at_ns: int
    state: EngineState


@dataclass(frozen=True, slots=True)
class Progress:
    """Long work goes on: `fraction` in [0, 1], or None when its end is not known.

    `stage`: the stage of a load that this is ("" outside of one). Of a download also bytes, files, and the rate over
    the last seconds; 0 where they are not known.
    """

    at_ns: int
    activity: str
    fraction: float | None
    stage: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    done_files: int = 0
    total_files: int = 0
    bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadCancelled:
    """A load was given up, on request or for another one; the engine is empty and has let go of what it took."""

    at_ns: int
    model: str


@dataclass(frozen=True, slots=True)
class TokensCounted:
    """How many tokens a prompt has, and what a chat template makes of it. `reason`: why that cannot be said (or "").

    `limit`: the most that the context takes.
    """

    at_ns: int
    request: int
    tokens: int
    limit: int
    rendered: str = ""  # the first characters of what the template made of a chat
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """A model is ready, with the settings possible for it and those in force."""

    at_ns: int
    model: ModelFacts
    settings: tuple[SettingFacts, ...]
    configuration: int
    effective: Configuration


@dataclass(frozen=True, slots=True)
class SettingsProbed:
    """What is possible is known better: what would have kept the first token waiting has been tried now, while idle."""

    at_ns: int
    settings: tuple[SettingFacts, ...]


@dataclass(frozen=True, slots=True)
class CatalogueListed:
    """The models there are, as asked for by ListModels, and the devices with what of them is free now.

    What the loaded model holds counts as free: it goes before another one comes.
    """

    at_ns: int
    entries: tuple[CatalogueEntry, ...]
    devices: tuple[DeviceFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class LookedUp:
    """What is known of a model, as asked for by LookUp.

    `problem`: why nothing could be found out (the hub is silent, say), "" if it could. A load may be tried even so.
    """

    at_ns: int
    request: int
    entry: CatalogueEntry
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LayoutDefined:
    """The order of spans that steps will refer to by number (see engine.trace.ledger.Layout)."""

    layout: int
    names: tuple[SpanName, ...]
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GenerationStarted:
    """A prompt was taken. `submitted_ns` is the t0 of its latencies; tokenization took `tokenize_ns` of them.

    `prompt`: the text as the model sees it (after a chat template). `dropped_tokens`: how many its beginning lost.
    """

    generation: int
    submitted_ns: int
    tokenize_ns: int
    prompt: str
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    dropped_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SequenceJoined:
    """A sequence with a prompt of its own joins a generation: from step `step` on its prompt is prefilled.

    `submitted_ns`: the t0 of its own latencies, when the engine took it between two steps. `max_new_tokens`: as many as
    were asked for, or as the context has room for. Else as in GenerationStarted.
    """

    at_ns: int
    step: int
    generation: int
    sequence: int
    submitted_ns: int
    tokenize_ns: int
    prompt: str
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    dropped_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step, as it was stamped. `stamps`: int64 wall_ns in native byte order, as many as the layout says.

    `device_stamps`: when the device came to the same places, int64 device_ns on the host's axis, one a stamp and
    NO_TIME (see engine.trace.device_ledger) where only the host has one; empty where the device has no clock.
    `held_ns`: time since the step before in which the user held the engine (pause, switches): in no latency.
    `context_length`: tokens that the next step will find (prompt so far and generated), per sequence.
    `moved_bytes`, `operations`: what it had to move and to compute, at least (see engine.trace.floor); 0 where that is
    not known. `floor_ns`: the least time in which this machine could have done so, by its calibration of this number
    (of a model that is split over devices: that of the first, and a sum over the calibrations of each);
    0 and -1 where there is none.
    `captured`: it ran under the profiler, so that its times are larger than a step's: in no statistic.
    """

    index: int
    generation: int
    kind: StepKind
    configuration: int
    layout: int
    stamps: bytes
    held_ns: int
    context_length: int
    cache_bytes: int
    tokens: tuple[Token, ...] = ()
    prompt_tokens: int = 0  # prompt tokens processed by this step (prefill, encode), without padding
    batch: int = 1  # rows computed together: sequences, or beams
    padding_tokens: int = 0  # positions that were computed for nothing
    drafted: int = 0  # tokens that were proposed and checked (speculation)
    accepted: int = 0  # of these, the ones that the model would have chosen itself
    moved_bytes: int = 0
    operations: int = 0
    floor_ns: int = 0
    calibration: int = -1
    captured: bool = False
    device_stamps: bytes = b""

    def __reduce__(self) -> tuple[type["StepEnded"], tuple[object, ...]]:
        """As one call of its class (see Token): there are thousands a second."""
        return StepEnded, (
            self.index,
            self.generation,
            self.kind,
            self.configuration,
            self.layout,
            self.stamps,
            self.held_ns,
            self.context_length,
            self.cache_bytes,
            self.tokens,
            self.prompt_tokens,
            self.batch,
            self.padding_tokens,
            self.drafted,
            self.accepted,
            self.moved_bytes,
            self.operations,
            self.floor_ns,
            self.calibration,
            self.captured,
            self.device_stamps,
        )


@dataclass(frozen=True, slots=True)
class KernelsCaptured:
    """What step `step` was made of, as torch's profiler saw it: one entry an operation of the host or of a device.

    Arrays with a value an entry, in native byte order, by begin and then the longer first. `begin_ns`: int64, on the
    host's clock (perf_counter), true to `exact_ns`. `duration_ns`: int64. `name`, `lane`: uint32, places in `names` and
    `lanes`. `launched_by`: int32, the entry of the host that launched it, -1 for entries of the host and where that is
    not known. `lanes`: threads of the host, the first `host_lanes` of them, then streams of devices.
    `layout`, `stamps`: the spans of the same run by our own clocks, as in StepEnded.
    `again`: the step was made before, and its work was done again for this: these times are in no StepEnded.
    `dropped`: entries that were too many, the shortest ones. `notes`: what cannot be seen here, a sentence each.
    `took_ns`: all that the capture took, the step itself included; `overhead_ns`: starting, stopping and reading alone.
    """

    at_ns: int
    step: int
    layout: int
    stamps: bytes
    begin_ns: bytes
    duration_ns: bytes
    name: bytes
    lane: bytes
    launched_by: bytes
    names: tuple[str, ...]
    lanes: tuple[str, ...]
    host_lanes: int
    exact_ns: int
    again: bool = False
    dropped: int = 0
    notes: tuple[str, ...] = ()
    took_ns: int = 0
    overhead_ns: int = 0


@dataclass(frozen=True, slots=True)
class SequencesEncoded:
    """What step `step` made of its inputs, for a model without a decoder; follows its StepEnded."""

    step: int
    generation: int
    results: tuple[SequenceResult, ...]


@dataclass(frozen=True, slots=True)
class BeamsRanked:
    """The beams that step `step` left, best first; follows its StepEnded."""

    step: int
    generation: int
    beams: tuple[Beam, ...]


@dataclass(frozen=True, slots=True)
class GenerationEnded:
    """A generation is over. `reason`: "length", "end token", "context full", "inputs done", "stopped", "failed".

    `tail`: text that was still incomplete when it ended (replacement characters), so that nothing is lost.
    """

    generation: int
    at_ns: int
    reason: str
    tail: str = ""


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """Settings changed before step `step`: what was requested, what is effective, what the switch cost.

    `cause`: why the engine changed them by itself ("": it was told to).
    """

    at_ns: int
    step: int
    changes: tuple[SettingChange, ...]
    switch_ns: int
    configuration: int
    effective: Configuration
    cause: str = ""


@dataclass(frozen=True, slots=True)
class AlternationStarted:
    """From step `step` on two values of a setting take turns, A B B A, each for `turn_steps` steps that yield tokens.

    `first`, `second`: the values, A in force before. `configurations`, `effective`: of both; which of them a step was
    made under is in its StepEnded.
    """

    at_ns: int
    step: int
    key: str
    first: SettingValue
    second: SettingValue
    turn_steps: int
    configurations: tuple[int, int]
    effective: tuple[Configuration, Configuration]


@dataclass(frozen=True, slots=True)
class AlternationEnded:
    """The alternation is over before step `step`, and its first value in force again. `reason`: "" or what ended it."""

    at_ns: int
    step: int
    configuration: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SamenessMeasured:
    """How far the output under `configuration` lies from that under other values: `reference`, only what differs."""

    at_ns: int
    step: int
    configuration: int
    reference: Configuration
    sameness: Sameness
    took_ns: int


@dataclass(frozen=True, slots=True)
class ShapeDefined:
    """Under this configuration the model has another shape than the one in its facts. Comes before its first step."""

    at_ns: int
    configuration: int
    shape: ModelShape


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What this machine achieves. Steps whose floor stands on it refer to it by number.

    `origin`: "measured" just now, or "remembered" from its date. `reason`: why it was measured unasked ("" if it was
    asked for).
    """

    at_ns: int
    number: int
    calibration: Calibration
    origin: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FloorBeaten:
    """A step was faster than its floor, which cannot be: the calibration is broken. It is measured anew when idle.

    Told once for each calibration: for its first such step, behind its StepEnded.
    """

    at_ns: int
    step: int
    wall_ns: int
    floor_ns: int


@dataclass(frozen=True, slots=True)
class MemorySampled:
    """Memory of the engine, sampled at step boundaries, at most a few times a second. Absent values are None."""

    at_ns: int
    process_bytes: int | None
    weight_bytes: int
    cache_bytes: int
    device_allocated_bytes: int | None = None
    device_reserved_bytes: int | None = None
    process_peak_bytes: int | None = None  # the most that was ever resident
    device_peak_bytes: int | None = None  # the most that was ever allocated, since the model was loaded


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """An accelerator, as its driver describes it at one moment. What the driver does not say is None.

    `device`: as the engine names it ("cuda:0"). `utilization`: share of the last moments in which anything ran on it.
    `energy_j`: a counter of any beginning. `throttled`: what holds its clock down (empty: nothing does). `others`:
    (process id, bytes or None) of the programs that use it beside the engine.
    """

    device: str
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    utilization: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    temperature_c: float | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    throttled: tuple[str, ...] | None = None
    others: tuple[tuple[int, int | None], ...] | None = None


@dataclass(frozen=True, slots=True)
class TelemetrySampled:
    """The machine at one moment, as read outside of the engine. A sensor that is absent gives None, never 0.

    Shares and rates are of the time since the sample before. `took_ns`: processor time that reading has cost since
    then. `cpu`: share of all processors' time in use; `engine_cpu`, `others_cpu`: processors (1.0 is one) that the
    engine, and that neither the engine nor its front end kept busy. `steal`: share that the host of a virtual machine
    took away. `load`: programs that want to run, over the last minute. `engine_bytes`: resident memory of the engine.
    `energy_j`: of the processor packages and their memory, a counter of any beginning. `debugger`: the program that is
    attached to the engine ("": none). `notes`: sentences about sensors that are missing, or have just gone.
    """

    at_ns: int
    took_ns: int
    processors: int
    cpu: float | None = None
    engine_cpu: float | None = None
    others_cpu: float | None = None
    steal: float | None = None
    load: float | None = None
    engine_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    clock_hz: float | None = None
    temperature_c: float | None = None
    energy_j: float | None = None
    throttled: bool | None = None
    on_battery: bool | None = None
    debugger: str | None = None
    devices: tuple[DeviceSample, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TelemetryEnded:
    """Sensors are not read any more. `sentence`: why, "" where that was asked for."""

    at_ns: int
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class ObserverReport:
    """What measuring costs: marks a step, one mark's measured cost, and handing steps over (mean a step).

    `tracer`: what looks into every call of the engine's thread (a debugger of Python, say); "" for nothing.
    """

    at_ns: int
    marks_per_step: int
    mark_cost_ns: float
    emit_ns_per_step: float
    tracer: str = ""


@dataclass(frozen=True, slots=True)
class DisplayReport:
    """What drawing costs, as in gui.frame_meter: processor time of the thread that draws."""

    at_ns: int
    frame_ns: float | None
    frames_per_second: float
    core_share: float


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """What writing a session down costs: processor time of whoever writes, mean a step since the report before."""

    at_ns: int
    steps: int
    ns_per_step: float


@dataclass(frozen=True, slots=True)
class PartCompared:
    """What a part of the instrument does to a step: its wall time with the part over that without it, in turns.

    `part`: "marks", "display", "recording". `ratio`, `low`, `high`: as in engine.trace.statistics.Effect; None with too
    few pairs. `detail`: what was compared.
    """

    at_ns: int
    step: int
    part: str
    ratio: float | None
    low: float | None
    high: float | None
    pairs: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong: one sentence for people, details for a report. `command`: what it ended, if any."""

    at_ns: int
    sentence: str
    details: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something that people should know of what is measured, and that nothing failed by: one sentence.

    `about`: what it is about; a later one about the same takes its place.
    """

    at_ns: int
    sentence: str
    about: str


@dataclass(frozen=True, slots=True)
class EngineReplaced:
    """Before step `step` the engine was lost and another took its place, said by whoever replaced it.

    `reason`: how it was lost, one sentence. `gap_ns`: from its last word until the model was loaded again.
    `configuration`, `effective`: what is in force from here on.
    """

    at_ns: int
    step: int
    reason: str
    gap_ns: int
    configuration: int
    effective: Configuration


LONGEST_NOTE = 500  # characters


@dataclass(frozen=True, slots=True)
class NoteTaken:
    """Whoever watches has written a note on step `step`: up to LONGEST_NOTE characters.

    A step has one note: a later one takes the place of the one before, and one without text removes it.
    """

    at_ns: int
    step: int
    text: str


@dataclass(frozen=True, slots=True)
class EngineEnded:
    """The engine is gone. `sentence` is empty when it was asked to go."""

    at_ns: int
    sentence: str = ""
    exit_code: int | None = None
    report: str = field(default="")


Event = (
    EngineStarted
    | StateChanged
    | Progress
    | LoadCancelled
    | ModelLoaded
    | SettingsProbed
    | CatalogueListed
    | LookedUp
    | TokensCounted
    | LayoutDefined
    | GenerationStarted
    | SequenceJoined
    | StepEnded
    | KernelsCaptured
    | SequencesEncoded
    | BeamsRanked
    | GenerationEnded
    | SettingsChanged
    | AlternationStarted
    | AlternationEnded
    | SamenessMeasured
    | ShapeDefined
    | Calibrated
    | FloorBeaten
    | MemorySampled
    | TelemetrySampled
    | TelemetryEnded
    | ObserverReport
    | DisplayReport
    | RecordingReport
    | PartCompared
    | Failed
    | Noticed
    | EngineReplaced
    | NoteTaken
    | EngineEnded
)

Emit = Callable[[Event], None]  # takes an event on its way out
Flush = Callable[[], None]  # sends what has gathered, where events are sent in batches
