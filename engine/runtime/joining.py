"""Continuous batching: a sequence with a prompt of its own joins others between two of their steps.

Its prompt is prefilled in a context of its own, in steps of one row; the others wait meanwhile. The step that chooses
its first token also gives it a row in the cache beside the others. Keys and values know their places in their own
sequence, not their columns, so rows are moved to end in the same column: whichever side is shorter is filled up on the
left, and what fills up is masked, as for prompts of unequal length. Columns that fill up every row are cut first.

The continuous batching of transformers is not used for this: it brings a loop on a thread of its own and a paged cache
with its own attention functions. A step of it mixes prefill and decode of several requests; its kinds, its phases, and
the settings and caches that are switched here could not be seen through it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import Cache

from engine.protocol import Family
from engine.runtime.caches import Held, bring_back, fill, held_by, new_cache
from engine.runtime.feeding import Feeding
from engine.runtime.live import Context, LiveModel
from engine.runtime.positions import short_reach
from engine.runtime.writing import Strand

#: What a prompt is read into where the others' cache is of a kind that only differs in where and how it lies.
_READ_INTO = {"static": "dynamic", "offloaded": "dynamic"}


class JoinRefused(Exception):
    """A sequence cannot join. The message is one sentence for people; nothing was changed."""


def why_never(live: LiveModel) -> str:
    """Why no sequence can join as the settings are, by structure alone; "" when one may."""
    loop = live.loop
    if live.facts.family is not Family.DECODER:
        return "Only sequences of a decoder go on together: this model reads its prompt with an encoder."
    if loop.beams > 1 or loop.speculation != "off" or loop.read_back != "synchronous":
        return (
            "A sequence joins others that get a token each a step, which is waited for: set beams to 1, speculation to"
            " off and read_back to synchronous first."
        )
    if live.replayed is not None:
        return "A captured step leaves no padding out, which a sequence that joins needs: set cuda_graphs to off first."
    if live.compiled is not None:
        return (
            "A compiled step was made for as many rows as there are, and would be compiled anew while all wait: set"
            " compile to off first."
        )
    if live.cache_kind == "quantized":
        return (
            "A quantized KV cache has one scale for all of its rows, so a row more would change the others: set"
            " kv_cache to dynamic first."
        )
    if live.cache_kind == "sliding":
        return (
            "A sliding cache would take what fills up the shorter sequences for their text: set kv_cache to dynamic"
            " first."
        )
    if live.cache_argument == "state":
        return "This model keeps a state instead of keys and values, and states cannot be filled up to one length."
    if short_reach(live.model):
        return "This model reads short and long texts with different rotations, so texts of both cannot go on together."
    return ""


@dataclass
class Newcomer:
    """A sequence that is to join: what it has written, and its context until it does. `strand.ids` are its prompt.

    `chosen`: its newest token on the device, (1,), once it has one.
    """

    live: LiveModel
    strand: Strand
    chosen: torch.Tensor | None = None

    def __post_init__(self) -> None:
        kind = _READ_INTO.get(self.live.cache_kind, self.live.cache_kind)
        self.kind = kind
        self.context = Context(self.strand.ids, len(self.strand.ids))
        with self.live.forward_mode():
            self.context.cache = new_cache(self.live, kind, self.context.capacity)
        self._feeding = Feeding(self.live, self.context)

    def next_ids(self) -> list[int]:
        """The next chunk of its prompt."""
        cached, pending = self.context.cached, self.context.pending
        count = pending if self.kind == "none" else min(pending, self.live.prefill_chunk or pending)
        return self.context.ids[cached : cached + count]

    def feed(self, ids: torch.Tensor, code: int) -> torch.Tensor | None:
        """Logits (1, positions kept, vocabulary) of a chunk (1, n), or None while more of the prompt is pending."""
        arguments = self._feeding.arguments(ids, self.kind)
        output = self.live.run(self.live.model, code, arguments)
        completes = ids.shape[1] == self.context.pending
        self._feeding.count(output, ids, self.kind)
        logits: torch.Tensor = output.logits
        return logits if completes else None


def seat(
    live: LiveModel, context: Context, rows: Sequence[list[int]], other: Context, kind: str, room: int
) -> None:
    """Give the one row of `other` a place below the rows of `context`, whose ids are `rows` (the first: its own).

    In both, all ids but the newest are cached, or none is. `kind`: of the cache that this makes. `room`: how many
    tokens the new row may still get. Leaves everything as it was when it raises: ValueError where the cache holds more
    than keys and values, RuntimeError without memory.
    """
    spare = min(context.padding, default=0)
    length = context.length - spare
    width = max(length, other.length)
    shift, own = width - length, width - other.length
    capacity = max(context.capacity - spare + shift, width + room)
    if isinstance(context.cache, Cache):
        assert isinstance(other.cache, Cache)
        caches = [(context.cache, spare), (other.cache, 0)]
        context.cache = put_together(live, kind, capacity, caches)
        context.cached = width - 1
    padding = context.padding or (0,) * context.rows
    padding = (*(count - spare + shift for count in padding), own)
    context.padding = padding if any(padding) else ()
    context.capacity = capacity
    context.rows += 1
    for ids in rows:
        del ids[:spare]
        ids[:0] = ids[:1] * shift
    other.ids[:0] = other.ids[:1] * own


def put_together(live: LiveModel, kind: str, capacity: int, caches: Sequence[tuple[Cache, int]]) -> Cache:
    """A cache of a kind with the rows of several, one below the other, that end in the same column.

    Each comes with how many of its first columns are left out. Raises ValueError where a layer holds something else
    than keys and values.
    """
    target = new_cache(live, kind, capacity)
    assert target is not None
    with live.forward_mode(), torch.no_grad():
        for cache, _ in caches:
            bring_back(cache)
        first = caches[0][0].layers
        target.layers = target.layers[: len(first)]
        for place, new in enumerate(target.layers):
            if getattr(first[place], "is_initialized", True):
                fill(new, _below([_taken_out(cache.layers[place], cut) for cache, cut in caches]))
    return target


def _taken_out(layer: Any, cut: int) -> Held:
    held = held_by(layer)
    if held is None:
        raise ValueError("it keeps a state, which cannot be filled up to the length of others")
    return held.without_first(cut)


def _below(parts: Sequence[Held]) -> Held:
    """Rows of several layers, one below the other, filled up on the left."""
    width = max(part.keys.shape[-2] for part in parts)
    return Held(
        torch.cat([_filled(part.keys, width) for part in parts]),
        torch.cat([_filled(part.values, width) for part in parts]),
        max(part.count for part in parts),
    )


def _filled(tensor: torch.Tensor, width: int) -> torch.Tensor:
    """(rows, heads, n, width of a head) with zeros before, so that n is `width`."""
    return pad(tensor, (0, 0, width - tensor.shape[-2], 0))
