"""Models by hub id: from the local Hugging Face cache, or downloaded into it; safetensors only.

What can be known without downloading weights (the kind of model, the form and size of its weights) is checked first.
"""

import difflib
import shutil
import socket
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants, errors

from engine.runtime.models.errors import ModelError, first_line, listed
from engine.runtime.models.kinds import check_kind
from engine.runtime.models.memory import gigabytes
from engine.runtime.models.presets import PRESETS
from engine.runtime.models.progress import Report, download_bar
from engine.runtime.models.weights import INDEX_FILE, PICKLES, SINGLE_FILE, read_json

CONFIG_FILE = "config.json"
CONNECT_SECONDS = 3.0
TEXT_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
#: Files of a repository that belong to a copy in another form.
FOREIGN_FILES = ("*.index.json", "pipeline.json", "adapter_config.json")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. `size` in bytes."""

    name: str
    size: int


def cache_directory() -> Path:
    """Where the Hugging Face cache is."""
    return Path(constants.HF_HUB_CACHE)


def is_forbidden() -> bool:
    """Whether the user has forbidden the network to Hugging Face libraries (HF_HUB_OFFLINE)."""
    return bool(constants.HF_HUB_OFFLINE)


def is_reachable() -> bool:
    """Whether the hub answers at all. The hub's client would try for half a minute before it says no."""
    if urllib.request.getproxies():
        return True  # then only the proxy knows
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def fetch(model: str, report: Report, check_size: Callable[[int], None]) -> Path:
    """The directory of a hub model, downloaded if need be. `check_size` hears its weights' bytes before they come.

    Raises ModelError.
    """
    report(f"looking for {model}", None)
    offline = is_forbidden() or not is_reachable()
    config = _config(model, offline)
    check_kind(model, read_json(config))
    if offline:
        return _cached(model, config.parent)
    try:
        revision, files = _remote_files(model)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise explained(model, error) from error
    wanted = _wanted(model, files, lambda name: Path(_get(model, name, revision)))
    check_size(sum(file.size for file in wanted if file.name.endswith(".safetensors")))
    _check_disk(model, [file for file in wanted if not _is_cached(model, file.name, revision)])
    _download(model, revision, wanted, report)
    return Path(_get(model, CONFIG_FILE, revision)).parent


def _get(model: str, name: str, revision: str | None = None, bar: Any = None, offline: bool = False) -> str:
    return huggingface_hub.hf_hub_download(
        model,
        name,
        revision=revision,
        cache_dir=cache_directory(),
        local_files_only=offline,
        tqdm_class=bar,
    )


def _is_cached(model: str, name: str, revision: str) -> bool:
    return isinstance(
        huggingface_hub.try_to_load_from_cache(model, name, cache_dir=cache_directory(), revision=revision),
        str,
    )


def _config(model: str, offline: bool) -> Path:
    try:
        return Path(_get(model, CONFIG_FILE, offline=offline))
    except Exception as error:  # the hub's client raises errors of several libraries
        raise explained(model, error) from error


def explained(model: str, error: Exception) -> ModelError:
    """What the hub's refusal means and what to do."""
    near = near_names(model)
    hint = f"did you mean {listed(near)}?" if near else "check its spelling, or choose a preset."
    match error:
        case errors.HFValidationError():
            sentence = f"'{model}' is neither a preset, nor a directory here, nor a valid hub id: {hint}"
        case errors.GatedRepoError():
            sentence = (
                f"Model '{model}' is gated: accept its licence at {constants.ENDPOINT}/{model},"
                " log in with 'hf auth login' and try again."
            )
        case errors.RepositoryNotFoundError():
            sentence = f"There is no model '{model}', neither as a preset, nor as a directory, nor on the hub: {hint}"
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            sentence = (
                f"Model '{model}' is neither a preset nor in the local cache, and {_no_network()}: {hint}"
            )
        case errors.EntryNotFoundError():
            sentence = f"'{model}' on the hub has no {CONFIG_FILE}: choose a model in Hugging Face form."
        case PermissionError():
            sentence = (
                f"The cache {cache_directory()} cannot be used ({error.strerror}): check its permissions."
            )
        case _:
            sentence = (
                f"Model '{model}' could not be looked up on the hub ({first_line(error)}): try again later."
            )
    return ModelError(sentence, repr(error))


