"""The quantized matrix products of torch itself, for the CPU: the only place that calls its private operators.

Each is tried before it is offered, with what it has to give. Sizes are checked here and not left to the operators: the
int8 one reads behind the end of a matrix whose rows are no multiple of its vectors.
"""

from functools import lru_cache

import torch

from engine.runtime.processor import cpu_computes

#: Weights along a row that share one scale (and one zero) in four bits.
GROUP = 32
_ROW = 32  # rows have to be a multiple of this
_TILE = 16  # in four bits also columns, of this
_BLOCK = 2**20  # weights that are widened at a time
#: The most rows of input for which the int8 kernel, made for one row, is faster than a wide product.
MANY_ROWS = 16

_OPERATORS = {
    "int8": ("_weight_int8pack_mm",),
    "int4": ("_weight_int4pack_mm_for_cpu", "_convert_weight_to_int4pack_for_cpu"),
    "int8_dynamic": ("_int_mm",),
}


def takes(kind: str, outputs: int, inputs: int) -> bool:
    """Whether a kernel takes a matrix of this size."""
    if kind == "int8_dynamic":
        return True
    return inputs % _ROW == 0 and (kind != "int4" or outputs % _TILE == 0)


def sizes_taken(kind: str) -> str:
    """Which sizes a kernel takes, in words."""
    columns = f" and as many outputs as a multiple of {_TILE}" if kind == "int4" else ""
    return f"matrices with as many inputs as a multiple of {_ROW}{columns}"


def int8_product(rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """rows × weightᵀ × scale. `rows`: (n, inputs); `weight`: int8 (outputs, inputs); `scale`: bfloat16 (outputs,).

    Few rows go through torch's kernel, whose input and output are bfloat16. Many rows are a matter of computing, not of
    reading: for them the weights are widened, some at a time, to what the processor multiplies fast.
    """
    if rows.shape[0] <= MANY_ROWS:
        return torch._weight_int8pack_mm(rows.to(torch.bfloat16), weight, scale)
    wide = _wide_dtype()
    given = rows.to(wide)
    result = torch.empty(rows.shape[0], weight.shape[0], dtype=wide, device=rows.device)
    count = max(1, _BLOCK // weight.shape[1])
    for begin in range(0, weight.shape[0], count):
        block = weight[begin : begin + count]
        torch.mm(given, block.to(wide).t(), out=result[:, begin : begin + count])
    return result.mul_(scale)


@lru_cache(maxsize=1)
def _wide_dtype() -> torch.dtype:
    return torch.bfloat16 if cpu_computes("bfloat16") else torch.float32


def pack_int4(values: torch.Tensor) -> torch.Tensor:
    """int32 (outputs, inputs) of 0 to 15 as the kernel reads them: uint8 (outputs, inputs / 2)."""
    return torch._convert_weight_to_int4pack_for_cpu(values, 2)


def int4_product(rows: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """rows × Wᵀ with W = (values - 8) · scale + zero, in bfloat16.

    `scales`: bfloat16 (inputs / GROUP, outputs, 2), scale and zero.
    """
    return torch._weight_int4pack_mm_for_cpu(rows.to(torch.bfloat16), packed, GROUP, scales)


def int_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The exact product int32 (n, outputs) of int8 (n, inputs) and int8 (outputs, inputs)ᵀ."""
    return torch._int_mm(left, right.t())


def missing(kind: str) -> str:
    """The first operator of a kind that this torch lacks, or ""."""
    return next((name for name in _OPERATORS[kind] if not hasattr(torch, name)), "")
