"""The width of the weights, switched by exchanging what the parameters hold.

Never `model.to(dtype)`: that rounds buffers, rotary frequencies among them, for good. The weights that were
loaded stay in `live.stash`, so that the way back is bit-exact; tied weights are one parameter, and stay tied.
"""

import platform

import psutil
import torch

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.caches import cast, cast_encoded, restart
from engine.runtime.live import LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import first_sentence, run_trial

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SPARE = 0.9  # the share of free memory that new weights may take
Weights = dict[str, torch.Tensor]


class Precision:
    """float32, bfloat16 or float16 weights, with them the KV cache and what an encoder made of the prompt."""

    key = "precision"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Each dtype is tried on a small matrix product and attention; on the model when it is switched."""
        now = str(self.current(live))
        return SettingFacts(
            key=self.key,
            family="precision",
            label="Precision",
            kind="choice",
            default=now,
            choices=tuple(
                Choice(name, name, "" if name == now else _why_not(live.device, dtype), _expected(live, name))
                for name, dtype in DTYPES.items()
            ),
            expected="Narrower weights halve the bytes that a decode step has to read; the text may change.",
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The dtype of the weights, by its name in torch."""
        return str(live.model.dtype).removeprefix("torch.")

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Exchange the weights, try them on two tokens, cast the cache; undone and refused if that fails."""
        if value not in DTYPES:
            raise SettingRefused(f"There is no precision '{value}': choose {', '.join(DTYPES)}.")
        before, after = live.model.dtype, DTYPES[str(value)]
        if before == after:
            return
        # What has run before needs no trial, unless a kernel that was chosen since may not know this dtype.
        tried = after in live.stash and ":" not in live.attention
        weights = _weights(live, after)
        _exchange(live, weights)
        try:
            if not tried:
                run_trial(live, (1, 1), "dynamic" if live.cache_argument else "none", head=True)
            _cast_cache(live, after)
        except Exception as error:
            _exchange(live, live.stash[before])
            _forget(live, after)
            raise SettingRefused(
                f"This model does not run in {value} here: {first_sentence(error)}."
            ) from error


def _cast_cache(live: LiveModel, dtype: torch.dtype) -> None:
    context = live.context
    if context is None:
        return
    encoded = cast_encoded(context.encoded, dtype)
    if not cast(context.cache, dtype):
        restart(live, context, live.cache_kind)
    context.encoded = encoded


@torch.no_grad()
def _exchange(live: LiveModel, weights: Weights) -> None:
    for name, parameter in live.model.named_parameters():
        if name in weights:
            parameter.data = weights[name]


@torch.no_grad()
def _weights(live: LiveModel, dtype: torch.dtype) -> Weights:
    """The weights in a dtype, made from the loaded ones. Raises SettingRefused when memory is too little."""
    if live.model.dtype not in live.stash:
        live.stash[live.model.dtype] = _floating(live)
    if dtype not in live.stash:
        loaded = live.stash[_loaded(live)]
        kept = _kept_wide(live, dtype)
        names = [name for name in loaded if not any(part in name for part in kept)]
        _make_room(live, sum(loaded[name].numel() for name in names) * dtype.itemsize)
        live.stash[dtype] = loaded | {name: loaded[name].to(dtype) for name in names}
    return live.stash[dtype]


def _floating(live: LiveModel) -> Weights:
    """Parameters in the model's own dtype; what is in another one was put there on purpose."""
    own = live.model.dtype
    return {
        name: parameter.data for name, parameter in live.model.named_parameters() if parameter.dtype == own
    }


def _loaded(live: LiveModel) -> torch.dtype:
    """The dtype of the weights as they were loaded: the first that was stashed."""
    return next(iter(live.stash))


def _kept_wide(live: LiveModel, dtype: torch.dtype) -> set[str]:
    """Parts of names of parameters that stay in float32, as transformers' loading would leave them."""
    if _loaded(live) != torch.float32 or dtype == torch.float32:
        return set()
    names = set(live.model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        names |= set(live.model._keep_in_fp32_modules or ())
    return names


def _make_room(live: LiveModel, needed: int) -> None:
    """Forget weights that can be made again, if need be. Raises SettingRefused when that is not enough."""
    for dtype in [d for d in live.stash if d not in (_loaded(live), live.model.dtype)]:
        if _fits(live.device, needed):
            return
        _forget(live, dtype)
    if not _fits(live.device, needed):
        raise SettingRefused(
            f"A copy of the weights in this precision needs {_gigabytes(needed)}, but only"
            f" {_gigabytes(free_bytes(live.device))} are free: close other programs or load a smaller model."
        )


def _forget(live: LiveModel, dtype: torch.dtype) -> None:
    """Let a copy of the weights go, unless it is the loaded one."""
    if dtype != _loaded(live):
        live.stash.pop(dtype, None)


def _fits(device: torch.device, needed: int) -> bool:
    return needed <= _SPARE * free_bytes(device)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be taken on a device, in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _why_not(device: torch.device, dtype: torch.dtype) -> str:
    """Why a device cannot compute in a dtype, after trying it on small tensors; "" when it can."""
    try:
        with torch.inference_mode():
            sample = torch.ones((1, 2, 4, 8), dtype=dtype, device=device)
            torch.nn.functional.linear(sample, sample[0, 0])
            torch.nn.functional.scaled_dot_product_attention(sample, sample, sample)
    except Exception as error:  # whatever the device raises is the reason
        return (
            f"This device does not compute in {str(dtype).removeprefix('torch.')}: {first_sentence(error)}."
        )
    return ""


def _expected(live: LiveModel, name: str) -> str:
    if name == "float32":
        return "The widest: the most bytes a step, the least rounding."
    computes = True if live.device.type != "cpu" else cpu_computes(name)
    if computes is None:
        return "Half the bytes of float32; whether that is faster depends on the processor."
    if not computes:
        slower = "decoding changes little, and prefill becomes many times slower"
        return f"This processor has no {name} instructions: {slower}."
    return "Half the bytes of float32: decoding on large models is up to twice as fast."


def cpu_computes(name: str) -> bool | None:
    """Whether this processor computes in "bfloat16" or "float16"; None: torch cannot tell."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    asks = {
        "bfloat16": ("_is_avx512_bf16_supported", "_is_amx_tile_supported"),
        "float16": ("_is_amx_fp16_supported",),
    }
    known = [getattr(torch.cpu, ask) for ask in asks[name] if hasattr(torch.cpu, ask)]
    return any(ask() for ask in known) if known else None
