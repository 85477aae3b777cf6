"""Directories load as transformers loads them; whatever is wrong with one is told in a sentence."""

import itertools
import json
import logging
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from engine.protocol import Family, Progress
from engine.runtime.models import memory
from engine.runtime.models.loading import LoadedModel, ModelError, load_model, pick_device
from engine.runtime.models.progress import TELL_EVERY_NS, LoadReport
from engine.runtime.models.tokenizer_files import built_in_tokenizer
from tests.engine.runtime.models.conftest import facts_of, shard
from tests.engine.runtime.small_models import build

Load = Callable[..., LoadedModel]
Refusal = Callable[..., str]


def edit(file: Path, **changes: Any) -> None:
    """Change a JSON object in a file; None takes a key out."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_weights(model: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


# ---------------------------------------------------------------- what works


def test_a_directory_loads_as_transformers_loads_it(load: Load, checkpoint: Path) -> None:
    loaded = load(checkpoint)
    expected = AutoModelForCausalLM.from_pretrained(checkpoint)
    for (name, ours), theirs in zip(loaded.model.named_parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert not ours.requires_grad
    assert not loaded.model.training
    facts = facts_of(loaded)
    assert (facts.name, facts.random_weights, facts.warnings) == ("small-llama", False, ())
    assert (facts.context_limit, facts.vocabulary, facts.hidden_size) == (256, 16_384, 32)
    assert len(facts.layer_names) == 2


def test_shards_load(load: Load, model: Path, checkpoint: Path) -> None:
    shard(model)
    assert torch.equal(load(model).model.lm_head.weight, load(checkpoint).model.lm_head.weight)


def test_the_dtype_is_the_checkpoints_or_the_one_asked_for(load: Load, model: Path) -> None:
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(model)
    loaded = load(model)
    assert loaded.model.dtype is torch.bfloat16
    assert loaded.model.model.rotary_emb.inv_freq.dtype is torch.float32
    assert load(model, "float32").model.dtype is torch.float32


def test_float16_is_widened_on_a_cpu_and_that_is_told(load: Load, model: Path) -> None:
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.float16).save_pretrained(model)
    loaded = load(model)
    assert loaded.model.dtype is torch.float32
    assert "float16" in facts_of(loaded).warnings[0]
    assert load(model, "float16").model.dtype is torch.float16


def test_a_model_without_bfloat16_instructions_is_warned_of(
    load: Load, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(model)
    monkeypatch.setattr("engine.runtime.models.loading._cpu_has_bfloat16", lambda: False)
    assert "bfloat16" in load(model).warnings[0]
    monkeypatch.setattr("engine.runtime.models.loading._cpu_has_bfloat16", lambda: True)
    assert load(model).warnings == ()


def test_progress_goes_through_the_stages_and_the_tensors(checkpoint: Path) -> None:
    heard: list[Progress] = []
    report = LoadReport(heard.append, clock=itertools.count(0, TELL_EVERY_NS).__next__)
    load_model(str(checkpoint), "cpu", None, report)
    assert [progress.activity for progress in heard if progress.fraction is None] == [
        "reading the configuration",
        "reading the tokenizer",
    ]
    shares = [progress.fraction for progress in heard if progress.activity == "reading weights"]
    tensors = len(load_file(checkpoint / "model.safetensors"))
    assert shares == [0.0, *(done / tensors for done in range(tensors)), 1.0]
    assert {progress.stage for progress in heard} == {"read weights"}


def test_loading_prints_nothing_and_leaves_logging_as_it_was(
    load: Load, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    edit_weights(model, lambda tensors: tensors.update(stranger=torch.zeros(3)))
    level = logging.getLogger("transformers").level
    load(model)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("transformers").level == level


def test_unused_tensors_are_a_warning(load: Load, model: Path) -> None:
    edit_weights(model, lambda tensors: tensors.update(stranger=torch.zeros(3)))
    assert load(model).warnings == ("The model does not use 1 tensors of its checkpoint: stranger.",)


def test_native_architectures_that_also_name_code_run_without_it(load: Load, model: Path) -> None:
    edit(model / "config.json", auto_map={"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"})
    (model / "modeling_llama.py").write_text("raise SystemExit('strangers ran code')")
    assert type(load(model).model).__module__.startswith("transformers.")


def test_after_a_refusal_the_next_model_loads(
    load: Load, refusal: Refusal, checkpoint: Path, tmp_path: Path
) -> None:
    refusal(tmp_path)
    assert load(checkpoint).name == "small-llama"


# ---------------------------------------------------------------- requests and devices


def test_a_directory_without_a_configuration(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refusal(tmp_path / "empty")


def test_a_path_that_is_not_there(refusal: Refusal, tmp_path: Path) -> None:
    assert "There is no directory" in refusal(tmp_path / "nowhere")
    assert "There is no directory" in refusal("./nowhere")


def test_a_file_in_place_of_a_directory(refusal: Refusal, model: Path) -> None:
    assert "is a file" in refusal(model / "config.json")


@pytest.mark.parametrize("request_", ["", "  ", "no spaces allowed", "x" * 3000, "nul\0byte", "-", "a//b"])
def test_names_that_cannot_be(refusal: Refusal, request_: str) -> None:
    refusal(request_)


def test_an_unknown_name_offers_near_ones(refusal: Refusal, empty_cache: Path) -> None:
    (empty_cache / "models--someone--lama-tiny").mkdir()
    assert "llama-30m" in refusal("lama-30m")
    assert "did you mean someone/lama-tiny" in refusal("someone/llama-tiny")


def test_a_device_that_is_not_here(refusal: Refusal) -> None:
    assert "There is no device 'quantum' here: choose auto or one of cpu" in refusal("tiny", device="quantum")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "xpu", "mps")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is something to split over")
def test_nothing_to_split_over(refusal: Refusal) -> None:
    assert refusal("tiny", device="split") == (
        "There is no accelerator here to split layers over: choose the device cpu."
    )


def test_a_dtype_that_is_none(refusal: Refusal) -> None:
    assert "'int3'" in refusal("tiny", "int3")


def test_a_directory_that_must_not_be_read(
    refusal: Refusal, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("engine.runtime.models.loading.os.listdir", denied)
        sentence = refusal(model)
    assert "cannot be read (Permission denied): check its permissions" in sentence


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_must_not_be_read(refusal: Refusal, model: Path, name: str) -> None:
    (model / name).chmod(0)
    assert "permissions" in refusal(model)


# ---------------------------------------------------------------- configurations


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not valid JSON"),
        ("", "is not valid JSON"),
        ("[1, 2]", "not an object"),
        ("\xff\xfe", "is not valid JSON"),
        ("{}", "names no model_type"),
        ('{"model_type": 7}', "names no model_type"),
    ],
)
def test_a_configuration_that_is_none(refusal: Refusal, model: Path, content: str, said: str) -> None:
    (model / "config.json").write_bytes(content.encode("latin-1"))
    assert said in refusal(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"hidden_act": "unheard_of"},
        {"hidden_size": -32},
        {"rope_parameters": {"rope_type": "wrong"}},
    ],
)
def test_a_configuration_that_makes_no_model(refusal: Refusal, model: Path, changes: dict[str, Any]) -> None:
    edit(model / "config.json", **changes)
    assert "model" in refusal(model)


def test_an_unknown_architecture(refusal: Refusal, model: Path) -> None:
    edit(model / "config.json", model_type="llama99")
    sentence = refusal(model)
    assert "'llama99'" in sentence
    assert "upgrade transformers" in sentence


def test_code_of_strangers(refusal: Refusal, model: Path) -> None:
    edit(model / "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    (model / "modeling_own.py").write_text("raise SystemExit('strangers ran code')")
    sentence = refusal(model)
    assert "its own Python code (modeling_own.Own), which is refused" in sentence


def saved(model: PreTrainedModel, directory: Path) -> Path:
    model.save_pretrained(directory)
    built_in_tokenizer().save_pretrained(directory)
    return directory


def test_an_encoder_only_model(load: Load, refusal: Refusal, tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    directory = saved(BertForMaskedLM(config), tmp_path / "bert")
    loaded = load(directory)
    assert type(loaded.model) is BertForMaskedLM
    assert (facts_of(loaded).family, facts_of(loaded).task) == (Family.ENCODER, "fill-mask")
    edit(directory / "config.json", architectures=["BertForSequenceClassification"])
    assert "are missing" in refusal(directory), "a head that was not trained is no head"


def test_an_encoder_decoder_model(load: Load, tmp_path: Path) -> None:
    config = T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    loaded = load(saved(T5ForConditionalGeneration(config), tmp_path / "t5"))
    assert type(loaded.model) is T5ForConditionalGeneration
    assert facts_of(loaded).family is Family.ENCODER_DECODER


@pytest.mark.parametrize("kind", ["voxtral", "qwen2_audio", "audioflamingo3"])
def test_a_model_that_listens(refusal: Refusal, model: Path, kind: str) -> None:
    edit(model / "config.json", model_type=kind)
    assert "is not a language model that reads and writes text" in refusal(model)


@pytest.mark.parametrize("settings", [{"model_type": "xlnet"}, {"model_type": "xlm", "is_decoder": True}])
def test_a_model_that_fills_in_a_blank_behind_the_text(
    refusal: Refusal, model: Path, settings: dict[str, Any]
) -> None:
    edit(model / "config.json", **settings)
    assert "does not continue a text but fills in a blank" in refusal(model)


def test_an_encoder_whose_checkpoint_has_no_pooler(load: Load, refusal: Refusal, tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    directory = saved(BertModel(config, add_pooling_layer=False), tmp_path / "bert")
    loaded = load(directory)
    assert (facts_of(loaded).task, loaded.model.pooler) == ("features", None)
    assert loaded.warnings == ("The checkpoint has no pooler, so the model runs without one.",)
    edit_weights(directory, lambda tensors: tensors.__delitem__("embeddings.LayerNorm.weight"))
    assert "1 is missing (embeddings.LayerNorm.weight)" in refusal(directory)


def test_a_model_that_is_no_language_model(refusal: Refusal, model: Path) -> None:
    edit(model / "config.json", model_type="vit")
    assert "is not a language model that reads and writes text" in refusal(model)


# ---------------------------------------------------------------- weights


def test_no_weights(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal(model)


def test_pickled_weights_are_refused_and_not_read(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    sentence = refusal(model)
    assert "pickle files (pytorch_model.bin), which can run code" in sentence
    assert "save_pretrained" in sentence


def test_gguf_weights(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-q4.gguf")
    assert "GGUF (model-q4.gguf)" in refusal(model)


@pytest.mark.parametrize("keep", [0, 5, 8, 100, -1, -100_000])
def test_a_truncated_file(refusal: Refusal, model: Path, keep: int) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert "truncated or damaged" in refusal(model)


def test_a_file_with_something_behind_it(refusal: Refusal, model: Path) -> None:
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"more")
    assert "truncated or damaged" in refusal(model)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}',
    ],
)
def test_a_header_of_nonsense(refusal: Refusal, model: Path, header: bytes) -> None:
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "damaged" in refusal(model)


def test_a_header_that_claims_to_be_huge(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    assert "damaged" in refusal(model)


def test_an_lfs_pointer_in_place_of_weights(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    assert "damaged" in refusal(model)


def test_a_missing_tensor(refusal: Refusal, model: Path) -> None:
    edit_weights(model, lambda tensors: tensors.__delitem__("model.layers.1.mlp.up_proj.weight"))
    sentence = refusal(model)
    assert "do not fit its config.json" in sentence
    assert "1 is missing (model.layers.1.mlp.up_proj.weight)" in sentence


def test_tensors_of_another_shape(refusal: Refusal, model: Path) -> None:
    edit(model / "config.json", intermediate_size=96)
    sentence = refusal(model)
    assert "6 are of another shape" in sentence
    assert "is 32×64 in the file, 32×96 by the configuration" in sentence


def test_more_layers_by_the_configuration_than_in_the_file(refusal: Refusal, model: Path) -> None:
    edit(model / "config.json", num_hidden_layers=3)
    assert "9 are missing (model.layers.2." in refusal(model)


def test_more_layers_in_the_file_than_by_the_configuration(refusal: Refusal, model: Path) -> None:
    edit(model / "config.json", num_hidden_layers=1)
    assert "9 are for layers that the configuration does not have (model.layers.1." in refusal(model)


def test_weights_of_another_architecture(refusal: Refusal, model: Path) -> None:
    edit(
        model / "config.json",
        model_type="gpt2",
        architectures=["GPT2LMHeadModel"],
        n_embd=32,
        n_head=4,
        n_layer=1,
    )
    assert "do not fit its config.json" in refusal(model)


def test_a_missing_shard(refusal: Refusal, model: Path) -> None:
    shard(model)
    next(model.glob("model-00002*.safetensors")).unlink()
    assert "weight files are missing" in refusal(model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight_map": None}, "does not say which file"),
        ({"weight_map": {}}, "does not say which file"),
        ({"weight_map": {"a": 5}}, "does not say which file"),
        ({"weight_map": {"a": "../../etc/passwd"}}, "points outside of its directory"),
    ],
)
def test_an_index_of_nonsense(refusal: Refusal, model: Path, changes: dict[str, Any], said: str) -> None:
    shard(model)
    edit(model / "model.safetensors.index.json", **changes)
    assert said in refusal(model)


# ---------------------------------------------------------------- tokenizers


def test_no_tokenizer(refusal: Refusal, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()
    assert "comes without a tokenizer" in refusal(model)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": 3}'])
def test_a_broken_tokenizer(refusal: Refusal, model: Path, content: str) -> None:
    (model / "tokenizer.json").write_text(content)
    assert "The tokenizer of model 'small-llama' cannot be read" in refusal(model)


def test_a_tokenizer_with_code_of_strangers(refusal: Refusal, model: Path) -> None:
    edit(
        model / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]}
    )
    (model / "own.py").write_text("raise SystemExit('strangers ran code')")
    (model / "tokenizer.json").rename(model / "vocab.json")
    assert "tokenizer" in refusal(model)


# ---------------------------------------------------------------- memory


def test_too_little_memory_for_the_file(
    refusal: Refusal, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1_000_000)
    sentence = refusal(checkpoint)
    parameters = sum(tensor.numel() for tensor in load_file(checkpoint / "model.safetensors").values())
    assert f"{parameters / 1e6:.1f} million parameters in float32" in sentence
    assert "0.00 GiB are free; choose bfloat16 or a smaller model" in sentence


def test_too_little_memory_for_what_the_configuration_declares(refusal: Refusal, model: Path) -> None:
    """A small file with a configuration of a hundred terabytes must not be tried."""
    edit(model / "config.json", hidden_size=2**22, intermediate_size=2**22, head_dim=8)
    assert "too large for cpu now" in refusal(model)


def test_splitting_is_offered_where_it_helps(
    refusal: Refusal, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "accelerators", lambda: ("cuda:0",))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**9 if device == "split" else 10**6)
    monkeypatch.setattr("engine.runtime.models.devices.accelerators", lambda: ())
    assert "choose bfloat16 or to split it over all devices or a smaller model" in refusal(checkpoint)


def test_all_devices_together_have_what_each_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = memory.available_bytes("cpu")
    monkeypatch.setattr(memory, "accelerators", lambda: ("cuda:0", "cuda:1"))
    monkeypatch.setattr(
        memory, "_accelerator_room", lambda device, host: {"cuda:0": 10**15, "cuda:1": 10**16}[device]
    )
    assert memory.available_bytes("split") == pytest.approx(11 * 10**15, abs=2 * cpu)


def test_memory_that_runs_out_while_loading(
    refusal: Refusal, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", exhausted)
    assert "Memory of cpu ran out while model 'small-llama' was read" in refusal(checkpoint)


def test_details_carry_the_traceback(model: Path) -> None:
    shutil.copy(model / "config.json", model / "tokenizer.json")
    edit(model / "config.json", hidden_act="unheard_of")
    with pytest.raises(ModelError) as caught:
        load_model(str(model), "cpu", None, LoadReport())
    assert "Traceback" in caught.value.details


# ---------------------------------------------------------------- families


@pytest.mark.parametrize(
    ("family", "context"),
    [
        ("gpt2", 256),
        ("bloom", 1_048_576),
        ("mamba", 1_048_576),
        ("mixtral", 256),
        ("gpt_oss", 256),
        ("gemma3", 256),
    ],
)
def test_other_families_load(load: Load, checkpoint: Path, tmp_path: Path, family: str, context: int) -> None:
    """With experts that are stored one by one, with buffers, without positions."""
    original = build(family)
    original.save_pretrained(tmp_path / family)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, tmp_path / family / name)
    loaded = load(tmp_path / family)
    for (name, ours), theirs in zip(loaded.model.named_parameters(), original.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    facts = facts_of(loaded)
    assert (facts.context_limit, facts.warnings) == (context, ())
    assert facts.parameters == sum(p.numel() for p in original.parameters())


# ---------------------------------------------------------------- what ships


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo models of this installation are: nothing is there yet."""
    monkeypatch.setattr("engine.runtime.models.demo.files", lambda package: tmp_path / package)
    return tmp_path / "resources" / "demo_model"


