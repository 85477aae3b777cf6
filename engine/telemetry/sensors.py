"""All sensors of the machine together, as one sample."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns, process_time_ns

from engine.protocol import TelemetrySampled
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
        self._devices: tuple[tuple[str, str], ...] = ()
        self._nvidia = NvidiaSensors({})
        self._spent_ns = process_time_ns()

    def sample(self, watch: Watch) -> TelemetrySampled:
        """The machine now. Sentences about what is missing come once, with the sample that first lacks it."""
        if watch.devices != self._devices:
            self._nvidia.close()
            self._devices, self._nvidia = watch.devices, NvidiaSensors(dict(watch.devices))
        now_ns = perf_counter_ns()
        energy_j = (
            self._energy.read()
        )  # first: counters belong to the time of the sample, and others take long
        devices = self._nvidia.read(watch.engine)
        fields = self._host.read(perf_counter_ns(), watch.engine, watch.front)
        notes, self._nvidia.notes = tuple(self._nvidia.notes), []
        spent_ns = process_time_ns()
        took_ns, self._spent_ns = spent_ns - self._spent_ns, spent_ns
        return TelemetrySampled(
            at_ns=now_ns, took_ns=took_ns, energy_j=energy_j, devices=devices, notes=notes, **fields
        )

    def close(self) -> None:
        """Let go of what was opened."""
        self._nvidia.close()
