"""Sensors of NVIDIA devices, through NVML (the package nvidia-ml-py). Absent without it, or without a driver.

Each quantity is asked for by itself: an older driver does not know all of them, and one that it does not know is
absent for good. A device that is lost takes its sensors with it, and one sentence says so: it is lost when its driver
says so, or when nothing that it is asked for is answered.
"""

import contextlib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from engine.protocol import DeviceSample

#: Why a clock is held down: the ending of NVML's constant, in words. Others (idle, a clock that was set) are meant.
REASONS = (
    ("SwPowerCap", "power limit"),
    ("HwSlowdown", "hardware slowdown"),
    ("SwThermalSlowdown", "heat"),
    ("HwThermalSlowdown", "heat (hardware)"),
    ("HwPowerBrakeSlowdown", "power brake"),
)
PREFIXES = ("nvmlClocksEventReason", "nvmlClocksThrottleReason")  # drivers before 535 say throttle
#: Errors after which a device says nothing any more.
GONE = ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_UNINITIALIZED")
#: Errors after which a quantity need not be asked for again. With any other one it is absent this time.
FOR_GOOD = (
    "NVML_ERROR_INVALID_ARGUMENT",
    "NVML_ERROR_NOT_SUPPORTED",
    "NVML_ERROR_NO_PERMISSION",
    "NVML_ERROR_FUNCTION_NOT_FOUND",
    "NVML_ERROR_ARGUMENT_VERSION_MISMATCH",
    "NVML_ERROR_DEPRECATED",
)


class NvidiaSensors:
    """The devices that an engine uses. `devices`: the driver's identity of each by the engine's name for it."""

    def __init__(self, devices: Mapping[str, str]) -> None:
        self.notes: list[str] = []  # what is to be told; whoever tells it empties the list
        self._nvml: ModuleType | None = None
        self._devices: list[_Device] = []
        wanted = {name: identity for name, identity in devices.items() if name.startswith("cuda")}
        if wanted and self._open():
            for name, identity in wanted.items():
                self._find(name, identity)

    def _open(self) -> bool:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            self.notes.append(
                "Power, temperature and clocks of the device are not shown: install nvidia-ml-py to read them."
            )
            return False
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            self.notes.append(
                f"Power, temperature and clocks of the device are not shown, since its driver does not answer"
                f" ({_said(error)}): install or update the NVIDIA driver."
            )
            return False
        self._nvml = nvml
        return True

    def _find(self, name: str, identity: str) -> None:
        assert self._nvml is not None
        try:
            self._devices.append(_Device(self._nvml, name, _handle(self._nvml, name, identity)))
        except self._nvml.NVMLError as error:
            self.notes.append(
                f"The sensors of {name} are not shown: its driver does not know it ({_said(error)})."
            )

    def read(self, engine: int | None) -> tuple[DeviceSample, ...]:
        """A sample of each device. `engine`: process id, to tell others from it."""
        samples = []
        for device in tuple(self._devices):
            try:
                samples.append(device.read(engine))
            except DeviceGone as gone:
                self._devices.remove(device)
                self.notes.append(
                    f"The sensors of {device.name} are gone ({gone}); what they said is kept. Restart the engine, or"
                    " the machine if the device does not come back."
                )
        return tuple(samples)

    def close(self) -> None:
        """Let go of the driver."""
        nvml, self._nvml = self._nvml, None
        self._devices.clear()
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):  # it may be gone by itself
                nvml.nvmlShutdown()


class DeviceGone(Exception):
    """A device does not answer any more; the message says what its driver said."""


