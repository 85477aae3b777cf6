"""What a model's forward pass is called with at a step: the only place that puts it together.

The loop asks here, and so does all that has to do as the loop does: trials of settings, comparisons of outputs, and
what is compiled or captured for the next step.
"""

from typing import Any

import torch
from torch import nn

from engine.runtime.caches import window_mask
from engine.runtime.live import Context, LiveModel
from engine.runtime.positions import takes_positions, told_positions
from engine.runtime.rows import encoded_rows, padded_arguments


class Feeding:
    """Feeds a context's ids to the live model, or to a `module` of it (its base), step by step."""

    def __init__(self, live: LiveModel, context: Context, module: nn.Module | None = None) -> None:
        module = live.model if module is None else module
        self._live = live
        self._context = context
        self._keeps_logits = live.keeps_logits and module is live.model
        self._takes_positions = takes_positions(module)
        with torch.inference_mode(False):  # compiled code is made for tensors of one mode
            self._positions = told_positions(live, module, context.capacity)

    def arguments(self, ids: torch.Tensor, kind: str, keep: int = 1) -> dict[str, Any]:
        """The call for `ids`, int64 (rows, n), behind what is cached; with a cache of kind "none" they are all ids.

        `keep`: at how many of the last positions logits are wanted; models that cannot choose give all.
        """
        live, context = self._live, self._context
        begin = 0 if kind == "none" else context.cached
        arguments: dict[str, Any] = {"use_cache": kind != "none"}
        if kind != "none" and live.cache_argument:
            arguments[live.cache_argument] = context.cache
        if kind == "sliding":
            arguments |= window_mask(live, context.cache, ids.shape[1])
        if self._keeps_logits:
            arguments["logits_to_keep"] = keep
        if live.anatomy.encoder is None:
            arguments["input_ids"] = ids
        else:
            encoded = encoded_rows(context.encoded, ids.shape[0])
            # a few (FSMT) insist on being told that there are no others
            arguments |= {"input_ids": None, "decoder_input_ids": ids, "encoder_outputs": encoded}
        if self._positions is not None:
            # with strides that say nothing of the capacity: compiled code is made for strides
            arguments["position_ids"] = self._positions[0, begin : begin + ids.shape[1]].unsqueeze(0)
        if context.padding:
            arguments |= padded_arguments(context.padding, begin, ids, self._takes_positions)
        return arguments

    def count(self, output: Any, ids: torch.Tensor, kind: str) -> None:
        """The call gave this output: what it was fed is cached now."""
        context = self._context
        if self._live.cache_argument == "state":  # RWKV hands its state back instead of updating a cache
            context.cache = output.state
        context.cached = 0 if kind == "none" else context.cached + ids.shape[1]


def next_step(live: LiveModel, context: Context, tokens: int = 1) -> dict[str, Any]:
    """The call of the step of so many new tokens that comes next in a context: all but these is as it will be."""
    fed = torch.ones((context.rows, tokens), dtype=torch.long, device=live.device)
    return Feeding(live, context).arguments(fed, live.cache_kind, keep=tokens)
