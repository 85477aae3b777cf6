"""Sensors of AMD devices, as their kernel driver shows them in /sys. Nothing to install; what it does not show is None.

See https://docs.kernel.org/gpu/amdgpu/thermal.html and https://docs.kernel.org/gpu/amdgpu/driver-misc.html: microwatts,
thousandths of a degree, hertz. It has no counter of energy and tells no programs beside the engine.
"""

from collections.abc import Mapping
from pathlib import Path

from engine.protocol import DeviceSample

VENDOR = "0x1002"


def amd_cards(root: Path = Path("/")) -> tuple[Path, ...]:
    """The folders of the AMD devices of this machine."""
    found = (card.resolve() for card in (root / "sys/class/drm").glob("card[0-9]*/device"))
    return tuple(sorted({folder for folder in found if _text(folder / "vendor") == VENDOR}))


class AmdSensors:
    """The devices that an engine uses. `devices`: the driver's identity of each by the engine's name for it."""

    def __init__(self, devices: Mapping[str, str], cards: tuple[Path, ...]) -> None:
        self.notes: list[str] = []  # what is to be told; whoever tells it empties the list
        self._cards: dict[str, Path] = {}
        for name, identity in devices.items():
            card = _card_of(name, identity, cards)
            if card is not None:
                self._cards[name] = card
            elif name.startswith("cuda"):
                self.notes.append(
                    f"The sensors of {name} are not shown: there are {len(cards)} devices of AMD here, and nothing"
                    " tells which of them it is."
                )

    def read(self) -> tuple[DeviceSample, ...]:
        """A sample of each device that is still there."""
        samples = []
        for name, card in tuple(self._cards.items()):
            if card.is_dir():
                samples.append(_sample(name, card))
                continue
            del self._cards[name]
            self.notes.append(
                f"The sensors of {name} are gone, with the device itself; what they said is kept. Restart the machine"
                " if it does not come back."
            )
        return tuple(samples)


def _card_of(name: str, identity: str, cards: tuple[Path, ...]) -> Path | None:
    """By its identity; without that only the one that there is, since numbers of another device would be worse than
    none.
    """
    if not name.startswith("cuda"):
        return None
    unique = _unique_id(identity)
    for card in cards:
        if unique and _text(card / "unique_id").lower() == unique:
            return card
    return cards[0] if len(cards) == 1 else None


def _unique_id(identity: str) -> str:
    """HIP has the driver's number of a board, 16 hexadecimal digits, as the bytes of a UUID; "" for anything else."""
    try:
        return bytes.fromhex(identity.replace("-", "")).decode("ascii").lower()
    except ValueError:
        return ""


def _sample(name: str, card: Path) -> DeviceSample:
    monitor = next(iter(sorted(card.glob("hwmon/hwmon*"))), card)
    power_uw = _number(monitor / "power1_average")
    busy = _number(card / "gpu_busy_percent")
    return DeviceSample(
        device=name,
        memory_used_bytes=_number(card / "mem_info_vram_used"),
        memory_total_bytes=_number(card / "mem_info_vram_total"),
        utilization=None if busy is None else busy / 100,
        power_w=_scaled(power_uw if power_uw is not None else _number(monitor / "power1_input"), 1e-6),
        temperature_c=_scaled(_number(monitor / "temp1_input"), 1e-3),
        clock_hz=_scaled(_number(monitor / "freq1_input"), 1.0),
        memory_clock_hz=_scaled(_number(monitor / "freq2_input"), 1.0),
    )


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else value * unit


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
