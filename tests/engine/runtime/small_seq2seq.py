"""Small random encoder–decoder models of many families, for tests: real transformers code, seeded weights.

As in `small_models`, each is a configuration that runs in milliseconds and keeps what makes its family special:
relative positions, experts, local attention, tokens that generation forces or forbids, stacks of different depths.
"""

import warnings
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedModel,
)

from tests.engine.runtime.small_models import SEED, VOCABULARY, once_each

_START: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 2}
# The decoder is deeper than the encoder, so that one cannot be taken for the other.
_BART: dict[str, Any] = {
    **_START,
    "bos_token_id": 3,
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 256,
    "init_std": 0.1,
    "forced_eos_token_id": None,
    "tie_word_embeddings": False,  # tied ones make a random model repeat itself
}
_T5: dict[str, Any] = {
    **_START,
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
}
_GEMMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 16,
    "max_position_embeddings": 256,
    "initializer_range": 1.0,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
_BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "tie_word_embeddings": False,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "expert_capacity": 64}

# family -> (model type of transformers, its configuration)
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", _T5),
    "t5_gated": ("t5", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "mt5": ("mt5", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "umt5": ("umt5", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "longt5": ("longt5", {**_T5, "local_radius": 4}),
    "longt5_global": (
        "longt5",
        {**_T5, "local_radius": 4, "encoder_attention_type": "transient-global", "global_block_size": 4},
    ),
    "switch_transformers": (
        "switch_transformers",
        {
            **_T5,
            **_EXPERTS,
            "num_sparse_encoder_layers": 1,
            "num_sparse_decoder_layers": 1,
            "tie_word_embeddings": False,
        },
    ),
    "bart": ("bart", _BART),
    "mbart": ("mbart", _BART),
    "plbart": ("plbart", _BART),
    "mvp": ("mvp", {**_BART, "use_prompt": True, "prompt_length": 4, "prompt_mid_dim": 16}),
    "m2m_100": ("m2m_100", _BART),
    "nllb-moe": (
        "nllb-moe",
        {**_BART, **_EXPERTS, "encoder_sparse_step": 2, "decoder_sparse_step": 2},
    ),
    "marian": (
        "marian",
        {**_BART, "pad_token_id": 255, "decoder_start_token_id": 255},
    ),
    "pegasus": ("pegasus", {**_BART, "init_std": 0.05, "decoder_start_token_id": 0}),
    "pegasus_x": ("pegasus_x", {**_BART, "block_size": 8, "num_global_tokens": 4}),
    "bigbird_pegasus": (
        "bigbird_pegasus",
        {**_BART, "attention_type": "original_full", "block_size": 4, "num_random_blocks": 1},
    ),
    "blenderbot": ("blenderbot", {**_BART, "init_std": 0.2}),
    "blenderbot-small": ("blenderbot-small", _BART),
    "led": (
        "led",
        {
            **{k: v for k, v in _BART.items() if k != "max_position_embeddings"},
            "max_encoder_position_embeddings": 256,
            "max_decoder_position_embeddings": 64,
            "attention_window": [8, 8],
        },
    ),
    "prophetnet": (
        "prophetnet",
        {
            **_START,
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_encoder_layers": 2,
            "num_decoder_layers": 3,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 256,
            "init_std": 0.1,
        },
    ),
    "fsmt": (
        "fsmt",
        {
            **_BART,
            "langs": ["en", "de"],
            "src_vocab_size": VOCABULARY,
            "tgt_vocab_size": VOCABULARY,
        },
    ),
    "t5gemma": (
        "t5gemma",
        {
            "encoder": _GEMMA,
            "decoder": {
                **_GEMMA,
                "num_hidden_layers": 3,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            "vocab_size": VOCABULARY,
            "decoder_start_token_id": 2,
            "tie_word_embeddings": False,
        },
    ),
    "encoder-decoder": (
        "encoder-decoder",
        {
            "encoder": _BERT,
            "decoder": {**_BERT, "num_hidden_layers": 3, "is_decoder": True, "add_cross_attention": True},
            "pad_token_id": 0,
            "decoder_start_token_id": 2,
            "tie_word_embeddings": False,
        },
    ),
}

#: Families whose every mechanism another one has, too.
DOUBLES = {"blenderbot-small", "longt5", "mbart", "mt5", "pegasus", "plbart", "t5"}

#: What checkpoints of a family say in their generation_config.json.
GENERATION: dict[str, dict[str, Any]] = {
    "bart": {"forced_bos_token_id": 3, "forced_eos_token_id": 1, "no_repeat_ngram_size": 3},
    "mbart": {"forced_bos_token_id": 9},
    "m2m_100": {"forced_bos_token_id": 9},
    "marian": {"bad_words_ids": [[255]]},
    "blenderbot": {"encoder_no_repeat_ngram_size": 3},
}
_ALWAYS_TIED = {"t5", "mt5", "umt5", "longt5"}
_MISCOUNTED = {*_ALWAYS_TIED, "switch_transformers", "prophetnet"}


def families() -> list[Any]:
    """All families, for `parametrize`, in a fixed order."""
    return once_each(CONFIGURATIONS, DOUBLES)


def build(family: str, **overrides: Any) -> PreTrainedModel:
    """The seeded model of `family` in evaluation mode, float32, on the CPU. Raises `KeyError` for an unknown family."""
    model_type, entries = CONFIGURATIONS[family]
    config = AutoConfig.for_model(model_type, **{**entries, **overrides})
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        model = AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)
        if config.model_type in _ALWAYS_TIED:
            _outweigh_embeddings(model)
    model.generation_config.update(**GENERATION.get(family, {}))
    return model.eval()


@torch.no_grad()
def _outweigh_embeddings(model: PreTrainedModel) -> None:
    """Embeddings that are the head too make a random model repeat itself: here layers have more to say than they."""
    for name, parameter in model.named_parameters():
        if name == "shared.weight":
            parameter *= 0.1
        elif parameter.dim() > 1 and "relative" not in name:
            parameter *= 6


def reference(model: PreTrainedModel, ids: torch.Tensor, tokens: int, **options: Any) -> list[int]:
    """The new tokens, without those that a decoder starts from, that `generate()` makes of a prompt, greedily.

    Families whose decoder may be deeper than their encoder get a cache that grows as needed: `generate()` counts the
    encoder's layers, and fails.
    """
    options = {"eos_token_id": None, "attention_mask": torch.ones_like(ids)} | options
    if model.config.model_type in _MISCOUNTED:
        options["past_key_values"] = EncoderDecoderCache(DynamicCache(), DynamicCache())
    made = model.generate(ids, max_new_tokens=tokens, do_sample=False, num_beams=1, **options)
    new: list[int] = made[0, 1:].tolist()
    return new
