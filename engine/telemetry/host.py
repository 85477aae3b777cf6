"""Sensors of the machine itself: processors, memory, temperature, battery, and who else is at work.

Everything is read through psutil and /proc and /sys; what this system does not tell is None.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SLOW_EVERY_NS = 1_000_000_000  # what changes slowly, or costs much to read (the clock asks every processor)
#: Where the temperature of the processor is found, best first: (driver, label that it must begin with).
TEMPERATURES = (
    ("coretemp", "Package"),
    ("k10temp", "Tctl"),
    ("zenpower", "Tdie"),
    ("cpu_thermal", ""),
    ("coretemp", ""),
    ("k10temp", ""),
)


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds of processor time since some beginning, of all processors together."""

    total: float
    busy: float
    steal: float | None


class HostSensors:
    """Reads the machine. Shares need two readings: the first one has none. `root`: where /proc and /sys lie."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._times: _Times | None = None
        self._last_ns = 0
        self._spent: dict[int, float] = {}  # seconds of processor time of the processes that are ours
        self._slow: dict[str, Any] = {}
        self._slow_ns: int | None = None
        self._throttle_count: int | None = None
        self._throttle_paths = sorted(
            root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")
        )
        self._processes: dict[int, psutil.Process] = {}
        self._processors = psutil.cpu_count() or 1

    def read(self, now_ns: int, engine: int | None, front: int) -> dict[str, Any]:
        """Fields of a TelemetrySampled. `engine`, `front`: process ids; they may be the same."""
        fields = self._processor_time(now_ns, engine, front)
        fields |= self._memory(engine)
        if self._slow_ns is None or now_ns - self._slow_ns >= SLOW_EVERY_NS:
            self._slow, self._slow_ns = self._read_slow(), now_ns
        fields |= self._slow
        fields["throttled"] = self._throttled()
        fields["debugger"] = self._debugger(engine)
        return fields

    # ------------------------------------------------------------ processors

    def _processor_time(self, now_ns: int, engine: int | None, front: int) -> dict[str, Any]:
        times, before = _times(), self._times
        elapsed_s = (now_ns - self._last_ns) / 1e9
        spent = {pid: self._spent_s(pid) for pid in {engine, front, os.getpid()} if pid is not None}
        deltas = {
            pid: now - self._spent[pid]
            for pid, now in spent.items()
            if now is not None and pid in self._spent
        }
        known = len(deltas) == len(spent)
        self._times, self._last_ns = times, now_ns
        self._spent = {pid: now for pid, now in spent.items() if now is not None}
        fields: dict[str, Any] = {"processors": self._processors, "load": _load()}
        if before is None or times.total <= before.total or elapsed_s <= 0:
            return fields
        passed = times.total - before.total
        cpu = min(1.0, max(0.0, (times.busy - before.busy) / passed))
        fields["cpu"] = cpu
        if engine in deltas:
            fields["engine_cpu"] = max(0.0, deltas[engine] / elapsed_s)
        if known and engine is not None:
            fields["others_cpu"] = max(0.0, cpu * self._processors - sum(deltas.values()) / elapsed_s)
        if times.steal is not None and before.steal is not None:
            fields["steal"] = max(0.0, (times.steal - before.steal) / passed)
        return fields

    # ------------------------------------------------------------ memory

    def _memory(self, engine: int | None) -> dict[str, Any]:
        memory = psutil.virtual_memory()
        fields: dict[str, Any] = {
            "memory_used_bytes": memory.total - memory.available,
            "memory_total_bytes": memory.total,
        }
        if engine is not None:
            try:
                fields["engine_bytes"] = self._process(engine).memory_info().rss
            except psutil.Error:
                self._processes.pop(engine, None)
        return fields

    def _process(self, pid: int) -> psutil.Process:
        """A process; kept, since finding it costs more than reading it. Raises psutil.Error where there is none."""
        if pid not in self._processes:
            self._processes[pid] = psutil.Process(pid)
        return self._processes[pid]

    def _spent_s(self, pid: int) -> float | None:
        try:
            times = self._process(pid).cpu_times()
        except psutil.Error:
            self._processes.pop(pid, None)
            return None
        return float(times.user + times.system)

    # ------------------------------------------------------------ slow ones

    def _read_slow(self) -> dict[str, Any]:
        return {
            "clock_hz": _clock_hz(),
            "temperature_c": _temperature_c(),
            "on_battery": _on_battery(),
        }

    def _throttled(self) -> bool | None:
        """Whether a processor was slowed down for its heat since the reading before, where the kernel counts that."""
        counts = [count for path in self._throttle_paths if (count := _number(path)) is not None]
        if not counts:
            return None
        before, self._throttle_count = self._throttle_count, sum(counts)
        return before is not None and self._throttle_count > before

    def _debugger(self, engine: int | None) -> str | None:
        """Who is attached to the engine by ptrace (a debugger, strace): its name, "" for nobody, None if unknown."""
        if engine is None:
            return None
        status = _text(self._root / f"proc/{engine}/status")
        line = next((line for line in status.splitlines() if line.startswith("TracerPid:")), "")
        if not line:
            return None
        tracer = int(line.split()[1])
        if not tracer:
            return ""
        return f"{_text(self._root / f'proc/{tracer}/comm').strip() or 'a program'}, process {tracer}"


def _times() -> _Times:
    times = psutil.cpu_times()
    named = times._asdict()
    total = (
        sum(times) - named.get("guest", 0.0) - named.get("guest_nice", 0.0)
    )  # these are in user and nice, too
    steal = named.get("steal")
    idle = named.get("idle", 0.0) + named.get("iowait", 0.0)
    return _Times(total, total - idle - (steal or 0.0), steal)


def _asked(function: str) -> Any:
    """What psutil says; None where it does not have this on this system, or fails to read it."""
    ask = getattr(psutil, function, None)
    if ask is None:
        return None
    try:
        return ask()
    except (OSError, RuntimeError, ValueError, psutil.Error):
        return None


def _load() -> float | None:
    load = (
        _asked("getloadavg") if hasattr(os, "getloadavg") else None
    )  # elsewhere psutil only begins to average
    return float(load[0]) if load is not None else None


def _clock_hz() -> float | None:
    clock = _asked("cpu_freq")
    return clock.current * 1e6 if clock is not None and clock.current else None


def _temperature_c() -> float | None:
    found = _asked("sensors_temperatures") or {}
    for driver, begin in TEMPERATURES:
        for entry in found.get(driver, ()):
            if entry.label.startswith(begin) and entry.current:
                return float(entry.current)
    return None


def _on_battery() -> bool | None:
    battery = _asked("sensors_battery")
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
