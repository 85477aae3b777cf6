"""Files that are there whole or not at all: written under another name, flushed to the disk, then put in place."""

import errno
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from engine.trace.export.refused import ExportRefused

Write = Callable[[BinaryIO], None]


def write_files(files: Sequence[tuple[Path, Write]], *, replace: bool = False) -> None:
    """Write several files, all or none: none is put in place before all of them are on the disk.

    Without `replace` a file that is there is never touched, not even one that comes meanwhile. Raises ExportRefused
    with a sentence where that cannot be done; then every file is as it was.
    """
    for path, _ in files:
        if "\0" in str(path):
            raise ExportRefused("The name of a file cannot hold a zero byte: choose another name.")
        _check(path, replace)
    targets = [(Path(os.path.realpath(path)), write) for path, write in files]
    with ExitStack() as stack:
        written = []
        for path, write in targets:
            temporary = path.with_name(f".cyclograph-{secrets.token_hex(6)}.part")
            stack.callback(_forget, temporary)
            try:
                _write(temporary, write)
            except OSError as error:
                raise ExportRefused(_sentence(path, error)) from error
            written.append((temporary, path))
        for temporary, path in written:
            try:
                _put(temporary, path, replace)
            except OSError as error:
                raise ExportRefused(_sentence(path, error)) from error


def existing(paths: Sequence[Path]) -> list[Path]:
    """Which of these would be overwritten."""
    return [path for path in paths if os.path.exists(path)]


def _check(path: Path, replace: bool) -> None:
    if not os.path.isdir(path.parent):
        raise ExportRefused(
            f"There is no directory '{path.parent}': create it first, or choose another place."
        )
    if not os.path.exists(path):
        return
    if not os.path.isfile(path):
        raise ExportRefused(f"'{path}' is not a file: choose another name.")
    if not replace:
        raise _taken(path)


def _taken(path: Path) -> ExportRefused:
    return ExportRefused(
        f"'{path}' is there already and was left as it is: choose another name, or replace it (--force)."
    )


def _write(path: Path, write: Write) -> None:
    with path.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _put(temporary: Path, path: Path, replace: bool) -> None:
    """Give a file its name. A link fails where the name is taken, which a look beforehand cannot promise."""
    if replace:
        if os.path.exists(path):
            temporary.chmod(path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    else:
        try:
            os.link(temporary, path)
        except FileExistsError as error:
            raise _taken(path) from error
        except OSError:  # a file system without links
            if os.path.exists(path):
                raise _taken(path) from None
            os.replace(temporary, path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Let the name survive a loss of power, where directories can be synchronized."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _sentence(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full, so '{path}' was not written: make room, or choose another place."
    if error.errno == errno.EFBIG:
        return f"'{path}' was not written, since it would be larger than a file may be there: export fewer steps."
    reason = (error.strerror or str(error)).lower()
    return f"'{path}' could not be written ({reason}): choose another place."
