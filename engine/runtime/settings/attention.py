"""Which kernel computes attention: eager, torch's SDPA (automatic, or one of its backends alone), FlexAttention, or the
FlashAttention packages where they are installed.

A switch takes `set_attn_implementation` and torch's global SDPA flags, so that a step enters nothing of its
own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.backends import cuda as flags
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.settings import flex
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import agree, first_layers, first_sentence, run_trial

#: A prompt, a chunk of it behind what is cached (that needs a mask), a decode step.
_TRIAL_SIZES = (2, 2, 1)
#: An encoder–decoder's decoder is never given a chunk behind what is cached.
_ANSWER_SIZES = (4, 1)
#: Tried only when chosen, or when the engine is idle: what it imports would keep the first token waiting.
SLOW_TO_TRY = frozenset({"flex"})
SIXTEEN_BIT = (torch.float16, torch.bfloat16)
NO_ATTENTION = "This model has no attention layers, so there is no attention kernel to choose."
_ENABLE = {
    "math": flags.enable_math_sdp,
    "flash": flags.enable_flash_sdp,
    "efficient": flags.enable_mem_efficient_sdp,
    "cudnn": flags.enable_cudnn_sdp,
}


@dataclass(frozen=True)
class Kernel:
    """A choice: transformers' name of the implementation, and the one SDPA backend allowed ("": all)."""

    implementation: str
    label: str
    expected: str
    backend: str = ""


_FLASH = "Like SDPA's flash, from the package of its authors: often newer and a little faster."
KERNELS = {
    "eager": Kernel("eager", "Eager", "Writes the whole score matrix to memory: slower on long contexts."),
    "sdpa": Kernel("sdpa", "SDPA (automatic)", "Torch picks the fastest of its backends for each call."),
    "sdpa:math": Kernel("sdpa", "SDPA: math", "The plain formula in torch: the slowest backend.", "math"),
    "sdpa:flash": Kernel(
        "sdpa", "SDPA: flash", "Never writes the score matrix: fast on long contexts.", "flash"
    ),
    "sdpa:efficient": Kernel(
        "sdpa", "SDPA: memory-efficient", "Like flash, for more shapes and dtypes.", "efficient"
    ),
    "sdpa:cudnn": Kernel("sdpa", "SDPA: cuDNN", "NVIDIA's own kernel, for recent cards.", "cudnn"),
    "flex": Kernel(flex.NAME, "FlexAttention (not compiled)", "Slower without compilation: it runs unfused."),
    "flash_attention_2": Kernel("flash_attention_2", "FlashAttention 2", _FLASH),
    "flash_attention_3": Kernel("flash_attention_3", "FlashAttention 3", _FLASH),
}
#: transformers would fetch a kernel from the hub for one that is missing; nothing is fetched that nobody asked for.
INSTALLED: dict[str, tuple[Callable[[], bool], str]] = {
    "flash_attention_2": (is_flash_attn_2_available, "flash-attn"),
    "flash_attention_3": (is_flash_attn_3_available, "flash-attn-3"),
}


