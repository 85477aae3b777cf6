"""What the two models are: their sizes, and how they are trained."""

from dataclasses import dataclass

from transformers import LlamaConfig

VOCABULARY = 2048  # small: half of a draft model must not be its embedding
CONTEXT = 1024
END = "<|end|>"  # between documents: the only special token, id 0
SEED = 20_261_124


@dataclass(frozen=True, slots=True)
class Size:
    """A Llama: hidden and MLP width, layers, heads."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    key_heads: int


LARGE = Size(hidden=256, mlp=704, layers=7, heads=4, key_heads=2)
#: Wide and of few layers: on small models time goes by layers, and proposing must be cheap.
DRAFT = Size(hidden=160, mlp=512, layers=2, heads=4, key_heads=2)


def llama_config(size: Size) -> LlamaConfig:
    """The configuration of a model of this size."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=size.hidden,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
