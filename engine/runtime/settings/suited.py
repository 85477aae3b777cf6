"""What a model has no use for, by its kind and its place: settings that would do nothing, or break it."""

from dataclasses import replace

from engine.protocol import Family, ModelFacts, SettingFacts

_REASONS = {
    "KV cache": "This model reads an input once and writes nothing, so there is nothing to keep.",
    "decoding": "This model chooses no tokens, so there is nothing to decode.",
    "speculation": "This model chooses no tokens, so there is nothing to propose.",
    "batch": "This model decodes nothing: how many inputs it reads in a step is said with the prompt.",
}
_NO_STEPS = "Only decode steps are compiled or captured, and this model makes none."
_REASONS_BY_KEY = {
    "prefill_chunk": "This model sees all of an input at once: it cannot be cut into chunks.",
    "compile": _NO_STEPS,
    "cuda_graphs": _NO_STEPS,
    "read_back": "This model chooses no tokens, so there are none to wait for.",
}


#: Weights that are kept elsewhere come along for a call only, and a cache that is reserved lies on one device.
_SPLIT = "The layers are split over several devices: load the model on one device to change this."
_WHOLE_ONLY = frozenset(
    {"precision", "quantization", "mlp_pruning", "head_pruning", "layer_skipping", "sparsity", "kv_cache"}
)


def suited(facts: SettingFacts, model: ModelFacts) -> SettingFacts:
    """The facts of a setting, refused where a model of this family, or one that is split, cannot use it."""
    reason = _SPLIT if model.placement and facts.key in _WHOLE_ONLY else ""
    if model.family is Family.ENCODER:
        reason = _REASONS_BY_KEY.get(facts.key) or _REASONS.get(facts.family, reason)
    return replace(facts, reason=reason) if reason else facts
