"""What this machine's processor computes in, as far as torch can tell."""

import platform

import torch

_ASKS = {
    "bfloat16": ("_is_avx512_bf16_supported", "_is_amx_tile_supported"),
    "float16": ("_is_amx_fp16_supported",),
    "int8": ("_is_vnni_supported", "_is_avx512_vnni_supported", "_is_amx_tile_supported"),
}


def cpu_computes(name: str) -> bool | None:
    """Whether this processor multiplies matrices of "bfloat16", "float16" or "int8"; None: torch cannot tell."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    known = [getattr(torch.cpu, ask) for ask in _ASKS[name] if hasattr(torch.cpu, ask)]
    return any(ask() for ask in known) if known else None
