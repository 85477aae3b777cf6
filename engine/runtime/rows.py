"""Rows of a cache: the sequences or beams that are computed together.

`reorder_cache` is the one operation that every kind of cache layer of transformers knows: choosing rows by number
repeats, drops and reorders them alike.
"""

from collections.abc import Sequence

import torch
from transformers import Cache
from transformers.utils.generic import ModelOutput

from engine.runtime.live import Context, LiveModel


def choose_rows(live: LiveModel, context: Context, rows: Sequence[int]) -> None:
    """Make row i of the context's cache, where there is one, what row `rows[i]` was."""
    context.rows = len(rows)
    if context.padding:
        context.padding = tuple(context.padding[row] for row in rows)
    cache = context.cache
    if cache is None or not context.cached:
        return
    with live.forward_mode():  # in which the next step will write to what is made here
        index = torch.tensor(rows, dtype=torch.long, device=live.device)
        if isinstance(cache, Cache):
            cache.reorder_cache(index)  # type: ignore[arg-type]
        else:  # RWKV's list of states
            context.cache = [state.index_select(0, index) for state in cache]


def filled_up(prompts: Sequence[list[int]]) -> tuple[list[list[int]], tuple[int, ...]]:
    """Prompts made equally long at their beginning, and how many ids each got there (its own first one, repeated)."""
    width = max(map(len, prompts))
    padding = tuple(width - len(ids) for ids in prompts)
    if not any(padding):
        return [list(ids) for ids in prompts], ()
    return [[ids[0]] * count + ids for ids, count in zip(prompts, padding, strict=True)], padding


def padded_arguments(
    padding: Sequence[int], cached: int, ids: torch.Tensor, positions: bool
) -> dict[str, torch.Tensor]:
    """What hides the padding from a model that is fed `ids` (rows, n) behind `cached` others: its mask, and (with
    `positions`) where each id stands in its own row.
    """
    columns = torch.arange(cached + ids.shape[1], device=ids.device)
    places = columns - torch.tensor(padding, device=ids.device)[:, None]
    arguments = {"attention_mask": (places >= 0).long()}
    if positions:
        arguments["position_ids"] = places.clamp(min=0)[:, cached:]
    return arguments


def keep_past(cache: Cache) -> None:
    """Let layers that hold a window keep more from now on, until `crop` takes out what is not to stay."""
    cache.activate_past_recording()  # type: ignore[no-untyped-call]


def forget_past(cache: Cache) -> None:
    """Layers that hold a window hold nothing else again."""
    cache.crop(0)
    for layer in cache.layers:
        if hasattr(layer, "record_past"):
            layer.record_past = False


class TakingBack:
    """Takes the newest positions out of a context's cache again. `record` has to be called before they are fed."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recording: Cache | None = None  # the cache that keeps more than its windows

    def record(self) -> None:
        """Let the cache keep what its windows push out, until the next `take_back`."""
        cache = self._context.cache
        if cache is not None and cache is not self._recording:
            keep_past(cache)
            self._recording = cache

    def take_back(self, count: int) -> None:
        """Take out the last `count` positions; what windows kept for that goes, too. Does nothing without a record."""
        context = self._context
        if context.cached and context.cache is not None and context.cache is self._recording:
            context.cache.crop(-count)
            context.cached -= count

    def forget(self) -> None:
        """Windows hold nothing but their window again."""
        if self._recording is not None and self._recording is self._context.cache:
            forget_past(self._recording)
        self._recording = None


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
