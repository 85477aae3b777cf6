"""Chosen tokens on their way to the host, while the host goes on."""

from collections.abc import Callable
from typing import Protocol

import torch

#: Waits until a token is on the host, and says its id. To be called once.
Arrival = Callable[[], int]


class Copies(Protocol):
    """How tokens get to the host. Of two that are under way the earlier one is to be waited for first."""

    def begin(self, token: torch.Tensor) -> Arrival:
        """Begin to copy a token, shape (1,)."""
        ...


class Immediate:
    """For what is computed where the host is: a token is there as soon as it is chosen."""

    def begin(self, token: torch.Tensor) -> Arrival:
        """It has arrived already."""
        id = int(token)
        return lambda: id


class Pinned:
    """For CUDA: copies into memory that the device can write to by itself, each with an event behind it."""

    def __init__(self) -> None:
        self._places = [pinned_place(), pinned_place()]

    def begin(self, token: torch.Tensor) -> Arrival:
        """Launch the copy behind what computes the token."""
        host, event = self._places[0]
        self._places.reverse()
        host.copy_(token, non_blocking=True)
        event.record(torch.cuda.current_stream(token.device))

        def wait() -> int:
            event.synchronize()
            return int(host)

        return wait


def pinned_place() -> tuple[torch.Tensor, torch.cuda.Event]:
    """Room for a token on the host, and an event to be recorded behind its copy."""
    with torch.inference_mode(False):  # it is written to in every mode
        return torch.empty(1, dtype=torch.long, pin_memory=True), torch.cuda.Event()  # type: ignore[no-untyped-call]


def copies_from(device: torch.device) -> Copies:
    """The way from a device."""
    return Pinned() if device.type == "cuda" else Immediate()


def why_not_from(device: torch.device) -> str:
    """Why tokens cannot be copied from a device while the host goes on; "" when they can."""
    if device.type in ("cpu", "cuda"):
        return ""
    return "Tokens are copied without waiting from CUDA devices only: this one would be waited for at every step."
