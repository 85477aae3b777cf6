"""A driver that is not there: a module with the names of pynvml, whose devices do what a test says."""

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

#: Of nvidia-ml-py 13: the names and numbers that are asked for.
CONSTANTS = {
    "NVML_TEMPERATURE_GPU": 0,
    "NVML_CLOCK_SM": 1,
    "NVML_CLOCK_MEM": 2,
    "NVML_ERROR_UNINITIALIZED": 1,
    "NVML_ERROR_INVALID_ARGUMENT": 2,
    "NVML_ERROR_NOT_SUPPORTED": 3,
    "NVML_ERROR_NO_PERMISSION": 4,
    "NVML_ERROR_NOT_FOUND": 6,
    "NVML_ERROR_INSUFFICIENT_SIZE": 7,
    "NVML_ERROR_DRIVER_NOT_LOADED": 9,
    "NVML_ERROR_TIMEOUT": 10,
    "NVML_ERROR_LIBRARY_NOT_FOUND": 12,
    "NVML_ERROR_FUNCTION_NOT_FOUND": 13,
    "NVML_ERROR_GPU_IS_LOST": 15,
    "NVML_ERROR_RESET_REQUIRED": 16,
    "NVML_ERROR_ARGUMENT_VERSION_MISMATCH": 25,
    "NVML_ERROR_DEPRECATED": 26,
    "NVML_ERROR_UNKNOWN": 999,
    "nvmlClocksEventReasonGpuIdle": 0x1,
    "nvmlClocksEventReasonSwPowerCap": 0x4,
    "nvmlClocksEventReasonHwSlowdown": 0x8,
    "nvmlClocksEventReasonSwThermalSlowdown": 0x20,
    "nvmlClocksEventReasonHwThermalSlowdown": 0x40,
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": 0x80,
}


class NVMLError(Exception):
    """As the real one: its number is `value`."""

    def __init__(self, value: int, words: str = "") -> None:
        super().__init__(value)
        self.value = value
        self._words = words

    def __str__(self) -> str:
        return self._words or f"NVML error {self.value}"


class NVMLLibraryMismatchError(Exception):
    """As the real one: a function whose newest version the driver does not have, and no NVMLError."""


#: Functions of the package that raise it.
VERSIONED = ("nvmlDeviceGetComputeRunningProcesses",)


@dataclass
class FakeDevice:
    """A board and what its driver says. A function in `unknown` does not exist for its driver; `error` beats all.

    `errors`: by function, the number of the error that it raises.
    """

    uuid: str = "aaaa-bbbb"
    used: int = 3 * 2**30
    total: int = 80 * 2**30
    gpu: int = 97
    power_mw: int = 312_500
    energy_mj: int = 1_000_000
    temperature: int = 61
    clocks: dict[int, int] = field(default_factory=lambda: {1: 1_755, 2: 2_619})
    reasons: int = 0
    processes: dict[int, int | None] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    errors: dict[str, int] = field(default_factory=dict)
    error: NVMLError | None = None


def fake_nvml(*devices: FakeDevice, init_error: NVMLError | None = None) -> ModuleType:
    """A module to put into sys.modules as "pynvml"."""
    made = ModuleType("pynvml")
    for name, value in CONSTANTS.items():
        setattr(made, name, value)
    made.NVMLError = NVMLError  # type: ignore[attr-defined]
    made.NVMLLibraryMismatchError = NVMLLibraryMismatchError  # type: ignore[attr-defined]
    made.opened = 0  # type: ignore[attr-defined]

    def init() -> None:
        if init_error is not None:
            raise init_error
        made.opened += 1  # type: ignore[attr-defined]

    def shutdown() -> None:
        made.opened -= 1  # type: ignore[attr-defined]

    def by_uuid(uuid: str) -> FakeDevice:
        for device in devices:
            if uuid == f"GPU-{device.uuid}":
                return device
        raise NVMLError(6, "Not Found")

    def by_index(index: int) -> FakeDevice:
        if index >= len(devices):
            raise NVMLError(6, "Not Found")
        return devices[index]

    answers = {
        "nvmlDeviceGetMemoryInfo": lambda d: SimpleNamespace(
            used=d.used, total=d.total, free=d.total - d.used
        ),
        "nvmlDeviceGetUtilizationRates": lambda d: SimpleNamespace(gpu=d.gpu, memory=d.gpu // 2),
        "nvmlDeviceGetPowerUsage": lambda d: d.power_mw,
        "nvmlDeviceGetTotalEnergyConsumption": lambda d: d.energy_mj,
        "nvmlDeviceGetTemperatureV": lambda d, sensor: d.temperature,
        "nvmlDeviceGetTemperature": lambda d, sensor: d.temperature,
        "nvmlDeviceGetClockInfo": lambda d, clock: d.clocks[clock],
        "nvmlDeviceGetCurrentClocksEventReasons": lambda d: d.reasons,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda d: d.reasons,
        "nvmlDeviceGetComputeRunningProcesses": _running,
        "nvmlDeviceGetComputeRunningProcesses_v2": _running,
    }

    def answering(name: str) -> object:
        def ask(device: FakeDevice, *arguments: int) -> object:
            if device.error is not None:
                raise device.error
            if name in device.unknown:
                if name in VERSIONED:
                    raise NVMLLibraryMismatchError("use a versioned function")
                raise NVMLError(13, "Function Not Found")
            if name in device.errors:
                raise NVMLError(device.errors[name])
            return answers[name](device, *arguments)  # type: ignore[no-untyped-call]

        return ask

    for name in answers:
        setattr(made, name, answering(name))
    made.nvmlInit, made.nvmlShutdown = init, shutdown  # type: ignore[attr-defined]
    made.nvmlDeviceGetHandleByUUID, made.nvmlDeviceGetHandleByIndex = by_uuid, by_index  # type: ignore[attr-defined]
    return made


def _running(device: FakeDevice) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in device.processes.items()]