def _no_network() -> str:
    if is_forbidden():
        return "looking on the hub is switched off (HF_HUB_OFFLINE)"
    return "the hub cannot be reached (no network?)"


def near_names(model: str) -> list[str]:
    """Names of presets and cached models that look like this one, best first."""
    known = [*PRESETS, *cached_names()]
    short = {name.rpartition("/")[2].lower(): name for name in known}
    found = difflib.get_close_matches(model.rpartition("/")[2].lower(), short, n=3, cutoff=0.5)
    return [short[name] for name in found]


def cached_names() -> list[str]:
    """Hub ids that have something in the cache."""
    names = sorted(path.name for path in cache_directory().glob("models--*") if path.is_dir())
    return [name.removeprefix("models--").replace("--", "/") for name in names]


def _remote_files(model: str) -> tuple[str, list[RemoteFile]]:
    info = huggingface_hub.HfApi(endpoint=constants.ENDPOINT).model_info(
        model, files_metadata=True, timeout=10
    )
    return info.sha or "main", [RemoteFile(file.rfilename, file.size or 0) for file in info.siblings or []]


def _cached(model: str, directory: Path) -> Path:
    """The cached copy, where the hub cannot be asked; it must have weights in some form."""
    if [*directory.glob("*.safetensors*"), *_pickles(directory)]:
        return directory
    raise ModelError(
        f"Only the configuration of model '{model}' is in the local cache, not its weights, and {_no_network()}:"
        " connect and try again."
    )


def _pickles(directory: Path) -> list[Path]:
    return [path for pattern in PICKLES for path in directory.glob(pattern)]


def _wanted(model: str, files: Iterable[RemoteFile], get: Callable[[str], Path]) -> list[RemoteFile]:
    """The files to download: configuration, tokenizer, and the weights in one form."""
    here = {file.name: file for file in files if "/" not in file.name}
    weights = _wanted_weights(model, here, get)
    texts = [name for name in here if _matches(name, TEXT_FILES) and not _matches(name, FOREIGN_FILES)]
    return [here[name] for name in (*texts, *weights)]


def _wanted_weights(model: str, here: dict[str, RemoteFile], get: Callable[[str], Path]) -> list[str]:
    if SINGLE_FILE in here:
        return [SINGLE_FILE]
    if INDEX_FILE in here:
        names = set(read_json(get(INDEX_FILE)).get("weight_map", {}).values())
        return [INDEX_FILE, *sorted(name for name in names if name in here)]
    pickles = [name for name in here if _matches(name, PICKLES)]
    if pickles:
        raise ModelError(
            f"Model '{model}' has its weights only as pickle files ({listed(pickles)}), which can run code when they"
            " are read, so they are refused: choose a model with safetensors, or convert this one where you trust it,"
            " with AutoModelForCausalLM.from_pretrained(…).save_pretrained(…) of transformers."
        )
    raise ModelError(f"Model '{model}' has no safetensors weights on the hub: choose another model.")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(PurePosixPath(name).match(pattern) for pattern in patterns)


def _check_disk(model: str, missing: list[RemoteFile]) -> None:
    needed = sum(file.size for file in missing)
    place = next(path for path in (cache_directory(), *cache_directory().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ModelError(
            f"Downloading model '{model}' needs {gigabytes(needed)} of disk, but {place} has {gigabytes(free)} free:"
            " free disk space or choose a smaller model."
        )


def _download(model: str, revision: str, files: list[RemoteFile], report: Report) -> None:
    total, done = sum(file.size for file in files), 0
    for file in files:
        try:
            _get(model, file.name, revision, download_bar(report, f"downloading {file.name}", done, total))
        except Exception as error:  # the hub's client raises errors of several libraries
            raise ModelError(
                f"Downloading '{file.name}' of model '{model}' failed ({first_line(error)}):"
                " try again, what has been downloaded is kept.",
                repr(error),
            ) from error
        done += file.size
