"""Models by hub id: from the local Hugging Face cache, or downloaded into it; safetensors only.

What can be known without downloading weights (the kind of model, the form and size of its weights) is checked first.
Whatever waits for the network does so in the background: the caller can give up at any time, and a hub that says
nothing for `patience_s` is told of in a sentence.
"""

import difflib
import errno
import shutil
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants, errors

from engine.runtime.models.background import Background, Silence
from engine.runtime.models.demo import DEMOS
from engine.runtime.models.errors import HubUnavailable, IncompleteModel, ModelError, first_line, listed
from engine.runtime.models.kinds import kind_of
from engine.runtime.models.memory import gibibytes
from engine.runtime.models.presets import PRESETS
from engine.runtime.models.progress import Downloads, LoadReport
from engine.runtime.models.transfer import Source, partial_bytes, receive
from engine.runtime.models.weights import INDEX_FILE, PICKLES, SINGLE_FILE, inspect_weights, read_json

Result = TypeVar("Result")

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


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """What the hub says of a model. `revision`: the commit that its main branch is at.

    `elements`: how many numbers its weights have in each safetensors type ("F32", …), empty where the hub has not
    counted them.
    """

    name: str
    revision: str
    gated: bool
    files: tuple[RemoteFile, ...]
    elements: Counter[str] = field(default_factory=Counter)


def cache_directory() -> Path:
    """Where the Hugging Face cache is."""
    return Path(constants.HF_HUB_CACHE)


def is_forbidden() -> bool:
    """Whether the user has forbidden the network to Hugging Face libraries (HF_HUB_OFFLINE)."""
    return bool(constants.HF_HUB_OFFLINE)


def patience_s() -> float:
    """How long the hub may say nothing: huggingface_hub's own time-out, which HF_HUB_DOWNLOAD_TIMEOUT changes."""
    return float(constants.HF_HUB_DOWNLOAD_TIMEOUT)


def answers() -> bool:
    """Whether anything answers at the hub's address."""
    if urllib.request.getproxies():
        return True  # then only the proxy knows
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _asked(question: Callable[[], Result], model: str, report: LoadReport) -> Result:
    """The answer to a short question, waited for. Raises what it raises, Silence, and LoadGivenUp."""
    return Background[Result](lambda _: question(), patience_s()).wait(
        lambda: report(f"looking for {model}", None)
    )


def is_reachable(model: str, report: LoadReport) -> bool:
    """Whether the hub answers at all. The hub's client would try for half a minute before it says no."""
    try:
        return _asked(answers, model, report)
    except Silence:
        return False


def fetch(model: str, report: LoadReport, check_size: Callable[[int], None]) -> Path:
    """The directory of a hub model, downloaded if need be. `check_size` hears its weights' bytes before they come.

    A complete copy in the cache is good enough where the hub refuses or says nothing. Raises ModelError, LoadGivenUp.
    """
    report.stage("look up")
    if is_forbidden() or not is_reachable(model, report):
        return _cached(model)
    try:
        remote = _asked(lambda: remote_model(model), model, report)
        config = _config(remote, report)
        remote = replace(remote, revision=config.parent.name)  # main may have moved on in between
        kind_of(model, read_json(config))
        wanted = wanted_files(remote, lambda name: _small_file(remote, name, report))
    except Exception as error:  # the hub's client raises errors of several libraries
        complete = _complete_copy(model)
        if complete is None:
            raise explained(model, error) from error
        return complete
    check_size(sum(file.size for file in wanted if file.name.endswith(".safetensors")))
    missing = [file for file in wanted if not is_cached(remote, file)]
    if missing:
        check_disk(model, missing)
        _download(remote, wanted, missing, report)
    return config.parent


