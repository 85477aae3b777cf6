"""Small random models of many architecture families, for tests: real transformers code, seeded weights.

Each family is a configuration small enough to build and run in milliseconds (hidden 32, two to four layers, a
vocabulary of 256, a context of 256) and still keeps what makes the family special: grouped-query attention,
sliding windows, experts, parallel residuals, state-space layers. Generation never stops early, since no
family has an end-of-sequence token. Weights are drawn wider than usual, so that greedy tokens differ from
step to step.
"""

import warnings
from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 256
SEED = 20240607

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
_GROUPED: dict[str, Any] = {**_COMMON, "num_key_value_heads": 2}
# Tied input and output embeddings make a random model repeat itself: some families are built without.
_UNTIED: dict[str, Any] = {"tie_word_embeddings": False}
_WINDOWED = ["sliding_attention", "full_attention"]
_STATE_SPACE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "state_size": 8,
    "conv_kernel": 4,
    "expand": 2,
    "initializer_range": 0.2,
}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "initializer_range": 0.2,
}
_HYBRID_MAMBA: dict[str, Any] = {
    "mamba_d_ssm": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}

# family -> (model type of transformers, its configuration)
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {**_GPT2, **_UNTIED}),
    "gpt_neo": (
        "gpt_neo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
            "max_position_embeddings": 256,
            "initializer_range": 0.2,
        },
    ),
    "gpt_neox": ("gpt_neox", {**_COMMON, "rotary_pct": 0.5}),
    "gptj": ("gptj", {**_GPT2, **_UNTIED, "rotary_dim": 4}),
    "llama": ("llama", _GROUPED),
    "qwen2": ("qwen2", _GROUPED),
    "qwen3": ("qwen3", {**_GROUPED, "head_dim": 16}),
    "qwen3_moe": (
        "qwen3_moe",
        {
            **_GROUPED,
            "head_dim": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "mlp_only_layers": [0],
        },
    ),
    "qwen3_next": (
        "qwen3_next",
        {
            **_GROUPED,
            "head_dim": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "gemma": ("gemma", {**_GROUPED, **_UNTIED, "head_dim": 16}),
    "gemma2": (
        "gemma2",
        {**_GROUPED, **_UNTIED, "head_dim": 16, "sliding_window": 16, "layer_types": _WINDOWED},
    ),
    "gemma3": (
        "gemma3_text",
        {**_GROUPED, **_UNTIED, "head_dim": 16, "sliding_window": 16, "layer_types": _WINDOWED},
    ),
    "phi": ("phi", {**_COMMON, "partial_rotary_factor": 0.5}),
    "phi3": ("phi3", _GROUPED),
    "mistral": ("mistral", {**_GROUPED, "sliding_window": 16}),
    "mixtral": ("mixtral", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "opt": ("opt", {**_COMMON, "ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2}),
    "opt_projected": (
        "opt",
        {**_COMMON, "ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False, "init_std": 0.2},
    ),
    "bloom": (
        "bloom",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
        | _UNTIED,
    ),
    "falcon": ("falcon", {**_COMMON, "multi_query": True, "parallel_attn": True}),
    "falcon_new_decoder": (
        "falcon",
        {**_COMMON, **_UNTIED, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "deepseek_v3": (
        "deepseek_v3",
        {
            **_COMMON,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 32,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "kv_lora_rank": 16,
            "q_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "num_mtp_layers": 0,
        },
    ),
    "gpt_oss": (
        "gpt_oss",
        {
            **_GROUPED,
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 16,
            "layer_types": _WINDOWED,
        },
    ),
    "mamba": ("mamba", {**_STATE_SPACE, **_UNTIED, "time_step_rank": 4}),
    "mamba2": ("mamba2", {**_STATE_SPACE, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 16}),
    "falcon_h1": ("falcon_h1", {**_GROUPED, **_HYBRID_MAMBA}),
    "bamba": (
        "bamba",
        {
            **_GROUPED,
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "mamba_expand": 2,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
            "mamba_chunk_size": 16,
            "attn_layer_indices": [1],
        },
    ),
    "jamba": (
        "jamba",
        {
            **_GROUPED,
            "num_hidden_layers": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 0,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "lfm2": (
        "lfm2",
        {
            **_GROUPED,
            "block_multiple_of": 16,
            "layer_types": ["conv", "full_attention"],
        },
    ),
    "olmo2": ("olmo2", _GROUPED),
    "cohere": ("cohere", _GROUPED),
    "stablelm": ("stablelm", _GROUPED),
    "starcoder2": ("starcoder2", {**_GROUPED, **_UNTIED}),
    "mpt": (
        "mpt",
        {
            "vocab_size": VOCABULARY,
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 256,
            "initializer_range": 0.2,
            "use_cache": True,
            **_UNTIED,
        },
    ),
    "rwkv": (
        "rwkv",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 256},
    ),
}

#: Families whose every mechanism another one has, too.
DOUBLES = {
    *("cohere", "falcon_new_decoder", "gemma", "gemma2", "gpt_neox", "gptj", "mpt", "olmo2", "opt_projected"),
    *("phi", "phi3", "qwen2", "qwen3", "qwen3_moe", "stablelm", "starcoder2"),
}


def build(family: str, **overrides: Any) -> PreTrainedModel:
    """The seeded model of `family` in evaluation mode, float32, on the CPU.

    `overrides` replace configuration entries. The global random state is left as it was. Raises `KeyError`
    for an unknown family.
    """
    model_type, entries = CONFIGURATIONS[family]
    config = AutoConfig.for_model(model_type, **{**entries, **overrides})
    _never_stop(config)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _never_stop(model.generation_config)
    return model.eval()


def _never_stop(config: Any) -> None:
    """Remove special tokens, so that generation neither stops early nor masks a prompt token as padding."""
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None


def _builder(family: str) -> Callable[[], PreTrainedModel]:
    return lambda: build(family)


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {family: _builder(family) for family in CONFIGURATIONS}


def two_reaches(reach: int) -> dict[str, Any]:
    """What makes a small Phi-3 turn all positions at other frequencies once a text has more than so many tokens."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": reach,
    }
    return {"original_max_position_embeddings": reach, "rope_parameters": rope}


def prompt_ids(length: int = 12, vocabulary: int = VOCABULARY) -> torch.Tensor:
    """A fixed prompt of `length` different-looking token ids, int64 of shape (1, length)."""
    return (torch.arange(length) * 37 + 11).remainder(vocabulary).unsqueeze(0)


def families() -> list[Any]:
    """All families, for `parametrize`, in a fixed order."""
    return once_each(FAMILIES, DOUBLES)


def once_each(families: Iterable[str], doubles: Collection[str]) -> list[Any]:
    """Families, for `parametrize`: those whose every mechanism another one has, too, run only among the slow tests."""
    return [pytest.param(f, marks=pytest.mark.slow) if f in doubles else f for f in families]
