"""Loads a model: a demo model or a preset by name, a local directory in Hugging Face form, or a hub id.

Every way in which that can fail is a ModelError, with one sentence that says what happened and what to do.
"""

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from engine.protocol import ModelFacts
from engine.runtime.anatomy import Anatomy
from engine.runtime.clocks import wait_for_device
from engine.runtime.models import hub
from engine.runtime.models.building import build_preset
from engine.runtime.models.checkpoint import meta_model, read_config, read_model
from engine.runtime.models.demo import DEMOS, demo_dtype
from engine.runtime.models.devices import Place, pick_device, pick_place, unused_gpu
from engine.runtime.models.errors import ModelError, first_line
from engine.runtime.models.kinds import CAUSAL, Kind, kind_of
from engine.runtime.models.memory import check_fits
from engine.runtime.models.presets import PRESETS, Preset
from engine.runtime.models.progress import LoadReport
from engine.runtime.models.quiet import quietly
from engine.runtime.models.tokenizer_files import built_in_tokenizer, read_tokenizer
from engine.runtime.models.weights import inspect_weights, read_json, unreadable
from engine.runtime.placement import placement_of, places_of, spread

__all__ = ["LoadedModel", "ModelError", "load_model", "pick_device"]

DTYPES = ("float32", "bfloat16", "float16")
#: Models that work at any length (state spaces, linear biases) and do not name one: an end nobody will reach.
UNBOUNDED_CONTEXT = 1_048_576


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, without gradients, on its device, and what belongs to it."""

    model: PreTrainedModel
    tokenizer: Any
    device: torch.device
    name: str
    random_weights: bool
    tokenizer_name: str
    warnings: tuple[str, ...] = ()
    kind: Kind = CAUSAL

    def facts(self, anatomy: Anatomy) -> ModelFacts:
        """What a front end is told; how long loading took is not known yet (0)."""
        config = self.model.config.get_text_config()
        parameters = list(self.model.parameters())
        template = getattr(self.tokenizer, "chat_template", None)
        return ModelFacts(
            name=self.name,
            architecture=type(self.model).__name__,
            parameters=sum(p.numel() for p in parameters),
            weight_bytes=sum(p.numel() * p.element_size() for p in parameters),
            dtype=str(self.model.dtype).removeprefix("torch."),
            device=str(self.device),
            layer_names=tuple(block.name for block in anatomy.blocks),
            hidden_size=int(getattr(config, "hidden_size", 0)),
            vocabulary=int(getattr(config, "vocab_size", 0)),
            context_limit=context_limit(self.model.config),
            random_weights=self.random_weights,
            tokenizer=self.tokenizer_name,
            load_ns=0,
            placement=placement_of(self.model, anatomy),
            warnings=(*self.warnings, *anatomy.warnings),
            family=self.kind.family,
            task=self.kind.task,
            encoder_layers=anatomy.encoder_layers,
            special_tokens=special_tokens(self.tokenizer),
            has_chat_template=bool(template),
            knows_thinking="enable_thinking" in str(template or ""),
        )


def special_tokens(tokenizer: Any) -> tuple[tuple[int, str], ...]:
    """Ids and texts of the tokens that are not text."""
    added = {id: str(token) for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    return tuple(sorted({**named, **added}.items()))


def context_limit(config: Any) -> int:
    """The most tokens that a model can see at once."""
    text = config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
    limits = (getattr(text, name, None) for name in names)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), UNBOUNDED_CONTEXT)


def load_model(request: str, device: str, dtype: str | None, progress: LoadReport) -> LoadedModel:
    """Load what `request` names onto `device` ("auto": an accelerator if there is one; "split": all), in `dtype`.

    `dtype` None: as stored; but float32 for float16 on a CPU, and for presets float32 on a CPU, else bfloat16.
    `progress` hears how far it is. Raises ModelError, and LoadGivenUp; what was made until then is let go.
    """
    place = pick_place(device)
    if dtype is not None and dtype not in DTYPES:
        raise ModelError(
            f"'{dtype}' is no precision a model can be loaded in: choose one of {', '.join(DTYPES)}."
        )
    name = request.strip()
    with quietly(progress):
        loaded = _load(name, place, dtype, progress)
    progress.stage("")
    if place.split and not places_of(loaded.model):
        loaded = replace(
            loaded, warnings=(*loaded.warnings, "The model fits one device, so nothing was split.")
        )
    if device == "auto" and (unused := unused_gpu()):
        loaded = replace(loaded, warnings=(*loaded.warnings, unused))
    loaded.model.train(False)
    loaded.model.requires_grad_(False)
    return loaded


def _load(name: str, place: Place, dtype: str | None, progress: LoadReport) -> LoadedModel:
    if name in PRESETS:
        return _load_preset(PRESETS[name], place, dtype, progress)
    if name in DEMOS:
        chosen = dtype or demo_dtype(place.device.type)
        return _load_directory(name, DEMOS[name].directory, place, chosen, progress)
    directory = local_directory(name)
    if directory is None:
        directory = hub.fetch(name, progress, _size_check(name, place, dtype))
    else:
        name = directory.resolve().name or name
    return _load_directory(name, directory, place, dtype, progress)


def _size_check(name: str, place: Place, dtype: str | None) -> Callable[[int], None]:
    """Checks the size of weights that have not been downloaded (only if they are kept as stored: else it changes)."""

    def check(stored_bytes: int) -> None:
        if dtype is None:
            check_fits(name, stored_bytes // 2, stored_bytes, "bfloat16", place.name)

    return check


def local_directory(name: str) -> Path | None:
    """The directory that a request names; None when it can only be a hub id. Raises ModelError."""
    if not name:
        raise ModelError("No model was named: choose a preset, a directory or a hub id.")
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            os.listdir(path)  # a directory may exist and still be closed to us
            if not (path / hub.CONFIG_FILE).is_file():
                raise ModelError(
                    f"The directory '{path}' has no config.json: name a model in Hugging Face form."
                )
            return path
        if path.exists():
            raise ModelError(f"'{path}' is a file: name the directory in which the model's files are.")
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError):
        return None  # no system would have such a path; what is wrong with it as a hub id is told there
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or "\\" in name:
        raise ModelError(f"There is no directory '{path}': check the path, or choose a preset.")
    return None


# ---------------------------------------------------------------- presets


def _load_preset(preset: Preset, place: Place, dtype: str | None, progress: LoadReport) -> LoadedModel:
    chosen = dtype or ("float32" if place.device.type == "cpu" else "bfloat16")
    width = torch.finfo(getattr(torch, chosen)).bits // 8
    # What is split is made in the host's memory first.
    device = torch.device("cpu") if place.split else place.device
    check_fits(preset.name, preset.parameters, preset.parameters * width, chosen, str(device))
    progress.stage("make random weights")
    progress("reading the tokenizer", None)
    tokenizer = built_in_tokenizer()
    try:
        model = build_preset(preset, device, getattr(torch, chosen), len(tokenizer), progress)
        if place.split:
            progress.stage("move to device")
            progress("splitting layers over all devices", None)
            model = spread(model)
    except (MemoryError, RuntimeError) as error:
        raise ModelError(
            f"Preset '{preset.name}' could not be made on {place.name} ({first_line(error)}): choose a smaller one.",
            traceback.format_exc(),
        ) from error
    return LoadedModel(model, tokenizer, place.device, preset.name, True, "built-in, 16,384 tokens")


# ---------------------------------------------------------------- directories


def _load_directory(
    name: str, directory: Path, place: Place, dtype: str | None, progress: LoadReport
) -> LoadedModel:
    device = place.device
    progress.stage("read weights")
    progress("reading the configuration", None)
    settings = read_json(directory / hub.CONFIG_FILE)
    kind = kind_of(name, settings)
    weights = inspect_weights(directory)
    config = read_config(name, directory)
    quantized = getattr(config, "quantization_config", None) is not None
    chosen, warnings = (None, ()) if quantized else _choose_dtype(dtype, config.dtype, weights.dtype, device)
    width = torch.finfo(chosen).bits // 8 if chosen is not None else None
    label = str(chosen).removeprefix("torch.") if chosen is not None else "its stored form"
    check_fits(name, weights.parameters, weights.bytes_in(width), label, place.name)
    if not quantized and width is not None:
        declared = sum(p.numel() for p in meta_model(name, directory, config, kind).parameters())
        check_fits(name, declared, declared * width, label, place.name)
    progress("reading the tokenizer", None)
    tokenizer = read_tokenizer(name, directory)
    progress("reading weights", 0.0)
    model, surplus = read_model(name, directory, config, kind, device, chosen, place.split)
    if "disk" in getattr(model, "hf_device_map", {}).values():
        raise ModelError(
            f"Model '{name}' does not fit all devices together now: free memory or choose a smaller model."
        )
    if device.type != "cpu":  # tensors were sent there while they were read; some may still be on their way
        progress.stage("move to device")
        progress(f"moving weights to {device}", None)
        wait_for_device(device)
    return LoadedModel(
        model, tokenizer, device, name, False, type(tokenizer).__name__, (*warnings, *surplus), kind
    )


def _choose_dtype(
    requested: str | None, declared: Any, stored: str, device: torch.device
) -> tuple[torch.dtype, tuple[str, ...]]:
    """The dtype to load in, and what there is to say about it."""
    if requested is not None:
        return getattr(torch, requested), ()
    checkpoint = declared if isinstance(declared, torch.dtype) else getattr(torch, stored or "float32")
    if device.type == "cpu" and checkpoint is torch.float16:
        return torch.float32, (
            "The checkpoint is float16, which CPUs are slow at: it was loaded in float32.",
        )
    if device.type == "cpu" and checkpoint is torch.bfloat16 and not _cpu_has_bfloat16():
        return checkpoint, (
            "This processor has no bfloat16 instructions: prefill is much slower than in float32.",
        )
    return checkpoint, ()


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively (torch answers for x86; others are given the benefit)."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe and torch.backends.cpu.get_cpu_capability().startswith("AVX") else True
