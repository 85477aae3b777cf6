"""Calibrations kept for the next time: one small file a machine, device and number of threads."""

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from engine.runtime.calibration import KINDS, Machine
from engine.trace.calibration import Calibration, from_record
from engine.user_directories import user_cache

_MOST_BYTES = 65_536  # a record is far smaller; anything else is not ours


def directory() -> Path:
    """Where they are kept."""
    return user_cache() / "calibration"


def path_of(machine: Machine) -> Path:
    """The file of a machine. Its name holds nothing of it: a home directory may be shared between machines."""
    facts = (
        *(platform.node(), machine.processor, str(os.cpu_count()), str(machine.device), str(machine.threads)),
        *(machine.mode, torch.__version__, *KINDS),
    )
    return directory() / f"{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:24]}.json"


def remembered(machine: Machine) -> Calibration | None:
    """What was measured before; None where nothing was, or the file is broken (then it is measured anew)."""
    path = path_of(machine)
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        record = json.loads(path.read_text("utf-8"))
        found = from_record(record)
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    same = (found.processor, found.device, found.threads, found.mode) == (
        *(machine.processor, str(machine.device), machine.threads),
        machine.mode,
    )
    return found if same else None


def remember(machine: Machine, calibration: Calibration) -> str:
    """Keep a record, in place of the one before, whole or not at all. What hindered that, in words; "" for nothing."""
    path = path_of(machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(calibration), file)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        return f"it could not be kept for the next time ({error.strerror or error})"
    return ""
