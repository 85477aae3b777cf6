"""What was measured, as plain values: the objects of JSON lines, printed by a run or written to a file."""

from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from engine.protocol import (
    AlternationEnded,
    AlternationStarted,
    Beam,
    BeamsRanked,
    Calibrated,
    DisplayReport,
    EngineReplaced,
    Event,
    FloorBeaten,
    GenerationEnded,
    GenerationStarted,
    MemorySampled,
    ModelFacts,
    ModelLoaded,
    NoteTaken,
    Noticed,
    ObserverReport,
    PartCompared,
    RecordingReport,
    SequenceJoined,
    SequencesEncoded,
    SettingsChanged,
    ShapeDefined,
    TelemetryEnded,
    TelemetrySampled,
)
from engine.trace.cycle_model import decode_models, prefill_models
from engine.trace.effects import trust
from engine.trace.lanes import lane_times, verdict_of
from engine.trace.metrics import Measured, as_json
from engine.trace.observer import DISPLAY, beyond_budget, instrument_cost, marks_compared, part_compared
from engine.trace.phases import PHASE_COUNT, Phase, Role
from engine.trace.store import NO_LATENCY, Trace, WarningMark

Record = dict[str, Any]


def event_record(event: Event) -> Record | None:
    """One event as plain values, `event` saying what it is; None for one that is no result. Steps: `step_record`."""
    match event:
        case ModelLoaded():
            return {"event": "model", **model_record(event.model), "settings": dict(event.effective)}
        case GenerationStarted():
            return {"event": "generation", "generation": event.generation, **_prompt_record(event)}
        case SequenceJoined():
            joined = {"generation": event.generation, "sequence": event.sequence, "step": event.step}
            return {"event": "joined", **joined, **_prompt_record(event)}
        case SettingsChanged():
            return {
                "event": "mark",
                "kind": "settings",
                "step": event.step,
                "at_ns": event.at_ns,
                "switch_ns": event.switch_ns,
                "configuration": event.configuration,
                "changes": [asdict(change) for change in event.changes],
                "cause": event.cause,
            }
        case NoteTaken():
            return {"event": "mark", "kind": "note", **asdict(event)}
        case GenerationEnded():
            told = {"generation": event.generation, "reason": event.reason, "tail": event.tail}
            return {"event": "end", **told}
        case EngineReplaced():
            return {"event": "gap", **asdict(event), "effective": dict(event.effective)}
        case AlternationStarted() | AlternationEnded():
            return {"event": "turns", "ended": isinstance(event, AlternationEnded), **asdict(event)}
        case TelemetryEnded():
            return {"event": "note", "sentence": event.sentence}
        case BeamsRanked():
            return {"event": _NAMES[BeamsRanked], **asdict(event), "beams": list(map(_beam, event.beams))}
        case SequencesEncoded() | MemorySampled() | TelemetrySampled():
            return {"event": _NAMES[type(event)], **asdict(event)}
        case ObserverReport() | DisplayReport() | RecordingReport() | PartCompared():
            return {"event": _NAMES[type(event)], **asdict(event)}
        case ShapeDefined() | Calibrated() | FloorBeaten() | Noticed():
            return {"event": _NAMES[type(event)], **asdict(event)}
    return None


_NAMES: dict[type, str] = {
    SequencesEncoded: "sequences",
    BeamsRanked: "beams",
    MemorySampled: "memory",
    ObserverReport: "observer",
    DisplayReport: "display",
    RecordingReport: "recording",
    PartCompared: "part",
    Noticed: "notice",
    ShapeDefined: "shape",
    Calibrated: "calibrated",
    FloorBeaten: "floor_beaten",
    TelemetrySampled: "telemetry",
}


def _beam(beam: Beam) -> Record:
    """A beam as plain values. JSON knows no infinity, which a beam scores that cannot go on."""
    return asdict(beam) | {"score": beam.score if isfinite(beam.score) else None}


def _prompt_record(event: GenerationStarted | SequenceJoined) -> Record:
    return {
        "submitted_ns": event.submitted_ns,
        "tokenize_ns": event.tokenize_ns,
        "prompt_tokens": len(event.prompt_ids),
        "max_new_tokens": event.max_new_tokens,
        "dropped_tokens": event.dropped_tokens,
    }


def cycle_record(trace: Trace, rows: range | None = None) -> Record | None:
    """What the cycle model says of some steps (all of them by default); None where they are too few for it."""
    decode, prefill = decode_models(trace, rows), prefill_models(trace, rows)
    if not decode and not prefill:
        return None
    told = {
        name: [asdict(model) | {"error": model.error, "holds": model.holds} for model in models]
        for name, models in (("decode", decode), ("prefill", prefill))
    }
    return {"event": "cycle_model", **told}


