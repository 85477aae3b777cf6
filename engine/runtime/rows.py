"""Rows of a cache: the sequences or beams that are computed together.

`reorder_cache` is the one operation that every kind of cache layer of transformers knows: choosing rows by number
repeats, drops and reorders them alike.
"""

from collections.abc import Sequence

import torch
from transformers import Cache
from transformers.utils.generic import ModelOutput

from engine.runtime.live import Context


@torch.inference_mode()
def choose_rows(context: Context, rows: Sequence[int], device: torch.device) -> None:
    """Make row i of the context's cache what row `rows[i]` was. Nothing happens where there is no cache."""
    cache = context.cache
    if cache is None or not context.cached:
        return
    index = torch.tensor(rows, dtype=torch.long, device=device)
    if isinstance(cache, Cache):
        cache.reorder_cache(index)  # type: ignore[arg-type]
    else:  # RWKV's list of states
        context.cache = [state.index_select(0, index) for state in cache]


def keep_past(cache: Cache) -> None:
    """Let layers that hold a window keep more from now on, until `crop` takes out what is not to stay."""
    cache.activate_past_recording()  # type: ignore[no-untyped-call]


def forget_past(cache: Cache) -> None:
    """Layers that hold a window hold nothing else again."""
    cache.crop(0)
    for layer in cache.layers:
        if hasattr(layer, "record_past"):
            layer.record_past = False


def encoded_rows(encoded: ModelOutput | None, count: int) -> ModelOutput | None:
    """What an encoder made of one prompt, for so many rows; nothing is copied."""
    if encoded is None or count == 1:
        return encoded
    return type(encoded)(
        **{
            name: value.expand(count, *value.shape[1:]) if isinstance(value, torch.Tensor) else value
            for name, value in encoded.items()
        }
    )
