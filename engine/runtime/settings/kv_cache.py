"""Where keys and values of earlier tokens are kept: nowhere, in a growing cache, or in a reserved one."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.caches import KINDS, convert
from engine.runtime.live import LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import agree, first_layers, first_sentence, run_trial

_LABELS = {"none": "None (recompute)", "dynamic": "Dynamic", "static": "Static (reserved)"}
_EXPECTED = {
    "none": "Much slower: every token computes the whole sequence again.",
    "dynamic": "Grows by one token a step: the usual choice.",
    "static": "Usually slower without compilation: every step attends over the whole reserved length.",
}
_TRIAL_SIZES = (3, 1, 1)  # no second chunk: whether a model takes one is another setting's question
#: In an encoder–decoder most tokens come one by one, and a few models (ProphetNet) then tell positions otherwise.
_ANSWER_SIZES = (3, *[1] * 9)


class KvCache:
    """The kind of KV cache, switched with what is cached."""

    key = "kv_cache"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Every kind is tried on a few tokens and compared with the dynamic cache."""
        with first_layers(live):
            reasons = self._reasons(live)
        choices = tuple(Choice(kind, _LABELS[kind], reasons[kind], _EXPECTED[kind]) for kind in KINDS)
        possible = [kind for kind in ("dynamic", "none", "static") if not reasons[kind]]
        return SettingFacts(
            key=self.key,
            family="KV cache",
            label="KV cache",
            kind="choice",
            default=possible[0] if possible else live.cache_kind,
            choices=choices,
            expected="Keeps the keys and values of earlier tokens, so that a step computes new ones only.",
        )

    def _reasons(self, live: LiveModel) -> dict[str, str]:
        if not live.cache_argument:
            missing = "This model's forward pass takes no cache: every step computes the whole sequence."
            return {"none": "", "dynamic": missing, "static": missing}
        try:
            reference = run_trial(live, _sizes(live))
        except Exception as error:  # whatever a model raises is the reason
            return {
                kind: "" if kind == "none" else f"It fails on this model: {first_sentence(error)}."
                for kind in KINDS
            }
        return {
            "none": _difference(live, "none", reference[-1:]),
            "dynamic": "",
            "static": why_not_static(live) or _difference(live, "static", reference),
        }

    def current(self, live: LiveModel) -> SettingValue:
        """The kind of cache in force."""
        return live.cache_kind

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Convert the running generation's cache; adding one where there was none costs a prefill."""
        kind = str(value)
        if kind not in KINDS:
            raise SettingRefused(f"There is no KV cache of kind '{kind}': choose {', '.join(KINDS)}.")
        if kind == "static" and (reason := why_not_static(live)):
            raise SettingRefused(reason)
        if live.context is not None:
            convert(live, live.context, kind)
        live.cache_kind = kind


def _sizes(live: LiveModel) -> tuple[int, ...]:
    return _TRIAL_SIZES if live.anatomy.encoder is None else _ANSWER_SIZES


def why_not_static(live: LiveModel) -> str:
    """Why this model cannot have a static cache, by its structure alone; "" when it may."""
    if live.cache_argument == "state":
        return "This model keeps a state of its own instead of a KV cache: there is nothing to reserve."
    if not live.cache_argument:
        return "This model's forward pass takes no cache: there is nothing to reserve."
    layers = DynamicCache(config=live.model.config.get_text_config(decoder=True)).layers
    if layers and not any(isinstance(layer, CacheLayerMixin) for layer in layers):
        return (
            "This model keeps a state of fixed size instead of keys and values: there is nothing to reserve."
        )
    return ""


def _difference(live: LiveModel, kind: str, reference: torch.Tensor) -> str:
    try:
        logits = run_trial(live, _sizes(live), kind)
    except Exception as error:  # whatever a model raises is the reason
        return f"It fails on this model: {first_sentence(error)}."
    if agree(live, reference, logits):
        return ""
    return "It gives other results than the dynamic cache on this model, so it would change the text."
