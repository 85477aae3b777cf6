"""Decides from a model's config.json alone what kind of language model it is, and whether it can run here."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from engine.protocol import Family
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
    "Model '{name}' ({kind}) is not a language model that reads and writes text:"
    " choose a decoder-only, encoder–decoder or encoder-only language model."
)
_PREDICTS_AT_A_BLANK = (
    "Model '{name}' ({kind}) does not continue a text but fills in a blank that is appended to it, which cannot be"
    " run here: choose another language model."
)
#: What these say after a token is what they make of that token, not what follows it.
_BLANK_FILLERS = {"xlm", "xlnet"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a model is: its family, what its head does, and the Auto class of transformers that builds it."""

    family: Family
    task: str
    auto_class: str


CAUSAL = Kind(Family.DECODER, "text generation", "AutoModelForCausalLM")
SEQ2SEQ = Kind(Family.ENCODER_DECODER, "text generation", "AutoModelForSeq2SeqLM")
MASKED = Kind(Family.ENCODER, "fill-mask", "AutoModelForMaskedLM")
CLASSIFIER = Kind(Family.ENCODER, "classification", "AutoModelForSequenceClassification")
FEATURES = Kind(Family.ENCODER, "features", "AutoModel")


def kind_of(name: str, config: dict[str, Any]) -> Kind:
    """The kind of a model with this config.json. Raises ModelError when it cannot be run here, saying why."""
    from transformers import CONFIG_MAPPING

    type_ = config.get("model_type")
    if not isinstance(type_, str) or not type_:
        raise ModelError(_remote_code(name, config) or _NO_TYPE.format(name=name))
    if type_ not in CONFIG_MAPPING:
        unknown = _UNKNOWN.format(name=name, kind=type_, version=version("transformers"))
        raise ModelError(_remote_code(name, config) or unknown)
    kind = _known_kind(type_, config)
    if kind is None:
        raise ModelError(_WRONG_KIND.format(name=name, kind=type_))
    if kind is CAUSAL and type_ in _BLANK_FILLERS:
        raise ModelError(_PREDICTS_AT_A_BLANK.format(name=name, kind=type_))
    return kind


def _remote_code(name: str, config: dict[str, Any]) -> str:
    """The refusal of remote code; "" when none is asked for. (Known architectures may name it: it is not used.)"""
    code = config.get("auto_map")
    if not isinstance(code, dict) or not code:
        return ""
    wanted = code.get("AutoModelForCausalLM") or next(iter(code.values()))
    return _CODE.format(name=name, code=wanted)


def _known_kind(type_: str, config: dict[str, Any]) -> Kind | None:
    from transformers.models.auto import modeling_auto as auto

    head = _head(config)
    if head.endswith("ForSequenceClassification"):
        known = type_ in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        return CLASSIFIER if known and not config.get("is_encoder_decoder") else None
    if config.get("is_encoder_decoder") or (
        type_ in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES and not config.get("is_decoder")
    ):
        return SEQ2SEQ if _reads_text(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.get(type_)) else None
    # Families such as BERT have a causal head too, but their checkpoints are bidirectional unless they say otherwise.
    if type_ in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.get("is_decoder"):
        return FEATURES if head.endswith("Model") and not head.endswith("LMHeadModel") else MASKED
    return CAUSAL if type_ in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else None


def _reads_text(class_name: str | None) -> bool:
    """Whether there is such a class and it does not read sound (transformers counts those as sequence to sequence)."""
    import transformers

    modalities = getattr(getattr(transformers, class_name or "", None), "input_modalities", None)
    return modalities is not None and "audio" not in modalities


def _head(config: dict[str, Any]) -> str:
    """The class that wrote the checkpoint, as it says; "" where it does not."""
    classes = config.get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else ""
