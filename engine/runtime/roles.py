"""What a module is for, told by its class, its attribute name and what is inside it."""

import re
from collections.abc import Iterator
from enum import Enum
from itertools import takewhile
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


class Role(Enum):
    """What a module of a layer is for."""

    ATTENTION = "attention"
    CROSS_ATTENTION = "cross-attention"
    MLP = "mlp"
    MIXER = "mixer"
    NORM = "norm"  #: and residuals: additions, scales, hyper-connections


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_NORM_CLASS = _words("norm")
_NORM_NAME = _words(r"(^|_)(ln|norm|layernorm|layer_norm)(_|\d|$)", "norm$")
_INNER_NORM = _words("layer_?norm")
_RESIDUAL_CLASS = _words("residual", "hyper_?connection")
_MIXER_CLASS = _words(
    "mamba",
    "mixer",
    "ssm",
    "recurrent",
    "delta",
    "linear_?att",
    "short_?conv",
    "lightning",
    "lstm",
    "fourier",
    "retention",
    "rwkv.*attention",
    "kda",
)
_MIXER_NAME = _words(
    "mamba", "mixer", "ssm", "linear_attn", "linear_attention", "^conv$", "temporal_block", "lstm"
)
_MLP_CLASS = _words(
    "mlp", "ffn", "feed_?forward", "moe", "experts", r"dense\w*dense", "^ff$", "layerff$", "glu$"
)
_MLP_NAME = _words(r"^mlp", r"_mlp$", r"^ffn?(_|$)", "feed_?forward", "moe", "experts")
_ATTENTION = _words("attention", "attn")
_CROSS = _words("cross", "enc_?dec", "encoder_att")
_LOOSE_CLASS = _words("(Intermediate|Output)$")
_BEFORE = _words("embed", "rotary", "rope", "position", "alibi", "prompt", "^wte$", "^wpe$")
_BEHIND_NAME = _words("final", "last", "out(put)?(_|$)", "head", r"^ln_f$", r"^norm_f$")
_HEAD = _words("head$", "^cls$", "classif", "pool", "predict", "score", "vocab")
_JOINS = _words("vision", "visual", "image", "audio", "speech", "multi_?modal", "projector", "connector")
_PREPARES = _words(r"^(?!.*warn).*(mask|alibi|position_bias|position_ids|positional)")


