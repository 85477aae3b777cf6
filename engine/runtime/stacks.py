"""The lists in which a model keeps its layers, and how many of them stand for all: to run a model with fewer layers."""

from collections.abc import Iterator

from torch import nn

from engine.runtime.live import LiveModel

#: How many layers stand for all where a configuration does not say which kinds of layers it has: where kinds alternate,
#: all of them are among so many.
_LAYERS = 4


def layer_stacks(live: LiveModel) -> Iterator[tuple[nn.Module, str, nn.ModuleList]]:
    """The lists that hold the model's layers (an encoder–decoder has two): holder, name there, and the list itself."""
    blocks, count = live.anatomy.blocks, live.anatomy.encoder_layers
    stacks = [[block.module for block in part] for part in (blocks[:count], blocks[count:]) if part]
    for parent in live.model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and list(child) in stacks:
                yield parent, name, child


def enough_layers(live: LiveModel, layers: nn.ModuleList) -> int:
    """How many of the first layers there have to be for each kind of them to be there."""
    kinds = getattr(live.model.config.get_text_config(decoder=True), "layer_types", None)
    if not kinds:
        return 2 if len({type(layer) for layer in layers}) == 1 else _LAYERS
    return max(list(kinds).index(kind) + 1 for kind in kinds)
