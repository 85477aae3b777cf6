"""Does a model fit, on each device there is? Told before anything is loaded, by the memory that is free now."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from engine.protocol import Fit
from engine.runtime.models.memory import (
    SPLIT,
    accelerators,
    allocated_bytes,
    available_bytes,
    gibibytes,
    required_bytes,
)
from engine.runtime.models.weights import DTYPE_WIDTHS, Weights


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a model could take on each device, and on all together ("split") where there are several.

    The first device is the one that "auto" means.
    """

    free: tuple[tuple[str, int], ...]

    @classmethod
    def now(cls, loaded: Any = None) -> "Room":
        """What is free now, and what `loaded` (a torch model, if there is one) leaves: it goes before another comes."""
        devices = (*accelerators(), "cpu")
        free = tuple((device, available_bytes(device) + _held(device, loaded)) for device in devices)
        together = ((SPLIT, sum(room for _, room in free)),) if len(devices) > 1 else ()
        return cls((*free, *together))


def _held(device: str, loaded: Any) -> int:
    """What the loaded model holds of a device. What torch has allocated of an accelerator is all of its making."""
    if device != "cpu":
        return allocated_bytes(device)
    if loaded is None:
        return 0
    weights = sum(p.numel() * p.element_size() for p in loaded.parameters() if p.device.type == "cpu")
    memory = psutil.Process().memory_info()
    private = memory.rss - getattr(
        memory, "shared", 0
    )  # weights that are mapped from a file count as free already
    return max(0, min(int(weights), int(private)))


def fits(
    room: Room, weight_bytes: Callable[[str], int], least_bytes: Callable[[str], int] | None = None
) -> tuple[Fit, ...]:
    """What each device says to weights that take so many bytes there, and at least so many in another precision."""
    least = least_bytes or weight_bytes
    roomy = [device for device, free in room.free if required_bytes(least(device)) <= free]
    return tuple(
        Fit(
            device,
            weight_bytes(device),
            "" if device in roomy else _shortage(device, free, required_bytes(least(device)), roomy),
            _precision_remark(device, free, weight_bytes(device), least(device)),
        )
        for device, free in room.free
    )


def _shortage(device: str, free: int, needed: int, roomy: Iterable[str]) -> str:
    ways = ["split it over all devices" if other == SPLIT else f"run it on {other}" for other in roomy]
    has = (
        f"all devices together have {gibibytes(free)}"
        if device == SPLIT
        else f"{device} has {gibibytes(free)}"
    )
    return f"It needs {gibibytes(needed)}, and {has} free: {' or '.join([*ways, 'choose a smaller model'])}."


def _precision_remark(device: str, free: int, own_bytes: int, least_bytes: int) -> str:
    only_least = required_bytes(least_bytes) <= free < required_bytes(own_bytes)
    return f"fits {device} only in bfloat16" if only_least else ""


def loaded_bytes(weights: Weights, settings: dict[str, Any], device: str) -> int:
    """Memory that a checkpoint's weights take on a device: as its config.json says, but float16 in float32 on a CPU."""
    if settings.get("quantization_config") is not None:
        return weights.stored_bytes
    declared = settings.get("dtype", settings.get("torch_dtype"))
    dtype = declared if declared in DTYPE_WIDTHS else weights.dtype
    if device == "cpu" and dtype == "float16":
        dtype = "float32"
    return weights.bytes_in(DTYPE_WIDTHS.get(dtype))
