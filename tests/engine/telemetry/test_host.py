"""Sensors of the machine: read for real where this system has them, from made-up files where it has not."""

import itertools
import os
from pathlib import Path
from time import perf_counter_ns
from types import SimpleNamespace

import psutil
import pytest

from engine.telemetry.host import HostSensors, _on_battery, _temperature_c
from engine.telemetry.rapl import EnergySensor


def test_what_this_machine_says() -> None:
    sensors, me = HostSensors(), os.getpid()
    first = sensors.read(perf_counter_ns(), me, me)
    assert "cpu" not in first  # a share needs two readings
    begin_ns = perf_counter_ns()
    while perf_counter_ns() - begin_ns < 80_000_000:
        pass
    second = sensors.read(perf_counter_ns(), me, me)
    assert 0 < second["cpu"] <= 1
    assert 0.2 < second["engine_cpu"] < 1.6  # this loop, on one processor, counted in ticks of 10 ms
    assert second["others_cpu"] >= 0
    assert 0 < second["engine_bytes"] < second["memory_total_bytes"]
    assert second["processors"] == psutil.cpu_count()


def test_an_engine_that_is_gone_is_absent_not_zero() -> None:
    sensors, gone = HostSensors(), 2**22 + 1  # above the largest process id of Linux
    sensors.read(perf_counter_ns(), gone, os.getpid())
    fields = sensors.read(perf_counter_ns() + 10**9, gone, os.getpid())
    assert "engine_cpu" not in fields
    assert "others_cpu" not in fields
    assert "engine_bytes" not in fields
    assert fields["debugger"] is None


def test_processor_time_is_divided_among_the_engine_the_others_and_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    totals = iter([(100.0, 50.0, 10.0), (102.0, 50.6, 10.2)])  # user, idle, steal of two processors
    spent = {10: iter([5.0, 5.5]), 20: iter([1.0, 1.1]), os.getpid(): iter([0.0, 0.0])}

    class Times(tuple[float, float, float]):
        def _asdict(self) -> dict[str, float]:
            return dict(zip(("user", "idle", "steal"), self, strict=True))

    monkeypatch.setattr("psutil.cpu_times", lambda: Times(next(totals)))
    monkeypatch.setattr("psutil.cpu_count", lambda: 2)
    sensors = HostSensors()
    monkeypatch.setattr(sensors, "_spent_s", lambda pid: next(spent[pid]))
    sensors.read(0, 10, 20)
    fields = sensors.read(1_400_000_000, 10, 20)  # 2.8 s of processor time have passed
    assert fields["cpu"] == pytest.approx(2.0 / 2.8)
    assert fields["steal"] == pytest.approx(0.2 / 2.8)
    assert fields["engine_cpu"] == pytest.approx(0.5 / 1.4)
    assert fields["others_cpu"] == pytest.approx(2 * 2.0 / 2.8 - 0.6 / 1.4)


def test_what_is_slow_is_read_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("engine.telemetry.host._clock_hz", lambda: asked.append(1) or 2e9)
    sensors = HostSensors()
    for now_ns in range(10**9, 3 * 10**9, 250_000_000):
        assert sensors.read(now_ns, None, os.getpid())["clock_hz"] == 2e9
    assert len(asked) == 2


