"""Presets are the models that they say they are, made where and as they will run, and refused where they do not fit."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.protocol import Progress
from engine.runtime.models import memory
from engine.runtime.models.building import GAIN, build_preset
from engine.runtime.models.loading import LoadedModel, load_model
from engine.runtime.models.presets import DEFAULT_PRESET, PRESETS, Preset, preset_settings
from engine.runtime.models.progress import TELL_EVERY_NS, LoadReport
from engine.runtime.models.tokenizer_files import built_in_tokenizer
from tests.engine.runtime.models.conftest import facts_of

PROMPT = "The computation cycle of a language model 大型语言模型"


def on_meta(preset: Preset) -> torch.nn.Module:
    config = AutoConfig.for_model(preset.model_type, **preset_settings(preset))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_a_preset_has_the_parameters_and_the_context_it_names(preset: Preset) -> None:
    model = on_meta(preset)
    assert sum(p.numel() for p in model.parameters()) == preset.parameters
    assert model.config.max_position_embeddings == preset.context
    assert model.config.vocab_size >= len(built_in_tokenizer())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_no_preset_ends_by_itself(preset: Preset) -> None:
    model = on_meta(preset)
    assert model.config.eos_token_id is None
    assert model.generation_config.eos_token_id is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_are_made_in_the_dtype_and_buffers_stay_exact(
    load: Callable[..., LoadedModel], dtype: str
) -> None:
    model = load("tiny", dtype).model
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    frequencies = model.model.rotary_emb.inv_freq
    assert frequencies.dtype is torch.float32
    assert torch.equal(
        frequencies, 1.0 / 10_000.0 ** (torch.arange(0, 16, 2, dtype=torch.int64).float() / 16)
    )


def test_llama3_frequencies_are_scaled() -> None:
    preset = PRESETS["llama-3.2-1b"]
    config = AutoConfig.for_model(
        preset.model_type, **{**preset_settings(preset), "vocab_size": 8, "num_hidden_layers": 1}
    )
    with torch.device("cpu"):
        rotary = AutoModelForCausalLM.from_config(config).model.rotary_emb
    # the slowest rotation is slowed down by the whole factor, the fastest not at all
    slowest = 500_000.0 ** (-62 / 64) / 32.0
    assert rotary.inv_freq[-1].item() == pytest.approx(slowest, rel=1e-5)
    assert rotary.inv_freq[0].item() == 1.0


def test_weights_are_seeded_and_random(load: Callable[..., LoadedModel]) -> None:
    first, second = load("tiny").model, load("tiny").model
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
    matrix = first.model.layers[0].mlp.up_proj.weight
    assert matrix.std().item() == pytest.approx(GAIN / 64**0.5, rel=0.05)
    other = first.model.layers[1].mlp.up_proj.weight
    assert not torch.equal(matrix, other)


def test_facts_of_a_preset(load: Callable[..., LoadedModel]) -> None:
    facts = facts_of(load("tiny"))
    assert (facts.name, facts.architecture, facts.dtype, facts.device) == (
        "tiny",
        "LlamaForCausalLM",
        "float32",
        "cpu",
    )
    assert (facts.parameters, facts.weight_bytes) == (
        PRESETS["tiny"].parameters,
        4 * PRESETS["tiny"].parameters,
    )
    assert facts.layer_names == ("model.layers.0", "model.layers.1")
    assert (facts.hidden_size, facts.vocabulary, facts.context_limit) == (64, 16_384, 8_192)
    assert facts.random_weights


@pytest.mark.parametrize("name", ["tiny", DEFAULT_PRESET])
def test_greedy_text_is_varied(load: Callable[..., LoadedModel], name: str) -> None:
    loaded = load(name)
    ids = loaded.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False, pad_token_id=1
        )
    new = out[0, ids.shape[1] :].tolist()
    assert len(new) == 60
    assert len(set(new)) > 30


@pytest.mark.parametrize(("preset", "tied"), [("gpt2-124m", True), ("llama-3.1-8b", False)])
def test_ids_beyond_the_tokenizer_are_never_chosen(preset: str, tied: bool) -> None:
    """On models of the presets' architectures, cut down to a size for tests: their vocabularies stay whole."""
    small = {"n_layer": 1, "n_embd": 32, "n_head": 2, "hidden_size": 32, "num_hidden_layers": 1}
    small |= {"intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    whole = PRESETS[preset]
    cut = replace(whole, settings={key: small.get(key, value) for key, value in whole.settings.items()})
    model = build_preset(cut, torch.device("cpu"), torch.float32, 16_384, lambda activity, fraction: None)
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert (head.data_ptr() == embedding.data_ptr()) is tied
    assert not head[16_384:].any()
    assert not embedding[16_384:].any()
    with torch.inference_mode():
        logits = model(torch.arange(64).view(1, -1)).logits[0]
    assert logits.argmax(-1).max() < 16_384
    assert logits[:, :16_384].std().item() == pytest.approx(4.0, rel=0.5)


def test_too_little_memory_is_told_before_anything_is_made(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10_000_000_000)
    monkeypatch.setattr("engine.runtime.models.loading.build_preset", lambda *_: pytest.fail("it was made"))
    sentence = refusal("llama-3.1-8b", "bfloat16")
    assert "8.03 billion parameters in bfloat16 take 15.0 GiB" in sentence
    assert "9.31 GiB are free" in sentence
    assert "choose a smaller model" in sentence
    assert "choose bfloat16 or a smaller model" in refusal("llama-3.1-8b", "float32")


def test_progress_is_the_share_of_parameters_filled() -> None:
    heard: list[Progress] = []
    load_model(
        "tiny", "cpu", None, LoadReport(heard.append, clock=itertools.count(0, TELL_EVERY_NS).__next__)
    )
    fractions = [progress.fraction for progress in heard if progress.fraction is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    # the embedding, filled first, is most of this model
    assert fractions[0] == pytest.approx(16_384 * 64 / PRESETS["tiny"].parameters)


def test_a_container_limit_counts(tmp_path: Path) -> None:
    group = tmp_path
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("700\n")
    (group / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert memory._container_room(group) == 1000 - 700 + 150
    (group / "memory.max").write_text("max\n")
    assert memory._container_room(group) > 10**15
