"""Which experts the positions of a step were sent to, read off the calls of the modules that hold them.

Since transformers 5 each mixture of experts calls its experts with the indices that its router chose. Compiled code and
graphs that are replayed make no such calls: of their steps it is not known.
"""

from typing import Any

import torch
from torch import nn


class Routing:
    """Listens to the experts of a model. `forget` before a step, `distinct` after it."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = 0
        self._indices: list[torch.Tensor] = []
        for module in model.modules():
            if holds_experts(module):
                self._layers += 1
                module.register_forward_pre_hook(self._listen)

    def forget(self) -> None:
        """A step begins."""
        self._indices.clear()

    def distinct(self) -> int | None:
        """How many different experts the step read, all layers together; None where not each layer called once.

        Waits for the device; call it when the step's token has arrived.
        """
        if not self._layers or len(self._indices) != self._layers:
            return None
        return sum(len(set(layer.flatten().tolist())) for layer in self._indices)

    def _listen(self, _module: nn.Module, called_with: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling() or len(called_with) < 2:
            return
        chosen = called_with[1]
        if isinstance(chosen, torch.Tensor) and not chosen.is_floating_point():
            self._indices.append(chosen)


def holds_experts(module: nn.Module) -> bool:
    """Whether a module keeps the weights of several experts, stacked: matrices of shape (experts, n, m) alone."""
    stacked = [p for p in module.parameters(recurse=False) if p.ndim == 3]
    return bool(stacked) and len(stacked[0]) > 1 and all(len(p) == len(stacked[0]) for p in stacked)