class Attention:
    """The attention kernel."""

    key = "attention"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Each kernel computes a few tokens on a throwaway cache, and has to agree with eager attention."""
        before = str(self.current(live))
        whole = "" if _has_attention(live) else NO_ATTENTION
        reasons = dict.fromkeys(KERNELS, whole)
        if not whole:
            later = _tried_later(live) | (SLOW_TO_TRY if self.key in live.untried else frozenset())
            reasons |= {value: _why_fixed(live, value) for value in later}
            reasons |= self._try(live, before, KERNELS.keys() - later)
        return SettingFacts(
            key=self.key,
            family="attention",
            label="Attention kernel",
            kind="choice",
            default=before,
            choices=tuple(
                Choice(value, kernel.label, "" if value == before else reasons[value], kernel.expected)
                for value, kernel in KERNELS.items()
            ),
            expected="Another way to compute the same attention: the text stays the same, the time does not.",
            reason=whole,
        )

    def _try(self, live: LiveModel, before: str, values: Iterable[str]) -> dict[str, str]:
        """Why each kernel is impossible ("": it is not), tried on a few tokens; `before` is in force again then."""
        # Where there is no eager attention, what the model was loaded with is the measure.
        put(live, before if _why_fixed(live, "eager") else "eager")
        with first_layers(live):
            reference = run_trial(live, _sizes(live))
            reasons = {value: why_not(live, value, reference) for value in values}
        put(live, before)
        return reasons

    def current(self, live: LiveModel) -> SettingValue:
        """The kernel in force, by what the model's configuration says."""
        implementation = live.model.config._attn_implementation
        kernel = KERNELS.get(live.attention)
        if kernel is not None and kernel.implementation == implementation:
            return live.attention
        names = (value for value, kernel in KERNELS.items() if kernel.implementation == implementation)
        return next(names, str(implementation))

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Switch with the same cache; tried again first in a precision that it was not probed in."""
        if value not in KERNELS:
            raise SettingRefused(f"There is no attention kernel '{value}': choose {', '.join(KERNELS)}.")
        before = str(self.current(live))
        if value == before:
            return
        reason = _why_fixed(live, str(value))
        if not reason and value in SLOW_TO_TRY and self.key in live.untried:
            reason = self._try(live, before, (str(value),))[str(value)]
        if not reason and str(live.model.dtype) != f"torch.{live.facts.dtype.removeprefix('torch.')}":
            reason = why_not(live, str(value), None)
            put(live, before)
        if reason:
            raise SettingRefused(reason)
        try:
            put(live, str(value))
        except Exception as error:
            put(live, before)
            raise SettingRefused(f"It fails on this model: {first_sentence(error)}.") from error


def put(live: LiveModel, value: str) -> None:
    """Put a kernel into force, untried. Raises what transformers raises where the model lacks it."""
    kernel = KERNELS.get(
        value, Kernel(value, value, "")
    )  # a model may have been loaded with one that is not offered
    implementation = kernel.implementation
    if implementation == flex.NAME:
        flex.enable()
    if live.model.config._attn_implementation != implementation:
        live.model.set_attn_implementation(implementation)
    if live.model.config._attn_implementation != implementation:
        raise ValueError("this model does not let its attention be exchanged")
    for name, enable in _ENABLE.items():
        enable(kernel.backend in ("", name))
    live.attention = value


def why_not(live: LiveModel, value: str, reference: torch.Tensor | None) -> str:
    """Why this kernel is impossible here, after trying it; "" when it works. Leaves it in force.

    `reference`: logits of eager attention to agree with; None leaves that out.
    """
    if reason := _why_fixed(live, value):
        return reason
    try:
        put(live, value)
        logits = run_trial(live, _sizes(live))
    except Exception as error:  # whatever a kernel raises is the reason
        return f"It fails on this model and device: {first_sentence(error)}."
    if reference is not None and not agree(live, reference, logits):
        return "It gives other results than eager attention on this model, so it would change the text."
    return ""


def _sizes(live: LiveModel) -> tuple[int, ...]:
    return _TRIAL_SIZES if live.anatomy.encoder is None else _ANSWER_SIZES


def _tried_later(live: LiveModel) -> frozenset[str]:
    """Kernels that compute in 16 bit only say nothing yet in a wider precision: they are tried when they are chosen."""
    return frozenset(INSTALLED) if live.model.dtype not in SIXTEEN_BIT else frozenset()


def _has_attention(live: LiveModel) -> bool:
    return not live.anatomy.blocks or any(block.attention for block in live.anatomy.blocks)


def _why_fixed(live: LiveModel, value: str) -> str:
    """Why this model cannot change to the kernel's implementation at all; "" when it may."""
    if not _has_attention(live):
        return NO_ATTENTION
    if value in INSTALLED and not INSTALLED[value][0]():
        package = INSTALLED[value][1]
        return (
            f"The package {package} and a CUDA device that it supports are needed: install it beside torch."
        )
    if KERNELS[value].implementation == live.model.config._attn_implementation:
        return ""
    can_set = getattr(live.model, "_can_set_attn_implementation", None)
    if can_set is not None and not can_set():
        return "This model's code brings its own attention, which can only be chosen when it is loaded."
    return ""
