"""The width of the weights, switched by exchanging what the parameters hold."""

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