def remote_model(model: str) -> RemoteModel:
    """What the hub says of a model. Raises what its client raises, and ModelError for a gated one without a token."""
    # The client's own time-outs are longer than ours, so that there is one answer to silence.
    info = huggingface_hub.HfApi(endpoint=constants.ENDPOINT).model_info(
        model, files_metadata=True, timeout=2 * patience_s()
    )
    files = tuple(RemoteFile(file.rfilename, file.size or 0) for file in info.siblings or ())
    remote = RemoteModel(model, info.sha or "main", bool(info.gated), files, _elements(info.safetensors))
    if remote.gated and huggingface_hub.get_token() is None:
        raise _gated(model)
    return remote


def _elements(said: Any) -> Counter[str]:
    """How many numbers of each type the hub counts; none where it says something else."""
    counts = getattr(said, "parameters", None) or {}
    return Counter({str(dtype): count for dtype, count in counts.items() if isinstance(count, int)})


def _config(remote: RemoteModel, report: LoadReport) -> Path:
    # by the branch's name: the client notes then which commit it is at, for when the hub cannot be asked
    return _small_file(replace(remote, revision="main"), CONFIG_FILE, report)


def _small_file(remote: RemoteModel, name: str, report: LoadReport) -> Path:
    return _asked(
        lambda: Path(
            huggingface_hub.hf_hub_download(
                remote.name,
                name,
                revision=remote.revision,
                cache_dir=cache_directory(),
                etag_timeout=2 * patience_s(),
            )
        ),
        remote.name,
        report,
    )


def is_cached(remote: RemoteModel, file: RemoteFile) -> bool:
    """Whether a file need not be downloaded."""
    return isinstance(
        huggingface_hub.try_to_load_from_cache(
            remote.name, file.name, cache_dir=cache_directory(), revision=remote.revision
        ),
        str,
    )


def _gated(model: str) -> ModelError:
    return ModelError(
        f"Model '{model}' is gated: accept its licence at {constants.ENDPOINT}/{model},"
        " log in with 'hf auth login' and try again."
    )


def explained(model: str, error: Exception) -> ModelError:
    """What the hub's refusal, or its silence (then it is a HubUnavailable), means and what to do."""
    if isinstance(error, ModelError):
        return error
    near = near_names(model)
    hint = f"did you mean {listed(near)}?" if near else "check its spelling, or choose a preset."
    match error:
        case errors.HFValidationError():
            sentence = f"'{model}' is neither a preset, nor a directory here, nor a valid hub id: {hint}"
        case errors.GatedRepoError():
            return _gated(model)
        case errors.RepositoryNotFoundError():
            sentence = f"There is no model '{model}', neither as a preset, nor as a directory, nor on the hub: {hint}"
        case Silence():
            sentence = (
                f"The hub ({constants.ENDPOINT}) did not answer within {error.seconds:g} s when it was asked for model"
                f" '{model}': check the network, or choose a preset."
            )
            return HubUnavailable(sentence)
        case errors.LocalEntryNotFoundError() | errors.OfflineModeIsEnabled():
            sentence = (
                f"Model '{model}' is neither a preset nor in the local cache, and {_no_network()}: {hint}"
            )
            return ModelError(sentence) if is_forbidden() else HubUnavailable(sentence)
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
            return HubUnavailable(sentence, repr(error))
    return ModelError(sentence, repr(error))


def _no_network() -> str:
    if is_forbidden():
        return "looking on the hub is switched off (HF_HUB_OFFLINE)"
    return "the hub cannot be reached (no network?)"


def near_names(model: str) -> list[str]:
    """Names of presets and cached models that look like this one, best first."""
    known = [*DEMOS, *PRESETS, *cached_names()]
    short = {name.rpartition("/")[2].lower(): name for name in known}
    found = difflib.get_close_matches(model.rpartition("/")[2].lower(), short, n=3, cutoff=0.5)
    return [short[name] for name in found]


def cached_names() -> list[str]:
    """Hub ids that have something in the cache."""
    names = sorted(path.name for path in cache_directory().glob("models--*") if path.is_dir())
    return [name.removeprefix("models--").replace("--", "/") for name in names]


