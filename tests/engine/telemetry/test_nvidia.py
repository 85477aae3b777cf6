"""Sensors of a device: what its driver says, what it does not know, and what happens when it goes."""

import sys
from types import ModuleType

import pytest

from engine.telemetry.nvidia import NvidiaSensors
from tests.engine.telemetry.fake_nvml import CONSTANTS, FakeDevice, NVMLError, fake_nvml

ENGINE = 4_711


def sensors(monkeypatch: pytest.MonkeyPatch, nvml: ModuleType | None, **devices: str) -> NvidiaSensors:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return NvidiaSensors({name.replace("_", ":"): identity for name, identity in devices.items()})


def test_all_that_a_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    board = FakeDevice(processes={ENGINE: 10, 77: 20}, reasons=0x1 | 0x4)
    made = sensors(monkeypatch, fake_nvml(board), cuda_0="aaaa-bbbb")
    (sample,) = made.read(ENGINE)
    assert (sample.device, sample.memory_used_bytes, sample.memory_total_bytes) == (
        "cuda:0",
        3 * 2**30,
        80 * 2**30,
    )
    assert sample.utilization == 0.97
    assert (sample.power_w, sample.energy_j, sample.temperature_c) == (312.5, 1_000.0, 61.0)
    assert (sample.clock_hz, sample.memory_clock_hz) == (1.755e9, 2.619e9)
    assert sample.throttled == ("power limit",)  # idle is no reason to warn
    assert sample.others == ((77, 20),)
    assert not made.notes
    made.close()
    assert sys.modules["pynvml"].opened == 0


def test_a_device_is_found_by_its_identity_and_else_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    boards = FakeDevice("first", temperature=40), FakeDevice("second", temperature=50)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    by_identity = sensors(monkeypatch, fake_nvml(*boards), cuda_0="second")
    assert by_identity.read(None)[0].temperature_c == 50
    by_place = sensors(monkeypatch, fake_nvml(*boards), cuda_1="")
    assert by_place.read(None)[0].temperature_c == 50
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    shown = sensors(monkeypatch, fake_nvml(*boards), cuda_0="")
    assert shown.read(None)[0].temperature_c == 50
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-second,GPU-first")
    named = sensors(monkeypatch, fake_nvml(*boards), cuda_0="")
    assert named.read(None)[0].temperature_c == 50


def test_what_an_old_driver_does_not_know_is_absent_and_the_rest_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = frozenset(
        {
            "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetTemperatureV",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetComputeRunningProcesses",
            "nvmlDeviceGetComputeRunningProcesses_v2",
        }
    )
    made = sensors(monkeypatch, fake_nvml(FakeDevice(unknown=unknown, reasons=0x20)), cuda_0="aaaa-bbbb")
    (sample,) = made.read(ENGINE)
    assert sample.energy_j is None
    assert sample.others is None
    assert (sample.temperature_c, sample.power_w) == (61.0, 312.5)  # by the older function
    assert sample.throttled == ("heat",)
    assert not made.notes


def test_an_older_driver_lists_programs_by_an_older_function(monkeypatch: pytest.MonkeyPatch) -> None:
    board = FakeDevice(
        processes={ENGINE: 10, 77: None}, unknown=frozenset({"nvmlDeviceGetComputeRunningProcesses"})
    )
    made = sensors(monkeypatch, fake_nvml(board), cuda_0="aaaa-bbbb")
    assert [sample.others for _ in range(2) for sample in made.read(ENGINE)] == [((77, None),)] * 2


ASKED = {
    "nvmlDeviceGetMemoryInfo": "memory_used_bytes",
    "nvmlDeviceGetUtilizationRates": "utilization",
    "nvmlDeviceGetPowerUsage": "power_w",
    "nvmlDeviceGetTotalEnergyConsumption": "energy_j",
    "nvmlDeviceGetClockInfo": "clock_hz",
    "nvmlDeviceGetComputeRunningProcesses": "others",
}


