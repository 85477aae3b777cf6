"""Energy of the processor packages and their memory, as the kernel's power capping framework counts it (RAPL).

The files are readable for everyone on some systems and for the administrator alone on others; unreadable is absent.
See https://docs.kernel.org/power/powercap/powercap.html: `energy_uj` counts microjoules and begins again at
`max_energy_range_uj`. After a sleep of the machine it may begin anew, too, with nothing to tell that by but a power
that no machine draws: then what is told goes down, by which whoever reads it sees that nothing is known of that time.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

MOST_W = 10_000  # more than a package draws
COUNTED = ("package", "dram")  # cores and graphics are parts of a package; psys holds more than the processor


class _Zone:
    """One counter, its wraps undone."""

    def __init__(self, folder: Path) -> None:
        self._energy = folder / "energy_uj"
        self._last = int(self._energy.read_text())
        try:
            self._range = int((folder / "max_energy_range_uj").read_text())
        except (OSError, ValueError):
            self._range = 0
        self._counted = 0
        self._last_ns = 0

    def read(self, now_ns: int) -> int:
        """Microjoules since the beginning, or since the counter began anew.

        Raises OSError or ValueError when it cannot be read any more.
        """
        now = int(self._energy.read_text())
        step, passed_ns = now - self._last, now_ns - self._last_ns
        if step < 0:
            step += self._range
        self._last, self._last_ns = now, now_ns
        if not 0 <= step * 1_000 <= MOST_W * passed_ns:  # µJ · 1000 = nJ, W · ns = nJ
            self._counted = 0
            return 0
        self._counted += step
        return self._counted


class EnergySensor:
    """The sum of all packages and their memory. `root`: where /sys lies. `clock`: nanoseconds."""

    def __init__(self, root: Path = Path("/"), clock: Callable[[], int] = perf_counter_ns) -> None:
        self._clock = clock
        self._zones: list[_Zone] = []
        for folder in sorted((root / "sys/class/powercap").glob("*-rapl:*")):
            try:
                name = (folder / "name").read_text().strip()
                if name.startswith(COUNTED):
                    self._zones.append(_Zone(folder))
            except (OSError, ValueError):
                continue

    def read(self) -> float | None:
        """Joules since the first reading, less after a counter began anew; None where nothing can be read, and from
        the first failure on.
        """
        if not self._zones:
            return None
        try:
            now_ns = self._clock()
            return sum(zone.read(now_ns) for zone in self._zones) / 1e6
        except (OSError, ValueError):
            self._zones.clear()
            return None
