"""What was measured, as plain values: the objects of JSON lines, printed by a run or written to a file."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.protocol import (
    BeamsRanked,
    EngineReplaced,
    Event,
    GenerationEnded,
    GenerationStarted,
    MemorySampled,
    ModelFacts,
    ModelLoaded,
    Noticed,
    ObserverReport,
    SequenceJoined,
    SequencesEncoded,
    SettingsChanged,
)
from engine.trace.lanes import lanes, verdict
from engine.trace.metrics import Measured, as_json
from engine.trace.phases import PHASE_COUNT, Phase, Role
from engine.trace.store import NO_LATENCY, Trace

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
            }
        case GenerationEnded():
            told = {"generation": event.generation, "reason": event.reason, "tail": event.tail}
            return {"event": "end", **told}
        case EngineReplaced():
            return {"event": "gap", **asdict(event), "effective": dict(event.effective)}
        case SequencesEncoded() | BeamsRanked() | MemorySampled() | ObserverReport() | Noticed():
            return {"event": _NAMES[type(event)], **asdict(event)}
    return None


_NAMES: dict[type, str] = {
    SequencesEncoded: "sequences",
    BeamsRanked: "beams",
    MemorySampled: "memory",
    ObserverReport: "observer",
    Noticed: "notice",
}


def _prompt_record(event: GenerationStarted | SequenceJoined) -> Record:
    return {
        "submitted_ns": event.submitted_ns,
        "tokenize_ns": event.tokenize_ns,
        "prompt_tokens": len(event.prompt_ids),
        "max_new_tokens": event.max_new_tokens,
        "dropped_tokens": event.dropped_tokens,
    }


def summary_record(steps: int, tokens: int, measured: Sequence[Measured]) -> Record:
    """The metrics of so many steps and tokens, each with its unit and the count that it stands on."""
    metrics = {each.metric.key: as_json(each) for each in measured}
    return {"event": "summary", "steps": steps, "tokens": tokens, "metrics": metrics}


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
    both = lanes(trace, row)
    if both is None:
        return {}
    return {
        "device_ns": both.device_ns,
        "starved_ns": both.starved_ns,
        "waiting_ns": both.waiting_ns,
        "launching_ns": both.launching_ns,
        "bound": verdict(both).bound.value,
    }


def _layers(trace: Trace, row: int) -> dict[str, list[int]]:
    return {role.name.lower(): trace.steps.layers_ns[row, :, role].tolist() for role in Role}
