"""Events of an engine that goes on where another one was lost, numbered so that what both say is one trace."""

from dataclasses import fields, replace
from typing import Any

from engine.protocol import EngineReplaced, Event, ModelLoaded
from engine.trace.store import Trace

#: What an engine numbers from 0, by the names of the fields that refer to it.
_NUMBERED = {
    "index": "steps",
    "step": "steps",
    "generation": "generations",
    "layout": "layouts",
    "configuration": "configurations",
    "calibration": "calibrations",
    "number": "calibrations",
}


def is_same_model(trace: Trace, loaded: ModelLoaded) -> bool:
    """Whether a model is the trace's, so that its steps can follow."""
    model = trace.model
    return model is not None and (model.name, model.layer_names) == (
        loaded.model.name,
        loaded.model.layer_names,
    )


class Continuation:
    """Renumbers the events of the new engine, which begins to count anew, for a trace that goes on.

    What it says of its model becomes an EngineReplaced: `replaced`.
    """

    def __init__(self, trace: Trace, loaded: ModelLoaded, reason: str, lost_ns: int) -> None:
        """`lost_ns`: when the engine before was heard last."""
        numbers = [record.started.generation for record in trace.generations]
        self._offsets = {
            "steps": trace.first_index + len(trace.steps),
            "generations": 1 + max(numbers, default=-1),
            "layouts": 1 + max(trace.layouts, default=-1),
            "configurations": len(trace.configurations),
            "calibrations": 1 + max(trace.calibrations, default=-1),
        }
        self.replaced = EngineReplaced(
            loaded.at_ns,
            self._offsets["steps"],
            reason,
            loaded.at_ns - lost_ns,
            loaded.configuration + self._offsets["configurations"],
            loaded.effective,
        )

    def __call__(self, event: Event) -> Event:
        """The event with the numbers of the trace."""
        changed: dict[str, Any] = {
            each.name: getattr(event, each.name) + self._offsets[_NUMBERED[each.name]]
            for each in fields(event)
            if each.name in _NUMBERED and _is_number(getattr(event, each.name))
        }
        both = getattr(event, "configurations", None)
        if both is not None:
            changed["configurations"] = tuple(number + self._offsets["configurations"] for number in both)
        return replace(event, **changed) if changed else event


def _is_number(value: object) -> bool:
    """Whether a field refers to something: -1 stands for nothing, and what a calibration found is no number."""
    return isinstance(value, int) and value >= 0
