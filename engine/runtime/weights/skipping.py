"""Leaving layers out: a module that stands in a layer's place and hands on what it is given."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from engine.runtime.anatomy import Block
from engine.runtime.live import LiveModel


class Skipped(nn.Module):
    """Stands for a layer that is left out; all layers keep their numbers, and with them their caches and masks.

    `tuple_length`: items of the tuple that the layer would return, hidden states first; 0: it returns them alone.
    """

    def __init__(self, layer: nn.Module, tuple_length: int) -> None:
        super().__init__()
        object.__setattr__(self, "_layer", layer)  # not registered: its parameters are not the model's now
        self._tuple_length = tuple_length

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The hidden states as they came."""
        if not self._tuple_length:
            return hidden_states
        return (hidden_states, *[None] * (self._tuple_length - 1))

    def __getattr__(self, name: str) -> Any:
        """What models read from their layers, such as their kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "_layer"), name)


def kinds_of_layers(live: LiveModel, blocks: Sequence[Block]) -> list[str]:
    """The kind of each layer, as far as the configuration tells, else by the class of its module."""
    config = live.model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None)
    if kinds and len(kinds) == len(blocks):
        return [str(kind) for kind in kinds]
    return [" ".join(_classes(block)) for block in blocks]


def _classes(block: Block) -> list[str]:
    parts = (*block.attention, *block.mixer)
    return [type(module).__name__ for module in (block.module, *(part.module for part in parts))]
