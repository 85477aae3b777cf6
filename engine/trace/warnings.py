"""What about the machine makes numbers doubtful, with what to do about it: decided from samples alone.

A warning begins once its sign has been there for a while and ends once it has been gone for a while, so that it is
neither missed nor flickers.
"""

from dataclasses import dataclass
from enum import StrEnum

from engine.protocol import TelemetrySampled

STEAL = 0.05  # of the processors' time
OTHERS_LEAST = 0.5  # processors
OTHERS_MANY = 0.25  # of all processors: memory bandwidth is shared even where there is one left for everybody
CROWDED = 0.85  # of all processors in use: then others are in the way


class Trouble(StrEnum):
    """What is wrong."""

    THROTTLED = "throttled"
    SHARED = "shared device"
    BUSY = "busy machine"
    STOLEN = "stolen time"
    BATTERY = "on battery"
    DEBUGGER = "debugger attached"


#: For how long a sign must be there before a warning begins, and gone before it ends, ns.
BEGINS_AFTER_NS = {
    Trouble.THROTTLED: 400_000_000,
    Trouble.SHARED: 400_000_000,
    Trouble.BUSY: 2_000_000_000,
    Trouble.STOLEN: 2_000_000_000,
    Trouble.BATTERY: 0,
    Trouble.DEBUGGER: 0,
}
ENDS_AFTER_NS = 3_000_000_000


@dataclass(frozen=True, slots=True)
class MachineWarning:
    """One thing that is wrong: a sentence that says what, and one that says what to do. `about`: which device, say."""

    trouble: Trouble
    sentence: str
    remedy: str
    about: str = ""

    @property
    def name(self) -> tuple[Trouble, str]:
        """What makes it the same warning while its numbers change."""
        return self.trouble, self.about


def signs(sample: TelemetrySampled, stepping: bool, tracer: str = "") -> tuple[MachineWarning, ...]:
    """What one sample says is wrong. `stepping`: steps were made meanwhile: while none is, nothing is slowed down.

    `tracer`: what looks into the engine's calls from inside of it (see ObserverReport).
    """
    found = []
    if stepping:
        found += [*_throttled(sample), *_busy(sample)]
    found += _shared(sample)
    if sample.on_battery:
        found.append(
            MachineWarning(
                Trouble.BATTERY,
                "The machine runs on its battery, and clocks its processors down to spare it.",
                "Plug it in before comparing.",
            )
        )
    attached = sample.debugger or tracer
    if attached:
        found.append(
            MachineWarning(
                Trouble.DEBUGGER,
                f"A debugger is attached to the engine ({attached}), which slows every call down.",
                "Detach it before measuring.",
            )
        )
    return tuple(found)


def _throttled(sample: TelemetrySampled) -> list[MachineWarning]:
    remedy = "Let it cool or raise its limit, and compare only what lies outside of this stretch."
    found = [
        MachineWarning(
            Trouble.THROTTLED,
            f"The clock of {device.device} is held down: {', '.join(device.throttled)}.",
            remedy,
            device.device,
        )
        for device in sample.devices
        if device.throttled
    ]
    if sample.throttled:
        found.append(MachineWarning(Trouble.THROTTLED, "The processor is slowed down for its heat.", remedy))
    return found


def _shared(sample: TelemetrySampled) -> list[MachineWarning]:
    found = []
    for device in sample.devices:
        if device.others:
            pids = ", ".join(str(pid) for pid, _ in device.others)
            several = "s" if len(device.others) > 1 else ""
            found.append(
                MachineWarning(
                    Trouble.SHARED,
                    f"Another program uses {device.device} (process{'es' if several else ''} {pids}).",
                    "End it, or take times here for what two programs get together.",
                    device.device,
                )
            )
    return found


def _busy(sample: TelemetrySampled) -> list[MachineWarning]:
    found = []
    others, cpu = sample.others_cpu, sample.cpu
    if others is not None and cpu is not None and others >= OTHERS_LEAST:
        many = others >= max(1.0, OTHERS_MANY * sample.processors)
        if many or cpu >= CROWDED:
            found.append(
                MachineWarning(
                    Trouble.BUSY,
                    f"Other programs keep {others:.1f} of {sample.processors} processors busy.",
                    "End them, or trust only values that take turns (A/B).",
                )
            )
    if sample.steal is not None and sample.steal >= STEAL:
        found.append(
            MachineWarning(
                Trouble.STOLEN,
                f"The host of this virtual machine takes {sample.steal:.0%} of its processor time away.",
                "Measure when the host is quiet, or on a machine of your own.",
            )
        )
    return found


@dataclass(slots=True)
class _Seen:
    warning: MachineWarning
    since_ns: int
    last_ns: int
    in_force: bool = False


class Watchman:
    """Follows samples, and says which warnings begin and end with each."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Trouble, str], _Seen] = {}

    @property
    def in_force(self) -> tuple[MachineWarning, ...]:
        """The warnings that hold now, in their latest words."""
        return tuple(seen.warning for seen in self._seen.values() if seen.in_force)

    def take(self, at_ns: int, found: tuple[MachineWarning, ...]) -> tuple[MachineWarning, ...]:
        """Take the signs of a sample; the warnings that begin with it."""
        names = {warning.name for warning in found}
        for name, seen in list(self._seen.items()):
            if name not in names and (not seen.in_force or at_ns - seen.last_ns >= ENDS_AFTER_NS):
                del self._seen[name]
        began = []
        for warning in found:
            seen = self._seen.setdefault(warning.name, _Seen(warning, at_ns, at_ns))
            seen.warning, seen.last_ns = warning, at_ns
            if not seen.in_force and at_ns - seen.since_ns >= BEGINS_AFTER_NS[warning.trouble]:
                seen.in_force = True
                began.append(warning)
        return tuple(began)
