"""A small real checkpoint, saved as transformers saves them, for each test to damage in its own way."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.protocol import ModelFacts
from engine.runtime.anatomy import find_anatomy
from engine.runtime.models.errors import ModelError
from engine.runtime.models.loading import LoadedModel, load_model
from engine.runtime.models.progress import LoadReport
from engine.runtime.models.tokenizer_files import built_in_tokenizer
from tests.engine.runtime.models.fake_hub import Hub, serve

torch.set_num_threads(1)


def facts_of(loaded: LoadedModel) -> ModelFacts:
    """What a front end is told of a model."""
    return loaded.facts(find_anatomy(loaded.model))


def shard(model: Path) -> None:
    """Save the checkpoint again, in several files."""
    whole = AutoModelForCausalLM.from_pretrained(model)
    (model / "model.safetensors").unlink()
    whole.save_pretrained(model, max_shard_size="1MB")
    assert (model / "model.safetensors.index.json").exists()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with a tokenizer. Not to be changed: `model` is a copy."""
    directory = tmp_path_factory.mktemp("checkpoints") / "small-llama"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16_384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    built_in_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def model(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint, tmp_path / "small-llama"))


@pytest.fixture
def load() -> Callable[..., LoadedModel]:
    """Load onto the CPU."""

    def call(request: str | Path, dtype: str | None = None, device: str = "cpu") -> LoadedModel:
        return load_model(str(request), device, dtype, LoadReport())

    return call


@pytest.fixture
def refusal(load: Callable[..., LoadedModel]) -> Callable[..., str]:
    """The sentence with which loading is refused; one sentence, and never a traceback."""

    def call(request: str | Path, dtype: str | None = None, device: str = "cpu") -> str:
        with pytest.raises(ModelError) as caught:
            load(request, dtype, device)
        sentence = caught.value.sentence
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        assert sentence.endswith((".", "?"))
        return sentence

    return call


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, and no network."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> Iterator[Hub]:
    """A hub on this machine, in place of the real one."""
    with serve(monkeypatch) as hub:
        yield hub
