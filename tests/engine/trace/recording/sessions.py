"""Sessions to write down: events of every kind, made by hand or by their types, and traces compared to the last bit."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from engine.protocol import (
    AlternationEnded,
    AlternationStarted,
    Beam,
    BeamsRanked,
    Calibrated,
    DeviceFacts,
    DeviceSample,
    EngineEnded,
    EngineReplaced,
    EngineStarted,
    EngineState,
    Event,
    FloorBeaten,
    KernelsCaptured,
    MemorySampled,
    ModelLoaded,
    NoteTaken,
    ObserverReport,
    RecordingReport,
    SamenessMeasured,
    SequenceResult,
    SequencesEncoded,
    SettingChange,
    SettingsChanged,
    ShapeDefined,
    StateChanged,
    StepEnded,
    TelemetrySampled,
)
from engine.trace.calibration import Calibration
from engine.trace.device_ledger import NO_TIME
from engine.trace.phases import StepKind
from engine.trace.recording.session_file import SessionFile
from engine.trace.sameness import Sameness
from engine.trace.shapes import AttentionShape, LayerShape, MlpShape, ModelShape, Weights
from engine.trace.stamps import Stamps
from engine.trace.store import Steps, Trace
from tests.engine.trace import building
from tests.engine.trace.building import MS, T0, joined, started, step

EAGER, SDPA = (("attention", "eager"), ("top_p", 0.5)), (("attention", "sdpa"), ("top_p", 1))
STARTED = EngineStarted(
    5, 3, 4242, (("torch", "2.13"), ("python", "3.11")), (DeviceFacts("cpu", "CPU", 8, 4),), "a CPU", 2
)
SHAPE = ModelShape(((2, LayerShape(AttentionShape(Weights(8, 4), 3, 2), mlp=MlpShape(Weights(5, 6), 4, 2))),))
RUNGS = ((4096, 1e10), (2**29, 5e9))
CALIBRATION = Calibration("a CPU", "cpu", 1, "", 1.7e9, RUNGS, (("float32", 1e11),), 0.01)
DEVICE = np.array([NO_TIME, 2, 4, 5, 7, 9, 14, NO_TIME], np.int64).tobytes()
NO_DEVICE = np.full(8, NO_TIME, np.int64).tobytes()
LOADED = replace(building.loaded(2, EAGER), model=replace(building.loaded(2).model, shape=SHAPE))


def numbered(events: list[Event]) -> list[Event]:
    """The same with steps numbered as an engine does, one behind the other in time."""
    numbered: list[Event] = []
    count = 0
    for event in events:
        if isinstance(event, StepEnded):
            shift = T0 + count * 20
            stamps = (np.frombuffer(event.stamps, np.int64) + shift).tobytes()
            event = replace(event, index=count, stamps=stamps, device_stamps=_shifted(event, shift))
            count += 1
        elif isinstance(event, BeamsRanked | FloorBeaten | KernelsCaptured | NoteTaken | SequencesEncoded):
            event = replace(event, step=count - 1)
        numbered.append(event)
    return numbered


def _shifted(event: StepEnded, shift: int) -> bytes:
    times = np.frombuffer(event.device_stamps, np.int64)
    return np.where(times == NO_TIME, NO_TIME, times + shift).astype(np.int64).tobytes()


def rich() -> list[Event]:
    """A session with everything that a trace knows of: switches, joins, beams, turns, an engine that is lost."""
    change = SettingChange("attention", "flash", "sdpa", "flash is not installed")
    sameness = Sameness(9, 8, -1, 1.0, float("inf"), 0.25, -0.125)
    plain = [step([T0 + k * MS], configuration=k % 2) for k in range(1, 40)]
    return numbered(
        [
            STARTED,
            LOADED,
            StateChanged(T0, EngineState.RUNNING),
            building.APART,
            building.WHOLE,
            MemorySampled(T0, 5, 6, 7),
            started(),
            step(kind=StepKind.PREFILL, held_ns=70, prompt_tokens=3),
            step([T0 + 100]),
            SettingsChanged(T0 + 101, 2, (change,), 5_000, 1, SDPA),
            *plain[:11],
            ObserverReport(T0 + 102, 12, 150.5, 2e3),
            step([T0 + 44 * MS], stamps=(0, 2, 5, 5, 9, 6_000_000_000), layout=1, drafted=4, accepted=2),
            joined(sequence=1, submitted_ns=T0 + 45 * MS),
            step([T0 + 46 * MS], sequences=(1,), kind=StepKind.PREFILL),
            step([T0 + 47 * MS], sequences=(0, 1), held_ns=9),
            step([T0 + 48 * MS, T0 + 49 * MS]),
            MemorySampled(T0 + 50 * MS, None, 6, 7, 8, 9),
            AlternationStarted(T0, 18, "attention", "sdpa", "eager", 2, (1, 2), (SDPA, EAGER)),
            *(replace(each, configuration=1 + k % 2) for k, each in enumerate(plain[20:30])),
            AlternationEnded(T0, 28, 1, "asked"),
            SamenessMeasured(T0, 28, 1, EAGER, sameness, 3 * MS),
            step(kind=StepKind.BACKWARD),
            ShapeDefined(T0, 1, SHAPE),
            Calibrated(T0, 0, CALIBRATION, "measured"),
            step([T0 + 60 * MS], captured=True, held_ns=3),
            building.kernels([("op", 0, 1, 5, -1), ("kernel", 1, 2, 2, 0)], lanes=("host", "stream 7")),
            replace(step([T0 + 62 * MS]), moved_bytes=7, operations=9, floor_ns=3, calibration=0),
            FloorBeaten(T0, 30, 3, 4),
            TelemetrySampled(T0 + 63 * MS, 5, 2, cpu=0.5, devices=(DeviceSample("cuda:0", power_w=70.5),)),
            replace(step([T0 + 64 * MS]), device_stamps=DEVICE),
            step([T0 + 66 * MS]),
            NoteTaken(T0, 33, "<i>here</i> it begins"),
            RecordingReport(T0, 33, 20_500.5),
            EngineReplaced(T0 + 70 * MS, 33, "The device was lost.", 5 * MS, 3, EAGER),
            building.APART,
            replace(step([T0 + 72 * MS], configuration=3), device_stamps=NO_DEVICE),
            building.ended(tail="\N{REPLACEMENT CHARACTER}"),
            started(1, T0 + 200 * MS),
            step([T0 + 300 * MS], generation=1, batch=2),
            BeamsRanked(32, 1, (Beam("a", 1, -0.5), Beam("<b>b</b>", 2, float("-inf"), True))),
            step(generation=1, kind=StepKind.ENCODE, padding_tokens=2),
            SequencesEncoded(33, 1, (SequenceResult("in", 3, (("out", 0.9),), 0),)),
            EngineEnded(T0 + 400 * MS, "The engine process was killed.", -9, "Traceback …"),
        ]
    )  # fmt: skip


def written(path: Path, events: list[Event], together: int = 7, ended: bool = True) -> Path:
    """A file with these events, a few a transaction."""
    file = SessionFile(path, {"program": "test"})
    for begin in range(0, len(events), together):
        file.write(events[begin : begin + together])
    if ended:
        file.note({"ended_at": "now"})
        file.close()
    else:
        file.abandon()
    return path


def fold(events: list[Event]) -> Trace:
    """The trace of a session's events, one by one."""
    trace = Trace()
    for event in events:
        if isinstance(event, ModelLoaded):
            trace = Trace(event, trace.engine)
        trace.append(event)
    return trace


