"""Matrix products with narrow weights, for the CPU, and how their weights are rounded.

Each takes and gives the dtype of its input, whatever its kernel computes in: what that costs is part of its time.
Their whole numbers are parameters, their scales buffers: models ask their first floating parameter for their own dtype.
Scales are rounded as the kernels read them *before* weights are divided by them: rounding one adds no error of its own.
"""

from collections.abc import Callable

import torch
from torch import nn

from engine.runtime.weights.kernels import GROUP, int4_product, int8_product, int_product, pack_int4

_TINY = 1e-12  # instead of the scale of a row of zeros


class QuantizedLinear(nn.Module):
    """A matrix product (n, inputs) → (n, outputs) with narrow weights. `bias`: of shape (outputs,), not quantized."""

    weight: nn.Parameter
    scale: torch.Tensor

    def __init__(self, outputs: int, inputs: int, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = outputs, inputs
        self.bias = None if bias is None else _frozen(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, in the dtype of `x`, of shape (…, outputs). Raises TypeError for whole numbers.

        (Some models cast inputs to the dtype of `weight`, which would go on and compute nonsense.)
        """
        if not x.is_floating_point():
            raise TypeError(f"quantized products take no {str(x.dtype).removeprefix('torch.')} inputs")
        rows = x.reshape(-1, self.in_features).contiguous()
        result = self.product(rows).to(x.dtype)
        if self.bias is not None:
            result += self.bias
        return result.view(*x.shape[:-1], self.out_features)

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """What its kernel makes of (n, inputs), in the kernel's dtype."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Its size."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Int8Linear(QuantizedLinear):
    """Weights in int8, one scale an output; computes in bfloat16."""

    def __init__(self, matrix: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(matrix.shape[0], matrix.shape[1], bias)
        scale = _row_scales(matrix).to(torch.bfloat16)
        self.weight = _frozen(_rounded(matrix, scale))
        self.register_buffer("scale", scale)

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """In bfloat16, or for many rows in what the processor multiplies fast."""
        return int8_product(rows, self.weight, self.scale)


class Int4Linear(QuantizedLinear):
    """Weights in four bits, one scale and one zero for each group of a row; computes in bfloat16."""

    def __init__(self, matrix: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(matrix.shape[0], matrix.shape[1], bias)
        groups = matrix.float().view(matrix.shape[0], -1, GROUP)
        least, most = groups.aminmax(dim=2)
        scale = ((most - least) / 15).clamp_min(_TINY).to(torch.bfloat16)
        zero = (least + 8 * scale.float()).to(torch.bfloat16)
        values = (groups - zero.float()[..., None]) / scale.float()[..., None] + 8
        values = values.round_().clamp_(0, 15).flatten(1).to(torch.int32).contiguous()
        # as int8, since some models cast their inputs to the dtype of `weight` unless it is that
        self.weight = _frozen(pack_int4(values).view(torch.int8))
        self.register_buffer("scale", torch.stack([scale, zero], dim=2).transpose(0, 1).contiguous())

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """In bfloat16."""
        return int4_product(rows, self.weight.view(torch.uint8), self.scale)


class Int8DynamicLinear(QuantizedLinear):
    """Weights in int8, one scale an output; inputs rounded to int8 as they come, one scale a row; whole-number sums."""

    def __init__(self, matrix: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(matrix.shape[0], matrix.shape[1], bias)
        scale = _row_scales(matrix)
        self.weight = _frozen(_rounded(matrix, scale))
        self.register_buffer("scale", scale)

    def product(self, rows: torch.Tensor) -> torch.Tensor:
        """In int8 with int32 sums, scaled to float32."""
        step = torch.linalg.vector_norm(rows, float("inf"), 1, True, dtype=torch.float32)
        step = step.clamp_min_(_TINY).mul_(1 / 127)
        sums = int_product(torch.div(rows, step).round_().to(torch.int8), self.weight)
        return (sums * self.scale).mul_(step)


KINDS: dict[str, Callable[[torch.Tensor, torch.Tensor | None], QuantizedLinear]] = {
    "int8": Int8Linear,
    "int4": Int4Linear,
    "int8_dynamic": Int8DynamicLinear,
}


def _row_scales(matrix: torch.Tensor) -> torch.Tensor:
    """The scale of each row, symmetric: its largest weight becomes ±127. float32 (outputs,)."""
    return (matrix.abs().amax(1).float() / 127).clamp_min(_TINY)


def _rounded(matrix: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (matrix.float() / scale.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8).contiguous()


def _frozen(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)
