"""Who proposes tokens for the model to check: the text so far, a small model, or the model's own first layers.

All propose what they find likeliest, not a random draw: then checking by the model's own choice (see `speculation`) is
exact for sampling too. `generate()` of a draft model costs several steps' worth of preparation a call, which a small
model cannot earn back, so drafting is a loop of its own here, over a cache that is kept and cropped.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from engine.runtime.live import Draft, LiveModel
from engine.runtime.rows import keep_past
from engine.runtime.stacks import enough_layers, layer_stacks

#: The longest run of tokens that is looked up, as in transformers.
LOOKED_UP = 2


class Drafter(Protocol):
    """Proposes how a sequence goes on."""

    def propose(self, ids: Sequence[int], count: int) -> list[int]:
        """At most `count` ids that may follow these; [] where it has no idea."""
        ...


class PromptLookup:
    """What followed where the text said the same before."""

    def propose(self, ids: Sequence[int], count: int) -> list[int]:
        """What followed the first occurrence of the last two tokens, or else of the last one."""
        row: Any = torch.tensor([ids])
        length = len(ids)
        lookup = PromptLookupCandidateGenerator(None, count, LOOKED_UP, max_length=length + count)
        found, _ = lookup.get_candidates(row)
        proposed: list[int] = found[0, length:].tolist()
        return proposed


class DraftModel:
    """A small model that shares the tokenizer, with a cache of its own."""

    def __init__(self, draft: Draft, vocabulary: int) -> None:
        """`vocabulary`: of the model that checks; a draft may have more rows than there are tokens."""
        self._draft = draft
        self._vocabulary = vocabulary
        self._cache = DynamicCache(config=draft.model.config.get_text_config(decoder=True))
        self._cached: list[int] = []

    def propose(self, ids: Sequence[int], count: int) -> list[int]:
        """Greedy continuation; nothing where the draft's context is too short."""
        if len(ids) + count > self._draft.context_limit:
            return []
        self._agree(ids)
        fed = torch.tensor([ids[len(self._cached) :]], device=self._draft.model.device)
        proposed = []
        for _ in range(count):
            logits = _logits(self._draft.model, fed, self._cache)
            keep_past(self._cache)  # not before the prompt is read: it fills windows
            fed = logits[:, -1, : self._vocabulary].argmax(-1, keepdim=True)
            proposed.append(fed)
        drafts: list[int] = torch.cat(proposed, 1)[0].tolist()
        self._cached = [*ids, *drafts[:-1]]
        return drafts

    def _agree(self, ids: Sequence[int]) -> None:
        """Forget what is cached from where it says something else than the text does; the last id stays to be fed."""
        limit = min(len(self._cached), len(ids) - 1)
        same = next((at for at in range(limit) if self._cached[at] != ids[at]), limit)
        if not self._cached:
            return
        self._cache.crop(same - len(self._cached))
        del self._cached[same:]


class EarlyExit:
    """The model's own first layers, then its head, over the rows that these layers have in the model's cache anyway."""

    def __init__(self, live: LiveModel) -> None:
        self._live = live
        (self._stack,) = layer_stacks(live)
        layers = self._stack[2]
        self._count = exit_layers(live, layers)
        self._first = nn.ModuleList(list(layers)[: self._count])

    def propose(self, ids: Sequence[int], count: int) -> list[int]:
        """Greedy continuation. The model's cache is afterwards as it was."""
        context = self._live.context
        assert context is not None
        cache = context.cache
        assert isinstance(cache, Cache)
        fed = torch.tensor([ids[context.cached :]], device=self._live.device)
        parent, name, layers = self._stack
        parent._modules[name] = self._first
        proposed: list[torch.Tensor] = []
        try:
            for _ in range(count):
                fed = _logits(self._live.model, fed, cache)[:, -1].argmax(-1, keepdim=True)
                proposed.append(fed)
        finally:
            parent._modules[name] = layers
            for layer in cache.layers[: self._count]:
                cropped: Any = layer  # one without `crop` was refused when it was tried
                cropped.crop(-len(proposed))
        drafts: list[int] = torch.cat(proposed, 1)[0].tolist()
        return drafts


def exit_layers(live: LiveModel, layers: nn.ModuleList) -> int:
    """After how many layers an early exit leaves the model: half of them, each kind among them."""
    return max(enough_layers(live, layers), len(layers) // 2)


def _logits(model: PreTrainedModel, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
    """Logits (1, positions, vocabulary), the last position's among them."""
    logits: torch.Tensor = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
    return logits


def drafter(live: LiveModel) -> Drafter:
    """What the setting asks for. Raises ValueError when no draft model is loaded."""
    kind = live.loop.speculation
    if kind == "lookup":
        return PromptLookup()
    if kind == "exit":
        return EarlyExit(live)
    if live.draft is None:
        raise ValueError("no draft model is loaded")
    return DraftModel(live.draft, live.facts.vocabulary)
