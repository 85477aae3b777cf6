"""A plan for the weights of a model, what it comes to on one model, and what is in force."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """What is to be done with the loaded weights, in this order. The default plan leaves them as they were loaded.

    `dtype`: None for the loaded one. `mlp_pruned`, `heads_pruned`: shares to be removed, in percent.
    `layers_skipped`: how many layers in the middle are left out. `sparsity`: "none", "unstructured", "2:4".
    `quantization`: "none" or a kind that engine.runtime.weights.kernels knows.
    """

    dtype: torch.dtype | None = None
    mlp_pruned: int = 0
    heads_pruned: int = 0
    layers_skipped: int = 0
    sparsity: str = "none"
    quantization: str = "none"


@dataclass
class Made:
    """A plan made real for one model: all that has to be put in place of what was loaded.

    `tensors`: what parameters hold, by their name; one that is not named holds what was loaded.
    `modules`: modules instead of others, by path. `attributes`: (module, name, value) that sizes are read from.
    `kept_heads`: which key-value heads are left, by layer of the cache; a layer that is not named has all.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)
    attributes: tuple[tuple[nn.Module, str, Any], ...] = ()
    kept_heads: dict[int, torch.Tensor] = field(default_factory=dict)
    skipped: frozenset[int] = frozenset()  # layers of the cache that are not filled


@dataclass
class WeightState:
    """The weights of a live model: the plan in force, and what has been made, so that it need not be made again.

    `loaded`: what every parameter held when the model was loaded, never changed: the way back is bit-exact.
    `parameters`: the parameters by name, as the loaded model names them. `undo`: how to take out what is in place of
    what was loaded. `nbytes`: bytes of the weights in force, 0 before anything was changed.
    """

    plan: WeightPlan = WeightPlan()
    dtype: torch.dtype | None = None  # the model's, as loaded
    loaded: dict[str, torch.Tensor] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    made: dict[WeightPlan, Made] = field(default_factory=dict)
    undo: list[tuple[Any, str, Any]] = field(default_factory=list)
    nbytes: int = 0
    tuple_length: int = 0  # items of the tuple that the model's layers return; 0: they return a tensor

    @property
    def in_force(self) -> Made:
        """What is in place now."""
        return self.made.get(self.plan, Made())
