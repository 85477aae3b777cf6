"""What all settings of the weights do to change them: realize, try, bring the context along; undone if it fails."""

from dataclasses import replace
from typing import Any

import torch
from transformers import Cache, EncoderDecoderCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)

from engine.runtime.caches import cast, cast_encoded, new_cache, restart
from engine.runtime.live import Context, LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import first_sentence, run_trial
from engine.runtime.weights.plan import Made
from engine.runtime.weights.realizing import TooLittleMemory, forget, realize

_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer, StaticLayer, StaticSlidingWindowLayer)


def replan(live: LiveModel, what: str, **changes: Any) -> None:
    """Change parts of the plan for the weights, tried on two tokens, with the context of a running generation.

    `what`: what the model is to do, for the sentence if it does not ("run in bfloat16"). Raises SettingRefused.
    """
    state, before = live.weights, live.weights.plan
    after = replace(before, **changes)
    # What has run before needs no trial, unless a kernel that was chosen since may not know this dtype.
    tried = after in state.made and ":" not in live.attention
    old = state.in_force
    try:
        realize(live, after)
    except TooLittleMemory as error:
        raise SettingRefused(
            f"A copy of the weights to {what} needs {_size(error.needed)}, but only {_size(error.free)} are free:"
            " close other programs or load a smaller model."
        ) from error
    try:
        if not tried:
            _try(live)
        bring_along(live, old, state.in_force, recast=before.dtype != after.dtype)
    except Exception as error:
        realize(live, before)
        forget(live, after)
        raise SettingRefused(f"This model does not {what} here: {first_sentence(error)}.") from error


def _try(live: LiveModel) -> None:
    logits = run_trial(live, (1, 1), "dynamic" if live.cache_argument else "none", head=True)
    if bool(logits.isnan().any()):
        raise ArithmeticError("its results are no numbers then")


def dtype_in_force(live: LiveModel) -> torch.dtype:
    """The dtype of the weights, quantized or not."""
    return live.weights.plan.dtype or live.weights.dtype or live.model.dtype


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**27 else f"{count / 2**20:.1f} MiB"


# ---------------------------------------------------------------- the context


def bring_along(live: LiveModel, old: Made, new: Made, recast: bool) -> None:
    """Make the context of a running generation fit: cast it, drop the heads and layers that are gone.

    What was cached by more or other heads than there are left is right in those that are left. Heads and layers that
    come back have nothing in the cache: it begins anew then, and all tokens are pending. Leaves the context as it was
    when it raises, except that it may have to begin anew. `recast`: the dtype is another one than before.
    """
    context, dtype = live.context, dtype_in_force(live)
    if context is None:
        return
    try:
        with live.forward_mode():  # in which the next step will write to what is made here
            encoded = cast_encoded(context.encoded, dtype)
            fits = cast(context.cache, dtype) if recast else True
            fits = fits and _without(live, context, old, new)
        if not fits:
            restart(live, context, live.cache_kind)
        context.encoded = encoded
    except Exception:
        restart(live, context, live.cache_kind)
        raise


def _without(live: LiveModel, context: Context, old: Made, new: Made) -> bool:
    """Drop the heads and layers of the cache that the new plan does not have. False: that is not possible."""
    same_heads = _heads(old) == _heads(new)
    if same_heads and old.skipped == new.skipped:
        return True
    if context.cache is None or context.cached == 0:
        return False
    if old.skipped - new.skipped or not isinstance(context.cache, Cache):
        return False
    layers = _own_layers(context.cache)
    if not all(type(layer) in _PLAIN for layer in layers):
        return False
    if not same_heads and not _drop_heads(layers, old, new):
        return False
    _drop_layers(live, context, layers, new.skipped - old.skipped)
    return True


def _heads(made: Made) -> dict[int, list[int]]:
    return {layer: kept.tolist() for layer, kept in made.kept_heads.items()}


def _own_layers(cache: Cache) -> list[Any]:
    own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    layers: list[Any] = own.layers
    return layers


def _drop_heads(layers: list[Any], old: Made, new: Made) -> bool:
    """Keep the heads that are left. False, with nothing changed, where some come back."""
    chosen = []
    for number, layer in enumerate(layers):
        held, wanted = old.kept_heads.get(number), new.kept_heads.get(number)
        if not layer.is_initialized or (held is None and wanted is None):
            continue
        there = list(range(layer.keys.shape[1])) if held is None else held.tolist()
        left = None if wanted is None else wanted.tolist()
        if left is None or not set(left) <= set(there):
            return False
        chosen.append((layer, torch.tensor([there.index(head) for head in left], device=layer.keys.device)))
    for layer, index in chosen:
        layer.keys, layer.values = layer.keys.index_select(1, index), layer.values.index_select(1, index)
        if isinstance(layer, StaticLayer):
            layer.num_heads = len(index)
            torch._dynamo.mark_static_address(layer.keys)
            torch._dynamo.mark_static_address(layer.values)
    return True


def _drop_layers(live: LiveModel, context: Context, layers: list[Any], gone: frozenset[int]) -> None:
    """Empty the layers that are skipped from now on."""
    if not gone:
        return
    empty = new_cache(live, live.cache_kind, context.capacity)
    assert isinstance(empty, Cache)
    fresh = _own_layers(empty)
    for number in gone:
        if number < len(layers) and number < len(fresh):
            layers[number] = fresh[number]
