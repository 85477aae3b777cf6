"""What surrounds the model: the engine's versions and devices, its memory, and what measuring costs."""

import os
import platform
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

import psutil
import torch

from engine.protocol import PROTOCOL_VERSION, DeviceFacts, EngineStarted, Event, MemorySampled, ObserverReport
from engine.runtime.caches import cache_bytes
from engine.runtime.clocks import StampRecorder
from engine.runtime.live import LiveModel
from engine.runtime.models.memory import accelerators, device_memory, forget_peaks
from engine.trace.phases import Phase

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

SAMPLE_EVERY_NS = 250_000_000
REPORT_EVERY_NS = 500_000_000
TRIAL_MARKS = 2_000


def describe_engine() -> EngineStarted:
    """What this engine runs on and with."""
    packages = ("cyclograph", "torch", "transformers", "tokenizers", "safetensors", "numpy")
    return EngineStarted(
        at_ns=perf_counter_ns(),
        protocol=PROTOCOL_VERSION,
        pid=os.getpid(),
        versions=(("python", platform.python_version()), *((name, _version(name)) for name in packages)),
        devices=devices(),
        processor=_processor(),
        cores=physical_cores(),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@lru_cache(maxsize=8)
def processor_name(device: torch.device) -> str:
    """What computes: the processor, or the accelerator by its name."""
    if device.type == "cpu":
        return _processor()
    return _accelerator(device.type, device.index or 0).label


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def physical_cores() -> int:
    """Physical cores that this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def devices() -> tuple[DeviceFacts, ...]:
    """The CPU and every accelerator that torch can use here."""
    memory = psutil.virtual_memory()
    found = [DeviceFacts("cpu", _processor(), memory.total, memory.available)]
    for name in accelerators():
        kind, _, index = name.partition(":")
        found.append(_accelerator(kind, int(index)))
    return tuple(found)


def _accelerator(kind: str, index: int) -> DeviceFacts:
    device = f"{kind}:{index}"
    if kind == "cuda":
        available, total = torch.cuda.mem_get_info(index)
        properties = torch.cuda.get_device_properties(index)
        return DeviceFacts(device, properties.name, total, available, str(getattr(properties, "uuid", "")))
    memory = psutil.virtual_memory()  # MPS shares the host's memory; others do not say
    return DeviceFacts(device, kind.upper(), memory.total, memory.available)


class MemorySampler:
    """Samples memory between steps, at most four times a second: reading it costs some tens of microseconds."""

    def __init__(self, live: LiveModel) -> None:
        self._live = live
        self._process = psutil.Process()
        self._next_ns = 0
        places = [name for name, _ in live.facts.placement] or [str(live.device)]
        self._devices = [name for name in places if name != "cpu"]
        forget_peaks(self._devices)  # what loading took is over

    def soon(self) -> None:
        """Memory may just have changed: the next step is followed by a sample."""
        self._next_ns = 0

    def after_step(self, emit: Callable[[Event], None], now_ns: int) -> None:
        """Emit a sample when one is due."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + SAMPLE_EVERY_NS
        emit(self.sample())

    def sample(self) -> MemorySampled:
        """Memory now."""
        live = self._live
        memory = device_memory(self._devices)
        cache = live.context.cache if live.context else None
        return MemorySampled(
            at_ns=perf_counter_ns(),
            process_bytes=self._process.memory_info().rss,
            weight_bytes=live.weight_bytes,
            cache_bytes=cache_bytes(cache),
            device_allocated_bytes=memory.allocated,
            device_reserved_bytes=memory.reserved,
            process_peak_bytes=process_peak_bytes(),
            device_peak_bytes=memory.peak,
        )


def process_peak_bytes() -> int | None:
    """The most memory that was ever resident in this process; None where the system does not say."""
    if resource is None:
        return getattr(psutil.Process().memory_info(), "peak_wset", None)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def tracer() -> str:
    """What is called at every line or call of this thread; "" for nothing."""
    if sys.gettrace() is not None:
        return "sys.settrace"
    if sys.getprofile() is not None:
        return "sys.setprofile"
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    if monitoring is not None:
        tools = (monitoring.DEBUGGER_ID, monitoring.COVERAGE_ID, monitoring.PROFILER_ID)
        return next((name for tool in tools if (name := monitoring.get_tool(tool))), "")
    return ""


class Observer:
    """Keeps account of what measuring costs: a mark's cost, tried out once, and handing steps over, timed always.

    Handing over is told in processor time of the engine's thread: when something else has the core meanwhile, that is
    not the instrument's doing.
    """

    def __init__(self, recorder: StampRecorder) -> None:
        self.mark_cost_ns = measure_mark_cost_ns(recorder)
        self.report: ObserverReport | None = None  # the latest
        self._emit_ns = 0
        self._steps = 0
        self._marks = 0
        self._next_ns: int | None = None
        self._next_steps = 1

    def after_step(self, marks: int, begin_thread_ns: int) -> None:
        """Count a step with so many marks, which was handed over, or noted for that, since then (`thread_time_ns`)."""
        self._emit_ns += thread_time_ns() - begin_thread_ns
        self._steps += 1
        self._marks = marks

    def tell(self, emit: Callable[[Event], None]) -> None:
        """Report when it is time. Call it when steps have just been handed over."""
        now_ns = perf_counter_ns()
        if self._next_ns is None:
            self._next_ns = now_ns + REPORT_EVERY_NS
        is_time = now_ns >= self._next_ns
        if not is_time and self._steps < self._next_steps:
            return
        each_ns = self._emit_ns / max(1, self._steps)
        self.report = ObserverReport(now_ns, self._marks, self.mark_cost_ns, each_ns, tracer())
        emit(self.report)
        if is_time:
            self._next_ns, self._emit_ns, self._steps = now_ns + REPORT_EVERY_NS, 0, 0
        else:  # much happens once, in the first step: of a short run the mean of all is told, again and again
            self._next_steps = 2 * self._steps


def measure_mark_cost_ns(recorder: StampRecorder) -> float:
    """Cost of one mark as a wrapped module makes it: best of five rounds (disturbances only ever add)."""
    code = recorder.define(Phase.UNATTRIBUTED, name="trial")
    append_code, append_time, clock = recorder.codes.append, recorder.times.append, recorder.clock
    best = float("inf")
    for _ in range(5):
        recorder.begin_step()
        begin_ns = perf_counter_ns()
        for _ in range(TRIAL_MARKS):
            append_code(code)
            append_time(clock())
        best = min(best, (perf_counter_ns() - begin_ns) / TRIAL_MARKS)
    recorder.begin_step()
    return best