class _Device:
    """One device, with what its driver knows to tell of it."""

    def __init__(self, nvml: ModuleType, name: str, handle: Any) -> None:
        self.name = name
        self._nvml = nvml
        self._handle = handle
        self._absent: set[str] = set()
        self._answers = 0  # in the reading under way
        self._refusal = ""

    def read(self, engine: int | None) -> DeviceSample:
        """Everything that can be read now. Raises DeviceGone."""
        self._answers, self._refusal = 0, ""
        sample = self._read(engine)
        if self._refusal and not self._answers:
            raise DeviceGone(self._refusal)
        return sample

    def _read(self, engine: int | None) -> DeviceSample:
        nvml = self._nvml
        energy_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")  # first: a counter belongs to a time
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        busy = self._ask("nvmlDeviceGetUtilizationRates")
        power_mw = self._ask("nvmlDeviceGetPowerUsage")
        clock_mhz = self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
        memory_mhz = self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)
        return DeviceSample(
            device=self.name,
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            utilization=None if busy is None else busy.gpu / 100,
            power_w=_scaled(power_mw, 1e-3),
            energy_j=_scaled(energy_mj, 1e-3),
            temperature_c=_scaled(self._temperature(), 1.0),
            clock_hz=_scaled(clock_mhz, 1e6),
            memory_clock_hz=_scaled(memory_mhz, 1e6),
            throttled=self._throttled(),
            others=self._others(engine),
        )

    def _temperature(self) -> Any:
        """Newer drivers will drop the older of the two functions."""
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        found = self._ask("nvmlDeviceGetTemperatureV", sensor)
        return found if found is not None else self._ask("nvmlDeviceGetTemperature", sensor)

    def _throttled(self) -> tuple[str, ...] | None:
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return None
        known = ((self._reason(ending), words) for ending, words in REASONS)
        return tuple(words for bit, words in known if bits & bit)

    def _reason(self, ending: str) -> int:
        return next(
            (int(getattr(self._nvml, p + ending)) for p in PREFIXES if hasattr(self._nvml, p + ending)), 0
        )

    def _others(self, engine: int | None) -> tuple[tuple[int, int | None], ...] | None:
        """Programs beside the engine. Unknown where the driver does not list the engine itself: in a container its
        process ids are those of the host.
        """
        running = self._ask("nvmlDeviceGetComputeRunningProcesses")
        if running is None:  # drivers before 510
            running = self._ask("nvmlDeviceGetComputeRunningProcesses_v2")
        if running is None or engine is None:
            return None
        if running and engine not in {process.pid for process in running}:
            return None
        return tuple((process.pid, process.usedGpuMemory) for process in running if process.pid != engine)

    def _ask(self, function: str, *arguments: Any) -> Any:
        """What a function of NVML says; None where the driver, or the package, does not know it. Raises DeviceGone."""
        name = f"{function}{arguments}"
        ask: Callable[..., Any] | None = getattr(self._nvml, function, None)
        if ask is None or name in self._absent:
            return None
        try:
            answer = ask(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            if error.value in self._numbers(GONE):
                raise DeviceGone(_said(error)) from error
            if error.value in self._numbers(FOR_GOOD):
                self._absent.add(name)
            else:
                self._refusal = _said(error)
            return None
        except self._nvml.NVMLLibraryMismatchError:  # no NVMLError: the driver is too old for this function
            self._absent.add(name)
            return None
        self._answers += 1
        return answer

    def _numbers(self, names: Sequence[str]) -> set[int]:
        """The numbers of errors, as far as the package knows them."""
        return {getattr(self._nvml, name) for name in names if hasattr(self._nvml, name)}


def _handle(nvml: ModuleType, name: str, identity: str) -> Any:
    """The driver's handle of the device that the engine calls `name`. Raises NVMLError where there is none.

    By its identity, which is certain; else by its place among those that CUDA shows to this environment.
    """
    for prefix in ("GPU-", "MIG-") if identity else ():
        try:
            return nvml.nvmlDeviceGetHandleByUUID(prefix + identity)
        except nvml.NVMLError:
            continue
    place = int(name.partition(":")[2] or 0)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    chosen = shown[place].strip() if place < len(shown) else ""
    if chosen and not chosen.isdecimal():
        return nvml.nvmlDeviceGetHandleByUUID(chosen)
    return nvml.nvmlDeviceGetHandleByIndex(int(chosen) if chosen else place)


def _scaled(value: Any, unit: float) -> float | None:
    return None if value is None else float(value) * unit


def _said(error: Exception) -> str:
    return str(error).rstrip(".")
