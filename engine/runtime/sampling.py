"""Choosing a token from logits: greedy, or sampling through transformers' own processors in the order of
`generate()`."""

from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine.runtime.live import Decoding

#: The ids so far of sequences, equally many each: lists, or int64 of shape (rows, n).
Rows = Sequence[Sequence[int]] | torch.Tensor


def penalties(decoding: Decoding) -> LogitsProcessorList:
    """Those of the processors that may make another token the likeliest one. Neutral ones are left out."""
    wanted = LogitsProcessorList()
    if decoding.repetition_penalty != 1.0:
        wanted.append(RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty)))
    return wanted


def processors(decoding: Decoding) -> LogitsProcessorList:
    """What changes the logits before a token is chosen, in the order of transformers' `generate()`.

    The repetition penalty holds for greedy decoding too; the others only for sampling. Neutral ones are left
    out.
    """
    wanted = penalties(decoding)
    if decoding.strategy != "sample":
        return wanted
    if decoding.temperature != 1.0:
        wanted.append(TemperatureLogitsWarper(float(decoding.temperature)))
    if decoding.top_k > 0:
        wanted.append(TopKLogitsWarper(int(decoding.top_k)))
    if decoding.top_p < 1.0:
        top_p = TopPLogitsWarper if decoding.top_p_method == "sort" else TopPAmongFirst
        wanted.append(top_p(float(decoding.top_p)))
    if decoding.min_p > 0.0:
        wanted.append(MinPLogitsWarper(float(decoding.min_p)))
    return wanted


def processed(rules: Iterable[LogitsProcessor], seen: Any, scores: torch.Tensor) -> torch.Tensor:
    """Scores (rows, vocabulary) after all rules, which look at the ids so far, `seen` (rows, n). One may work in place.

    What LogitsProcessorList does, less a look at each signature, which takes as long as a rule.
    """
    for rule in rules:
        scores = rule(seen, scores)
    return scores


def seen_of(rows: Rows, device: torch.device) -> torch.Tensor:
    """Ids so far as a tensor (rows, n) on a device. By way of arrays: torch reads a list five times slower."""
    if isinstance(rows, torch.Tensor):
        return rows.to(device)
    flat = torch.frombuffer(array("q", chain.from_iterable(rows)), dtype=torch.long)
    return flat.view(len(rows), -1).to(device)


class TopPAmongFirst(LogitsProcessor):
    """Top-p as TopPLogitsWarper, looking among the likeliest few tokens first: sorting a large vocabulary takes long.

    They hold the share that is asked for unless the model is very unsure; then all are sorted. The tokens kept are the
    same either way. On a device it costs a look at the host whether they do.
    """

    def __init__(self, top_p: float, among: int = 256) -> None:
        self._top_p = top_p
        self._among = among
        self._all = TopPLogitsWarper(top_p)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary), -inf for tokens behind the fewest likeliest that make up the share."""
        if self._among < scores.shape[-1]:
            values, places = scores.topk(self._among)
            shares = (values - scores.logsumexp(-1, keepdim=True)).exp()
            up_to = shares.cumsum(-1)
            if bool((up_to[:, -1] >= self._top_p).all()):
                behind = up_to - shares >= self._top_p
                behind[:, 0] = False  # one token stays, whatever the share
                kept = values.masked_fill(behind, -torch.inf)
                return torch.full_like(scores, -torch.inf).scatter_(-1, places, kept)
        everything: torch.Tensor = self._all(input_ids, scores)
        return everything


class Chooser:
    """Chooses tokens as a Decoding says, with random numbers of its own that start from the seed.

    Two choosers with the same decoding and number make the same choices from the same logits, whatever else draws
    random numbers. `number`: of the sequence, so that those that are decoded together go different ways.
    """

    def __init__(self, decoding: Decoding, device: torch.device, number: int = 0) -> None:
        self.decoding = decoding
        self._home = device
        self._away = decoding.sampling_place == "host" and device.type != "cpu"
        self._device = device = torch.device("cpu") if self._away else device
        self._processors = processors(decoding)
        self._samples = decoding.strategy == "sample"
        self._needs_ids = decoding.repetition_penalty != 1.0
        self._generator = torch.Generator(device)
        self._generator.manual_seed(int(decoding.seed) + number)
        self._no_ids = torch.empty((1, 0), dtype=torch.long, device=device)

    @property
    def is_plain(self) -> bool:
        """Whether it takes the likeliest token of the logits as and where they are."""
        return not self._samples and not self._processors and not self._away

    def choose(self, logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """The next token, shape (1,), on the logits' device. `logits`: shape (1, vocabulary); `ids`: the
        tokens so far."""
        if not self._samples and not self._processors and not self._away:
            return logits.argmax(dim=-1)
        return self.draw(self.weigh(logits, (ids,)))

    def weigh(self, logits: torch.Tensor, rows: Rows) -> torch.Tensor:
        """What `draw` chooses by: the logits (rows, vocabulary) after all processors; when sampling, their chances.

        `rows`: the ids so far, equally many each.
        """
        if self._away:
            logits = logits.to(self._device)
        scores = self.scores(logits, rows) if self._processors or self._samples else logits
        return torch.softmax(scores, dim=-1) if self._samples else scores

    def draw(self, weights: torch.Tensor) -> torch.Tensor:
        """A token, shape (1,), on the model's device, by weights (1, vocabulary) as `weigh` makes them."""
        if self._samples:
            token = torch.multinomial(weights, num_samples=1, generator=self._generator)[:, 0]
        else:
            token = weights.argmax(dim=-1)
        return token.to(self._home) if self._away else token

    def scores(self, logits: torch.Tensor, rows: Rows) -> torch.Tensor:
        """The logits (rows, vocabulary) after all processors, float32; -inf where a token is ruled out."""
        # Only the repetition penalty looks at the ids; the others take an empty row, so that none is copied
        # for them.
        seen = seen_of(rows, self._device) if self._needs_ids else self._no_ids
        # A copy, since a processor may work in place.
        return processed(self._processors, seen, logits.to(torch.float32, copy=True))
