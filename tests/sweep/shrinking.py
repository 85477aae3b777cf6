"""Shrinks the default configuration of any model type to one that is built and run in a fraction of a second.

By the names that configurations give their sizes, not by a list of models: a width is a width in all. What makes
an architecture special stays: of layers of different kinds one of each is kept, grouped heads stay grouped, a window
stays one (and is short enough to matter). The few types whose sizes depend on one another in ways of their own are
listed in `adjustments`.
"""

import re
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from tests.engine.runtime.small_encoders import VOCABULARY
from tests.sweep.adjustments import ADJUSTMENTS

LAYERS = 2
HEADS = 4
MOST_KINDS = 6
HEAD_DIM = 16
#: Special tokens, as the tokenizer of `small_encoders` has them.
BEGIN, PAD, END, MASK = 0, 1, 2, 4
_TOKENS = {"bos": BEGIN, "cls": BEGIN, "pad": PAD, "eos": END, "sep": END, "decoder_start": END, "mask": MASK}
_AS_IT_IS = 1 << 62

#: Sizes by the name of their entry (the first that fits it as a whole), for entries larger than that.
_SIZES: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), size)
    for pattern, size in (
        # given, or made of others by the configuration itself
        (r"type_vocab_size|qk_head_dim|true_hidden_size|attention_hidden_size|attention_head_dim", _AS_IT_IS),
        (r"seed|mamba_headdim|acoustic_tokenizer_chunk_size", _AS_IT_IS),
        (r"rotary_dim", 8),
        (r"adapter_(in|out)_dim|adapter_input_size", 64),
        (r".*vocab_size.*|.*_vocab", VOCABULARY),
        (r"hidden_size_per_layer_input", 16),
        (
            r".*intermediate_size.*|.*ffn_dim|d_ff|dff|n_inner|dim_ff|.*ffn_hidden_size|d_inner|mlp_dim|hidden_dim",
            64,
        ),
        (
            r".*(hidden|embedding)_size.*|d_model|n_embd|dim|dim_model|emb_dim|embed_dim|.*_proj_dim|mamba_d_ssm",
            64,
        ),
        (
            r"(\w+_)?(num_)?(hidden_|encoder_|decoder_)?layers|(\w+_)?n_layers?|(\w+_)?num_hidden_layers",
            LAYERS,
        ),
        (r"num_blocks|depth|num_layers_per_stack|num_hidden_groups", LAYERS),
        (r".*(key_value|kv)_heads|kv_n_heads|linear_num_key_heads|num_query_groups", 2),
        (r"mamba_n_heads|mamba_num_heads|n_mamba_heads", 8),
        (r".*heads?(_per_layer)?", HEADS),
        (r".*head_dim.*|.*head_size|d_kv|kv_channels|dim_head|.*d_head|.*_headdim", HEAD_DIM),
        (r".*_rank", 16),
        (
            r".*max_\w*position\w*|n_positions|n_ctx|max_seq_len|context_length|model_max_length|max_length",
            256,
        ),
        (r".*experts_per_tok(en)?|.*top_?k(_experts)?|moe_k|num_experts_per_topk", 2),
        (r".*shared_experts|topk_group", 1),
        (r"n_group|num_expert_group", 2),
        (r".*num_(local_|routed_)?experts|n_routed_experts|.*expert_num", 4),
        (r".*state_size|.*d_state", 8),
        (r".*chunk_size|.*block_size", 8),
        (r"(mamba_)?n_groups", 1),
        (r".*window(_size|_len)?", 8),
        (r"num_nextn_predict_layers|num_mtp_layers", 0),
    )
)
_TOKEN_ID = re.compile(r"(\w+)_(token_id|token_index)")


def small_config(model_type: str, **overrides: Any) -> PreTrainedConfig:
    """The small configuration of a model type. `overrides` have the last word.

    Raises what the configuration raises where it cannot be made.
    """
    fixed = _merged(ADJUSTMENTS.get(model_type, {}), overrides)
    whole = CONFIG_MAPPING[model_type]
    return whole(**_merged(_small_entries(whole(**_harmless(fixed)), fixed), fixed))


def _harmless(fixed: dict[str, Any]) -> dict[str, Any]:
    """The decided entries that the full-size default can be made with: not sizes, which would not fit the others."""
    return {name: value for name, value in fixed.items() if isinstance(value, bool)}


