"""The positions that a decoder is told of the tokens it is fed, as `generate()` tells them.

Most models would count what is cached by themselves; a few (Bamba) count each step from 0 unless they are told.

Models that look positions up in a table with a place for padding (RoBERTa and its kin) are not told: they were trained
to count from behind that place, and do so by themselves. `generate()` tells them 0, 1, 2, …, which are other rows.
"""

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel

if TYPE_CHECKING:
    from engine.runtime.live import LiveModel


def told_positions(live: "LiveModel", module: nn.Module, capacity: int) -> torch.Tensor | None:
    """The positions of up to `capacity` tokens, int64 of shape (1, capacity): each step is told a slice of them.

    None where `module`, the model or its base, is to count by itself.
    """
    if live.anatomy.encoder is not None or not takes_positions(module) or live.padded_positions is not None:
        return None
    return torch.arange(capacity, device=live.device).unsqueeze(0)


def short_reach(model: PreTrainedModel) -> int:
    """The most tokens that a model of two reaches (Phi-3) reads with the frequencies for short texts; else 0.

    With one token more all positions turn at other frequencies: keys that are cached by then are of no use.
    """
    rope = getattr(model.config.get_text_config(decoder=True), "rope_parameters", None) or {}
    return int(rope["original_max_position_embeddings"]) if rope.get("rope_type") == "longrope" else 0


def is_outgrown(reach: int, cached: int, length: int) -> bool:
    """Whether so many tokens are cached as a short text's while the text has come to `length`, beyond that reach.

    Then the keys in the cache are of no use, and a chunk alone would be taken for a short text.
    """
    return bool(reach) and cached <= reach < length


def within_reach(reach: int, length: int, count: int) -> int:
    """How many of `count` tokens behind `length` others a model may be fed without outgrowing its short reach."""
    return min(count, reach - length) if length <= reach else count


def takes_positions(module: nn.Module) -> bool:
    """Whether a module's forward can be told positions."""
    forward: Any = module.forward
    return "position_ids" in inspect.signature(forward).parameters
