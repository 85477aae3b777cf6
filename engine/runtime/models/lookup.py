"""What can be known of a model before it is loaded, where no catalogue lists it: a directory, or a hub id.

Of a model on the hub its list of files is read, its config.json and, where the weights are in several files, their
index. They go into a directory of their own, so that asking leaves nothing in the cache of models.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import huggingface_hub
import huggingface_hub.utils
from huggingface_hub import errors

from engine.protocol import CatalogueEntry
from engine.runtime.models import hub
from engine.runtime.models.background import Background
from engine.runtime.models.catalogue import broken_entry, entry_of_checkpoint, entry_of_directory
from engine.runtime.models.errors import HubUnavailable, ModelError
from engine.runtime.models.fitting import Room
from engine.runtime.models.loading import local_directory
from engine.runtime.models.memory import gibibytes
from engine.runtime.models.weights import Weights, read_json

_utils: Any = huggingface_hub.utils  # its bar has no types

#: All that is asked of the hub has to be answered within this time: somebody looks at the row and waits.
PATIENCE_S = 6.0


class _NoBar(_utils.tqdm):  # type: ignore[misc]
    """The progress bar of a file that is too small for one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **(options | {"disable": True}))


def look_up(model: str, room: Room, look: Callable[[], None]) -> CatalogueEntry:
    """What is known of a model, in an entry that also says what is wrong with it.

    While it waits `look` is called, whose exceptions end it. Raises HubUnavailable where nothing could be found out.
    """
    work = Background[CatalogueEntry](lambda _: _judged(model, room), min(PATIENCE_S, hub.patience_s()))
    try:
        return work.wait(look)
    except Exception as error:  # the hub's client raises errors of several libraries
        problem = hub.explained(model, error)
        if isinstance(problem, HubUnavailable):
            raise problem from error
        return broken_entry(model, "hub", problem)


def _judged(model: str, room: Room) -> CatalogueEntry:
    try:
        directory = local_directory(model)
        if directory is not None:
            return entry_of_directory(model, "directory", directory, room)
    except ModelError as error:
        return broken_entry(model, "directory", error)
    if hub.is_forbidden() or not hub.answers():
        raise errors.LocalEntryNotFoundError("nobody can be asked")
    remote = hub.remote_model(model)
    with TemporaryDirectory(prefix="cyclograph-") as place:
        return _of_hub(remote, Path(place), room)


def _of_hub(remote: hub.RemoteModel, place: Path, room: Room) -> CatalogueEntry:
    def get(name: str) -> Path:
        return Path(
            huggingface_hub.hf_hub_download(
                remote.name,
                name,
                revision=remote.revision,
                cache_dir=place,
                etag_timeout=PATIENCE_S,
                tqdm_class=_NoBar,
            )
        )

    wanted: list[hub.RemoteFile] = []

    def get_weights() -> Weights:
        wanted.extend(hub.wanted_files(remote, get))
        sizes = (file.size for file in wanted if file.name.endswith(".safetensors"))
        return Weights((), sum(sizes), remote.elements)

    entry = entry_of_checkpoint(remote.name, "hub", read_json(get(hub.CONFIG_FILE)), get_weights, room)
    missing = [file for file in wanted if not hub.is_cached(remote, file)]
    hub.check_disk(remote.name, missing)
    size = sum(file.size for file in missing)
    return replace(entry, remark=f"{gibibytes(size)} to download" if missing else "in the local cache")
