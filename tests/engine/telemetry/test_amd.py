"""Sensors of AMD devices, from made-up files of their driver."""

import os
import sys
from pathlib import Path

import pytest

from engine.telemetry.amd import AmdSensors, amd_cards
from engine.telemetry.sensors import Sensors, Watch
from tests.engine.telemetry.fake_nvml import FakeDevice, fake_nvml

UNIQUE = "8b0d1e2f3a4c5d6e"
#: As HIP names the board, and torch writes it.
UUID = "38623064-3165-3266-3361-346335643665"
FILES = {
    "vendor": "0x1002",
    "unique_id": UNIQUE,
    "gpu_busy_percent": "97",
    "mem_info_vram_used": str(3 << 30),
    "mem_info_vram_total": str(16 << 30),
    "hwmon/hwmon4/power1_average": "212000000",
    "hwmon/hwmon4/temp1_input": "61000",
    "hwmon/hwmon4/freq1_input": "2105000000",
    "hwmon/hwmon4/freq2_input": "1000000000",
}


def card(root: Path, number: int, **other: str) -> Path:
    """A device on the bus, and what leads to it."""
    folder = root / f"sys/devices/pci0000:00/0000:0{number}:00.0"
    for name, text in {**FILES, **other}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    (root / f"sys/class/drm/card{number}").mkdir(parents=True)
    (root / f"sys/class/drm/card{number}/device").symlink_to(folder)
    return folder


def test_all_that_the_driver_shows(tmp_path: Path) -> None:
    card(tmp_path, 0)
    (sample,) = AmdSensors({"cuda:0": ""}, amd_cards(tmp_path)).read()
    assert (sample.device, sample.utilization, sample.power_w) == ("cuda:0", 0.97, pytest.approx(212.0))
    assert (sample.memory_used_bytes, sample.memory_total_bytes) == (3 << 30, 16 << 30)
    assert (sample.temperature_c, sample.clock_hz, sample.memory_clock_hz) == (61.0, 2.105e9, 1e9)
    assert (sample.energy_j, sample.throttled, sample.others) == (None, None, None)


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("vendor", "unique_id")])
def test_what_it_does_not_show_is_absent_alone(tmp_path: Path, name: str) -> None:
    folder = card(tmp_path, 0)
    sensors = AmdSensors({"cuda:0": ""}, amd_cards(tmp_path))
    (whole,) = sensors.read()
    (folder / name).unlink()
    (sample,) = sensors.read()
    lost = [field for field in type(whole).__slots__ if getattr(sample, field) != getattr(whole, field)]
    assert len(lost) == 1
    assert getattr(sample, lost[0]) is None


def test_of_several_devices_only_an_identity_tells_which(tmp_path: Path) -> None:
    card(tmp_path, 0, unique_id="0000000000000001", gpu_busy_percent="1")
    card(tmp_path, 1, gpu_busy_percent="50")
    card(tmp_path, 2, vendor="0x8086")
    cards = amd_cards(tmp_path)
    assert len(cards) == 2
    (sample,) = AmdSensors({"cuda:0": UUID}, cards).read()
    assert sample.utilization == 0.5
    unknown = AmdSensors({"cuda:0": "aaaa-bbbb", "mps:0": ""}, cards)
    assert unknown.read() == ()
    (note,) = unknown.notes
    assert "nothing tells which" in note


def test_a_device_that_is_gone_is_told_once(tmp_path: Path) -> None:
    folder = card(tmp_path, 0)
    sensors = AmdSensors({"cuda:0": UUID}, amd_cards(tmp_path))
    folder.rename(tmp_path / "elsewhere")
    assert [sensors.read() for _ in range(2)] == [(), ()]
    (note,) = sensors.notes
    assert "cuda:0 are gone" in note


def test_torch_calls_both_kinds_alike_and_the_driver_tells_them_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(FakeDevice(UUID)))
    watch = Watch(os.getpid(), None, (("cuda:0", UUID),))
    card(tmp_path, 0)
    (amd,) = Sensors(tmp_path).sample(watch).devices
    assert amd.power_w == pytest.approx(212.0)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)  # then the other device only shows the picture
    (nvidia,) = Sensors(tmp_path).sample(watch).devices
    assert nvidia.power_w == 312.5
    monkeypatch.setitem(sys.modules, "pynvml", None)
    bare = Sensors(tmp_path / "nowhere").sample(watch)
    assert bare.devices == ()
    assert "install nvidia-ml-py" in bare.notes[0]
