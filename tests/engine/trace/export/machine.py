"""The small session of `sessions` on a machine that says much of itself, with two steps that were captured in depth."""

from dataclasses import replace

import numpy as np

from engine.protocol import DeviceSample, Event, KernelsCaptured, MemorySampled, StepEnded, TelemetrySampled
from engine.trace.store import Trace
from tests.engine.trace import building
from tests.engine.trace.building import T0
from tests.engine.trace.export import sessions

PARTS = np.array([0, 1_001, 3_333, 3_334, 6_001, 6_005, 8_000, sessions.WALL])
GPU = DeviceSample("cuda:0", 5 << 30, 80 << 30, 0.75, 300.5, 100.0, 61.5, 1.5e9, 2.5e9, ("too hot",))
SAMPLE = TelemetrySampled(
    *(0, 7, 4, 0.5, 1.5, 0.25, None, 2.0, 1 << 30, 3 << 30, 8 << 30, 3e9, 55.0, 10.0),
    *(False, True, "", (GPU, replace(GPU, device="cuda:1", power_w=None, energy_j=None))),
)
ENTRIES = [
    ("aten::mm", 0, 1_100, 2_000, -1),
    ("launch", 0, 1_200, 300, -1),
    (sessions.MARKUP, 1, 1_400, 2_200, 1),
    ("inner", 1, 1_500, 2_101, 1),  # ends a nanosecond behind what holds it
]


def sample(at_ns: int, joules: float) -> TelemetrySampled:
    return replace(SAMPLE, at_ns=at_ns, energy_j=joules)


def capture(step: int, again: bool = False, at_ns: int = 0) -> KernelsCaptured:
    begin_ns = at_ns or T0 + 20_000 * step
    lanes = ("host", "cuda:0 stream 7")
    return building.kernels(ENTRIES, step, (begin_ns + PARTS).tolist(), lanes, again=again)


def events() -> list[Event]:
    """Samples before, among and behind the steps; step 1 ran under the profiler, step 3 was done again behind all."""
    found: list[Event] = [sample(T0 - 50_000, 10.0)]
    for event in sessions.events():
        if isinstance(event, StepEnded):
            event = replace(event, captured=event.index == 1)
        found.append(event)
        if isinstance(event, StepEnded) and event.index == 1:
            found.append(capture(1))
        if isinstance(event, StepEnded) and event.index == 3:
            found.append(sample(T0 + 75_000, 10.5))
            found.append(MemorySampled(T0 + 75_000, 1 << 30, 40, 2048, 1 << 20, 1 << 21))
    return [*found, sample(T0 + 10**9, 20.5), capture(3, again=True, at_ns=T0 + 2 * 10**9)]


def trace() -> Trace:
    """All of it, folded."""
    made = Trace(building.loaded(), sessions.STARTED)
    made.extend([building.APART, building.WHOLE, *events()])
    return made
