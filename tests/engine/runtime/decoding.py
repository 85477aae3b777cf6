"""Generations on small models, step by step, with settings of the loop switched between steps."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedModel

from engine.protocol import SettingValue
from engine.runtime.caches import new_cache
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.live import Draft, LiveModel
from engine.trace.ledger import Layout
from tests.engine.runtime.live_models import byte_tokenizer
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.small_models import build, prompt_ids

PROMPT_IDS = prompt_ids(20)
#: Grouped attention, learned positions, windows of 16 tokens (in all layers, in some), experts.
FEW = ["llama", "gpt2", "qwen2", "mistral", "gemma3", "mixtral"]
Changes = Mapping[int, Mapping[str, SettingValue]]


def ready(family: str = "llama", **overrides: Any) -> LiveModel:
    """The family's seeded model, with a tokenizer and a draft model that is often but not always right."""
    live = small_live(model=build(family, **overrides))
    live.tokenizer = byte_tokenizer()
    live.draft = Draft("noisy", noisy(build(family, **overrides)), 256)
    live.draft_name = "noisy"
    return live


def noisy(model: PreTrainedModel, amount: float = 0.02) -> PreTrainedModel:
    """The model with its weights disturbed."""
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += amount * parameter.std() * torch.randn(parameter.shape, generator=noise)
    return model


@dataclass
class Decoded:
    """A generation that has ended."""

    live: LiveModel
    generation: Generation
    steps: list[Stepped] = field(default_factory=list)

    @property
    def by_sequence(self) -> dict[int, list[int]]:
        """The ids of each sequence's tokens."""
        ids: dict[int, list[int]] = defaultdict(list)
        for step in self.steps:
            for token in step.tokens:
                ids[token.sequence].append(token.id)
        return dict(ids)

    @property
    def tokens(self) -> list[int]:
        """The ids of the first sequence."""
        return self.by_sequence[0]

    def check(self, moments: int = 1) -> "Decoded":
        """What holds for every generation: ledgers sum, what a step yields arrives at once, and later than before.

        `moments`: at how many a step's tokens may arrive.
        """
        arrivals = []
        for step in self.steps:
            layout = Layout(self.live.recorder.names, tuple(memoryview(step.codes).cast("H")))
            stamps = torch.frombuffer(bytearray(step.stamps), dtype=torch.int64).numpy()
            wall = int(stamps[-1] - stamps[0])
            assert layout.phases_ns(stamps[None])[0].sum() == wall > 0
            arrived = sorted({token.arrival_ns for token in step.tokens})
            assert len(arrived) <= moments
            arrivals += arrived
        assert all(before < after for before, after in pairwise(arrivals))
        return self


def decode(
    live: LiveModel, tokens: int = 40, changes: Changes | None = None, ends: Collection[int] = ()
) -> Decoded:
    """Generate to the end, with settings changed before given steps (0 is the first), which are waited for."""
    generation = Generation(live, PROMPT_IDS[0].tolist(), Limits(tokens, frozenset(ends)))
    context = generation.context
    context.cache = new_cache(live, live.cache_kind, context.capacity)
    decoded = Decoded(live, generation)
    steps = iter(generation)
    waiting = dict(changes or {})
    context.awaited = lambda: len(decoded.steps) + 1 in waiting
    pipelined = live.loop.read_back == "pipelined" or any("read_back" in each for each in waiting.values())
    while not decoded.steps or not decoded.steps[-1].end_reason:
        for key, value in waiting.pop(len(decoded.steps), {}).items():
            setting(key).apply(live, value)
        decoded.steps.append(next(steps))
    assert not waiting, "the generation ended before these changes"
    return decoded.check(moments=2 if pipelined else 1)


def reference(
    live: LiveModel, tokens: int = 40, prompt: list[int] | None = None, **options: Any
) -> list[int]:
    """What `generate()` of transformers makes of the prompt: greedy, unless told otherwise."""
    ids = PROMPT_IDS if prompt is None else torch.tensor([prompt])
    model: Any = live.model
    wanted = {"min_new_tokens": tokens, "do_sample": False} | options
    output = model.generate(ids, max_new_tokens=tokens, pad_token_id=0, **wanted)
    new: list[int] = output[0, ids.shape[1] :].tolist()
    return new
