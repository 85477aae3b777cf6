"""Who proposes tokens for the model to check: the text so far, a small model, or the model's own first layers.

All propose what they find likeliest, not a random draw: then checking by the model's own choice (see `speculation`) is
exact for sampling too. Models find likeliest what is so by the rules that the choice follows: what was said before is
penalized in a draft as it will be where the draft is checked. `generate()` of a draft model costs several steps' worth
of preparation a call, which a small model cannot earn back, so drafting is a loop of its own here, over a cache that
is kept and cropped.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import Cache, DynamicCache, LogitsProcessorList, PreTrainedModel
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from engine.runtime.live import Draft, LiveModel
from engine.runtime.positions import is_outgrown, short_reach, within_reach
from engine.runtime.rows import keep_past
from engine.runtime.sampling import processed, seen_of
from engine.runtime.stacks import enough_layers, layer_stacks

#: The longest run of tokens that is looked up, as in transformers.
LOOKED_UP = 2


class Drafter(Protocol):
    """Proposes how a sequence goes on."""

    def propose(self, ids: Sequence[int], count: int, rules: LogitsProcessorList) -> list[int]:
        """At most `count` ids that may follow these; [] where it has no idea. `rules`: what the choice follows."""
        ...


class PromptLookup:
    """What followed where the text said the same before."""

    def propose(self, ids: Sequence[int], count: int, rules: LogitsProcessorList) -> list[int]:
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
        self._cache = _empty_cache(draft)
        self._cached: list[int] = []
        self._short_reach = short_reach(draft.model)

    def propose(self, ids: Sequence[int], count: int, rules: LogitsProcessorList) -> list[int]:
        """Greedy continuation; nothing where the draft's context is too short."""
        if len(ids) + count > self._draft.context_limit:
            return []
        self._agree(ids)
        # the last one that is proposed is not fed
        count = 1 + within_reach(self._short_reach, len(ids), count - 1)

        def logits(fed: torch.Tensor) -> torch.Tensor:
            read = _logits(self._draft.model, fed, self._cache)[:, -1, : self._vocabulary]
            keep_past(self._cache)  # not before the prompt is read: it fills windows
            return read

        drafts = _likeliest(logits, ids, len(self._cached), count, rules, self._draft.model.device)
        self._cached = [*ids, *drafts[:-1]]
        return drafts

    def _agree(self, ids: Sequence[int]) -> None:
        """Forget what is cached from where it says something else than the text does; the last id stays to be fed."""
        if is_outgrown(self._short_reach, len(self._cached), len(ids)):
            self._cache, self._cached = _empty_cache(self._draft), []
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

    def propose(self, ids: Sequence[int], count: int, rules: LogitsProcessorList) -> list[int]:
        """Greedy continuation. The model's cache is afterwards as it was."""
        live, context = self._live, self._live.context
        assert context is not None
        cache = context.cache
        assert isinstance(cache, Cache)
        fed_tokens = 0

        def logits(fed: torch.Tensor) -> torch.Tensor:
            nonlocal fed_tokens
            read = _logits(live.model, fed, cache)[:, -1]
            fed_tokens += fed.shape[1]
            return read

        parent, name, layers = self._stack
        parent._modules[name] = self._first
        try:
            with live.uncompiled():
                return _likeliest(logits, ids, context.cached, count, rules, live.device)
        finally:
            parent._modules[name] = layers
            for layer in cache.layers[: self._count]:
                cropped: Any = layer  # one without `crop` was refused when it was tried
                cropped.crop(-fed_tokens)


def exit_layers(live: LiveModel, layers: nn.ModuleList) -> int:
    """After how many layers an early exit leaves the model: half of them, each kind among them."""
    return max(enough_layers(live, layers), len(layers) // 2)


def _likeliest(
    logits: Callable[[torch.Tensor], torch.Tensor],
    ids: Sequence[int],
    cached: int,
    count: int,
    rules: LogitsProcessorList,
    device: torch.device,
) -> list[int]:
    """The `count` ids that follow these if the likeliest is always taken, which `rules` have a say in.

    `logits`: those, (1, vocabulary), for what follows some ids (1, n) that are fed. The first `cached` of `ids` need
    not be. The ids so far, which rules look at, are brought to the device once and grow there.
    """
    fed = torch.tensor([ids[cached:]], device=device)
    seen = seen_of((ids,), device) if rules else None
    proposed = []
    for _ in range(count):
        scores = logits(fed)
        if rules:
            scores = processed(rules, seen, scores.to(torch.float32, copy=True))
        fed = scores.argmax(-1, keepdim=True)
        proposed.append(fed)
        if seen is not None:
            seen = torch.cat((seen, fed), 1)
    drafts: list[int] = torch.cat(proposed, 1)[0].tolist()
    return drafts


def _empty_cache(draft: Draft) -> DynamicCache:
    return DynamicCache(config=draft.model.config.get_text_config(decoder=True))


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
