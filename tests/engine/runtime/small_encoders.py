"""Small random encoder-only models of many families, for tests, with a tokenizer that knows masks and padding.

As in `small_models`, each is a configuration that runs in milliseconds and keeps what makes its family special: shared
layers, factorized embeddings, disentangled or local attention, positions counted from behind the padding, no attention.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from tests.engine.runtime.small_models import SEED, once_each

BEGIN, PAD, END, UNKNOWN, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
SPECIAL = (BEGIN, PAD, END, UNKNOWN, MASK)
BYTES = 256
VOCABULARY = len(SPECIAL) + BYTES
MASKED_LM, CLASSIFIER, FEATURES = "AutoModelForMaskedLM", "AutoModelForSequenceClassification", "AutoModel"
LABELS = ("calm", "glad", "sad")

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "cls_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
_DISTILBERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 1,
}
_DISENTANGLED: dict[str, Any] = {
    **_COMMON,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "max_relative_positions": 16,
}

# family -> (model type of transformers, its configuration)
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", _COMMON),
    "roberta": ("roberta", _COMMON),
    "roberta-prelayernorm": ("roberta-prelayernorm", _COMMON),
    "xlm-roberta": ("xlm-roberta", _COMMON),
    "camembert": ("camembert", _COMMON),
    "distilbert": ("distilbert", _DISTILBERT),
    "albert": ("albert", {**_COMMON, "embedding_size": 16, "num_hidden_groups": 1}),
    "electra": ("electra", {**_COMMON, "embedding_size": 16}),
    "ernie": ("ernie", _COMMON),
    "megatron-bert": ("megatron-bert", _COMMON),
    "mobilebert": (
        "mobilebert",
        {
            **_COMMON,
            "hidden_size": 64,
            "embedding_size": 32,
            "intra_bottleneck_size": 32,
            "num_feedforward_networks": 2,
        },
    ),
    "modernbert": (
        "modernbert",
        {**_COMMON, "local_attention": 16, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "deberta": ("deberta", _DISENTANGLED),
    "deberta-v2": ("deberta-v2", {**_DISENTANGLED, "norm_rel_ebd": "layer_norm", "share_att_key": True}),
    "mpnet": ("mpnet", _COMMON),
    "eurobert": ("eurobert", {**_COMMON, "mask_token_id": 4}),
    "nomic_bert": ("nomic_bert", _COMMON),
    "rembert": ("rembert", {**_COMMON, "input_embedding_size": 16, "output_embedding_size": 16}),
    "roformer": ("roformer", _COMMON),
    "fnet": ("fnet", _COMMON),
}

#: Families whose every mechanism another one has, too.
DOUBLES = {
    "camembert",
    "electra",
    "ernie",
    "megatron-bert",
    "roberta-prelayernorm",
    "roformer",
    "xlm-roberta",
}


def families() -> list[Any]:
    """All families, for `parametrize`, in a fixed order."""
    return once_each(CONFIGURATIONS, DOUBLES)


def build(family: str, head: str = MASKED_LM, **overrides: Any) -> PreTrainedModel:
    """The seeded model of `family` in evaluation mode, float32, on the CPU; `head`: the Auto class that makes it.

    Raises `KeyError` for an unknown family.
    """
    model_type, entries = CONFIGURATIONS[family]
    names = {"id2label": dict(enumerate(LABELS))} if head == CLASSIFIER else {}
    config = AutoConfig.for_model(model_type, **{**entries, **names, **overrides})
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        model: PreTrainedModel = getattr(transformers, head).from_config(config, dtype=torch.float32)
        _spread(model)
    return model.eval()


@torch.no_grad()
def _spread(model: PreTrainedModel) -> None:
    """Draw biases and scales too, so that nothing that a step could leave out is 0 or 1."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def marked_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (id 5 and up) between <s> and </s>; <mask> in a text is a mask."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: id for id, word in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(words, []))
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, words[BEGIN]), (END, words[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        cls_token=BEGIN,
        pad_token=PAD,
        eos_token=END,
        sep_token=END,
        unk_token=UNKNOWN,
        mask_token=MASK,
    )


def encoder_checkpoint(family: str, directory: Path, head: str = MASKED_LM, **overrides: Any) -> Path:
    """The small model of a family with its tokenizer, as a directory in Hugging Face form."""
    build(family, head, **overrides).save_pretrained(directory)
    marked_tokenizer().save_pretrained(directory)
    return directory