def _snapshot(model: str) -> Path | None:
    """The directory of the cached copy; None where not even its configuration is there. Raises ModelError."""
    try:
        found = huggingface_hub.try_to_load_from_cache(model, CONFIG_FILE, cache_dir=cache_directory())
    except errors.HFValidationError as error:
        raise explained(model, error) from error
    return Path(found).parent if isinstance(found, str) else None


def _complete_copy(model: str) -> Path | None:
    """The cached copy, if all of its weights are there."""
    try:
        directory = _snapshot(model)
        if directory is not None:
            inspect_weights(directory)
    except ModelError:
        return None
    return directory


def _cached(model: str) -> Path:
    """The cached copy, where the hub cannot be asked."""
    directory = _snapshot(model)
    if directory is None:
        raise explained(model, errors.LocalEntryNotFoundError("not in the cache"))
    kind_of(model, read_json(directory / CONFIG_FILE))
    try:
        inspect_weights(directory)
    except IncompleteModel as error:
        raise IncompleteModel(
            f"Only a part of model '{model}' is in the local cache, and {_no_network()}: connect and load it again,"
            " then what is missing is downloaded.",
            error.sentence,
        ) from error
    return directory


def wanted_files(remote: RemoteModel, get: Callable[[str], Path]) -> list[RemoteFile]:
    """The files to download: configuration, tokenizer, and the weights in one form."""
    here = {file.name: file for file in remote.files if "/" not in file.name}
    weights = _wanted_weights(remote.name, here, get)
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


def check_disk(model: str, missing: list[RemoteFile]) -> None:
    """Raise ModelError where the disk has no room for a download."""
    needed = sum(file.size for file in missing) - partial_bytes(cache_directory(), model)
    place = next(path for path in (cache_directory(), *cache_directory().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ModelError(
            f"Downloading model '{model}' needs {gibibytes(needed)} of disk, but {place} has {gibibytes(free)} free:"
            " free disk space or choose a smaller model."
        )


def _download(
    remote: RemoteModel, wanted: list[RemoteFile], missing: list[RemoteFile], report: LoadReport
) -> None:
    report.stage("download")
    downloads = Downloads(sum(file.size for file in wanted), len(wanted))
    for file in wanted:
        if file not in missing:
            downloads.file_here(file.size)
    for file in missing:
        try:
            _download_file(remote, file, downloads, report)
        except Exception as error:  # the hub's client raises errors of several libraries
            raise _broken_off(remote.name, file, error) from error
        downloads.file_done(file.size)
        downloads.tell(report, f"downloading {file.name}")


def _download_file(remote: RemoteModel, file: RemoteFile, downloads: Downloads, report: LoadReport) -> None:
    source = Source(remote.name, file.name, remote.revision, cache_directory())

    def work(background: Background[None]) -> None:
        def came(before: int, now: int) -> None:
            background.came()
            downloads.came(before, now)

        receive(source, 2 * patience_s(), came)

    Background[None](work, patience_s()).wait(lambda: downloads.tell(report, f"downloading {file.name}"))


def _broken_off(model: str, file: RemoteFile, error: Exception) -> ModelError:
    match error:
        case ModelError():
            return error
        case errors.GatedRepoError():
            return _gated(model)
        case Silence():
            reason = f"the hub sent nothing for {error.seconds:g} s"
        case _ if _is_disk_full(error):
            return ModelError(
                f"The disk became full while '{file.name}' ({gibibytes(file.size)}) of model '{model}' was downloaded"
                f" to {cache_directory()}: free disk space and load it again, what has come is kept.",
                repr(error),
            )
        case _:
            reason = first_line(error)
    return ModelError(
        f"Downloading '{file.name}' of model '{model}' failed ({reason}): load it again, what has come is kept.",
        repr(error),
    )


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that there is no room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
