"""The models that can be loaded by name: presets, and what is in the local Hugging Face cache."""

import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub

from engine.protocol import CatalogueEntry
from engine.runtime.models import hub
from engine.runtime.models.errors import ModelError
from engine.runtime.models.memory import available_bytes, gigabytes, required_bytes
from engine.runtime.models.presets import PRESETS, Preset
from engine.runtime.models.weights import inspect_weights, read_json

# transformers' name of the model class, for the types that presets have
_CLASSES = {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel", "qwen2": "Qwen2ForCausalLM"}


def catalogue() -> tuple[CatalogueEntry, ...]:
    """All models that are here, presets first, smallest first, and why some will not work. Never raises ModelError.

    Memory is that of the device on which "auto" would put a model; torch is asked only if it has been imported.
    """
    device = _auto_device()
    available = available_bytes(device)
    presets = [_preset_entry(preset, device, available) for preset in PRESETS.values()]
    return (*presets, *_cached_entries(device, available))


def _auto_device() -> str:
    torch = sys.modules.get("torch")
    if torch is None or not torch.accelerator.is_available():
        return "cpu"
    return f"{torch.accelerator.current_accelerator().type}:0"


def _preset_entry(preset: Preset, device: str, available: int) -> CatalogueEntry:
    half = preset.parameters * 2
    own = preset.parameters * 4 if device == "cpu" else half  # see load_model for the dtype of presets
    remark = f"random weights; {preset.remark}"
    if own != half and required_bytes(half) <= available < required_bytes(own):
        remark += f"; fits {device} only in bfloat16"
    return CatalogueEntry(
        name=preset.name,
        kind="preset",
        architecture=_CLASSES[preset.model_type],
        parameters=preset.parameters,
        weight_bytes=own,
        context=preset.context,
        remark=remark,
        reason=_shortage(half, device, available),
    )


def _shortage(least_bytes: int, device: str, available: int) -> str:
    """Why weights of at least so many bytes do not fit; "" when they do."""
    needed = required_bytes(least_bytes)
    if needed <= available:
        return ""
    return (
        f"It needs {gigabytes(needed)}, and {device} has {gigabytes(available)} free: choose a smaller model."
    )


def _cached_entries(device: str, available: int) -> Iterator[CatalogueEntry]:
    for name, directory in _cached_directories():
        try:
            yield _cached_entry(name, directory, device, available)
        except ModelError as error:
            yield CatalogueEntry(name, "cached", "", 0, 0, 0, reason=error.sentence)


def _cached_directories() -> list[tuple[str, Path]]:
    """Hub ids in the cache that have a configuration, with the directory of their newest revision."""
    if not hub.cache_directory().is_dir():
        return []
    repositories = huggingface_hub.scan_cache_dir(hub.cache_directory()).repos
    models = sorted(
        (repo for repo in repositories if repo.repo_type == "model"), key=lambda repo: repo.repo_id
    )
    newest = [
        (repo.repo_id, max(repo.revisions, key=lambda revision: revision.last_modified).snapshot_path)
        for repo in models
        if repo.revisions
    ]
    return [(name, path) for name, path in newest if (path / hub.CONFIG_FILE).is_file()]


def _cached_entry(name: str, directory: Path, device: str, available: int) -> CatalogueEntry:
    settings = read_json(directory / hub.CONFIG_FILE)
    if "transformers" in sys.modules:  # whether an architecture is known is a question to transformers
        from engine.runtime.models.kinds import check_kind

        check_kind(name, settings)
    weights = inspect_weights(directory)
    classes = settings.get("architectures")
    return CatalogueEntry(
        name=name,
        kind="cached",
        architecture=str(classes[0]) if isinstance(classes, list) and classes else "",
        parameters=weights.parameters,
        weight_bytes=weights.stored_bytes,
        context=_context(settings),
        reason=_shortage(weights.stored_bytes, device, available),
    )


def _context(settings: dict[str, object]) -> int:
    limits = (settings.get(name) for name in ("max_position_embeddings", "n_positions", "seq_length"))
    return next((limit for limit in limits if isinstance(limit, int)), 0)
