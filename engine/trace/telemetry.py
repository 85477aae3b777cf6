"""What the machine did meanwhile, as columns: one row a sample, on the clock of the steps.

perf_counter_ns is CLOCK_MONOTONIC on Linux and its like elsewhere, which all processes of a machine share: a sample's
time and a step's lie on one axis. What a sensor did not say is NaN.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.protocol import MemorySampled, TelemetrySampled
from engine.trace.columns import Column
from engine.trace.ledger import Int64

Float = npt.NDArray[np.float64]

#: Numbers of a TelemetrySampled, and of a DeviceSample, each a column of its name.
HOST = (
    *("cpu", "engine_cpu", "others_cpu", "steal", "load", "engine_bytes", "memory_used_bytes", "clock_hz"),
    *("temperature_c", "energy_j", "processors", "memory_total_bytes", "took_ns", "throttled", "on_battery"),
)
DEVICE = (
    *(
        "memory_used_bytes",
        "memory_total_bytes",
        "utilization",
        "power_w",
        "energy_j",
        "temperature_c",
        "clock_hz",
    ),
    "memory_clock_hz",
)
#: Of a MemorySampled: what the engine says of its own memory.
MEMORY = (
    *("process_bytes", "weight_bytes", "cache_bytes", "device_allocated_bytes", "device_reserved_bytes"),
    *("process_peak_bytes", "device_peak_bytes"),
)


class Samples:
    """Columns of one thing that is sampled. at_ns (n): when. By name (n): float64, NaN where it was not said."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._at = Column(np.int64)
        self._values = Column(np.float64, (len(self._names),))

    def __len__(self) -> int:
        return len(self._at)

    @property
    def names(self) -> tuple[str, ...]:
        """What its columns are called."""
        return self._names

    @property
    def at_ns(self) -> Int64:
        """When each sample was taken, wall clock."""
        return self._at.values

    def __getitem__(self, name: str) -> Float:
        """The values of a column. Raises ValueError for one that does not exist."""
        values: Float = self._values.values[:, self._names.index(name)]
        return values

    def append(self, at_ns: int, said: object) -> None:
        """Add a row: the attributes of `said`."""
        values = (getattr(said, name) for name in self._names)
        self._at.append(at_ns)
        self._values.append([np.nan if value is None else float(value) for value in values])

    def rates(self, name: str) -> Float:
        """How fast a counter went up until each sample (n), a second; NaN for the first."""
        return rates_of(self[name], self.at_ns)


def rates_of(counter: Float, at_ns: Int64) -> Float:
    """How fast a counter (n) went up until each of its times (n), a second; NaN for the first, and where it went down,
    since it began anew.
    """
    rates = np.full(len(counter), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates[1:] = np.diff(counter) / np.diff(at_ns / 1e9)
    rates[rates < 0] = np.nan
    return rates


class Telemetry:
    """All samples of a trace. `engine`: of its memory, by itself. `devices`: by the engine's name for each.

    `latest`: None before there is one. `ended`: why sensors are not read any more ("": they are, or never were).
    """

    def __init__(self) -> None:
        self.host = Samples(HOST)
        self.engine = Samples(MEMORY)
        self.devices: dict[str, Samples] = {}
        self.latest: TelemetrySampled | None = None
        self.ended = ""

    def __len__(self) -> int:
        return len(self.host)

    def append_memory(self, sample: MemorySampled) -> None:
        """Fold in what the engine says of its memory."""
        self.engine.append(sample.at_ns, sample)

    def append(self, sample: TelemetrySampled) -> None:
        """Fold a sample in."""
        self.latest = sample
        self.host.append(sample.at_ns, sample)
        for device in sample.devices:
            self.devices.setdefault(device.device, Samples(DEVICE)).append(sample.at_ns, device)
