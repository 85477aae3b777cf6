"""Builds a preset: created where it will run and in the dtype it will have, filled with seeded random weights."""

import math
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.initialization import no_init_weights

from engine.runtime.models.presets import Preset, preset_settings
from engine.runtime.models.progress import LoadReport

SEED = 8
#: Standard deviation of a matrix is GAIN / √width. From about 1 on, what the layers add outweighs the embedding of the
#: last token, and greedy text does not stick to one token; well above 2 small rounding errors would grow fast.
GAIN = 1.5
EMBEDDING_STD = 0.02
#: Spread of the logits: near that of trained models, so that sampling has likely and unlikely tokens to choose from.
LOGIT_STD = 4.0
#: Numbers that are made at a time: some tenths of a second on a slow processor, so that giving up is heard.
PIECE = 2**24


def build_preset(
    preset: Preset, device: torch.device, dtype: torch.dtype, tokens: int, report: LoadReport
) -> PreTrainedModel:
    """The preset's model on `device`, its parameters in `dtype`; there is never a copy in another dtype or place.

    `tokens`: the tokenizer's size; ids from there on are never chosen greedily. The same device kind, dtype and
    version of torch give the same weights again. `report` hears what share of the parameters has been filled.
    """
    config = AutoConfig.for_model(preset.model_type, **preset_settings(preset))
    # Buffers (the frequencies of rotary positions) are computed by the constructor, on the device and in float32.
    with torch.device(device), no_init_weights():
        auto: Any = AutoModelForCausalLM
        model: PreTrainedModel = auto.from_config(config, dtype=dtype)
    model.tie_weights()
    _fill(model, GAIN / math.sqrt(config.hidden_size), report)
    _silence_surplus_rows(model, tokens)
    _set_logit_spread(model, config.hidden_size)
    return model


@torch.no_grad()
def _fill(model: Any, std: float, report: LoadReport) -> None:
    """Vectors are a norm's weights (ones) or biases (zeros); embeddings and matrices are normal numbers."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(SEED)
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    head = model.get_output_embeddings()
    narrow = embeddings | ({id(head.weight)} if head is not None else set())
    total, filled = sum(p.numel() for p in model.parameters()), 0
    for name, parameter in model.named_parameters():
        own = EMBEDDING_STD if id(parameter) in narrow else std
        for piece in parameter.view(-1).split(PIECE):
            if parameter.dim() < 2:
                piece.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                piece.normal_(0.0, own, generator=generator)
            filled += piece.numel()
            report("making random weights", filled / total)


@torch.no_grad()
def _silence_surplus_rows(model: Any, tokens: int) -> None:
    """Zero the rows of ids that the tokenizer has no token for.

    Their logits are 0 then, and greedy decoding, which takes the largest of thousands of random logits, never takes one
    of them: all text can be shown. Timing does not notice, since it does not depend on values.
    """
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        if module is not None:
            module.weight[tokens:].zero_()


@torch.no_grad()
def _set_logit_spread(model: PreTrainedModel, width: int) -> None:
    """Scale the last norm so that logits, a sum of `width` products with the head's rows, spread by LOGIT_STD."""
    base: Any = model.base_model
    norm = base.norm if hasattr(base, "norm") else base.ln_f
    norm.weight.fill_(LOGIT_STD / (EMBEDDING_STD * math.sqrt(width)))
