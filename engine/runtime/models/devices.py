"""Which devices there are for a model, and which of them a request means."""

from dataclasses import dataclass

import torch

from engine.runtime.models.errors import ModelError
from engine.runtime.models.memory import SPLIT, accelerators


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model goes. `device`: where it takes its input; `split`: its layers are divided over all devices."""

    device: torch.device
    split: bool = False

    @property
    def name(self) -> str:
        """Its name for questions of memory."""
        return SPLIT if self.split else str(self.device)


def pick_place(request: str) -> Place:
    """The place that a request means: a device, "auto" or "split". Raises ModelError."""
    if request != SPLIT:
        return Place(pick_device(request))
    device = pick_device("auto")
    if device.type == "cpu":
        raise ModelError("There is no accelerator here to split layers over: choose the device cpu.")
    return Place(device, split=True)


def pick_device(request: str) -> torch.device:
    """The torch device that a request means, checked to be here. Raises ModelError."""
    here = [*accelerators(), "cpu"]
    if request == "auto":
        return torch.device(here[0])
    wanted = f"{request}:0" if f"{request}:0" in here else request
    if wanted not in here:
        raise ModelError(f"There is no device '{request}' here: choose auto or one of {', '.join(here)}.")
    return torch.device(wanted)
