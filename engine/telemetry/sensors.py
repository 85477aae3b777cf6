"""All sensors of the machine together, as one sample."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns, process_time_ns

from engine.protocol import TelemetrySampled
from engine.telemetry.amd import AmdSensors, amd_cards
from engine.telemetry.host import HostSensors
from engine.telemetry.nvidia import NvidiaSensors
from engine.telemetry.rapl import EnergySensor

EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Watch:
    """What to read: the engine's process and the devices that it uses. None for the engine: it is not up yet.

    `devices`: (the engine's name, the driver's identity). `every_s`: seconds between two samples; None: none for now.
    """

    front: int
    engine: int | None = None
    devices: tuple[tuple[str, str], ...] = ()
    every_s: float | None = EVERY_S


class Sensors:
    """Reads all sensors there are. `root`: where /proc and /sys lie."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._host = HostSensors(root)
        self._energy = EnergySensor(root)
        self._root = root
        self._devices: tuple[tuple[str, str], ...] = ()
        self._nvidia, self._amd = NvidiaSensors({}), AmdSensors({}, ())
        self._spent_ns = process_time_ns()

    def sample(self, watch: Watch) -> TelemetrySampled:
        """The machine now. Sentences about what is missing come once, with the sample that first lacks it."""
        if watch.devices != self._devices:
            self._find(watch.devices)
        now_ns = perf_counter_ns()
        energy_j = self._energy.read()  # first: a counter belongs to the time of its sample
        devices = (*self._nvidia.read(watch.engine), *self._amd.read())
        fields = self._host.read(perf_counter_ns(), watch.engine, watch.front)
        notes = (*self._nvidia.notes, *self._amd.notes)
        self._nvidia.notes, self._amd.notes = [], []
        spent_ns = process_time_ns()
        took_ns, self._spent_ns = spent_ns - self._spent_ns, spent_ns
        return TelemetrySampled(
            at_ns=now_ns, took_ns=took_ns, energy_j=energy_j, devices=devices, notes=notes, **fields
        )

    def _find(self, devices: tuple[tuple[str, str], ...]) -> None:
        """Who reads these devices: torch calls those of NVIDIA and of AMD by the same names."""
        self._nvidia.close()
        self._devices, named = devices, dict(devices)
        cards = () if (self._root / "proc/driver/nvidia").is_dir() else amd_cards(self._root)
        self._amd = AmdSensors(named if cards else {}, cards)
        self._nvidia = NvidiaSensors({} if cards else named)

    def close(self) -> None:
        """Let go of what was opened."""
        self._nvidia.close()
