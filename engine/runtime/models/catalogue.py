"""The models that can be loaded by name: presets, and what is in the local Hugging Face cache."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub

from engine.protocol import CatalogueEntry, Family
from engine.runtime.models import hub
from engine.runtime.models.demo import DEMOS, Demo, demo_dtype
from engine.runtime.models.errors import IncompleteModel, ModelError
from engine.runtime.models.memory import accelerators, available_bytes, fits_split, gigabytes, required_bytes
from engine.runtime.models.presets import PRESETS, Preset
from engine.runtime.models.weights import inspect_weights, read_json

# transformers' name of the model class, for the types that presets have
_CLASSES = {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel", "qwen2": "Qwen2ForCausalLM"}


def catalogue() -> tuple[CatalogueEntry, ...]:
    """All models that are here: what ships, then what is cached, and why some will not work. Raises no ModelError.

    Memory is that of the device on which "auto" would put a model; torch is asked only if it has been imported.
    """
    device = _auto_device()
    available = available_bytes(device)
    demos = [_demo_entry(demo, device) for demo in DEMOS.values()]
    presets = [_preset_entry(preset, device, available) for preset in PRESETS.values()]
    return (*demos, *presets, *_cached_entries(device, available))


def _auto_device() -> str:
    return next(iter(accelerators()), "cpu")


def _demo_entry(demo: Demo, device: str) -> CatalogueEntry:
    try:
        directory = demo.directory
        weights, settings = inspect_weights(directory), read_json(directory / hub.CONFIG_FILE)
    except ModelError as error:
        return CatalogueEntry(demo.name, "demo", "", 0, 0, 0, reason=error.sentence)
    width = 4 if demo_dtype(device.partition(":")[0]) == "float32" else 2
    return CatalogueEntry(
        name=demo.name,
        kind="demo",
        architecture="LlamaForCausalLM",
        parameters=weights.parameters,
        weight_bytes=weights.parameters * width,
        context=_context(settings),
        remark=demo.remark,
        disk_bytes=weights.stored_bytes,
    )


def _preset_entry(preset: Preset, device: str, available: int) -> CatalogueEntry:
    half = preset.parameters * 2
    own = preset.parameters * 4 if device == "cpu" else half  # see load_model for the dtype of presets
    remarks = ["random weights", preset.remark]
    if own != half and required_bytes(half) <= available < required_bytes(own):
        remarks.append(f"fits {device} only in bfloat16")
    reason, split = _shortage(half, device, available)
    return CatalogueEntry(
        name=preset.name,
        kind="preset",
        architecture=_CLASSES[preset.model_type],
        parameters=preset.parameters,
        weight_bytes=own,
        context=preset.context,
        remark="; ".join([*remarks, *split]),
        reason=reason,
    )


def _shortage(least_bytes: int, device: str, available: int) -> tuple[str, list[str]]:
    """Why weights of at least so many bytes do not fit ("" when they do), and a remark where splitting helps."""
    needed = required_bytes(least_bytes)
    if needed <= available:
        return "", []
    if fits_split(least_bytes):
        return "", ["fits only split over all devices"]
    return (
        f"It needs {gigabytes(needed)}, and {device} has {gigabytes(available)} free: choose a smaller model."
    ), []


def _cached_entries(device: str, available: int) -> Iterator[CatalogueEntry]:
    for cached in _cached_models():
        try:
            entry = _cached_entry(cached.name, cached.directory, device, available)
        except IncompleteModel as error:
            entry = _incomplete_entry(cached.name, error)
        except ModelError as error:
            entry = CatalogueEntry(cached.name, "cached", "", 0, 0, 0, reason=error.sentence)
        yield replace(entry, disk_bytes=cached.disk_bytes, used_s=cached.used_s)


def _incomplete_entry(name: str, error: ModelError) -> CatalogueEntry:
    if hub.is_forbidden():
        return CatalogueEntry(name, "cached", "", 0, 0, 0, reason=error.sentence)
    return CatalogueEntry(name, "cached", "", 0, 0, 0, remark="incomplete: loading it downloads the rest")


@dataclass(frozen=True, slots=True)
class _Cached:
    """A model in the cache: its hub id, the directory of its newest revision, its bytes, when it was last read."""

    name: str
    directory: Path
    disk_bytes: int
    used_s: float


def _cached_models() -> list[_Cached]:
    """The models in the cache that have a configuration."""
    if not hub.cache_directory().is_dir():
        return []
    repositories = huggingface_hub.scan_cache_dir(hub.cache_directory()).repos
    models = sorted(
        (repo for repo in repositories if repo.repo_type == "model"), key=lambda repo: repo.repo_id
    )
    newest = [
        _Cached(
            repo.repo_id,
            max(repo.revisions, key=lambda revision: revision.last_modified).snapshot_path,
            repo.size_on_disk,
            repo.last_accessed,
        )
        for repo in models
        if repo.revisions
    ]
    return [cached for cached in newest if (cached.directory / hub.CONFIG_FILE).is_file()]


def _cached_entry(name: str, directory: Path, device: str, available: int) -> CatalogueEntry:
    settings = read_json(directory / hub.CONFIG_FILE)
    family = Family.DECODER
    if "transformers" in sys.modules:  # whether an architecture is known is a question to transformers
        from engine.runtime.models.kinds import kind_of

        family = kind_of(name, settings).family
    weights = inspect_weights(directory)
    classes = settings.get("architectures")
    reason, split = _shortage(weights.stored_bytes, device, available)
    return CatalogueEntry(
        name=name,
        kind="cached",
        architecture=str(classes[0]) if isinstance(classes, list) and classes else "",
        parameters=weights.parameters,
        weight_bytes=weights.stored_bytes,
        context=_context(settings),
        family=family,
        remark="; ".join(split),
        reason=reason,
    )


def _context(settings: dict[str, object]) -> int:
    limits = (settings.get(name) for name in ("max_position_embeddings", "n_positions", "seq_length"))
    return next((limit for limit in limits if isinstance(limit, int)), 0)
