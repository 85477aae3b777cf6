"""Quantized matrix products on CUDA, by torchao where it is installed."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

#: Kernels of float8 need this compute capability (Ada, Hopper).
FLOAT8_CAPABILITY = (8, 9)


class TorchaoLinear(nn.Module):
    """A matrix product (…, inputs) → (…, outputs) that torchao has quantized: bfloat16 inside, whatever comes in."""

    def __init__(self, kind: str, matrix: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        from torchao.quantization import quantize_

        self.out_features, self.in_features = matrix.shape
        with torch.device("meta"):
            linear = nn.Linear(self.in_features, self.out_features, bias=bias is not None)
        linear.weight = nn.Parameter(matrix.to(torch.bfloat16).contiguous(), requires_grad=False)
        if bias is not None:
            linear.bias = nn.Parameter(bias.to(torch.bfloat16), requires_grad=False)
        quantize_(linear, _configuration(kind))
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, in the dtype of `x`."""
        result: torch.Tensor = self.linear(x.to(torch.bfloat16))
        return result.to(x.dtype)

    @property
    def weight(self) -> torch.Tensor:
        """What torchao made of the matrix."""
        return self.linear.weight


def why_no_torchao(kind: str, capability: tuple[int, int]) -> str:
    """Why a kind is impossible on a CUDA device of this compute capability; "" when torchao may be tried."""
    if kind == "float8" and capability < FLOAT8_CAPABILITY:
        return (
            f"This GPU has no float8 instructions (compute capability {capability[0]}.{capability[1]}; they came with"
            " 8.9): choose int8."
        )
    if find_spec("torchao") is None:
        return "Quantization on a GPU needs torchao, which is not installed: pip install 'cyclograph[quantization]'."
    return ""


def _configuration(kind: str) -> Any:
    """What torchao is asked for. Left alone: the settings of inductor, which are everyone's."""
    import torchao.quantization as ao

    if kind == "int8":
        return ao.Int8WeightOnlyConfig(set_inductor_config=False)
    if kind == "int8_dynamic":
        return ao.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    if kind == "int4":
        return ao.Int4WeightOnlyConfig(
            group_size=32, int4_packing_format="tile_packed_to_4d", set_inductor_config=False
        )
    return ao.Float8DynamicActivationFloat8WeightConfig(granularity=ao.PerRow(), set_inductor_config=False)
