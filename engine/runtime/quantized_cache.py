"""A layer of a KV cache that keeps keys and values as 8-bit floats: transformers' own, safe for later outliers."""

from typing import Any

import torch
from transformers.cache_utils import Fp8QuantizedLayer


class Float8Layer(Fp8QuantizedLayer):  # type: ignore[no-untyped-call]
    """Keys and values in float8 (e4m3), with one scale for keys and one for values, found on the first tokens.

    Every step unpacks all of them again. Lossy: four bits of each number are left.
    """

    def _quantize(self, tensor: torch.Tensor, scale: torch.Tensor | None = None) -> Any:
        """The tensor in float8 and its scale.

        What later tokens have beyond the largest number of the first ones is cut to it: torch's conversion would make
        NaN of it, and every logit after it NaN.
        """
        if scale is not None:
            limit = self.fp8_max * scale
            tensor = tensor.float().clamp(-limit, limit)
        quantize: Any = super()._quantize
        packed, scale = quantize(tensor, scale)
        return (
            packed.contiguous(),
            scale,
        )  # as after every later step, so that compiled code fits the first one too

    @property
    def quantized_bytes(self) -> int:
        """What the packed keys and values take, with their scales."""
        if not self.is_initialized:
            return 0
        packed: Any = (self._quantized_keys, self._quantized_values)
        return sum(part.nbytes for pair in packed for part in pair)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens (`tokens_to_remove` ≤ 0, as in transformers)."""
        if tokens_to_remove > 0:
            raise ValueError("crop takes how many tokens to remove, as a negative number")
        if tokens_to_remove == 0 or not self.is_initialized:
            return
        for name in ("_quantized_keys", "_quantized_values"):
            packed, scale = getattr(self, name)
            setattr(self, name, (packed[:, :, :tokens_to_remove], scale))
        self.cumulative_length += tokens_to_remove