def test_a_debugger_is_named(tmp_path: Path) -> None:
    for process, name, text in (
        (7, "status", "Name:\tpython\nTracerPid:\t0\n"),
        (8, "status", "Name:\tpython\nTracerPid:\t9\n"),
        (9, "comm", "gdb\n"),
    ):
        (tmp_path / f"proc/{process}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"proc/{process}" / name).write_text(text)
    sensors = HostSensors(tmp_path)
    assert sensors._debugger(7) == ""
    assert sensors._debugger(8) == "gdb, process 9"
    assert sensors._debugger(10) is None


def test_heat_that_slows_a_processor_down_is_counted_by_the_kernel(tmp_path: Path) -> None:
    assert HostSensors(tmp_path)._throttled() is None  # this kernel does not count it
    counter = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    counter.parent.mkdir(parents=True)
    counter.write_text("3")
    sensors = HostSensors(tmp_path)
    said = []
    for count in ("3", "3", "5", "5"):
        counter.write_text(count)
        said.append(sensors._throttled())
    assert said == [False, False, True, False]


def test_temperature_and_battery_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace
    found = {
        "nvme": [entry(label="Composite", current=30.0)],
        "coretemp": [entry(label="Core 0", current=70.0), entry(label="Package id 0", current=72.0)],
    }
    monkeypatch.setattr("psutil.sensors_temperatures", lambda: found, raising=False)
    assert _temperature_c() == 72
    monkeypatch.setattr("psutil.sensors_temperatures", lambda: {"nvme": found["nvme"]}, raising=False)
    assert _temperature_c() is None
    for battery, expected in (
        (None, None),
        (entry(power_plugged=False), True),
        (entry(power_plugged=True), False),
        (entry(power_plugged=None), None),
    ):
        monkeypatch.setattr("psutil.sensors_battery", lambda said=battery: said, raising=False)
        assert _on_battery() is expected


SLOW = {"cpu_freq": "clock_hz", "sensors_temperatures": "temperature_c", "sensors_battery": "on_battery"}


@pytest.mark.parametrize("function", [*SLOW, "getloadavg"])
@pytest.mark.parametrize(
    "error",
    [None, FileNotFoundError("gone"), NotImplementedError(), RuntimeError("no"), psutil.AccessDenied()],
)
def test_what_psutil_does_not_have_or_fails_to_read_is_absent_alone(
    monkeypatch: pytest.MonkeyPatch, function: str, error: Exception | None
) -> None:
    entry = SimpleNamespace
    monkeypatch.setattr("psutil.cpu_freq", lambda: entry(current=2_400.0), raising=False)
    heat = {"k10temp": [entry(label="Tctl", current=60.0)]}
    monkeypatch.setattr("psutil.sensors_temperatures", lambda: heat, raising=False)
    monkeypatch.setattr("psutil.sensors_battery", lambda: entry(power_plugged=True), raising=False)
    monkeypatch.setattr("psutil.getloadavg", lambda: (1.5, 1.0, 1.0), raising=False)
    whole = {"clock_hz": 2.4e9, "temperature_c": 60.0, "on_battery": False, "load": 1.5}

    def fail() -> None:
        assert error is not None
        raise error

    if error is None:
        monkeypatch.delattr(f"psutil.{function}")
    else:
        monkeypatch.setattr(f"psutil.{function}", fail)
    fields = HostSensors().read(perf_counter_ns(), None, os.getpid())
    told = {name: fields[name] for name in whole}
    assert told == {**whole, SLOW.get(function, "load"): None}


def test_a_processor_whose_clock_nobody_knows_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for said in (None, SimpleNamespace(current=0.0)):
        monkeypatch.setattr("psutil.cpu_freq", lambda said=said: said, raising=False)
        assert HostSensors().read(perf_counter_ns(), None, os.getpid())["clock_hz"] is None


def zone(root: Path, name: str, counter: str, energy_uj: int) -> Path:
    folder = root / "sys/class/powercap" / counter
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(name + "\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")
    return folder / "energy_uj"


def test_energy_is_the_sum_of_packages_and_memory_and_wraps_are_undone(tmp_path: Path) -> None:
    package = zone(tmp_path, "package-0", "intel-rapl:0", 9_000_000)
    memory = zone(tmp_path, "dram", "intel-rapl:0:1", 1_000_000)
    zone(tmp_path, "core", "intel-rapl:0:0", 5)  # a part of the package
    zone(tmp_path, "psys", "intel-rapl:1", 5)
    sensor = EnergySensor(tmp_path, itertools.count(10**9, 250_000_000).__next__)
    assert sensor.read() == 0
    package.write_text("2000000")  # over the end, at 10 J
    memory.write_text("1500000")
    assert sensor.read() == pytest.approx(3.5)
    package.unlink()
    assert sensor.read() is None
    assert sensor.read() is None


def test_a_counter_that_begins_anew_after_a_sleep_goes_down_and_invents_no_energy(tmp_path: Path) -> None:
    package = zone(tmp_path, "package-0", "intel-rapl:0", 9_000_000)
    (package.parent / "max_energy_range_uj").write_text("262143328850")
    sensor = EnergySensor(tmp_path, itertools.count(10**9, 250_000_000).__next__)
    told = []
    for energy_uj in (9_000_000, 14_000_000, 1_000, 8_000_000):  # 20 W, then 0 again, then 32 W
        package.write_text(str(energy_uj))
        told.append(sensor.read())
    assert told == pytest.approx([0.0, 5.0, 0.0, 7.999])


def test_energy_that_nobody_may_read_is_absent(tmp_path: Path) -> None:
    zone(tmp_path, "package-0", "intel-rapl:0", 1).unlink()
    assert EnergySensor(tmp_path).read() is None
    assert EnergySensor(tmp_path / "nowhere").read() is None