@pytest.mark.parametrize(("name", "folder"), [("demo", "large"), ("demo-draft", "draft")])
def test_a_demo_model_loads_in_float32_on_a_cpu_without_a_word(
    load: Load, model: Path, installed: Path, name: str, folder: str
) -> None:
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.float16).save_pretrained(model)
    shutil.copytree(model, installed / folder)
    loaded = load(name)
    facts = facts_of(loaded)
    assert (facts.name, facts.dtype, facts.warnings, facts.random_weights) == (name, "float32", (), False)
    assert load(name, "float16").model.dtype is torch.float16


def test_a_demo_model_that_was_not_installed(refusal: Refusal, installed: Path) -> None:
    assert "are missing from this installation" in refusal("demo")
    assert "install Cyclograph again" in refusal("demo")


# ---------------------------------------------------------------- facts


def test_facts_of_a_tokenizer(load: Load, model: Path) -> None:
    facts = facts_of(load(model))
    tokenizer = built_in_tokenizer()
    assert dict(facts.special_tokens) == dict(
        zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    )
    template = "{% if enable_thinking %}think{% endif %}{{ messages[0].content }}"
    tokenizer.chat_template = template
    tokenizer.save_pretrained(model)
    facts = facts_of(load(model))
    assert (facts.has_chat_template, facts.knows_thinking) == (True, True)
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(model)
    assert (facts_of(load(model)).has_chat_template, facts_of(load(model)).knows_thinking) == (True, False)
