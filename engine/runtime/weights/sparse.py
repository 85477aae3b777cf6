"""Weights that are zero: half of them by magnitude, anywhere in a matrix or two in every four of a row."""

import torch
from torch import nn

#: NVIDIA's sparse kernels need this compute capability (Ampere).
SPARSE_CAPABILITY = (8, 0)
SPARSE_DTYPES = (torch.float16, torch.bfloat16)


@torch.no_grad()
def half_zero(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with its smaller half set to zero (Han et al. 2015, arXiv 1506.02626)."""
    magnitudes = matrix.abs().float()
    return matrix.where(magnitudes > magnitudes.median(), 0)


@torch.no_grad()
def two_of_four(matrix: torch.Tensor) -> torch.Tensor:
    """(outputs, inputs) with the smaller two of every four weights of a row set to zero; inputs a multiple of 4."""
    fours = matrix.reshape(len(matrix), -1, 4)
    largest = fours.abs().float().topk(2, dim=2).indices
    mask = torch.zeros_like(fours, dtype=torch.bool).scatter_(2, largest, True)
    return fours.where(mask, 0).flatten(1)


class SemiSparseLinear(nn.Module):
    """A matrix product whose matrix has two zeros in every four, stored without them: CUDA, 16 bit."""

    def __init__(self, matrix: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = matrix.shape
        narrow = torch.sparse.to_sparse_semi_structured(two_of_four(matrix).contiguous())
        self.weight = nn.Parameter(narrow, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, of shape (…, outputs)."""
        return nn.functional.linear(x, self.weight, self.bias)


def takes_two_of_four(outputs: int, inputs: int) -> bool:
    """Whether the sparse kernels take a matrix of this size (they work on tiles of 32 × 64)."""
    return outputs % 32 == 0 and inputs % 64 == 0


def why_not_two_of_four(device: torch.device) -> str:
    """Why 2:4 sparsity gains nothing on a device; "" where its hardware multiplies so. Never raises."""
    if device.type != "cuda":
        return (
            "Only NVIDIA GPUs from compute capability 8.0 on multiply 2:4 sparse matrices faster: on this device the"
            " zeros would be multiplied like everything else."
        )
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < SPARSE_CAPABILITY:
        return (
            f"This GPU (compute capability {major}.{minor}) has no sparse tensor cores: they came with 8.0."
        )
    return ""
