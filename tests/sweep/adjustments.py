"""Entries of small configurations that general shrinking cannot know: sizes that depend on each other in a way of a
model's own, and kinds of layers that only a number somewhere decides on."""

from typing import Any

from tests.engine.runtime.small_encoders import VOCABULARY

_HYBRID_MAMBA: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_expand": 2}
_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
_INDEXER: dict[str, Any] = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
_UNGROUPED: dict[str, Any] = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "per_layer_config": {},
}

ADJUSTMENTS: dict[str, dict[str, Any]] = {
    "bamba": {**_HYBRID_MAMBA, "attn_layer_indices": [1]},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
    },
    "dots3_note": {"text_config": _UNGROUPED},
    "dots3_note_text": _UNGROUPED,
    "esm": {"vocab_size": VOCABULARY, "mask_token_id": 4, "pad_token_id": 1},
    "esmc": {"vocab_size": VOCABULARY},
    "falcon_h1": {**_HYBRID_MAMBA, "mamba_d_ssm": 128},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {**_HYBRID_MAMBA, "layer_types": ["mamba", "attention"], "num_hidden_layers": 2},
    "hrm_text": {"num_hidden_layers": 16},  # two stacks of two layers, run in cycles
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "ministral": {"head_dim": 16},
    "ministral3": {"rope_parameters": {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16}},
    "mobilebert": {"intra_bottleneck_size": 64},
    "nemotron": {"head_dim": 16, "num_key_value_heads": 2},
    "perceiver": {"d_latents": 64, "num_latents": 16, "num_self_attends_per_block": 2},
    "prophetnet": {"pad_token_id": 0, "bos_token_id": 1},  # it finds its positions by the padding's being 0
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": 64},
    "reformer": {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [16, 16], "is_decoder": True},
    "xlnet": {"d_head": 16},
    "xlstm": {"qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2},
}
