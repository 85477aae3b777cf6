"""One way to speak of a matrix product, whichever way round a module keeps its matrix."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Linear:
    """A matrix product of a model: an `nn.Linear`, or GPT-2's `Conv1D`, which keeps its matrix transposed."""

    module: nn.Module

    @property
    def weight(self) -> nn.Parameter:
        """Its matrix, as the module keeps it."""
        weight = self.module.weight
        assert isinstance(weight, nn.Parameter)
        return weight

    @property
    def bias(self) -> nn.Parameter | None:
        """What it adds, of shape (outputs,)."""
        bias = self.module.bias
        return bias if isinstance(bias, nn.Parameter) else None

    @property
    def output_dim(self) -> int:
        """The dimension of the matrix along which outputs are counted."""
        return 1 if isinstance(self.module, Conv1D) else 0

    @property
    def outputs(self) -> int:
        """Features that it makes."""
        return int(self.weight.shape[self.output_dim])

    @property
    def inputs(self) -> int:
        """Features that it takes."""
        return int(self.weight.shape[1 - self.output_dim])

    def upright(self, matrix: torch.Tensor) -> torch.Tensor:
        """A matrix in this module's way round, as (outputs, inputs)."""
        return matrix.t() if self.output_dim else matrix

    def sizes(self, outputs: int, inputs: int) -> tuple[tuple[nn.Module, str, int], ...]:
        """The attributes that state its size, with their new values."""
        names = ("nf", "nx") if isinstance(self.module, Conv1D) else ("out_features", "in_features")
        return (self.module, names[0], outputs), (self.module, names[1], inputs)


_SAME_IN_OTHER_WORDS = frozenset({"FalconLinear"})


def is_exact_linear(module: nn.Module) -> bool:
    """Whether a module is one matrix product and nothing else (subclasses may do something of their own)."""
    return type(module) in (nn.Linear, Conv1D) or type(module).__name__ in _SAME_IN_OTHER_WORDS


def linears_in(module: nn.Module) -> list[Linear]:
    """The matrix products inside of a module, or the one that it is, in the order in which they were made."""
    return [Linear(each) for each in module.modules() if isinstance(each, nn.Linear | Conv1D)]
