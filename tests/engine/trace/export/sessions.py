"""A small session made by hand with something of everything: two generations, a change, a join, memory, a tail."""

from dataclasses import replace

import numpy as np

from engine.protocol import (
    DeviceFacts,
    EngineStarted,
    Event,
    MemorySampled,
    ObserverReport,
    SettingChange,
    SettingsChanged,
    StepEnded,
    Token,
)
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from tests.engine.trace import building

MARKUP = '<script>alert("1")</script>&amp;\'"=cmd|\x00\x1b\udc80'
STARTED = EngineStarted(
    0,
    3,
    7,
    (("python", "3.11.7"), ("torch", "2.13")),
    (DeviceFacts("cpu", "CPU", 8 << 30, 4 << 30),),
    "a processor",
    2,
)
OBSERVED = ObserverReport(0, 8, 120.5, 2_000.0)
WALL = 10_007  # ns, odd on purpose: a microsecond has three decimals


def step(row: int, kind: StepKind, texts: tuple[str, ...] = (), **others: int) -> StepEnded:
    """Step `row` of the session, 20 µs after the one before; its tokens arrive one ns before its end."""
    begin = building.T0 + 20_000 * row
    parts = np.array([0, 1_001, 3_333, 3_334, 6_001, 6_005, 8_000, WALL])
    arrival = begin + WALL - 1
    tokens = tuple(Token(100 + row, text, arrival, place) for place, text in enumerate(texts))
    made = building.step(kind=kind, stamps=(begin + parts).tolist(), **others)
    return replace(made, index=row, tokens=tokens, context_length=4 + row, cache_bytes=1024 * row)


def changed(effective: str = "bfloat16", reason: str = "") -> SettingsChanged:
    at = building.T0 + 20_000 * 4 - 3_000
    change = SettingChange("precision", "bfloat16", effective, reason)
    return SettingsChanged(at, 4, (change,), 2_500, 1, (("precision", effective),))


def events(text: str = "a") -> list[Event]:
    """Six steps. Generation 0: a prefill, then decoding; a change before step 4; generation 1 from step 5 on."""
    decode, prefill = StepKind.DECODE, StepKind.PREFILL
    return [
        OBSERVED,
        building.started(0, building.T0 - 5_000),
        step(0, prefill, ("He",), prompt_tokens=3),
        MemorySampled(building.T0 + 15_000, 1 << 20, 40, 1024),
        step(1, decode, (text,)),
        replace(building.joined(1, building.T0 + 40_000), step=2, at_ns=building.T0 + 39_000),
        step(2, prefill, prompt_tokens=23),
        step(3, decode, ("b", "x"), batch=2),
        changed(),
        step(4, decode, ("c", "y"), batch=2, configuration=1),
        replace(building.ended(0, "\ufffd"), at_ns=building.T0 + 20_000 * 5 - 100),
        building.started(1, building.T0 + 20_000 * 5 - 200),  # submitted before the one before is over
        step(5, prefill, ("Q",), generation=1, configuration=1, prompt_tokens=3),
    ]


def trace(text: str = "a", name: str = "toy") -> Trace:
    """All of it, folded."""
    loaded = building.loaded()
    made = Trace(replace(loaded, model=replace(loaded.model, name=name)), STARTED)
    made.extend([building.APART, building.WHOLE, *events(text)])
    return made
