"""The models that can be loaded by name: presets, and what is in the local Hugging Face cache."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub

from engine.protocol import CatalogueEntry, Family
from engine.runtime.models import hub
from engine.runtime.models.demo import DEMOS, Demo, demo_dtype
from engine.runtime.models.errors import IncompleteModel, ModelError
from engine.runtime.models.fitting import Room, fits, loaded_bytes
from engine.runtime.models.presets import PRESETS, Preset
from engine.runtime.models.weights import DTYPE_WIDTHS, Weights, inspect_weights, read_json

# transformers' name of the model class, for the types that presets have
_CLASSES = {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel", "qwen2": "Qwen2ForCausalLM"}


def catalogue(room: Room) -> tuple[CatalogueEntry, ...]:
    """All models that are here: what ships, then what is cached, and why some will not work. Raises no ModelError.

    Of accelerators it knows only if torch has been imported.
    """
    demos = [_demo_entry(demo, room) for demo in DEMOS.values()]
    presets = [_preset_entry(preset, room) for preset in PRESETS.values()]
    return (*demos, *presets, *_cached_entries(room))


def _demo_entry(demo: Demo, room: Room) -> CatalogueEntry:
    try:
        directory = demo.directory
        weights, settings = inspect_weights(directory), read_json(directory / hub.CONFIG_FILE)
    except ModelError as error:
        return broken_entry(demo.name, "demo", error)
    sizes = fits(room, lambda device: weights.bytes_in(DTYPE_WIDTHS[demo_dtype(device.partition(":")[0])]))
    return CatalogueEntry(
        name=demo.name,
        kind="demo",
        architecture="LlamaForCausalLM",
        parameters=weights.parameters,
        weight_bytes=sizes[0].weight_bytes,
        context=_context(settings),
        remark=demo.remark,
        disk_bytes=weights.stored_bytes,
        fits=sizes,
    )


def _preset_entry(preset: Preset, room: Room) -> CatalogueEntry:
    half = preset.parameters * 2
    own = {"cpu": preset.parameters * 4}  # see load_model for the dtype of presets
    sizes = fits(room, lambda device: own.get(device, half), lambda device: half)
    return CatalogueEntry(
        name=preset.name,
        kind="preset",
        architecture=_CLASSES[preset.model_type],
        parameters=preset.parameters,
        weight_bytes=sizes[0].weight_bytes,
        context=preset.context,
        remark=f"random weights; {preset.remark}",
        fits=sizes,
    )


def broken_entry(name: str, kind: str, error: ModelError) -> CatalogueEntry:
    """The entry of a model that will not work, and why."""
    return CatalogueEntry(name, kind, "", 0, 0, 0, reason=error.sentence)


def _cached_entries(room: Room) -> Iterator[CatalogueEntry]:
    for cached in _cached_models():
        try:
            entry = entry_of_directory(cached.name, "cached", cached.directory, room)
        except IncompleteModel as error:
            entry = _incomplete_entry(cached.name, error)
        except ModelError as error:
            entry = broken_entry(cached.name, "cached", error)
        yield replace(entry, disk_bytes=cached.disk_bytes, used_s=cached.used_s)


def _incomplete_entry(name: str, error: ModelError) -> CatalogueEntry:
    if hub.is_forbidden():
        return broken_entry(name, "cached", error)
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


def entry_of_directory(name: str, kind: str, directory: Path, room: Room) -> CatalogueEntry:
    """The entry of a checkpoint, of which only headers are read. Raises ModelError."""
    settings = read_json(directory / hub.CONFIG_FILE)
    return entry_of_checkpoint(name, kind, settings, lambda: inspect_weights(directory), room)


def entry_of_checkpoint(
    name: str, kind: str, settings: dict[str, Any], get_weights: Callable[[], Weights], room: Room
) -> CatalogueEntry:
    """The entry of a model with this config.json and these weights, asked for only if it can run. Raises ModelError."""
    family = Family.DECODER
    if "transformers" in sys.modules:  # whether an architecture is known is a question to transformers
        from engine.runtime.models.kinds import kind_of

        family = kind_of(name, settings).family
    weights = get_weights()
    classes = settings.get("architectures")
    sizes = fits(room, lambda device: loaded_bytes(weights, settings, device))
    return CatalogueEntry(
        name=name,
        kind=kind,
        architecture=str(classes[0]) if isinstance(classes, list) and classes else "",
        parameters=weights.parameters,
        weight_bytes=sizes[0].weight_bytes,
        context=_context(settings),
        family=family,
        fits=sizes,
    )


def _context(settings: dict[str, object]) -> int:
    limits = (settings.get(name) for name in ("max_position_embeddings", "n_positions", "seq_length"))
    return next((limit for limit in limits if isinstance(limit, int)), 0)
