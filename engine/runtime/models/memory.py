"""Will a model fit? Decided before anything is allocated, with the arithmetic told."""

from pathlib import Path

import psutil

from engine.runtime.models.errors import ModelError

#: Beyond its weights a model needs memory to run: activations, a short cache, the allocator's slack.
RUNNING_SHARE = 0.05
RUNNING_BYTES = 64 * 1024**2


def required_bytes(weight_bytes: int) -> int:
    """What a model with so many bytes of weights needs at least, to be loaded and to run."""
    return int(weight_bytes * (1 + RUNNING_SHARE)) + RUNNING_BYTES


def available_bytes(device: str) -> int:
    """Memory that is free on a device ("cpu", "cuda:0", …) now; a container's limit counts."""
    if device.startswith("cuda"):
        import torch  # here, so that a list of models for the CPU can be made without it

        return int(torch.cuda.mem_get_info(device)[0])
    return min(int(psutil.virtual_memory().available), _container_room())


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
    smaller = "a smaller model" if dtype in ("bfloat16", "float16") else "bfloat16 or a smaller model"
    return (
        f"Model '{name}' is too large for {device} now: {count(parameters)} parameters in {dtype} take"
        f" {gigabytes(weight_bytes)}, with {gigabytes(needed - weight_bytes)} to run in that is {gigabytes(needed)},"
        f" and {gigabytes(available)} are free; choose {smaller}, or free memory."
    )


def check_fits(name: str, parameters: int, weight_bytes: int, dtype: str, device: str) -> None:
    """Raise ModelError when a model is too large for a device now."""
    sentence = refusal(name, parameters, weight_bytes, dtype, device)
    if sentence:
        raise ModelError(sentence)


def count(number: int) -> str:
    """A number of parameters for people: '8.03 billion', '124.4 million'."""
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def gigabytes(number: int) -> str:
    """Bytes for people, in GB of 10⁹."""
    return f"{number / 1e9:.2f} GB" if number < 10e9 else f"{number / 1e9:.1f} GB"