def _merged(entries: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Entries with others laid over them, inside of inner configurations too."""
    merged = dict(entries)
    for name, value in over.items():
        inner = merged.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[name] = _merged(inner, value) if both else value
    return merged


def _small_entries(config: PreTrainedConfig, fixed: dict[str, Any]) -> dict[str, Any]:
    """What to tell a configuration class so that its model is small. `fixed`: entries that are decided already."""
    aliases = {known: name for name, known in config.attribute_map.items()}
    values = _values(config)
    entries: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, PreTrainedConfig):
            inner = fixed.get(name)
            small = _small_entries(value, inner if isinstance(inner, dict) else {})
            entries[name] = {"model_type": value.model_type, **small}
        elif name.endswith("rope_parameters") and isinstance(value, dict):
            entries[name] = _plain_rope(value)
        elif re.fullmatch(r".*(key_value|kv)_heads", name) and value == values.get("num_attention_heads"):
            entries[name] = min(value or HEADS, HEADS)  # not grouped
        elif (size := _size(name, value) or _size(aliases.get(name, ""), value)) is not None:
            entries[name] = size
        elif (token := _token(name, value)) is not None:
            entries[name] = token
    entries |= _layers(values, config)
    if config.is_encoder_decoder and entries.get("decoder_start_token_id") is None:
        entries["decoder_start_token_id"] = END
    if values.get("tie_word_embeddings"):
        entries["tie_word_embeddings"] = False  # tied ones make a random model repeat itself
    return entries


def _values(config: PreTrainedConfig) -> dict[str, Any]:
    """The entries of a configuration, inner ones as configurations. (Entries that vary by layer are read as one.)"""
    values = {}
    for name, written in config.to_dict().items():
        try:
            values[name] = getattr(config, name, written)
        except AttributeError:
            values[name] = written
        except Exception:
            values[name] = written
    return values


def _size(name: str, value: Any) -> int | None:
    """The small size of an entry, None where it is none or small enough."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    size = next((size for pattern, size in _SIZES if pattern.fullmatch(name)), None)
    return size if size is not None and value > size else None


def _token(name: str, value: Any) -> int | None:
    """A special token's id among the small vocabulary's; None where the configuration has no such token."""
    match = _TOKEN_ID.fullmatch(name)
    if not match or value is None:
        return None
    known = _TOKENS.get(match[1])
    if known is not None:
        return known
    wide = not isinstance(value, int) or value >= VOCABULARY
    return VOCABULARY - 1 if wide else None  # of images and sounds: never in a text


def _plain_rope(rope: dict[str, Any]) -> dict[str, Any]:
    """Rotary positions without the stretching that belongs to the original's lengths."""
    if any(isinstance(value, dict) for value in rope.values()):
        return {
            name: _plain_rope(value) if isinstance(value, dict) else value for name, value in rope.items()
        }
    kept = {name: rope[name] for name in ("partial_rotary_factor", "mrope_interleaved") if name in rope}
    type_ = "proportional" if rope.get("rope_type") == "proportional" else "default"
    plain = {"rope_type": type_, "rope_theta": 10000.0, **kept}
    if "mrope_section" in rope:
        half = int(HEAD_DIM * rope.get("partial_rotary_factor", 1.0)) // 2
        plain["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    return plain


def _layers(values: dict[str, Any], config: PreTrainedConfig) -> dict[str, Any]:
    """One layer of each kind, where a configuration lists what each of its layers is; at least LAYERS."""
    count = values.get("num_hidden_layers", values.get(config.attribute_map.get("num_hidden_layers", "")))
    if not isinstance(count, int) or count <= LAYERS:
        return {}
    lists = {
        n: value for n, value in values.items() if isinstance(value, list | tuple) and len(value) == count
    }
    if not lists:
        return {}
    kinds = list(zip(*(map(str, value) for value in lists.values()), strict=True))
    firsts = [kinds.index(kind) for kind in dict.fromkeys(kinds)][:MOST_KINDS]
    kept = sorted({*firsts, *range(LAYERS - len(firsts) + 1)} if len(firsts) < LAYERS else firsts)
    small = {name: [_size(name, value[i]) or value[i] for i in kept] for name, value in lists.items()}
    return small | {config.attribute_map.get("num_hidden_layers", "num_hidden_layers"): len(kept)}
