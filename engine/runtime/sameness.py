"""Measures how far the output moved: the settings in force against others, on the tokens of the running generation.

Nothing that runs is touched: both configurations start from an empty cache of their own, on copies of the tokens, and
step through the last of them one by one, as decoding does, so that what a cache loses shows, too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from engine.protocol import Configuration, SettingValue
from engine.runtime.caches import new_cache
from engine.runtime.feeding import Feeding
from engine.runtime.live import Context, LiveModel
from engine.trace.sameness import Logits, Sameness, compare

if TYPE_CHECKING:
    from engine.runtime.workbench import Workbench

TEXT_TOKENS = 32  # of the text so far that are forced, and
GREEDY_TOKENS = 32  # of what the reference would write next
Advance = Callable[[float], None]  # takes the share of the work that is done


class SamenessRefused(Exception):
    """Outputs cannot be compared. The message is one sentence for people; nothing was changed."""


def measure_sameness(
    bench: "Workbench", prompt: list[int], reference: Configuration, advance: Advance
) -> Sameness:
    """How far what is in force lies from `reference` (settings that differ), after the tokens of the generation.

    `prompt`: what an encoder would read. Raises SamenessRefused where a setting cannot be put back or has no output.
    """
    live = bench.live
    if live.context is None or len(live.context.ids) < 2:
        raise SamenessRefused("There is too little text to compare outputs on: generate some tokens first.")
    ids = live.context.text_ids
    split = max(1, len(ids) - TEXT_TOKENS)
    now = dict(bench.effective())
    forced = _Forced(ids[:split], ids[split:], prompt)
    with _set_aside(live):
        with _in_force(bench, reference, now):
            theirs, tokens = forced.run(live, GREEDY_TOKENS, lambda share: advance(share / 2))
        ours, _ = forced.follow(tokens).run(live, 0, lambda share: advance((1 + share) / 2))
    return compare(theirs, ours, np.array(tokens, np.int64), len(ids) - split)


@contextmanager
def _set_aside(live: LiveModel) -> Iterator[None]:
    """Inside, the model has no generation: changing a setting converts no cache, and nothing is compiled for a step."""
    context, live.context = live.context, None
    try:
        yield
    finally:
        live.context = context
        for step in (live.compiled, live.replayed):
            if step is not None:
                step.missed = None


@contextmanager
def _in_force(bench: "Workbench", wanted: Configuration, now: dict[str, SettingValue]) -> Iterator[None]:
    """Inside, other settings are in force."""
    try:
        refused = [change.reason for change in bench.apply(wanted) if change.reason]
        if refused:
            raise SamenessRefused(refused[0])
        yield
    finally:
        bench.apply(tuple((key, now[key]) for key, _ in wanted if key in now))


@dataclass(frozen=True, slots=True)
class _Forced:
    """Tokens that a model is given: those that it has read, and those for which it is asked."""

    read: list[int]
    asked: list[int]
    prompt: list[int]

    def follow(self, tokens: list[int]) -> "_Forced":
        return _Forced(self.read, tokens, self.prompt)

    @torch.inference_mode()
    def run(self, live: LiveModel, greedy: int, advance: Advance) -> tuple[Logits, list[int]]:
        """Logits for each token that is asked for and for `greedy` more, (n, vocabulary), and all of these tokens."""
        tokens, rows = list(self.asked), []
        count = len(tokens) + greedy
        runner = _Runner(live, self.prompt, len(self.read) + count)
        logits = runner.feed(self.read)
        for place in range(count):
            rows.append(logits.float().cpu().numpy())
            if place == len(tokens):
                tokens.append(int(logits.argmax()))
            if place + 1 < count:
                logits = runner.feed(tokens[place : place + 1])
            advance((place + 1) / count)
        return np.stack(rows), tokens


class _Runner:
    """Feeds tokens into a model with a cache of its own, of the kind that is in force."""

    def __init__(self, live: LiveModel, prompt: list[int], capacity: int) -> None:
        self._live = live
        self._kind = live.cache_kind
        self._context = Context([], capacity, new_cache(live, self._kind, capacity))
        self._feeding = Feeding(live, self._context)
        if live.anatomy.encoder is not None:
            self._context.encoded = live.anatomy.encoder(input_ids=self._tensor(prompt))

    def _tensor(self, ids: list[int]) -> torch.Tensor:
        return torch.tensor([ids], dtype=torch.long, device=self._live.device)

    def feed(self, ids: list[int]) -> torch.Tensor:
        """Logits for what follows the last of these tokens, (vocabulary,)."""
        context = self._context
        context.ids += ids
        fed = self._tensor(context.ids if self._kind == "none" else ids)
        output = self._live.model(**self._feeding.arguments(fed, self._kind))
        self._feeding.count(output, fed, self._kind)
        logits: torch.Tensor = output.logits[0, -1]
        return logits
