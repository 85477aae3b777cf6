"""FlexAttention without compilation, registered with transformers under a name of its own.

The "flex_attention" of transformers compiles its kernel and its mask at the first step: tens of seconds in
the middle of a generation, for each new shape, and a C++ or Triton compiler. This one runs torch's
`flex_attention` as it is, unfused: it works at once on every device, and says that it is not compiled.
"""

from types import ModuleType
from typing import Any

import torch
from torch.nn.attention import flex_attention as torch_flex
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import (
    add_offsets_to_mask_function,
    and_masks,
    causal_mask_function,
    padding_mask_function,
    prepare_padding_mask,
)

NAME = "cyclograph_flex"
_DIRECT = "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"


def enable() -> None:
    """Register the implementation, to be run untraced. Raises RuntimeError on a torch that cannot."""
    module: ModuleType = torch_flex
    if not hasattr(module, _DIRECT):
        raise RuntimeError("this version of torch cannot run FlexAttention without compiling it")
    setattr(module, _DIRECT, True)
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _mask)


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: torch.Tensor | None = None,
    device: torch.device | str = "cpu",
    **_: Any,
) -> BlockMask:
    """What transformers' own mask for FlexAttention is, made without compiling."""
    if isinstance(
        q_offset, torch.Tensor
    ):  # the count of a static cache, which the first layer will move on in place
        q_offset = q_offset.clone()
    padding = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is not None:
        mask_function = and_masks(mask_function, padding_mask_function(padding))
    shifted = add_offsets_to_mask_function(mask_function, q_offset, kv_offset)
    return create_block_mask(shifted, batch_size, None, q_length, kv_length, device=device)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: BlockMask | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in transformers' form: (batch, heads, length, width) in, (batch, length, heads, width) out.

    Raises ValueError for what it has no formula for: attention sinks, position biases, masks of another form.
    """
    for extra, words in (("s_aux", "attention sinks"), ("position_bias", "position biases")):
        if others.get(extra) is not None:
            raise ValueError(f"FlexAttention without compilation has no {words}")
    if not isinstance(attention_mask, BlockMask) and (attention_mask is not None or query.shape[2] > 1):
        raise ValueError("FlexAttention needs its own form of mask, which this model does not make")

    def capped(score: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return softcap * torch.tanh(score / softcap) if softcap is not None else score

    out = flex_attention(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=attention_mask,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out.transpose(1, 2).contiguous(), None
