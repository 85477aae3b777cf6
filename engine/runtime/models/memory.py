"""Will a model fit? Decided before anything is allocated, with the arithmetic told."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

from engine.runtime.models.errors import ModelError, first_line

#: Beyond its weights a model needs memory to run: activations, a short cache, the allocator's slack.
RUNNING_SHARE = 0.05
RUNNING_BYTES = 64 * 1024**2


def required_bytes(weight_bytes: int) -> int:
    """What a model with so many bytes of weights needs at least, to be loaded and to run."""
    return int(weight_bytes * (1 + RUNNING_SHARE)) + RUNNING_BYTES


#: The device of a request for layers split over all devices.
SPLIT = "split"


def available_bytes(device: str) -> int:
    """Memory that is free on a device ("cpu", "cuda:0", …; "split": on all) now; a container's limit counts."""
    if device == SPLIT:
        return sum(available_bytes(each) for each in ("cpu", *accelerators()))
    host = min(int(psutil.virtual_memory().available), _container_room())
    return host if device == "cpu" else _accelerator_room(device, host)


def accelerators() -> tuple[str, ...]:
    """The accelerators that can be used here ("cuda:0", "cuda:1", …), as far as torch has been imported."""
    return tuple(name for name in _counted() if not why_silent(name))


def silent_accelerators() -> tuple[tuple[str, str], ...]:
    """The accelerators that torch counts but that do not answer, each with what it says instead."""
    return tuple((name, why) for name in _counted() if (why := why_silent(name)))


@lru_cache(maxsize=64)
def why_silent(accelerator: str) -> str:
    """Why an accelerator that torch counts cannot be used: "" for one that answers.

    It may be taken by another program alone, broken, or gone since the driver counted it. Asked once a process.
    """
    import torch

    try:
        torch.accelerator.synchronize(int(accelerator.partition(":")[2]))
    except RuntimeError as error:
        return first_line(error)
    return ""


def _counted() -> tuple[str, ...]:
    torch = sys.modules.get("torch")  # a list of models for the CPU can be made without it
    if torch is None or not torch.accelerator.is_available():
        return ()
    kind = torch.accelerator.current_accelerator().type
    return tuple(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))


def _accelerator_room(device: str, host: int) -> int:
    """What the device has free, and what torch holds of it without using it. MPS shares the host's memory."""
    import torch

    if device.startswith("mps"):
        return min(host, torch.mps.recommended_max_memory() - allocated_bytes(device))
    index = int(device.partition(":")[2])
    unused = torch.accelerator.memory_reserved(index) - allocated_bytes(device)
    try:
        return int(torch.accelerator.get_memory_info(index)[0]) + unused
    except RuntimeError:  # some drivers do not say what is free
        properties = torch.get_device_module(torch.device(device)).get_device_properties(index)
        return int(properties.total_memory) - allocated_bytes(device)


def allocated_bytes(device: str) -> int:
    """What torch holds of an accelerator for tensors."""
    import torch

    if device.startswith("mps"):
        return int(torch.mps.current_allocated_memory())
    return int(torch.accelerator.memory_allocated(int(device.partition(":")[2])))


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes that torch holds of accelerators, all of them together; None for what it does not say of their kind.

    `allocated`: for tensors. `reserved`: from the driver. `peak`: the most that was allocated, each at its own time.
    """

    allocated: int | None = None
    reserved: int | None = None
    peak: int | None = None


def device_memory(devices: Sequence[str]) -> DeviceMemory:
    """What torch holds of some accelerators ("cuda:0", "mps", …) of one kind; nothing of none."""
    import torch

    if not devices:
        return DeviceMemory()
    if devices[0].startswith("mps"):
        return DeviceMemory(torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory())
    indices = [int(device.partition(":")[2] or 0) for device in devices]
    memory = torch.accelerator
    return DeviceMemory(
        sum(map(memory.memory_allocated, indices)),
        sum(map(memory.memory_reserved, indices)),
        sum(map(memory.max_memory_allocated, indices)),
    )


def forget_peaks(devices: Sequence[str]) -> None:
    """From now on peaks are counted anew, where they are."""
    import torch

    for device in devices:
        if not device.startswith("mps"):
            torch.accelerator.reset_peak_memory_stats(int(device.partition(":")[2] or 0))


def _container_room(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this container may still take (cgroup v2); a huge number where there is no limit."""
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return 2**62
    reclaimable = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(0, limit - used + reclaimable)


def refusal(name: str, parameters: int, weight_bytes: int, dtype: str, device: str) -> str:
    """One sentence why a model is too large for a device now, with the sum; "" when it fits."""
    needed, available = required_bytes(weight_bytes), available_bytes(device)
    if needed <= available:
        return ""
    ways = [] if dtype in ("bfloat16", "float16") else ["bfloat16"]
    ways += ["to split it over all devices"] if fits_split(weight_bytes) and device != SPLIT else []
    place = "all devices together" if device == SPLIT else device
    return (
        f"Model '{name}' is too large for {place} now: {count(parameters)} parameters in {dtype} take"
        f" {gibibytes(weight_bytes)}, with {gibibytes(needed - weight_bytes)} to run in that is {gibibytes(needed)},"
        f" and {gibibytes(available)} are free; choose {' or '.join([*ways, 'a smaller model'])}, or free memory."
    )


def fits_split(weight_bytes: int) -> bool:
    """Whether so many bytes of weights fit now when they are split over all devices, where there are several."""
    return bool(accelerators()) and required_bytes(weight_bytes) <= available_bytes(SPLIT)


def check_fits(name: str, parameters: int, weight_bytes: int, dtype: str, device: str) -> None:
    """Raise ModelError when a model is too large for a device now."""
    sentence = refusal(name, parameters, weight_bytes, dtype, device)
    if sentence:
        raise ModelError(sentence)


def count(number: int) -> str:
    """A number of parameters for people: '8.03 billion', '124.4 million'."""
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def gibibytes(number: int) -> str:
    """Bytes for people, in GiB of 2³⁰, as tools for memory count."""
    size = number / 2**30
    return f"{size:.2f} GiB" if size < 10 else f"{size:.1f} GiB"
