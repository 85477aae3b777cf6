"""The catalogue lists presets and cached models, and says what will not work."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.protocol import CatalogueEntry
from engine.runtime.models import fitting
from engine.runtime.models.catalogue import catalogue as catalogue_for
from engine.runtime.models.demo import DEMOS
from engine.runtime.models.fitting import Room
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


def catalogue(**free: int) -> tuple[CatalogueEntry, ...]:
    """The catalogue for a machine with so many bytes free on each device."""
    return catalogue_for(Room(tuple(free.items()) or (("cpu", 10**11),)))


def cached() -> dict[str, CatalogueEntry]:
    return {entry.name: entry for entry in catalogue() if entry.kind == "cached"}


def test_what_ships_comes_first_with_its_sizes() -> None:
    entries = catalogue()
    assert [entry.name for entry in entries] == [*DEMOS, *PRESETS]
    tiny = entries[len(DEMOS)]
    assert (tiny.kind, tiny.architecture, tiny.context) == ("preset", "LlamaForCausalLM", 8_192)
    assert tiny.parameters == PRESETS["tiny"].parameters
    assert "random weights" in tiny.remark


def test_what_does_not_fit_a_device_says_so() -> None:
    entries = {entry.name: entry.fits for entry in catalogue(cpu=3 * 10**9)}
    assert [fit.reason for fit in entries["llama-30m"]] == [""]
    assert [fit.remark for fit in entries["llama-3.2-1b"]] == ["fits cpu only in bfloat16"]
    assert [fit.reason for fit in entries["llama-3.1-8b"]] == [
        "It needs 15.8 GiB, and cpu has 2.79 GiB free: choose a smaller model."
    ]


def test_each_device_has_a_verdict_of_its_own_and_says_where_it_would_fit() -> None:
    room = {"cuda:0": 2 * 10**9, "cpu": 15 * 10**9, "split": 17 * 10**9}
    entries = {entry.name: entry for entry in catalogue(**room)}
    (on_device, on_cpu, split) = entries["llama-3.1-8b"].fits
    assert on_device.reason == (
        "It needs 15.8 GiB, and cuda:0 has 1.86 GiB free: split it over all devices or choose a smaller model."
    )
    assert on_cpu.reason.startswith("It needs 15.8 GiB, and cpu has 14.0 GiB free: split it")
    assert split.reason == ""
    small = entries["llama-3.2-1b"].fits
    assert "run it on cpu or split it over all devices or choose" in small[0].reason
    assert small[1].weight_bytes == 2 * small[0].weight_bytes, "float32 on a CPU"
    assert entries["llama-3.2-1b"].weight_bytes == small[0].weight_bytes, "of the automatic device"


def test_float16_is_counted_as_it_is_loaded(empty_cache: Path, checkpoint: Path) -> None:
    put(empty_cache, "a/half", checkpoint, dtype="float16")
    (entry,) = (
        e for e in catalogue(**{"cuda:0": 10**9, "cpu": 10**9, "split": 2 * 10**9}) if e.kind == "cached"
    )
    assert [fit.weight_bytes // entry.parameters for fit in entry.fits] == [2, 4, 2]


def test_what_the_loaded_model_holds_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "accelerators", lambda: ("cuda:0",))
    monkeypatch.setattr(fitting, "available_bytes", {"cpu": 100_000, "cuda:0": 7}.__getitem__)
    monkeypatch.setattr(fitting, "allocated_bytes", {"cuda:0": 3}.__getitem__)
    assert Room.now().free == (("cuda:0", 10), ("cpu", 100_000), ("split", 100_010))
    held = dict(Room.now(torch.nn.Linear(100, 50, bias=False)).free)
    assert held == {"cuda:0": 10, "cpu": 120_000, "split": 120_010}


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


def test_a_cache_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "nowhere"))
    assert cached() == {}


def test_it_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from engine.runtime.models.catalogue import catalogue;"
        " from engine.runtime.models.fitting import Room; catalogue(Room.now());"
        " print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