def summary_record(steps: int, tokens: int, measured: Sequence[Measured]) -> Record:
    """The metrics of so many steps and tokens, each with its unit and the count that it stands on."""
    metrics = {each.metric.key: as_json(each) for each in measured}
    return {"event": "summary", "steps": steps, "tokens": tokens, "metrics": metrics}


def warning_record(mark: WarningMark) -> Record:
    """Something about the machine that makes steps doubtful, and before which step it was noticed."""
    return {"event": "warning", "step": mark.step, "at_ns": mark.at_ns, **asdict(mark.warning)}


def instrument_record(trace: Trace) -> Record | None:
    """What the instrument cost, as plain values; None in it where a part was not measured, None where nothing was.

    `cost`: of marks and of handing over. `marks`, `drawing`: in turns with none. `display`, `recording`: the latest of
    what drawing and writing down said of themselves. `beyond_budget`: a sentence where a step costs more than it may.
    """
    cost = instrument_cost(trace, trace.observer[-1] if trace.observer else None)
    compared = marks_compared(trace)
    drawing = part_compared(trace, DISPLAY)
    if cost is None and compared is None and drawing is None:
        return None
    trusted = trust(trace)
    return {
        "event": "instrument",
        "cost": asdict(cost) if cost else None,
        "marks": asdict(compared) if compared else None,
        "drawing": asdict(drawing) if drawing else None,
        "display": asdict(trace.display[-1]) if trace.display else None,
        "recording": asdict(trace.recording[-1]) if trace.recording else None,
        "beyond_budget": beyond_budget(cost, trace.configuration) or None,
        "self_test": asdict(trusted) if trusted else None,
    }


def model_record(model: ModelFacts) -> Record:
    """A model as plain values; what is paired in its facts is keyed here: `load_stages_ns`, `placement`."""
    return asdict(model) | {"load_stages_ns": dict(model.load_stages_ns), "placement": dict(model.placement)}


def step_record(trace: Trace, row: int) -> Record:
    """One step as plain values. `phases_ns` sums to `wall_ns`; `layers_ns` is empty where layers are not told apart.

    `clock`: the one that phases and layers are told by, "device" or "host"; with the device's also its lanes.
    """
    steps = trace.steps
    itl_ns = int(steps.itl_ns[row])
    layout = trace.layouts[int(steps.layout[row])]
    present = {owner.phase if owner else Phase.UNATTRIBUTED for owner in layout.gap_owners}
    return {
        "event": "step",
        "index": row,
        "kind": trace.kind(row).value,
        "generation": int(steps.generation[row]),
        "configuration": int(steps.configuration[row]),
        "begin_ns": int(steps.begin_ns[row]),
        "wall_ns": int(steps.wall_ns[row]),
        "held_ns": int(steps.held_ns[row]),
        "itl_ns": None if itl_ns == NO_LATENCY else itl_ns,
        "phases_ns": {
            phase.name.lower(): int(steps.phases_ns[row, phase])
            for phase in map(Phase, range(PHASE_COUNT))
            if phase in present
        },
        "layers_ns": _layers(trace, row) if layout.layer_count else {},
        "clock": "host" if int(steps.device_offset[row]) < 0 else "device",
        **_device(trace, row),
        "context_length": int(steps.context_length[row]),
        "cache_bytes": int(steps.cache_bytes[row]),
        "prompt_tokens": int(steps.prompt_tokens[row]),
        "batch": int(steps.batch[row]),
        "padding_tokens": int(steps.padding_tokens[row]),
        "drafted": int(steps.drafted[row]),
        "accepted": int(steps.accepted[row]),
        "moved_bytes": _known(steps.moved_bytes[row]),
        "operations": _known(steps.operations[row]),
        "floor_ns": _known(steps.floor_ns[row]),
        "calibration": None if steps.calibration[row] < 0 else int(steps.calibration[row]),
        "captured": bool(steps.captured[row]),
        "tokens": [
            {
                "id": int(trace.tokens.id[i]),
                "text": trace.tokens.text[i],
                "arrival_ns": int(trace.tokens.arrival_ns[i]),
                "sequence": int(trace.tokens.sequence[i]),
            }
            for i in trace.tokens_of(row)
        ],
    }


def _device(trace: Trace, row: int) -> Record:
    """What the device's clock says of a step beside its phases; nothing where it says nothing."""
    times = lane_times(trace, row)
    if times is None:
        return {}
    return {
        "device_ns": times.device_ns,
        "starved_ns": times.starved_ns,
        "waiting_ns": times.waiting_ns,
        "launching_ns": times.launching_ns,
        "bound": verdict_of(trace, row, times).bound.value,
    }


def _known(value: int) -> int | None:
    return int(value) if value > 0 else None


def _layers(trace: Trace, row: int) -> dict[str, list[int]]:
    return {role.name.lower(): trace.steps.layers_ns[row, :, role].tolist() for role in Role}
