"""Which errors of a device are the end of it for this process: after them every call fails with the same error."""

import torch

from engine.runtime.models.errors import first_line

#: What drivers say of errors that stay (CUDA runtime API, cudaError_t: "the process must be terminated and relaunched";
#: HIP says the same words; the last ones are Level Zero's and Metal's).
_STICKY = (
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
    "launch timed out",
    "hardware stack error",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "context is destroyed",
    "no cuda-capable device",
    "no rocm-capable device",
    "gpu is lost",
    "device not found",
    "device lost",
    "device_lost",
    "device was removed",
)
_OF_A_DEVICE = ("cuda error", "hip error", "xpu error", "level_zero", "mps backend")


def is_lost(error: BaseException) -> bool:
    """Whether an error (or one that it came from) says that this process cannot use its device any more.

    What a driver says of errors that stay is known. Of any other error of a device it is tried whether the device still
    answers. Running out of memory is none of them.
    """
    chain = _chain(error)
    if any(isinstance(each, torch.OutOfMemoryError | MemoryError) for each in chain):
        return False
    texts = [str(each).lower() for each in chain if isinstance(each, RuntimeError)]
    if any(phrase in text for text in texts for phrase in _STICKY):
        return True
    of_a_device = any(isinstance(each, torch.AcceleratorError) for each in chain) or any(
        phrase in text for text in texts for phrase in _OF_A_DEVICE
    )
    return of_a_device and not _answers()


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _answers() -> bool:
    """Whether the device does what it is asked; an error that stays comes back at the second call, too."""
    if not torch.accelerator.is_available():
        return True
    for _ in range(2):
        try:
            torch.accelerator.synchronize()
        except RuntimeError:
            continue
        return True
    return False


def lost_sentence(error: BaseException) -> str:
    """What happened, for people."""
    return f"The device failed ({first_line(error)}) and cannot be used by this process any more."
