"""Decides from a model's config.json alone whether it can run here: a causal, decoder-only language model that this
version of transformers knows."""

from importlib.metadata import version
from typing import Any

from engine.runtime.models.errors import ModelError

_CODE = (
    "Model '{name}' wants to run its own Python code ({code}), which is refused because it could do anything:"
    " choose a model whose architecture is part of transformers."
)
_UNKNOWN = (
    "Model '{name}' has the architecture '{kind}', which transformers {version} does not know:"
    " upgrade transformers or choose another model."
)
_NO_TYPE = "The configuration of '{name}' names no model_type: get a complete copy of the model, in Hugging Face form."
_WRONG_KIND = (
    "Model '{name}' ({kind}) is {what}; so far only decoder-only language models can be run:"
    " choose one of those."
)


def check_kind(name: str, config: dict[str, Any]) -> None:
    """Raise ModelError when a model with this config.json cannot be run here, saying why."""
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise ModelError(_remote_code(name, config) or _NO_TYPE.format(name=name))
    if kind not in CONFIG_MAPPING:
        unknown = _UNKNOWN.format(name=name, kind=kind, version=version("transformers"))
        raise ModelError(_remote_code(name, config) or unknown)
    what = other_kind(kind, config)
    if what:
        raise ModelError(_WRONG_KIND.format(name=name, kind=kind, what=what))


def _remote_code(name: str, config: dict[str, Any]) -> str:
    """The refusal of remote code; "" when none is asked for. (Known architectures may name it: it is not used.)"""
    code = config.get("auto_map")
    if not isinstance(code, dict) or not code:
        return ""
    wanted = code.get("AutoModelForCausalLM") or next(iter(code.values()))
    return _CODE.format(name=name, code=wanted)


def other_kind(kind: str, config: dict[str, Any]) -> str:
    """What a known architecture is instead of a decoder-only language model; "" when it is one."""
    from transformers.models.auto import modeling_auto as auto

    if config.get("is_encoder_decoder") or (
        kind in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES and not config.get("is_decoder")
    ):
        return "an encoder–decoder model"
    # Families such as BERT have a causal head too, but their checkpoints are bidirectional unless they say otherwise.
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder"):
        return "an encoder-only model"
    return "" if kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "not a causal language model"
