"""Where keys and values of earlier tokens are kept: nowhere, in a growing cache, a reserved one, packed, elsewhere, or
those of the last tokens only.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.caches import KINDS, convert
from engine.runtime.live import LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import agree, first_layers, first_sentence, run_trial
from engine.runtime.settings.values import read_value

_LABELS = {
    "none": "None (recompute)",
    "dynamic": "Dynamic",
    "static": "Static (reserved)",
    "quantized": "Quantized (float8)",
    "offloaded": "Offloaded (main memory)",
    "sliding": "Sliding window",
}
_EXPECTED = {
    "none": "Much slower: every token computes the whole sequence again.",
    "dynamic": "Grows by one token a step: the usual choice.",
    "static": "Usually slower without compilation: every step attends over the whole reserved length.",
    "quantized": "A quarter of the bytes of float32, half of 16 bit; slower, since every step unpacks all of it.",
    "offloaded": "Frees memory of the device for long contexts; slower, since every step copies each layer's part in.",
    "sliding": "Bytes and time stop growing at the window; what lies before it is forgotten.",
}
_LOSSY = ("quantized", "sliding")
_TRIAL_SIZES = (3, 1, 1)  # no second chunk: whether a model takes one is another setting's question
#: In an encoder–decoder most tokens come one by one, and a few models (ProphetNet) then tell positions otherwise.
_ANSWER_SIZES = (3, *[1] * 9)
#: Of a trial of windows: both the prompt and the steps after it are beyond it.
_TRIAL_WINDOW, _WINDOW_SIZES = 4, (6, 1, 1)
#: How far a quantized cache may move a result, in standard deviations of it: more, and something is broken.
_QUANTIZED_TOLERANCE = 0.5
_SMALLEST_WINDOW = 2


class KvCache:
    """The kind of KV cache, switched with what is cached."""

    key = "kv_cache"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Every kind is tried on a few tokens and compared with the dynamic cache."""
        with first_layers(live):
            reasons = self._reasons(live)
        choices = tuple(
            Choice(kind, _LABELS[kind], reasons[kind], _EXPECTED[kind], kind not in _LOSSY) for kind in KINDS
        )
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
            return {kind: "" if kind == "none" else missing for kind in KINDS}
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
            "static": why_not(live, "static") or _difference(live, "static", reference),
            "quantized": why_not(live, "quantized") or _damage(live, reference),
            "offloaded": why_not(live, "offloaded") or _difference(live, "offloaded", reference),
            "sliding": why_not(live, "sliding") or _wrong_window(live),
        }

    def current(self, live: LiveModel) -> SettingValue:
        """The kind of cache in force."""
        return live.cache_kind

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Convert the running generation's cache; where there is no exact way, that costs a prefill."""
        kind = str(value)
        if kind not in KINDS:
            raise SettingRefused(f"There is no KV cache of kind '{kind}': choose {', '.join(KINDS)}.")
        if reason := why_not(live, kind):
            raise SettingRefused(reason)
        if live.context is not None:
            convert(live, live.context, kind)
        live.cache_kind = kind


class KvWindow:
    """How many tokens attention sees with a sliding cache, the new one among them."""

    key = "kv_window"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Whether windows are possible is found out with the kinds of cache; a number needs no trial."""
        return SettingFacts(
            key=self.key,
            family="KV cache",
            label="Sliding window",
            kind="integer",
            default=max(_SMALLEST_WINDOW, min(256, live.facts.context_limit)),
            minimum=_SMALLEST_WINDOW,
            maximum=max(_SMALLEST_WINDOW, live.facts.context_limit),
            increment=64,
            unit="tokens",
            expected="Counts with a sliding KV cache only: a narrow one keeps steps short and forgets more.",
            lossless=False,
            reason=why_not(live, "sliding"),
        )

    def current(self, live: LiveModel) -> SettingValue:
        """Tokens of the window."""
        return live.kv_window

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """A narrower window forgets at once; a wider one, once tokens were forgotten, costs a prefill."""
        width, reason = read_value(self.probe(live), value)
        if width is None:
            raise SettingRefused(reason)
        before, live.kv_window = live.kv_window, int(width)
        if live.context is not None and live.cache_kind == "sliding":
            try:
                convert(live, live.context, "sliding")
            except Exception:
                live.kv_window = before
                raise


def _sizes(live: LiveModel) -> tuple[int, ...]:
    return _TRIAL_SIZES if live.anatomy.encoder is None else _ANSWER_SIZES


def why_not(live: LiveModel, kind: str) -> str:
    """Why this model or machine cannot have a kind of cache, by structure alone; "" when it may."""
    if kind in ("none", "dynamic"):
        return ""
    if kind == "offloaded" and live.device.type != "cuda":
        return "The model runs where main memory already is: there is no other place to keep its cache in."
    if live.cache_argument == "state":
        return "This model keeps a state of its own instead of a KV cache: there is nothing to reserve."
    if not live.cache_argument:
        return "This model's forward pass takes no cache: there is nothing to reserve."
    layers = DynamicCache(config=live.model.config.get_text_config(decoder=True)).layers
    if layers and not any(isinstance(layer, CacheLayerMixin) for layer in layers):
        return (
            "This model keeps a state of fixed size instead of keys and values: there is nothing to reserve."
        )
    if kind == "sliding" and any(isinstance(layer, DynamicSlidingWindowLayer) for layer in layers):
        return "This model's layers have sliding windows of their own, which it was trained with."
    if kind == "sliding" and any(type(layer) is not DynamicLayer for layer in layers):
        return "This model keeps more than keys and values, and what its states remember cannot be cut to a window."
    if kind == "quantized" and layers and not any(type(layer) is DynamicLayer for layer in layers):
        return "Every layer of this model keeps the tokens of a window only: there is little to quantize."
    return ""


def _difference(live: LiveModel, kind: str, reference: torch.Tensor) -> str:
    try:
        logits = run_trial(live, _sizes(live), kind)
    except Exception as error:  # whatever a model raises is the reason
        return f"It fails on this model: {first_sentence(error)}."
    if agree(live, reference, logits):
        return ""
    return "It gives other results than the dynamic cache on this model, so it would change the text."


def _damage(live: LiveModel, reference: torch.Tensor) -> str:
    """Why a quantized cache is of no use: it fails, or moves results so far that they are others."""
    try:
        logits = run_trial(live, _sizes(live), "quantized")
    except Exception as error:  # whatever a model raises is the reason
        return f"It fails on this model: {first_sentence(error)}."
    moved = (logits - reference).abs().mean() / reference.std()
    if float(moved) <= _QUANTIZED_TOLERANCE:  # NaN is not
        return ""
    return "It moves the results of this model so far that its text would have nothing in common with before."


def _wrong_window(live: LiveModel) -> str:
    """Why windows do not work here: step by step has to give what all tokens at once give with the mask."""
    with _narrow(live):
        try:
            stepwise = run_trial(live, _WINDOW_SIZES, "sliding")
            whole = run_trial(live, (sum(_WINDOW_SIZES),), "sliding")
        except Exception as error:  # whatever a model raises is the reason
            return f"It fails on this model: {first_sentence(error)}."
    if agree(live, whole[-1:], stepwise[-1:]):
        return ""
    return "This model takes no mask for a window, or counts positions by what is cached: its text would be wrong."


@contextmanager
def _narrow(live: LiveModel) -> Iterator[None]:
    width, kind = live.kv_window, live.cache_kind
    live.kv_window, live.cache_kind = _TRIAL_WINDOW, "sliding"
    try:
        yield
    finally:
        live.kv_window, live.cache_kind = width, kind