@pytest.mark.parametrize("function", ASKED)
@pytest.mark.parametrize(("error", "comes_back"), [
    ("NVML_ERROR_NOT_SUPPORTED", False),
    ("NVML_ERROR_NO_PERMISSION", False),
    ("NVML_ERROR_TIMEOUT", True),
    ("NVML_ERROR_INSUFFICIENT_SIZE", True),
    ("NVML_ERROR_UNKNOWN", True),
])  # fmt: skip
def test_one_quantity_that_cannot_be_read_is_absent_alone_and_only_some_errors_stay(
    monkeypatch: pytest.MonkeyPatch, function: str, error: str, comes_back: bool
) -> None:
    older = frozenset({f"{function}_v2"})
    board = FakeDevice(processes={ENGINE: 10}, unknown=older)
    made = sensors(monkeypatch, fake_nvml(board), cuda_0="aaaa-bbbb")
    board.errors[function] = CONSTANTS[error]
    (sample,) = made.read(ENGINE)
    absent = {name for name in ASKED.values() if getattr(sample, name) is None}
    assert absent == {ASKED[function]}
    assert sample.temperature_c == 61
    board.errors.clear()
    (sample,) = made.read(ENGINE)
    assert (getattr(sample, ASKED[function]) is not None) is comes_back
    assert not made.notes


def test_a_package_without_a_function_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml(FakeDevice())
    del nvml.nvmlDeviceGetTotalEnergyConsumption
    made = sensors(monkeypatch, nvml, cuda_0="aaaa-bbbb")
    assert made.read(ENGINE)[0].energy_j is None


def test_in_a_container_other_programs_are_unknown_and_not_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sensors(monkeypatch, fake_nvml(FakeDevice(processes={90_000: 20})), cuda_0="aaaa-bbbb")
    assert made.read(ENGINE)[0].others is None


@pytest.mark.parametrize("error", ["NVML_ERROR_DRIVER_NOT_LOADED", "NVML_ERROR_LIBRARY_NOT_FOUND"])
def test_without_a_driver_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    nvml = fake_nvml(init_error=NVMLError(CONSTANTS[error], "Driver Not Loaded"))
    made = sensors(monkeypatch, nvml, cuda_0="aaaa-bbbb")
    assert made.read(ENGINE) == ()
    (note,) = made.notes
    assert "Driver Not Loaded" in note
    assert "install or update" in note


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sensors(monkeypatch, None, cuda_0="aaaa-bbbb")
    assert made.read(ENGINE) == ()
    assert "install nvidia-ml-py" in made.notes[0]


def test_nothing_is_said_where_the_engine_uses_no_such_device(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sensors(monkeypatch, None, mps_0="")
    assert made.read(ENGINE) == ()
    assert not made.notes


@pytest.mark.parametrize(
    "error", ["NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_UNKNOWN"]
)
def test_a_device_that_is_lost_goes_with_one_sentence_and_the_others_stay(
    monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    lost, stays = FakeDevice("lost"), FakeDevice("stays")
    made = sensors(monkeypatch, fake_nvml(lost, stays), cuda_0="lost", cuda_1="stays")
    assert len(made.read(ENGINE)) == 2
    lost.error = NVMLError(CONSTANTS[error], "GPU is lost")
    for _ in range(3):
        assert [sample.device for sample in made.read(ENGINE)] == ["cuda:1"]
    (note,) = made.notes
    assert "cuda:0 are gone (GPU is lost)" in note


def test_the_fake_has_the_names_of_the_real_package() -> None:
    real = pytest.importorskip("pynvml")
    fake = fake_nvml()
    for name in (name for name in vars(fake) if name.startswith(("nvml", "NVML"))):
        assert hasattr(real, name), name
        if name in CONSTANTS:
            assert getattr(real, name) == CONSTANTS[name], name
