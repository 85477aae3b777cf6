"""What is decoded together: beams of a search, or sequences of a batch."""

import inspect
import warnings
from dataclasses import dataclass

import torch

from engine.protocol import Family, SettingFacts, SettingValue
from engine.runtime.caches import new_cache
from engine.runtime.feeding import Feeding
from engine.runtime.joining import seat
from engine.runtime.live import Context, LiveModel
from engine.runtime.rows import choose_rows
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.loop import change_loop
from engine.runtime.settings.trial import agree, first_layers, first_sentence, trial_ids
from engine.runtime.settings.values import read_value


@dataclass
class Together:
    """A number of `Loop`, under its own name: rows of the cache that every step computes."""

    key: str
    family: str
    label: str
    maximum: int
    unit: str
    expected: str
    lossless: bool

    def probe(self, live: LiveModel) -> SettingFacts:
        """Tried: a row that is repeated in the cache has to go on in each place as it would alone."""
        return self._facts(why_not_together(live))

    def _facts(self, reason: str = "") -> SettingFacts:
        return SettingFacts(
            key=self.key,
            family=self.family,
            label=self.label,
            kind="integer",
            default=1,
            minimum=1,
            maximum=self.maximum,
            unit=self.unit,
            expected=self.expected,
            lossless=self.lossless,
            reason=reason,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """How many."""
        value: SettingValue = getattr(live.loop, self.key)
        return value

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """More branch off with the next token; of fewer, the best beam or the first sequences stay."""
        count, reason = read_value(self._facts(), value)
        if count is None:
            raise SettingRefused(reason)
        change_loop(live, **{self.key: count})


def why_not_together(live: LiveModel) -> str:
    """Why this model cannot compute several rows in a step; "" when it can."""
    if live.facts.family is not Family.DECODER or not live.cache_argument:
        return ""
    try:
        with first_layers(live), torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone, several = _trial(live, 1), _trial(live, 3)
    except Exception as error:  # whatever a model raises is the reason
        return f"Several sequences in one step fail on this model: {first_sentence(error)}."
    if agree(live, alone.expand_as(several), several):
        return ""
    return "Several sequences in one step give other results on this model than each of them alone."


def _trial(live: LiveModel, rows: int) -> torch.Tensor:
    """Logits (rows, vocabulary) of one token in each row, behind some that the rows share."""
    ids = trial_ids(live, 6)
    context = Context([], 6, new_cache(live, "dynamic", live.facts.context_limit))
    feeding = Feeding(live, context)
    feeding.count(live.model(**feeding.arguments(ids[:, :5], "dynamic")), ids[:, :5], "dynamic")
    choose_rows(live, context, [0] * rows)
    output = live.model(**feeding.arguments(ids[:, 5:].expand(rows, 1), "dynamic"))
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


def why_not_padded(live: LiveModel) -> str:
    """Why this model cannot continue prompts of different lengths together; "" when it can: tried on two."""
    if "attention_mask" not in inspect.signature(live.model.forward).parameters:
        return "This model cannot leave padding out: give prompts of equally many tokens, or one at a time."
    ids = trial_ids(live, 7)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = torch.cat((ids, torch.cat((ids[:, :1].expand(1, 3), ids[:, :4]), 1)))
            together = _in_steps(live, rows, (0, 3))[1]
            alone = live.model(input_ids=ids[:, :4]).logits[0, -1].float()
    except Exception as error:  # whatever a model raises is the reason
        return f"Prompts of different lengths fail together on this model: {first_sentence(error)}."
    if agree(live, alone, together):
        return ""
    return "On this model padding changes the results: give prompts of equally many tokens, or one at a time."


def _in_steps(live: LiveModel, rows: torch.Tensor, padding: tuple[int, ...]) -> torch.Tensor:
    """Logits (rows, vocabulary) of the last ids of padded rows, fed by themselves where there is a cache."""
    kind, (count, length) = "dynamic" if live.cache_argument else "none", rows.shape
    cache = new_cache(live, kind, live.facts.context_limit)
    context = Context([], length, cache, padding=padding, rows=count)
    feeding = Feeding(live, context)
    for fed in (rows,) if kind == "none" else rows.split_with_sizes([length - 2, 1, 1], 1):
        output = live.model(**feeding.arguments(fed, kind))
        feeding.count(output, fed, kind)
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


def why_not_joined(live: LiveModel) -> str:
    """Why a sequence cannot join others on this model; "" when it can: tried with a shorter and a longer one."""
    missed = [(step, step.missed) for step in (live.compiled, live.replayed) if step is not None]
    try:
        with first_layers(live):
            return _why_not_seated(live) or why_not_padded(live)
    finally:
        for step, arguments in missed:
            step.missed = arguments  # a trial is no step of the generation


def _why_not_seated(live: LiveModel) -> str:
    if not live.cache_argument:
        return ""
    ids = trial_ids(live, 11)
    long, short = ids[:, :7], ids[:, 7:]
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = [live.model(input_ids=each).logits[0, -1].float() for each in (long, short)]
            below, above = _seated(live, long, short), _seated(live, short, long)
    except Exception as error:  # whatever a model raises is the reason
        return f"A sequence cannot join others on this model: {first_sentence(error)}."
    if agree(live, torch.stack(alone), below) and agree(live, torch.stack(alone[::-1]), above):
        return ""
    return "A sequence that joins others gets other results on this model than alone: start it by itself."


def _seated(live: LiveModel, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Logits (2, vocabulary) of the last ids of two sequences that were read apart and are fed their last together."""
    context, other = (_read(live, ids) for ids in (first, second))
    seat(live, context, [context.ids], other, "dynamic", 0)
    feeding, fed = Feeding(live, context), torch.cat((first[:, -1:], second[:, -1:]))
    logits: torch.Tensor = live.model(**feeding.arguments(fed, "dynamic")).logits[:, -1].float()
    return logits


def _read(live: LiveModel, ids: torch.Tensor) -> Context:
    """A sequence of which all but the last id are cached."""
    context = Context(ids[0].tolist(), ids.shape[1], new_cache(live, "dynamic", live.facts.context_limit))
    feeding, fed = Feeding(live, context), ids[:, :-1]
    feeding.count(live.model(**feeding.arguments(fed, "dynamic")), fed, "dynamic")
    return context


BEAMS = Together(
    "beams", "decoding", "Beams", 16, "beams",
    "Finds likelier texts than greedy; every step computes all beams, and a token shows once they agree on it.",
    lossless=False,
)  # fmt: skip
BATCH = Together(
    "batch", "batch", "Sequences together", 64, "sequences",
    "More tokens a second in all, as weights are read once a step for every sequence; each step takes longer.",
    lossless=True,
)  # fmt: skip
