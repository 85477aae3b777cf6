"""Muon, with products in the parameters' own precision."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

#: Of the polynomial a·x + b·x³ + c·x⁵ that brings singular values near 1 when it is repeated (K. Jordan, 2024).
A, B, C = 3.4445, -4.775, 2.0315
TURNS = 5
MOMENTUM = 0.95


class Muon(torch.optim.Optimizer):
    """Steps along the orthogonal part of each matrix's momentum (Nesterov's).

    What `torch.optim.Muon` does, but that one multiplies in bfloat16, which processors without instructions for it do
    thirty times slower.
    """

    def __init__(self, matrices: Iterable[torch.Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step for each matrix that has a gradient. `closure`: not used."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    ahead = _nesterov(matrix.grad, self.state[matrix])
                    rows, columns = matrix.shape
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(orthogonal(ahead), alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))


def _nesterov(gradient: torch.Tensor, state: dict[str, Any]) -> torch.Tensor:
    momentum = state.setdefault("momentum", torch.zeros_like(gradient))
    momentum.lerp_(gradient, 1 - MOMENTUM)
    return gradient.lerp(momentum, MOMENTUM)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix whose singular values are all 1, by Newton–Schulz: (rows, columns)."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if is_tall else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(TURNS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=B, alpha=C), wide, beta=A)
    return wide.T if is_tall else wide
