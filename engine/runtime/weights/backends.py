"""Who multiplies with narrow weights on which device, whether that works here, and with which sizes."""

import torch
from torch import nn

from engine.runtime.weights import kernels
from engine.runtime.weights.quantized import KINDS
from engine.runtime.weights.torchao_linears import TorchaoLinear, why_no_torchao

#: Bytes a weight takes with its share of scales, and the error of a product by which a kernel that works right stays
#: below, relative to the product (in the L2 norm), for normally distributed weights.
WIDTHS = {"int8": 1.0, "int4": 0.5 + 4 / kernels.GROUP, "int8_dynamic": 1.0, "float8": 1.0}
_ERRORS = {"int8": 0.02, "int4": 0.12, "int8_dynamic": 0.03, "float8": 0.06}
_TRIAL_SIZE = 128


def quantized(kind: str, matrix: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    """A module that multiplies with a matrix (outputs, inputs) made narrow, on the matrix' device."""
    if matrix.device.type == "cpu":
        return KINDS[kind](matrix, bias)
    return TorchaoLinear(kind, matrix, bias)


def takes(kind: str, device: torch.device, outputs: int, inputs: int) -> bool:
    """Whether a kind can be had for a matrix of this size on this device."""
    if device.type == "cpu":
        return kernels.takes(kind, outputs, inputs)
    return inputs % kernels.GROUP == 0 and outputs % 16 == 0


def why_not(kind: str, device: torch.device) -> str:
    """Why a kind is impossible on a device, after multiplying with it once; "" when it works. Never raises."""
    if device.type == "cpu":
        reason = _why_no_operator(kind)
    elif device.type == "cuda":
        reason = why_no_torchao(kind, torch.cuda.get_device_capability(device))
    else:
        reason = f"There are no kernels for narrow weights on {device.type}: load the model on the CPU to try them."
    return reason or _why_wrong(kind, device)


def _why_no_operator(kind: str) -> str:
    if kind == "float8":
        return (
            "This processor has no float8 instructions, so it would only be slower: float8 needs an NVIDIA GPU of"
            " compute capability 8.9 or newer."
        )
    lacking = kernels.missing(kind)
    return (
        f"This version of torch lacks the operator {lacking}: install torch 2.11 or newer." if lacking else ""
    )


@torch.no_grad()
def _why_wrong(kind: str, device: torch.device) -> str:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(_TRIAL_SIZE, _TRIAL_SIZE, generator=generator)
    rows = torch.randn(2, _TRIAL_SIZE, generator=generator)
    try:
        product = quantized(kind, matrix.to(device), None)(rows.to(device)).cpu()
    except Exception as error:  # whatever a kernel raises is the reason
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"Its kernel fails on this machine: {first.rstrip('.')}."
    exact = rows @ matrix.t()
    if bool((product - exact).norm() <= _ERRORS[kind] * exact.norm()):
        return ""
    return "Its kernel computes wrong numbers on this machine, so it is not offered."
