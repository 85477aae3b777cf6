"""What products of float32 weights are computed in: float32, or narrower inputs where the hardware is faster with them.

Set are the two of torch's switches that are meant: CUDA's own, and for the CPU oneDNN's. (Asking torch's older ones
afterwards raises.)
"""

from typing import Any

import torch

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.processor import cpu_computes
from engine.runtime.settings.base import SettingRefused

_LABELS = {"tf32": "TF32 inside", "bf16": "bfloat16 inside"}
_SIZE = 256  # of the matrices that show whether inputs are rounded: smaller ones never are
_ROUNDED = 1e-4  # relative error above which they were: float32 stays near 1e-6, bfloat16 and TF32 above 2e-4


class MatmulPrecision:
    """Narrower inputs inside of float32 products."""

    key = "matmul_precision"

    def probe(self, live: LiveModel) -> SettingFacts:
        """By what the device says of itself, and by a product that shows what it does."""
        fast, reason = _fast(live.device)
        return SettingFacts(
            key=self.key,
            family="precision",
            label="Products of float32",
            kind="choice",
            default=str(self.current(live)),
            choices=(
                Choice("highest", "float32 throughout", "", "Nothing is rounded on the way."),
                Choice(fast, _LABELS[fast], reason, _expected(live, fast, reason)),
            ),
            expected="Concerns products of float32 weights only; the text may change.",
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The precision in force, of the device that the model is on."""
        now = str(_switch(live.device).fp32_precision)
        return now if now in _LABELS else "highest"

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Takes effect at once, for all models of this process."""
        fast, reason = _fast(live.device)
        if value not in ("highest", fast):
            raise SettingRefused(f"There is no precision of products '{value}' here: choose highest, {fast}.")
        if value == fast and reason:
            raise SettingRefused(reason)
        _put(live.device, str(value))


def _switch(device: torch.device) -> Any:
    backends: Any = torch.backends
    return backends.cuda.matmul if device.type == "cuda" else backends.mkldnn.matmul


def _put(device: torch.device, value: str) -> None:
    _switch(device).fp32_precision = "ieee" if value == "highest" else value


def _fast(device: torch.device) -> tuple[str, str]:
    """The faster products of a device, and why it does not have them ("": it has)."""
    if device.type == "cuda":
        has = torch.cuda.get_device_capability(device) >= (8, 0)
        return "tf32", "" if has else "This GPU has no TF32: it came with compute capability 8.0."
    if device.type != "cpu":
        return "bf16", f"Torch has no such products on {device.type}."
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "bf16", "This build of torch lacks oneDNN, which computes so."
    if not cpu_computes("bfloat16"):
        return "bf16", "This processor has no bfloat16 products (AVX512-BF16 or AMX)."
    return "bf16", ""


def _expected(live: LiveModel, fast: str, reason: str) -> str:
    if reason or _rounds(live.device, fast):
        return (
            "Inputs of products are rounded to fewer bits, sums are float32: prefill is faster; decoding, which waits"
            " for the same bytes, is not."
        )
    return (
        "On this processor oneDNN does not use the leave to round: results stay float32, by another"
        " kernel, which gains nothing for certain."
    )


@torch.no_grad()
def _rounds(device: torch.device, fast: str) -> bool:
    """Whether products do lose bits; what is in force is in force again afterwards."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, _SIZE, _SIZE, generator=generator).to(device)
    exact = left.double() @ right.double()
    before = str(_switch(device).fp32_precision)
    try:
        _put(device, fast)
        error = (left @ right - exact).norm() / exact.norm()
    finally:
        _switch(device).fp32_precision = before
    return bool(error > _ROUNDED)