# ---------------------------------------------------------------- comparing


def assert_same(one: Any, other: Any, where: str = "trace") -> None:
    """Two values are of one type and hold the same, to the last bit and the type of each column."""
    if isinstance(one, Steps) and isinstance(other, Steps):  # which may share their columns with others
        one, other = (
            {**steps._columns, "stamps": steps.stamps, "device": steps.device_stamps}
            for steps in (one, other)
        )
    assert type(one) is type(other), where
    if isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        np.testing.assert_array_equal(one, other, where)
    elif isinstance(one, Mapping):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for place, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{place}]")
    elif isinstance(one, Stamps):  # of a file they are kept otherwise
        assert len(one) == len(other), where
        for step in range(len(one)):
            assert_same(one.of(step), other.of(step), f"{where}[{step}]")
    elif type(one).__name__ == "Column":
        assert_same(one.values, other.values, where)
    elif is_dataclass(one) and not isinstance(one, type):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif hasattr(one, "__dict__") and not isinstance(one, Enum):
        assert_same(vars(one), vars(other), where)
    else:
        assert one == other or (one != one and other != other), where


# ---------------------------------------------------------------- any event


def any_of(kind: Any, random: random.Random, name: str = "") -> Any:
    """An instance of a type, made of its declared types alone."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: any_of(hints[f.name], random, f.name) for f in fields(kind)})
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(any_of(arguments[0], random, name) for _ in range(random.randrange(4)))
        return tuple(any_of(each, random, name) for each in arguments)
    if arguments:
        return any_of(random.choice(arguments), random, name)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return random.choice(list(kind))
    made: dict[Any, Any] = {
        int: random.choice([0, 1, 7, 2**40, -1]),
        float: random.choice([0.0, -2.5, 1e300, 3.0]),
        bool: random.random() < 0.5,
        str: random.choice(["", "a", "<b>&amp;</b>", "你好 \N{GRINNING FACE}", 'it\'s "so"\n\0\\', "NaN"]),
        bytes: random.choice([b"", bytes(range(256))]),
        NoneType: None,
    }
    return made[kind]


def each_kind(kinds: Mapping[str, Any], count: int, seed: int = 0) -> Iterator[Any]:
    """`count` instances of each of several dataclasses."""
    source = random.Random(seed)
    for kind in kinds.values():
        for _ in range(count):
            yield any_of(kind, source)
