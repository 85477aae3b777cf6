"""What steps and events of a session file refer to, and whether they make sense where they stand."""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from engine.protocol import (
    LONGEST_NOTE,
    Calibrated,
    EngineEnded,
    Event,
    KernelsCaptured,
    LayoutDefined,
    MemorySampled,
    ModelLoaded,
    NoteTaken,
    ShapeDefined,
    TelemetrySampled,
)
from engine.trace import calibration
from engine.trace.ledger import Int64, Layout
from engine.trace.recording.rows import Notices
from engine.trace.recording.samples import Samples, capture_problem
from engine.trace.shapes import ModelShape

LATEST_NS = 2**61
MOST_EXPERTS = 65_536
MOST_LAYERS, MOST_LAYOUTS, MOST_CONFIGURATIONS = 4096, 1024, 100_000
MOST_NOTED = 1000  # steps that have a note
LAYERS_A_NAME = 16  # a layout names spans in most of its layers


class References:
    """What steps may refer to, and from which step on: layouts by number, and how many configurations there are."""

    def __init__(self, loaded: ModelLoaded) -> None:
        self.layouts: dict[int, list[tuple[int, Layout]]] = {}
        self._samples = Samples()
        self._configured: list[tuple[int, int]] = [(0, 1)]  # from which step on, how many
        self._noted: set[int] = set()  # steps that were written a note on

    def take(self, step: int, event: Event, notices: Notices) -> bool:
        """Whether an event makes sense here."""
        problem = _nonsense(event) or self._dangling(step, event)
        if problem:
            notices.add(f"events of the kind {type(event).__name__} {problem}")
        return not problem

    def _dangling(self, step: int, event: Event) -> str:
        match event:
            case LayoutDefined():
                return self._define(step, event)
            case ShapeDefined():
                return nonsense_of_shape(event.shape)
            case KernelsCaptured():
                return self._misfit(event)
            case TelemetrySampled() | MemorySampled():
                return self._samples.problem(event)
            case NoteTaken():
                return self._note(event)
        numbers = [getattr(event, "configuration", 0), *getattr(event, "configurations", ())]
        defines = hasattr(event, "effective")
        most = MOST_CONFIGURATIONS if defines else self._configured[-1][1]
        if not all(0 <= number < most for number in numbers):
            return "that refer to a configuration that does not exist"
        if defines:
            self._configured.append((step, max(self._configured[-1][1], *(number + 1 for number in numbers))))
        return ""

    def _define(self, step: int, event: LayoutDefined) -> str:
        count = sum(map(len, self.layouts.values()))
        layers = [name.layer for name in event.names]
        if count >= MOST_LAYOUTS or len(event.names) > LAYERS_A_NAME * MOST_LAYERS:
            return "that are too many, or too large"
        if layers and not (min(layers) >= -1 and max(layers) < min(MOST_LAYERS, LAYERS_A_NAME * len(layers))):
            return "that name a layer that cannot be"
        try:
            layout = Layout(event.names, event.codes)
        except ValueError as error:
            return f"that make no sense ({error})"
        self.layouts.setdefault(event.layout, []).append((step, layout))
        return ""

    def _note(self, event: NoteTaken) -> str:
        if len(event.text) > LONGEST_NOTE:
            return "that are too long"
        if event.step not in self._noted and len(self._noted) >= MOST_NOTED:
            return "that are too many"
        self._noted.add(event.step)
        return ""

    def _misfit(self, event: KernelsCaptured) -> str:
        if event.layout not in self.layouts:
            return "whose layout does not exist"
        return capture_problem(event, self.layouts[event.layout][-1][1])

    def configurations(self, numbers: Int64) -> Int64:
        """How many configurations there are when each step, by its number, is made, (n,)."""
        begins = np.array([step for step, _ in self._configured])
        counts = np.array([count for _, count in self._configured])
        found: Int64 = counts[np.searchsorted(begins, numbers, side="right") - 1]
        return found

    def layouts_of(self, numbers: Int64, wanted: Int64) -> tuple[list[Layout], Int64]:
        """All layouts, and the place in them of that of each step, (n,), by number and layout; -1 for none."""
        layouts: list[Layout] = []
        found = np.full(len(numbers), -1, np.int64)
        for number, definitions in self.layouts.items():
            rows = np.flatnonzero(wanted == number)
            for step, layout in definitions:
                found[rows[np.searchsorted(numbers[rows], step) :]] = len(layouts)
                layouts.append(layout)
        return layouts, found


def _nonsense(event: Event) -> str:
    """What about the numbers of an event cannot be, "" for nothing."""
    for name in event.__slots__:
        value = getattr(event, name)
        if type(value) is int and not -1 <= value <= LATEST_NS and not isinstance(event, EngineEnded):
            return "whose times or counts cannot be"
    if isinstance(event, Calibrated):
        try:
            calibration.checked(event.calibration)
        except ValueError:
            return "that no machine measures"
    return ""


def nonsense_of_shape(shape: ModelShape | None) -> str:
    """What about the shape of a model cannot be, "" for nothing."""
    sides = (
        [] if shape is None else [shape.decoder, shape.encoder, shape.draft.decoder if shape.draft else ()]
    )
    for side in sides:
        if not 0 <= sum(count for count, _ in side) <= MOST_LAYERS or any(count < 0 for count, _ in side):
            return "whose layers cannot be counted"
        if any(layer.mlp and not 0 <= layer.mlp.experts <= MOST_EXPERTS for _, layer in side):
            return "whose experts cannot be counted"
    return "whose numbers cannot be" if _least(shape) < 0 else ""


def _least(value: Any) -> int:
    """The least whole number in a value of dataclasses and tuples."""
    if isinstance(value, int):
        return value
    if is_dataclass(value):
        return min((_least(getattr(value, field.name)) for field in fields(value)), default=0)
    return min(map(_least, value), default=0) if isinstance(value, tuple) else 0
