"""Reads a checkpoint's weights into a model. Weights that do not fit the configuration are an error, never random."""

import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from engine.runtime.models.errors import ModelError, first_line, listed
from engine.runtime.models.kinds import Kind


def read_config(name: str, directory: Path) -> PreTrainedConfig:
    """The configuration, as transformers understands it. Raises ModelError."""
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # configurations validate themselves in many ways
        raise _bad_config(name, directory, error) from error
    return config


def meta_model(name: str, directory: Path, config: PreTrainedConfig, kind: Kind) -> PreTrainedModel:
    """The model without memory for its weights: for counting them before they are read. Raises ModelError."""
    try:
        with torch.device("meta"):
            auto: Any = getattr(transformers, kind.auto_class)
            model: PreTrainedModel = auto.from_config(config, trust_remote_code=False)
    except ImportError as error:
        raise _missing_package(name, error) from error
    except Exception as error:  # a configuration can be wrong in as many ways as there are models
        raise _bad_config(name, directory, error) from error
    return model


def _bad_config(name: str, directory: Path, error: Exception) -> ModelError:
    return ModelError(
        f"The configuration of model '{name}' does not make a model ({first_line(error)}):"
        f" get '{directory / 'config.json'}' again or choose another model.",
        traceback.format_exc(),
    )


def _missing_package(name: str, error: ImportError) -> ModelError:
    return ModelError(
        f"Model '{name}' needs a package that is not installed ({first_line(error)}):"
        " install it and restart the engine.",
        traceback.format_exc(),
    )


def read_model(
    name: str,
    directory: Path,
    config: PreTrainedConfig,
    kind: Kind,
    device: torch.device,
    dtype: torch.dtype | None,
    split: bool = False,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The model with its weights on `device`, in `dtype` (None: as stored), and warnings. Raises ModelError.

    `split`: its layers divided over all devices; each tensor goes straight to where it belongs.
    """
    places: Any = "auto" if split else None if device.type == "cpu" else {"": device}
    try:
        auto: Any = getattr(transformers, kind.auto_class)
        model, report = auto.from_pretrained(
            directory,
            config=config,
            dtype=dtype or "auto",
            device_map=places,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are told, below, and not in a log
        )
    except ImportError as error:
        raise _missing_package(name, error) from error
    except Exception as error:  # whatever goes wrong, people hear one sentence
        raise ModelError(_sentence(name, directory, device, error), traceback.format_exc()) from error
    return model, _check_report(name, directory, model, report)


def _sentence(name: str, directory: Path, device: torch.device, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text:
        return f"Memory of {device} ran out while model '{name}' was read: free memory or choose a smaller model."
    if isinstance(error, SafetensorError):
        return f"The weights of model '{name}' are damaged ({first_line(error)}): get '{directory}' again."
    if isinstance(error, PermissionError):
        return f"A file of model '{name}' in '{directory}' cannot be read ({error.strerror}): check its permissions."
    if "conversion" in text:
        return (
            f"The weights in '{directory}' do not fit its config.json: get a complete copy of model '{name}'."
        )
    return f"Model '{name}' cannot be loaded ({first_line(error)}): get '{directory}' again or choose another model."


def _check_report(
    name: str, directory: Path, model: PreTrainedModel, report: dict[str, Any]
) -> tuple[str, ...]:
    """Raise ModelError for weights that do not fit; a warning for those that no part of the model uses."""
    surplus = sorted(report["unexpected_keys"])
    missing, warnings = _without_pooler(model, sorted(report["missing_keys"]))
    problems = [
        *_problem("missing", missing),
        *_problem("of another shape", (_mismatch(*found) for found in sorted(report["mismatched_keys"]))),
        *_problem("for layers that the configuration does not have", extra_layers(model, surplus)),
    ]
    if problems:
        raise ModelError(
            f"The weights of model '{name}' do not fit its config.json, {'; '.join(problems)}:"
            f" get a complete copy of '{directory}'.",
            "\n".join(f"{key}: {value}" for key, value in report.items() if value),
        )
    if surplus:
        warnings.append(
            f"The model does not use {len(surplus)} tensors of its checkpoint: {listed(surplus)}."
        )
    return tuple(warnings)


def _without_pooler(model: PreTrainedModel, missing: list[str]) -> tuple[list[str], list[str]]:
    """Take an encoder's pooler out where the checkpoint has none: encoders trained without it run without it.

    Returns the weights that are still missing, and warnings.
    """
    others = [key for key in missing if not key.startswith("pooler.")]
    if len(others) == len(missing) or getattr(model, "pooler", None) is None:
        return missing, []
    pooler: Any = None
    model.pooler = pooler
    return others, ["The checkpoint has no pooler, so the model runs without one."]


def _problem(what: str, keys: Iterable[str]) -> list[str]:
    keys = list(keys)
    return [f"{len(keys)} {'is' if len(keys) == 1 else 'are'} {what} ({listed(keys)})"] if keys else []


def _mismatch(key: str, stored: Iterable[int], expected: Iterable[int]) -> str:
    return f"{key} is {_shape(stored)} in the file, {_shape(expected)} by the configuration"


def _shape(shape: Iterable[int]) -> str:
    return "×".join(str(size) for size in shape) or "a number"


def extra_layers(model: torch.nn.Module, keys: Iterable[str]) -> list[str]:
    """Those keys that would belong to a list of layers, were it longer: the model would run without them."""
    lengths = {
        path: len(module) for path, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)
    }
    return [key for key in keys if _beyond(key, lengths)]


def _beyond(key: str, lengths: dict[str, int]) -> bool:
    for found in re.finditer(r"\.(\d+)\.", key):
        path = key[: found.start()]
        for name, length in lengths.items():
            if (name == path or name.endswith("." + path)) and int(found.group(1)) >= length:
                return True
    return False
