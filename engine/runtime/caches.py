"""KV caches: making them, turning one kind into another in the middle of a generation, and counting their
bytes.

Kinds: "none" (every step computes the whole sequence again), "dynamic" (grows with the sequence) and "static"
(reserved in full at the start). Between dynamic and static the cached keys and values are carried over
exactly. Where no exact way is known (a hybrid layer that keeps both a state and keys) the cache is dropped
instead, and the loop prefills the tokens it then finds pending: slower by one prefill, and just as right.

An encoder–decoder keeps two: the cache of the decoder's own tokens, which is of the chosen kind, and the keys and
values of what the encoder made of the prompt, which never grow and go along unchanged.
"""

from typing import Any

import torch
from transformers import Cache, DynamicCache, EncoderDecoderCache, StaticCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)
from transformers.utils.generic import ModelOutput

from engine.runtime.live import Context, LiveModel

KINDS = ("none", "dynamic", "static")
_GROWING = (DynamicLayer, DynamicSlidingWindowLayer)
_RESERVED = (StaticLayer, StaticSlidingWindowLayer)


def new_cache(live: LiveModel, kind: str, capacity: int) -> Cache | None:
    """An empty cache of a kind for up to `capacity` tokens. None for "none" and for a model that makes its
    own.

    Raises ValueError for an unknown kind. The bytes of a static cache are taken by the first step that fills
    it.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind of KV cache called {kind!r}; there are {', '.join(KINDS)}")
    if kind == "none" or live.cache_argument in ("", "state"):
        return None
    if live.anatomy.encoder is not None:
        return EncoderDecoderCache(_decoder_cache(live, kind, capacity), DynamicCache())
    config = live.model.config.get_text_config(decoder=True)
    return DynamicCache(config=config) if kind == "dynamic" else StaticCache(config, max_cache_len=capacity)


def _decoder_cache(live: LiveModel, kind: str, capacity: int) -> Cache:
    """The cache of a decoder's own tokens: as many layers as it has (some configurations tell the encoder's)."""
    decoder: Any = live.model.get_decoder()  # type: ignore[no-untyped-call]
    config = getattr(decoder, "config", live.model.config).get_text_config(decoder=True)
    depth = len(live.anatomy.blocks) - live.anatomy.encoder_layers
    cache: Cache
    layer: Any = DynamicLayer  # it has no types
    if kind == "dynamic":
        cache = DynamicCache(config=config)
        missing: list[Any] = [layer() for _ in range(depth - len(cache.layers))]
    else:
        cache = StaticCache(config, max_cache_len=capacity)
        missing = [StaticLayer(max_cache_len=capacity) for _ in range(depth - len(cache.layers))]
    cache.layers = [*cache.layers[:depth], *missing]
    return cache


def _all_layers(cache: Cache) -> list[Any]:
    """An encoder–decoder has two for each layer of its decoder, the second for what its encoder made of the prompt."""
    if isinstance(cache, EncoderDecoderCache):
        return [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]
    return list(cache.layers)


def restart(live: LiveModel, context: Context, kind: str) -> None:
    """Give the context an empty cache: all of its tokens are pending again, and the loop prefills them."""
    context.cache = new_cache(live, kind, context.capacity)
    context.cached = 0


@torch.inference_mode()
def convert(live: LiveModel, context: Context, kind: str) -> None:
    """Turn the context's cache into another kind, keeping what is cached wherever that is exact.

    Leaves the context as it was when it raises (ValueError for an unknown kind, RuntimeError when memory
    runs out).
    """
    source = context.cache
    target = new_cache(live, kind, context.capacity)
    if not isinstance(source, Cache) or target is None or context.cached == 0:
        restart(live, context, kind)
    elif _carry_all(source, target):
        context.cache = target
    else:
        restart(live, context, kind)


def _carry_all(source: Cache, target: Cache) -> bool:
    """Fill an empty cache with what another holds. False, with no use for the target then: no exact way."""
    if isinstance(source, EncoderDecoderCache) and isinstance(target, EncoderDecoderCache):
        target.cross_attention_cache = source.cross_attention_cache
        target.is_updated = source.is_updated
        return _carry_all(source.self_attention_cache, target.self_attention_cache)
    # as many layers as the source has: a model may cache fewer than are configured
    pairs = list(zip(source.layers, target.layers[: len(source.layers)], strict=True))
    if not all(_carry(old, new) for old, new in pairs):
        return False
    target.layers = [old if type(old) is type(new) else new for old, new in pairs]
    return True


def _carry(old: Any, new: Any) -> bool:
    """Fill the empty layer `new` with what `old` holds (its own type needs nothing). False: no exact way."""
    if type(old) is type(new) or not getattr(old, "is_initialized", True):
        return True
    if type(old) in _GROWING and type(new) in _RESERVED:
        _to_static(old, new)
    elif type(old) in _RESERVED and type(new) in _GROWING:
        _to_dynamic(old, new)
    else:
        return False
    return True


def _to_static(old: Any, new: Any) -> None:
    """A sliding layer that is full holds window - 1 tokens when dynamic and window when static: one is
    padded.

    The padding is at the oldest place, which the next update pushes out before anything attends to it.
    """
    count = old.get_seq_length()
    held = old.keys.shape[-2]
    new.lazy_initialization(old.keys, old.values)
    begin = 0
    if isinstance(new, StaticSlidingWindowLayer):
        new.cumulative_length_int = count
        begin = max(0, min(count, new.max_cache_len) - held)
    new.keys[:, :, begin : begin + held].copy_(old.keys)
    new.values[:, :, begin : begin + held].copy_(old.values)
    new.cumulative_length.fill_(min(count, new.max_cache_len))


def _to_dynamic(old: Any, new: Any) -> None:
    count = int(old.get_seq_length())
    end = min(count, old.max_cache_len)
    begin = 0
    if isinstance(new, DynamicSlidingWindowLayer):
        begin = max(0, end - (new.sliding_window - 1))
    new.lazy_initialization(old.keys, old.values)
    # Copies, so that the reserved memory is not kept alive by a view of it.
    new.keys = old.keys[:, :, begin:end].clone()
    new.values = old.values[:, :, begin:end].clone()
    if isinstance(new, DynamicSlidingWindowLayer):
        new.cumulative_length = count


@torch.inference_mode()
def cast(cache: Cache | None, dtype: torch.dtype) -> bool:
    """Cast a cache to another dtype in place. False, with nothing changed, where it holds more than keys and
    values.

    (State-space layers choose the dtypes of their states themselves: such a cache has to be made anew.)
    """
    if cache is None:
        return True
    if not isinstance(cache, Cache):
        return False
    layers = _all_layers(cache)
    if not all(type(layer) in (*_GROWING, *_RESERVED) for layer in layers):
        return False
    filled = [layer for layer in layers if layer.is_initialized]
    pairs = [(layer.keys.to(dtype), layer.values.to(dtype)) for layer in filled]
    for layer, (keys, values) in zip(filled, pairs, strict=True):
        layer.keys, layer.values, layer.dtype = keys, values, dtype
        if isinstance(layer, StaticLayer):
            torch._dynamo.mark_static_address(keys)
            torch._dynamo.mark_static_address(values)
    return True


@torch.inference_mode()
def cast_encoded(encoded: ModelOutput | None, dtype: torch.dtype) -> ModelOutput | None:
    """What an encoder made of the prompt, in another dtype."""
    if encoded is None:
        return None
    return type(encoded)(
        **{
            name: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in encoded.items()
        }
    )


def cache_bytes(cache: Any) -> int:
    """Bytes that the tensors of a cache hold: keys, values and states, whether filled or only reserved.

    Costs less than a microsecond a layer. Takes a cache of transformers, a list of state tensors, or None.
    """
    if cache is None:
        return 0
    if not isinstance(cache, Cache):
        return sum(tensor.nbytes for tensor in cache)
    total = 0
    for layer in _all_layers(cache):
        kept = layer.__dict__
        keys = kept.get("keys")
        if keys is not None:
            total += keys.nbytes + kept["values"].nbytes
        if "conv_states" in kept:
            total += _state_bytes(kept)
    return total


def _state_bytes(kept: dict[str, Any]) -> int:
    states = (*kept["conv_states"].values(), *kept["recurrent_states"].values())
    return sum(tensor.nbytes for tensor in states if tensor is not None)
