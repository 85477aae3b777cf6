"""KV caches: making them, turning one kind into another in the middle of a generation, and counting their
bytes.

Kinds: "none" (every step computes the whole sequence again), "dynamic" (grows with the sequence), "static" (reserved in
full at the start), "quantized" (keys and values as 8-bit floats), "offloaded" (in main memory, one layer at a time on
the device) and "sliding" (the last `live.kv_window` tokens only). Where the target can hold exactly what the source
holds, keys and values are carried over. Everywhere else (from a quantized cache, from a window that has already let
tokens go, a hybrid layer that keeps both a state and keys) the cache is dropped instead, and the loop prefills the
tokens it then finds pending: slower by one prefill, and just as right.

An encoder–decoder keeps two: the cache of the decoder's own tokens, which is of the chosen kind, and the keys and
values of what the encoder made of the prompt, which never grow and go along unchanged.
"""

from dataclasses import dataclass
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
from engine.runtime.quantized_cache import Float8Layer

KINDS = ("none", "dynamic", "static", "quantized", "offloaded", "sliding")
_GROWING = (DynamicLayer, DynamicSlidingWindowLayer)
_RESERVED = (StaticLayer, StaticSlidingWindowLayer)


def new_cache(live: LiveModel, kind: str, capacity: int) -> Cache | None:
    """An empty cache of a kind for up to `capacity` tokens. None for "none" and for a model that makes its
    own.

    Raises ValueError for an unknown kind, and where the model's layers cannot be of it. The bytes of a static cache
    are taken by the first step that fills it.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind of KV cache called {kind!r}; there are {', '.join(KINDS)}")
    if kind == "none" or live.cache_argument in ("", "state"):
        return None
    with live.forward_mode():
        cache = _decoder_cache(live, kind, capacity)
        if kind == "quantized":
            cache.layers = _exchanged(cache, "quantize", Float8Layer)
        elif kind == "sliding":
            cache.layers = _exchanged(cache, "cut", lambda: DynamicSlidingWindowLayer(live.kv_window))
        return cache if live.anatomy.encoder is None else EncoderDecoderCache(cache, DynamicCache())


def _decoder_cache(live: LiveModel, kind: str, capacity: int) -> Cache:
    """The cache of a decoder's own tokens, static, or growing for every other kind.

    In an encoder–decoder it has as many layers as the decoder (some configurations tell the encoder's).
    """
    decoder: Any = live.model if live.anatomy.encoder is None else live.model.get_decoder()  # type: ignore[no-untyped-call]
    config = getattr(decoder, "config", live.model.config).get_text_config(decoder=True)
    cache: Cache
    layer: Any = DynamicLayer  # it has no types
    if kind == "static":
        cache = StaticCache(config, max_cache_len=capacity)
    else:
        cache = DynamicCache(config=config, offloading=kind == "offloaded")
    if live.anatomy.encoder is not None:
        depth = len(live.anatomy.blocks) - live.anatomy.encoder_layers
        while len(cache.layers) < depth:
            cache.layers.append(StaticLayer(capacity) if kind == "static" else layer())
        cache.layers = cache.layers[:depth]
    return cache


def _exchanged(cache: Cache, verb: str, make: Any) -> list[Any]:
    """The layers with those that keep all of their tokens exchanged. Raises ValueError when there are none."""
    if not any(type(layer) is DynamicLayer for layer in cache.layers):
        raise ValueError(
            f"this model has no layer that keeps the keys and values of all tokens, so there is nothing to {verb}"
        )
    return [make() if type(layer) is DynamicLayer else layer for layer in cache.layers]


def _all_layers(cache: Cache) -> list[Any]:
    """An encoder–decoder has two for each layer of its decoder, the second for what its encoder made of the prompt."""
    if isinstance(cache, EncoderDecoderCache):
        return [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]
    return list(cache.layers)


def restart(live: LiveModel, context: Context, kind: str) -> None:
    """Give the context an empty cache: all of its tokens are pending again, and the loop prefills them."""
    context.cache = new_cache(live, kind, context.capacity)
    context.cached = 0


def convert(live: LiveModel, context: Context, kind: str) -> None:
    """Turn the context's cache into another kind, keeping what is cached wherever that is exact.

    Leaves the context as it was when it raises (ValueError for an unknown kind, RuntimeError when memory
    runs out).
    """
    source = context.cache
    target = new_cache(live, kind, context.capacity)
    with live.forward_mode(), torch.no_grad():
        carried = (
            isinstance(source, Cache)
            and target is not None
            and context.cached > 0
            and _carry_all(source, target)
        )
    if carried:
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
    bring_back(source)
    if not all(_carry(old, new) for old, new in pairs):
        return False
    target.layers = [old if _stays(old, new) else new for old, new in pairs]
    return True


def bring_back(cache: Cache) -> None:
    """Layers that were moved to main memory come back to their device."""
    if getattr(cache, "offloading", False):
        layers: list[Any] = cache.layers
        for layer in layers:
            layer.prefetch()
        torch.accelerator.synchronize()


@dataclass(frozen=True, slots=True)
class Held:
    """What a layer holds: keys and values (batch, heads, n, width) of the last n of the `count` tokens it has seen."""

    keys: torch.Tensor
    values: torch.Tensor
    count: int

    def last(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of the last tokens, as copies: the memory of the others is not kept alive by a view of it."""
        begin = self.keys.shape[-2] - count
        return self.keys[:, :, begin:].clone(), self.values[:, :, begin:].clone()

    def without_first(self, count: int) -> "Held":
        """As if the first `count` tokens had never been seen."""
        seen = self.count - count
        begin = max(0, self.keys.shape[-2] - seen)
        return Held(self.keys[:, :, begin:], self.values[:, :, begin:], seen)


def _stays(old: Any, new: Any) -> bool:
    """Whether a layer is already what it is to become."""
    return type(old) is type(new) and getattr(old, "sliding_window", 0) == getattr(new, "sliding_window", 0)


def _carry(old: Any, new: Any) -> bool:
    """Fill the empty layer `new` with what `old` holds, unless it is of that kind. False: no exact way."""
    if _stays(old, new) or not getattr(old, "is_initialized", True):
        return True
    held = held_by(old)
    if held is None or held.keys.shape[-2] < _needed(new, held.count):
        return False
    fill(new, held)
    return True


def held_by(old: Any) -> Held | None:
    """What can be taken out of a layer exactly; None for one that keeps something else than keys and values."""
    if type(old) in _GROWING:
        return Held(old.keys, old.values, old.get_seq_length())
    if type(old) not in _RESERVED:
        return None
    count = int(old.get_seq_length())
    end = min(count, old.max_cache_len)
    return Held(old.keys[:, :, :end], old.values[:, :, :end], count)


def _needed(new: Any, count: int) -> int:
    """How many of the last tokens a layer has to be given, of `count` that were seen, to be exact."""
    if type(new) is DynamicSlidingWindowLayer:
        return min(count, new.sliding_window - 1)
    if type(new) is StaticSlidingWindowLayer:
        return min(count, new.max_cache_len - 1)
    return count


def fill(new: Any, held: Held) -> None:
    """Give an empty layer what another held; it must be enough for it."""
    if type(new) in _RESERVED:
        _reserve(new, held)
        return
    keys, values = held.last(_needed(new, held.count))
    if type(new) is Float8Layer:
        new.update(keys, values)
        return
    new.lazy_initialization(keys, values)
    new.keys, new.values = keys, values
    if type(new) is DynamicSlidingWindowLayer:
        new.cumulative_length = held.count


def _reserve(new: Any, held: Held) -> None:
    """A sliding layer that is full holds window - 1 tokens when dynamic and window when static: one is
    padded.

    The padding is at the oldest place, which the next update pushes out before anything attends to it.
    """
    count, room = held.count, new.max_cache_len
    new.lazy_initialization(held.keys, held.values)
    end = min(count, room)
    begin = max(0, end - held.keys.shape[-2])
    keys, values = held.last(end - begin)
    new.keys[:, :, begin:end].copy_(keys)
    new.values[:, :, begin:end].copy_(values)
    new.cumulative_length.fill_(end)
    if type(new) is StaticSlidingWindowLayer:
        new.cumulative_length_int = count


def window_mask(live: LiveModel, cache: Cache | None, count: int) -> dict[str, torch.Tensor]:
    """The argument that keeps `count` new tokens, fed at once, from attending beyond the window; {} where none would.

    For a sliding cache: an additive mask of shape (1, 1, count, held + count) in the model's dtype. One new token
    needs none: of earlier tokens, a sliding cache holds no more than it may attend to.
    """
    if count == 1 or not isinstance(cache, Cache):
        return {}
    width = live.kv_window
    held = min(int(cache.get_seq_length()), width - 1)
    if held + count <= width:
        return {}
    distance = torch.arange(held, held + count).unsqueeze(1) - torch.arange(held + count)
    forbidden = (distance < 0) | (distance >= width)
    dtype = live.model.dtype
    mask = torch.zeros(forbidden.shape, dtype=dtype).masked_fill(forbidden, torch.finfo(dtype).min)
    name = "attention_mask" if live.anatomy.encoder is None else "decoder_attention_mask"
    return {name: mask[None, None].to(live.device)}


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
    # what was made in inference mode stays so, and what was not can be written to outside of it
    with torch.inference_mode(bool(filled) and filled[0].keys.is_inference()):
        pairs = [(layer.keys.to(dtype), layer.values.to(dtype)) for layer in filled]
    for layer, (keys, values) in zip(filled, pairs, strict=True):
        layer.keys, layer.values, layer.dtype = keys, values, dtype
        if isinstance(layer, StaticLayer):
            torch._dynamo.mark_static_address(keys)
            torch._dynamo.mark_static_address(values)
    return True


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
        elif "_quantized_keys" in kept:
            total += layer.quantized_bytes
    return total


def _state_bytes(kept: dict[str, Any]) -> int:
    states = (*kept["conv_states"].values(), *kept["recurrent_states"].values())
    return sum(tensor.nbytes for tensor in states if tensor is not None)
