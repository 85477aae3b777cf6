"""Trying something on the model with a few tokens: what a setting does to find out whether it is possible
here."""

import warnings
from collections.abc import Sequence

import torch

from engine.runtime.caches import new_cache
from engine.runtime.live import LiveModel

#: How far logits of the same tokens may differ between two right ways to compute them, in their standard
#: deviations.
TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-2, torch.float16: 0.1, torch.bfloat16: 0.5}
_MESSAGE_LENGTH = 200
#: Tokens reserved by a static cache in a trial: many, since some models confuse reserved with used only
#: beyond a window.
_RESERVED = 512


def trial_ids(live: LiveModel, count: int) -> torch.Tensor:
    """Some different token ids, int64 of shape (1, count)."""
    vocabulary = live.model.config.get_text_config(decoder=True).vocab_size
    ids = (torch.arange(count) * 37 + 11).remainder(vocabulary)
    return ids.unsqueeze(0).to(live.device)


@torch.inference_mode()
def run_trial(live: LiveModel, sizes: Sequence[int], kind: str = "dynamic") -> torch.Tensor:
    """Feed sum(sizes) tokens in steps of these sizes into a throwaway cache; logits of each step's last
    position.

    Kind "none": one step of all tokens. Returns float32 of shape (steps, vocabulary). Raises whatever the
    model raises.
    """
    ids = trial_ids(live, sum(sizes))
    cache = new_cache(live, kind, max(sum(sizes), min(_RESERVED, live.facts.context_limit)))
    logits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for chunk in (ids,) if kind == "none" else torch.split_with_sizes(ids, list(sizes), dim=1):
            arguments = {live.cache_argument: cache} if kind != "none" and live.cache_argument else {}
            output = live.model(input_ids=chunk, use_cache=kind != "none", **arguments)
            if live.cache_argument == "state":
                cache = output.state
            logits.append(output.logits[0, -1].float())
    return torch.stack(logits)


def agree(live: LiveModel, left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two trials gave the same logits, as far as the model's precision tells."""
    spread = float(left.std()) or 1.0
    allowed = TOLERANCE.get(live.model.dtype, 0.5) * spread
    return bool(((left - right).abs() <= allowed).all())  # NaN does not agree with anything


def first_sentence(error: BaseException) -> str:
    """The first sentence of what an error says, without its full stop; its kind when it says nothing."""
    lines = str(error).strip().splitlines()
    text = lines[0].split(". ")[0].strip().rstrip(".") if lines else ""
    if not text:
        return type(error).__name__
    return text if len(text) <= _MESSAGE_LENGTH else text[: _MESSAGE_LENGTH - 1].rstrip() + "…"
