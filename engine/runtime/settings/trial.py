"""Trying something on the model with a few tokens: what a setting does to find out whether it is possible
here."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from engine.runtime.caches import new_cache
from engine.runtime.feeding import Feeding
from engine.runtime.live import Context, LiveModel
from engine.runtime.stacks import enough_layers, layer_stacks

#: How far results for the same tokens may differ between two right ways to compute them, in their standard
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
def run_trial(
    live: LiveModel, sizes: Sequence[int], kind: str = "dynamic", *, head: bool = False
) -> torch.Tensor:
    """Feed sum(sizes) tokens in steps of these sizes into a throwaway cache; hidden state of each step's last position.

    Kind "none": one step of all tokens. An encoder–decoder reads the same tokens first. `head`: go on to the logits;
    what happens in the layers shows without them, and projecting to a large vocabulary takes longer than a few layers.
    Returns float32 of shape (steps, hidden or vocabulary). Raises whatever the model raises.
    """
    ids = trial_ids(live, sum(sizes))
    capacity = max(sum(sizes), min(_RESERVED, live.facts.context_limit))
    context = Context([], capacity, new_cache(live, kind, capacity))
    model = live.model if head else live.model.base_model
    feeding, results = Feeding(live, context, model), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if live.anatomy.encoder is not None:
            context.encoded = live.anatomy.encoder(input_ids=ids)
        for fed in (ids,) if kind == "none" else ids.split_with_sizes(list(sizes), 1):
            output = model(**feeding.arguments(fed, kind))
            feeding.count(output, fed, kind)
            result = output.logits if hasattr(output, "logits") else output.last_hidden_state
            results.append(result[0, -1].float())
    return torch.stack(results)


@contextmanager
def first_layers(live: LiveModel) -> Iterator[None]:
    """Inside, the model has its first layers only, each kind among them: trials of a big model are quick.

    Models whose cache is more than keys and values of each layer, or that do not run so, stay whole.
    """
    stacks = list(layer_stacks(live)) if _is_plain(live) else []
    with ExitStack() as shortened:
        for parent, name, layers in stacks:
            parent._modules[name] = nn.ModuleList(list(layers)[: enough_layers(live, layers)])
            shortened.callback(parent._modules.__setitem__, name, layers)
        if stacks and not _runs(live):
            shortened.close()
        yield


def _is_plain(live: LiveModel) -> bool:
    layers = DynamicCache(config=live.model.config.get_text_config(decoder=True)).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _runs(live: LiveModel) -> bool:
    try:
        run_trial(live, (1,))
    except Exception:  # the model counts on all of its layers
        return False
    return True


def agree(live: LiveModel, left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two trials gave the same results, as far as the model's precision tells."""
    spread = float(left.std()) or 1.0
    allowed = TOLERANCE.get(live.model.dtype, 0.5) * spread
    return bool(((left - right).abs() <= allowed).all())  # NaN does not agree with anything


def made_or_undone(
    make: Callable[[], None],
    undo: Callable[[], None],
    what: str,
    said: Callable[[BaseException], str] | None = None,
) -> str:
    """Make something; "". Where that raises, whatever it is: undo, and why, as a sentence that begins with `what`."""
    try:
        make()
    except Exception as error:
        undo()
        return f"{what}: {(said or first_sentence)(error)}."
    return ""


def first_sentence(error: BaseException) -> str:
    """The first sentence of what an error says, without its full stop; its kind when it says nothing."""
    lines = str(error).strip().splitlines()
    text = lines[0].split(". ")[0].strip().rstrip(".") if lines else ""
    if not text:
        return type(error).__name__
    return text if len(text) <= _MESSAGE_LENGTH else text[: _MESSAGE_LENGTH - 1].rstrip() + "…"
