"""The width of the weights, switched by exchanging what the parameters hold; and how float32 products are computed."""

from typing import Any

import torch

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.processor import cpu_computes
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.replanning import dtype_in_force, replan
from engine.runtime.settings.trial import first_sentence

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """float32, bfloat16 or float16 weights, with them the KV cache and what an encoder made of the prompt."""

    key = "precision"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Each dtype is tried on a small matrix product and attention; on the model when it is switched."""
        now = str(self.current(live))
        return SettingFacts(
            key=self.key,
            family="precision",
            label="Precision",
            kind="choice",
            default=now,
            choices=tuple(
                Choice(name, name, "" if name == now else _why_not(live.device, dtype), _expected(live, name))
                for name, dtype in DTYPES.items()
            ),
            expected="Narrower weights halve the bytes that a decode step has to read; the text may change.",
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The dtype of the weights, by its name in torch."""
        return str(dtype_in_force(live)).removeprefix("torch.")

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Exchange the weights, with the cache and what an encoder made of the prompt; see `replan`."""
        if value not in DTYPES:
            raise SettingRefused(f"There is no precision '{value}': choose {', '.join(DTYPES)}.")
        dtype = DTYPES[str(value)]
        if dtype != dtype_in_force(live):
            loaded = live.weights.dtype or live.model.dtype
            replan(live, f"run in {value}", dtype=None if dtype == loaded else dtype)


class MatmulPrecision:
    """What float32 matrix products are computed in: float32, or the processor's faster narrower products.

    The two of torch's settings that are meant: for CUDA its own, for the CPU those of oneDNN.
    """

    key = "matmul_precision"

    def probe(self, live: LiveModel) -> SettingFacts:
        """By what the device says of itself."""
        fast, label, reason = _fast_products(live.device)
        return SettingFacts(
            key=self.key,
            family="precision",
            label="float32 products",
            kind="choice",
            default=str(self.current(live)),
            choices=(
                Choice("highest", "float32 throughout", "", "Nothing is rounded on the way."),
                Choice(
                    fast,
                    label,
                    reason,
                    "Inputs of products are rounded to fewer bits, sums are float32: prefill is faster; decoding, which"
                    " waits for the same bytes, is not.",
                ),
            ),
            expected="Only products of float32 weights are concerned; the text may change.",
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The precision in force, of the device that the model is on."""
        now = str(_products(live.device).fp32_precision)
        return now if now in ("bf16", "tf32") else "highest"

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Takes effect at once, for all models of this process."""
        fast, _, reason = _fast_products(live.device)
        if value not in ("highest", fast):
            offered = "highest" if reason else f"highest, {fast}"
            raise SettingRefused(f"There is no precision of products '{value}' here: choose {offered}.")
        if value == fast and reason:
            raise SettingRefused(reason)
        _products(live.device).fp32_precision = "ieee" if value == "highest" else str(value)


def _products(device: torch.device) -> Any:
    return torch.backends.cuda.matmul if device.type == "cuda" else torch.backends.mkldnn.matmul


def _fast_products(device: torch.device) -> tuple[str, str, str]:
    """The value, the label, and why a device does not have the faster products ("": it has)."""
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
        return (
            "tf32",
            "TF32 inside",
            "" if has else "This GPU has no TF32: it came with compute capability 8.0.",
        )
    if device.type != "cpu":
        return "bf16", "bfloat16 inside", f"Torch has no such products on {device.type}."
    if not torch.backends.mkldnn.is_available():
        return "bf16", "bfloat16 inside", "This build of torch lacks oneDNN, which computes so."
    has = bool(cpu_computes("bfloat16"))
    return (
        "bf16",
        "bfloat16 inside",
        "" if has else "This processor has no bfloat16 products (AVX512-BF16 or AMX).",
    )


def _why_not(device: torch.device, dtype: torch.dtype) -> str:
    """Why a device cannot compute in a dtype, after trying it on small tensors; "" when it can."""
    try:
        with torch.inference_mode():
            sample = torch.ones((1, 2, 4, 8), dtype=dtype, device=device)
            torch.nn.functional.linear(sample, sample[0, 0])
            torch.nn.functional.scaled_dot_product_attention(sample, sample, sample)
    except Exception as error:  # whatever the device raises is the reason
        return (
            f"This device does not compute in {str(dtype).removeprefix('torch.')}: {first_sentence(error)}."
        )
    return ""


def _expected(live: LiveModel, name: str) -> str:
    if name == "float32":
        return "The widest: the most bytes a step, the least rounding."
    computes = True if live.device.type != "cpu" else cpu_computes(name)
    if computes is None:
        return "Half the bytes of float32; whether that is faster depends on the processor."
    if not computes:
        slower = "decoding changes little, and prefill becomes many times slower"
        return f"This processor has no {name} instructions: {slower}."
    return "Half the bytes of float32: decoding on large models is up to twice as fast."
