"""What sensors said, and captures of a step, in a stranger's file: whether a machine can have said so."""

import numpy as np

from engine.protocol import DeviceSample, KernelsCaptured, MemorySampled, TelemetrySampled
from engine.trace.kernels import Capture
from engine.trace.ledger import Layout

MOST = 1e18  # of anything: bytes, hertz, joules, watts
MOST_LOAD = 1e6  # programs, processors
COLDEST_C, HOTTEST_C = -273.15, 10_000.0
MOST_DEVICES, MOST_PROGRAMS = 64, 4096
MOST_ENTRIES, MOST_LANES = 1_000_000, 4096  # of a capture
LONGEST_NS = 2**53  # of a captured step, 104 days

Sample = TelemetrySampled | MemorySampled | DeviceSample
#: Fields with a largest value of their own; shares a little above 1 come of two clocks.
_SHARES = ("cpu", "steal", "utilization")
_LOADS = ("engine_cpu", "others_cpu", "load")


class Samples:
    """Samples in the order in which they are read: the times of each kind do not run backwards."""

    def __init__(self) -> None:
        self._latest_ns: dict[type, int] = {}
        self._devices: set[str] = set()

    def problem(self, event: TelemetrySampled | MemorySampled) -> str:
        """What about a sample cannot be, "" for nothing."""
        if event.at_ns < self._latest_ns.get(type(event), 0):
            return "whose times run backwards"
        if not _sound(event):
            return "that no sensor says"
        if isinstance(event, TelemetrySampled) and not self._knows(event.devices):
            return "that no sensor says"
        self._latest_ns[type(event)] = event.at_ns
        return ""

    def _knows(self, devices: tuple[DeviceSample, ...]) -> bool:
        """Whether the devices can be: each once a sample, not too many over all."""
        names = {each.device for each in devices}
        if len(names) != len(devices) or len(self._devices | names) > MOST_DEVICES:
            return False
        if not all(_sound(each) and len(each.others or ()) <= MOST_PROGRAMS for each in devices):
            return False
        self._devices |= names
        return True


def _sound(sample: Sample) -> bool:
    """Whether every number of a sample lies where such numbers can lie."""
    for name in sample.__slots__:
        value = getattr(sample, name)
        if type(value) is float or type(value) is int:
            low, high = _range(name)
            if not low <= value <= high:
                return False
    return True


def _range(name: str) -> tuple[float, float]:
    if name in _SHARES:
        return 0.0, 2.0
    if name in _LOADS:
        return 0.0, MOST_LOAD
    if name == "processors":
        return 1.0, MOST_LOAD
    return (COLDEST_C, HOTTEST_C) if name == "temperature_c" else (0.0, MOST)


def capture_problem(event: KernelsCaptured, layout: Layout) -> str:
    """What about a capture cannot be, "" for nothing: its arrays fit together, and its times lie within its step."""
    if len(event.begin_ns) > 8 * MOST_ENTRIES or len(event.lanes) > MOST_LANES:
        return "that are too many, or too large"
    try:
        capture = Capture(event, layout)
    except ValueError:
        return "whose entries do not fit together"
    wall_ns = capture.stamps[-1].astype(np.float64) - capture.stamps[0]
    if not 0 <= event.host_lanes <= len(event.lanes) or (capture.stamps < 0).any():
        return "whose entries do not fit together"
    if (np.diff(capture.stamps) < 0).any() or wall_ns > LONGEST_NS:
        return "whose times run backwards"
    since_ns = np.frombuffer(event.begin_ns, np.int64).astype(np.float64) - float(capture.stamps[0])
    if (np.abs(since_ns) > LONGEST_NS).any() or (capture.duration_ns > LONGEST_NS).any():
        return "whose times or counts cannot be"
    return ""
