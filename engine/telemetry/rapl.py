"""Energy of the processor packages and their memory, as the kernel's power capping framework counts it (RAPL).

The files are readable for everyone on some systems and for the administrator alone on others; unreadable is absent.
See https://docs.kernel.org/power/powercap/powercap.html: `energy_uj` counts microjoules and begins again at
`max_energy_range_uj`.
"""

from pathlib import Path

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

    def read(self) -> int:
        """Microjoules since the beginning. Raises OSError or ValueError when it cannot be read any more."""
        now = int(self._energy.read_text())
        step = now - self._last
        if step < 0:
            step += self._range
        self._last = now
        self._counted += max(0, step)
        return self._counted


class EnergySensor:
    """The sum of all packages and their memory. `root`: where /sys lies."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._zones: list[_Zone] = []
        for folder in sorted((root / "sys/class/powercap").glob("*-rapl:*")):
            try:
                name = (folder / "name").read_text().strip()
                if name.startswith(COUNTED):
                    self._zones.append(_Zone(folder))
            except (OSError, ValueError):
                continue

    def read(self) -> float | None:
        """Joules since this was made; None where nothing can be read, and from the first failure on."""
        if not self._zones:
            return None
        try:
            return sum(zone.read() for zone in self._zones) / 1e6
        except (OSError, ValueError):
            self._zones.clear()
            return None
