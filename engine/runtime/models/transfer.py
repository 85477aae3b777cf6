"""Brings one file of the hub into the local Hugging Face cache, and goes on where an earlier attempt ended.

huggingface_hub itself begins a file anew each time (in 2.4 it deletes what a broken download left), so the bytes are
received here, into `blobs/<etag>.incomplete` of the model's cache; the finished file is handed over to its cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.utils
from filelock import Timeout
from huggingface_hub.errors import HfHubHTTPError

from engine.runtime.models.errors import ModelError

_utils: Any = huggingface_hub.utils  # these functions have no types

LOCK_SECONDS = 2.0


class BrokenOff(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of a model at one revision (a commit), and the cache that it goes to."""

    model: str
    name: str
    revision: str
    cache: Path

    @property
    def folder(self) -> Path:
        """Where the cache keeps this model."""
        return repository_folder(self.cache, self.model)


def repository_folder(cache: Path, model: str) -> Path:
    """Where a cache keeps a model."""
    return cache / f"models--{model.replace('/', '--')}"


def partial_bytes(cache: Path, model: str) -> int:
    """Bytes of this model's files that earlier, broken downloads left and that need not come again."""
    found = (repository_folder(cache, model) / "blobs").glob("*.incomplete")
    # a second dot: a download of huggingface_hub's own, which nobody can go on with
    return sum(path.stat().st_size for path in found if path.name.count(".") == 1)


def receive(source: Source, timeout_s: float, came: Callable[[int, int], None]) -> None:
    """Download a file into the cache. `came(before, now)`: bytes that were here already, and bytes that came since.

    Goes on by itself after a break, as long as each attempt brings something. Raises what the hub's client raises,
    OSError where the disk does not take it, BrokenOff, and ModelError when another program downloads the same file.
    """
    url = huggingface_hub.hf_hub_url(source.model, source.name, revision=source.revision)
    facts = huggingface_hub.get_hf_file_metadata(url, timeout=timeout_s)
    if facts.etag is None or "/" in facts.etag:
        raise BrokenOff("the hub does not say which version of the file it has")
    blob = source.folder / "blobs" / facts.etag
    lock = source.cache / ".locks" / source.folder.name / f"{facts.etag}.lock"
    for directory in (blob.parent, lock.parent):
        directory.mkdir(parents=True, exist_ok=True)
    try:
        with _utils.WeakFileLock(lock, timeout=LOCK_SECONDS):
            if not blob.exists():
                partial = blob.with_name(f"{blob.name}.incomplete")
                _complete(url, partial, facts.size, timeout_s, came)
                partial.replace(blob)
    except Timeout as error:
        raise ModelError(
            f"Another program is downloading '{source.name}' of model '{source.model}':"
            " wait until it is done and try again."
        ) from error
    _hand_over(source, blob)


def _hand_over(source: Source, blob: Path) -> None:
    """Let the hub's client enter a finished file in its cache."""
    pointer = Path(
        huggingface_hub.hf_hub_download(
            source.model, source.name, revision=source.revision, cache_dir=source.cache
        )
    )
    if not pointer.is_symlink():  # a file system without links: the client has copied it
        blob.unlink(missing_ok=True)


def _complete(
    url: str, partial: Path, size: int | None, timeout_s: float, came: Callable[[int, int], None]
) -> None:
    """Bring a partial file to its size, in as many attempts as it takes while each brings something."""
    before = _size_of(partial)
    came(before, 0)
    while size is None or _size_of(partial) < size:
        here = _size_of(partial)
        broken: Exception | None = None
        try:
            _append(url, partial, timeout_s, lambda now: came(before, now - before))
        except (OSError, HfHubHTTPError):  # the disk, or a refusal
            raise
        except Exception as error:  # the connection broke, in the words of one of several libraries
            broken = error
        if broken is None and size is None:
            return
        if _size_of(partial) <= here:
            raise BrokenOff(str(broken or "nothing more comes")) from broken
    if _size_of(partial) != size:
        partial.unlink()
        raise BrokenOff(f"more came than the {size:,} bytes of the file")


def _size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def _append(url: str, partial: Path, timeout_s: float, came: Callable[[int], None]) -> None:
    """Ask for what is missing and write it as it comes. `came` hears the file's size."""
    here = _size_of(partial)
    headers = {**_utils.build_hf_headers(), "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    session = huggingface_hub.get_session()
    with (
        session.stream("GET", url, headers=headers, timeout=timeout_s) as response,
        partial.open("ab") as file,
    ):
        _utils.hf_raise_for_status(response)
        if here and response.status_code != 206:  # it begins again
            file.seek(0)
            file.truncate()
        for chunk in response.iter_bytes():  # as it comes: a slow line is no silent one
            file.write(chunk)
            came(file.tell())