class Roles:
    """Tells roles within one model. Class names are read without the model's own name ("RecurrentGemma…")."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model_class = type(model).__name__
        self._recorded = tuple(_recorded_attention(model))

    def of(self, name: str, module: nn.Module) -> Role | None:
        """The role of a module of a layer; None for wrappers, loose linears, dropouts and what is unknown."""
        if not has_parameters(module) or is_linear(module):
            return None
        role = self._by_class(module) or _by_name(name)
        if role is None or self._is_wrapper(module):
            return None
        crosses = role is Role.ATTENTION and (_CROSS.search(name) or _CROSS.search(type(module).__name__))
        return Role.CROSS_ATTENTION if crosses else role

    def _by_class(self, module: nn.Module) -> Role | None:
        full, own = type(module).__name__, self._own(module)
        if _RESIDUAL_CLASS.search(own):  # whatever it is the residual of, which its name may tell, too
            return Role.NORM
        if _NORM_CLASS.search(own):
            return None if _ATTENTION.search(own) else Role.NORM
        if _MIXER_CLASS.search(own) or re.match("rwkv.*attention", full, re.IGNORECASE):
            return Role.MIXER
        if isinstance(module, self._recorded):
            return Role.ATTENTION
        if _MLP_CLASS.search(own):
            return Role.MLP
        return Role.ATTENTION if _ATTENTION.search(own) else None

    def _own(self, module: nn.Module) -> str:
        """The name of a module's class without the model's own."""
        full = type(module).__name__
        return _without_common_begin(full, self._model_class) or full

    def _is_wrapper(self, module: nn.Module) -> bool:
        """Whether a module only adds norms to one that has a role itself (T5, DBRX)."""
        inside = [(n, m) for n, m in module.named_children() if has_parameters(m)]
        roles = [None if is_linear(m) else self._by_class(m) or _by_name(n) for n, m in inside]
        return None not in roles and Role.NORM in roles and len(set(roles)) > 1

    def norms_inside(self, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Norms of the layer, with their paths, that BERT and its kin keep inside of its parts.

        (Others in there belong to the part, as the norms of queries and keys do.)
        """
        for path, inner in module.named_modules():
            outputs = type(inner).__name__.endswith("Output")
            for name, child in inner.named_children():
                if (outputs or _INNER_NORM.fullmatch(name)) and self._is_norm(name, child):
                    yield f"{path}.{name}" if path else name, child

    def opens(self, name: str, module: nn.Module) -> bool:
        """Whether a module outside of the layers prepares their input: embeddings, positions, first norms."""
        named = _BEFORE.search(name) or _BEFORE.search(self._own(module))
        return (
            bool(named)
            or isinstance(module, nn.Embedding)
            or is_linear(module)
            or self._is_norm(name, module)
        )

    def closes(self, name: str, module: nn.Module, behind: bool) -> bool:
        """Whether a module outside of the layers works on their output. `behind`: it stands after them."""
        if isinstance(module, nn.Embedding) or _BEFORE.search(self._own(module)):
            return False
        if not (self._is_norm(name, module) or is_linear(module)):
            return behind and bool(_HEAD.search(name) or _HEAD.search(self._own(module)))
        return behind or bool(_BEHIND_NAME.search(name))

    def joins(self, name: str, module: nn.Module) -> bool:
        """Whether a module beside one that reads no text brings what that one reads into the text."""
        return bool(_JOINS.search(name) or _JOINS.search(self._own(module)))

    def _is_norm(self, name: str, module: nn.Module) -> bool:
        return self._by_class(module) is Role.NORM or (
            has_parameters(module) and bool(_NORM_NAME.search(name))
        )


def _without_common_begin(name: str, other: str) -> str:
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(name, other, strict=False)))
    while 0 < same < len(name) and name[same].islower():  # not in the middle of a word
        same -= 1
    return name[same:]


def _by_name(name: str) -> Role | None:
    for role, pattern in (
        (Role.NORM, _NORM_NAME),
        (Role.MIXER, _MIXER_NAME),
        (Role.MLP, _MLP_NAME),
        (Role.ATTENTION, _ATTENTION),
    ):
        if pattern.search(name):
            return role
    return None


def _recorded_attention(model: PreTrainedModel) -> list[type]:
    """The classes that the model itself declares to be attention (`_can_record_outputs`)."""
    classes: list[type] = []
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            declared: Any = (getattr(module, "_can_record_outputs", None) or {}).get("attentions", ())
            for item in declared if isinstance(declared, list | tuple) else [declared]:
                target = getattr(item, "target_class", item)
                classes += [target] if isinstance(target, type) and target is not nn.Module else []
    return classes


def has_parameters(module: nn.Module) -> bool:
    """Whether a module or one inside it holds a parameter."""
    return next(module.parameters(), None) is not None


def reads_text(module: nn.Module) -> bool:
    """Whether a module may run for text: not if it is a model of its own, for images or sound only."""
    return not isinstance(module, PreTrainedModel) or "text" in module.input_modalities


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a single matrix product."""
    return isinstance(module, nn.Linear | Conv1D)


def is_loose(module: nn.Module) -> bool:
    """Whether a module is a piece of an MLP without a module (linears of OPT, "…Output" of BERT)."""
    return is_linear(module) or bool(_LOOSE_CLASS.search(type(module).__name__))


def says_mask_or_positions(name: str) -> bool:
    """Whether a function of this name makes masks or positions for the layers."""
    return bool(_PREPARES.search(name))
