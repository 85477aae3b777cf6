"""Which devices there are for a model, and which of them a request means."""

from dataclasses import dataclass

import torch

from engine.runtime.models.errors import ModelError, first_line
from engine.runtime.models.memory import SPLIT, accelerators, silent_accelerators

#: What torch says where there is simply no such device.
_NO_DEVICE = ("no NVIDIA driver", "No CUDA GPUs", "No HIP GPUs")
#: What to do about a device that is counted but cannot be used.
_SILENT = "end what else uses it, or restart the machine if nothing does"


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
        silent = dict(silent_accelerators())
        reason = silent.get(request) or silent.get(f"{request}:0")
        if reason:
            raise ModelError(
                f"The device '{request}' does not answer ({reason}): {_SILENT}, or choose one of {', '.join(here)}."
            )
        why = f" ({why_no_cuda()})" if request.startswith("cuda") and "cuda:0" not in here else ""
        raise ModelError(
            f"There is no device '{request}' here{why}: choose auto or one of {', '.join(here)}."
        )
    return torch.device(wanted)


def why_no_cuda() -> str:
    """Why torch finds no CUDA (or ROCm) device here, as it says it itself, without a full stop."""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch is built without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # says what the question for their number keeps to itself
    except (RuntimeError, AssertionError) as error:
        return first_line(error).partition(". ")[0]
    return "torch finds none"


def unused_gpu() -> str:
    """A sentence on a device that is here but that torch cannot use, so that "auto" means another; "" without one."""
    if silent := silent_accelerators():
        (device, reason), *_ = silent
        return f"{device} is not used, since it does not answer ({reason}): {_SILENT}."
    if accelerators() or (torch.version.cuda is None and torch.version.hip is None):
        return ""
    reason = why_no_cuda()
    if any(words in reason for words in _NO_DEVICE):
        return ""
    return f"The GPU is not used ({reason}): update its driver, or install a torch that is built for it."
