"""The built-in models: real architectures at real sizes, as configurations. Their weights are random.

How long a step takes depends on the shapes and types of weights, not on their values, so a preset is honest for timing;
its text is not. Data only: importing this needs neither torch nor transformers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_PRESET = "llama-30m"


@dataclass(frozen=True, slots=True)
class Preset:
    """A built-in model. `settings`: its configuration, in the words of transformers' `model_type`.

    `parameters`: how many that makes (a test counts them). `context`: tokens. `remark`: what it is for.
    """

    name: str
    model_type: str
    parameters: int
    context: int
    remark: str
    settings: Mapping[str, Any]


def _llama3_rotary(factor: float) -> dict[str, Any]:
    """Rotary positions of Llama 3.1 and 3.2, scaled from 8,192 to 131,072 tokens."""
    return {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8_192,
    }


# No preset has an end token: a generation runs to the length that was asked for, and two runs stay comparable.
_ENDLESS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}

_PRESETS = (
    Preset(
        "tiny",
        "llama",
        1_147_200,
        8_192,
        "so small that a step is mostly Python: shows what a host-bound model looks like",
        {
            "vocab_size": 16_384,
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8_192,
            "tie_word_embeddings": True,
        },
    ),
    Preset(
        DEFAULT_PRESET,
        "llama",
        31_990_272,
        8_192,
        "Llama's shape at a size for any laptop",
        {
            "vocab_size": 16_384,
            "hidden_size": 512,
            "intermediate_size": 1_408,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 8_192,
            "tie_word_embeddings": True,
        },
    ),
    Preset(
        "gpt2-124m",
        "gpt2",
        124_439_808,
        1_024,
        "the shape of GPT-2",
        {
            "vocab_size": 50_257,
            "n_positions": 1_024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "tie_word_embeddings": True,
        },
    ),
    Preset(
        "qwen2.5-0.5b",
        "qwen2",
        494_032_768,
        32_768,
        "the shape of Qwen2.5 0.5B, with its vocabulary of 151,936",
        {
            "vocab_size": 151_936,
            "hidden_size": 896,
            "intermediate_size": 4_864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
        },
    ),
    Preset(
        "llama-3.2-1b",
        "llama",
        1_235_814_400,
        131_072,
        "the shape of Llama 3.2 1B",
        {
            "vocab_size": 128_256,
            "hidden_size": 2_048,
            "intermediate_size": 8_192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 131_072,
            "rope_parameters": _llama3_rotary(32.0),
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
    ),
    Preset(
        "llama-3.1-8b",
        "llama",
        8_030_261_248,
        131_072,
        "the shape of Llama 3.1 8B, for GPUs with 24 GB and more",
        {
            "vocab_size": 128_256,
            "hidden_size": 4_096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131_072,
            "rope_parameters": _llama3_rotary(8.0),
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
        },
    ),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _PRESETS}


def preset_settings(preset: Preset) -> dict[str, Any]:
    """The whole configuration of a preset, for `AutoConfig.for_model`."""
    return {**preset.settings, **_ENDLESS}
