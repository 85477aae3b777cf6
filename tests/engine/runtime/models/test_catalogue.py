"""The catalogue lists presets and cached models, and says what will not work."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.protocol import CatalogueEntry
from engine.runtime.models import catalogue as catalogues
from engine.runtime.models import memory
from engine.runtime.models.catalogue import catalogue
from engine.runtime.models.demo import DEMOS
from engine.runtime.models.presets import PRESETS
from tests.engine.runtime.models.conftest import shard

COMMIT = "d" * 40


def put(cache: Path, name: str, source: Path, **changes: object) -> Path:
    """Put a copy of a model into the cache, as the hub's client does; the directory."""
    repository = cache / f"models--{name.replace('/', '--')}"
    directory = Path(shutil.copytree(source, repository / "snapshots" / COMMIT))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    config = directory / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    return directory


def cached() -> dict[str, CatalogueEntry]:
    return {entry.name: entry for entry in catalogue() if entry.kind == "cached"}


def test_what_ships_comes_first_with_its_sizes() -> None:
    entries = catalogue()
    assert [entry.name for entry in entries] == [*DEMOS, *PRESETS]
    tiny = entries[len(DEMOS)]
    assert (tiny.kind, tiny.architecture, tiny.context) == ("preset", "LlamaForCausalLM", 8_192)
    assert tiny.parameters == PRESETS["tiny"].parameters
    assert "random weights" in tiny.remark


def test_what_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "available_bytes", lambda device: 3_000_000_000)
    monkeypatch.setattr(catalogues, "_auto_device", lambda: "cpu")
    entries = {entry.name: entry for entry in catalogue()}
    assert entries["llama-30m"].reason == ""
    assert "only in bfloat16" in entries["llama-3.2-1b"].remark
    assert entries["llama-3.1-8b"].reason == (
        "It needs 16.9 GB, and cpu has 3.00 GB free: choose a smaller model."
    )


def test_cached_models_are_listed_with_what_their_files_say(empty_cache: Path, checkpoint: Path) -> None:
    put(empty_cache, "someone/small", checkpoint)
    entry = cached()["someone/small"]
    assert (entry.architecture, entry.context, entry.reason) == ("LlamaForCausalLM", 256, "")
    assert entry.weight_bytes == 4 * entry.parameters
    assert entry.parameters > 16_384 * 32 * 2
    assert entry.disk_bytes >= entry.weight_bytes
    assert entry.used_s > 1e9


def test_cached_models_that_will_not_work_say_why(empty_cache: Path, checkpoint: Path) -> None:
    put(empty_cache, "a/pictures", checkpoint, model_type="vit")
    put(empty_cache, "a/strange", checkpoint, model_type="own", auto_map={"AutoModelForCausalLM": "own.Own"})
    (put(empty_cache, "a/pickled", checkpoint) / "model.safetensors").rename(
        empty_cache / "models--a--pickled" / "snapshots" / COMMIT / "pytorch_model.bin"
    )
    (put(empty_cache, "a/torn", checkpoint) / "model.safetensors").write_bytes(b"torn")
    (put(empty_cache, "a/tokenizer-only", checkpoint) / "config.json").unlink()
    reasons = {name: entry.reason for name, entry in cached().items()}
    assert set(reasons) == {"a/pictures", "a/strange", "a/pickled", "a/torn"}
    assert "not a language model" in reasons["a/pictures"]
    assert "own Python code" in reasons["a/strange"]
    assert "pickle" in reasons["a/pickled"]
    assert "damaged" in reasons["a/torn"]


def test_half_a_model_is_completed_where_that_is_allowed(
    empty_cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(model)
    next(put(empty_cache, "a/half", model).glob("model-00002*.safetensors")).unlink()
    assert "weight files are missing" in cached()["a/half"].reason
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    half = cached()["a/half"]
    assert (half.reason, half.remark) == ("", "incomplete: loading it downloads the rest")
    assert half.disk_bytes > 0


def test_what_fits_only_split_says_so(
    empty_cache: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(empty_cache, "a/wide", checkpoint)
    monkeypatch.setattr(catalogues, "accelerators", lambda: ("cuda:0",))
    monkeypatch.setattr(memory, "accelerators", lambda: ("cuda:0",))
    room = {"cuda:0": 10**6, "split": 3 * 10**9}
    for module in (catalogues, memory):
        monkeypatch.setattr(module, "available_bytes", room.__getitem__)
    entries = {entry.name: entry for entry in catalogue()}
    assert (entries["a/wide"].reason, entries["a/wide"].remark) == ("", "fits only split over all devices")
    assert entries["llama-3.2-1b"].remark.endswith("; fits only split over all devices")
    assert "cuda:0 has 0.00 GB free" in entries["llama-3.1-8b"].reason


def test_a_cache_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "nowhere"))
    assert cached() == {}


def test_it_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from engine.runtime.models.catalogue import catalogue; catalogue();"
        " print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
