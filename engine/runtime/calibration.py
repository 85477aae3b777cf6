"""What this machine achieves, measured in about two seconds: how fast it reads and how fast it multiplies.

Bandwidth is that of matrix–vector products in 32 and in 16 bit, and of copies: the fastest counts for each working set,
since a floor must not be too high. One that reads the largest set half as fast as the fastest is not tried on smaller
ones: what it computes for each byte holds it up. The largest working set is 8 × the last-level cache, at least
512 MiB, where memory allows: less overstates tenfold what main memory gives. Smaller ones show the caches, where small
models live. A working set is read from its beginning to its end again and again, as a model's weights are.

A product of a small matrix takes as long to call as to compute. So calls are timed in batches of at least a
millisecond, and what an empty call costs (a product of 8 × 8) is subtracted, up to half of the time: that can only make
a bandwidth larger and a floor lower. Each number is the best of several, since whatever disturbs makes slower; of a
large working set each piece of 4 MiB is timed by itself, and its best counts. The largest working set and the matrix
rate are measured twice (the former by its fastest way), at the beginning and at the end, and how far the two lie apart
is part of the record. So is how fast the largest working set is read by means that share nothing with these (see
engine.runtime.plain_reading).
"""

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Protocol

import psutil
import torch
from torch.nn import functional

from engine.runtime.plain_reading import plain_reads
from engine.trace.calibration import SECOND_NS, Calibration, checked

MIB = 2**20
LEAST_SET = 512 * MIB
MOST_SET = 2048 * MIB
CACHES_OVER = 8  # times the last-level cache
_BEYOND = 2  # times it, at least
_COPIES = "copies"
#: Smaller working sets, as far as they are smaller than the largest.
LADDER = tuple(count * MIB // 4 for count in (1, 4, 16, 32, 64, 96, 128, 192, 256, 512))
_COLUMNS = 2048  # of the matrices that are read: as wide as those of a middling model
_MATRIX = 4 * MIB  # bytes of one of them
_MATRIX_OF_DEVICES = 64 * MIB  # that an accelerator reads less of is over before the next product has begun
_BATCH_NS = 1_000_000
_PIECES, _PASSES = 4, 3  # from so many on they are timed one by one, so often
_BEST_OF, _BEST_OF_LONG = 5, 2
_LONG_NS = 15_000_000  # what takes longer is done less often
_SIDES = (256, 512, 1024, 2048, 4096, 8192)  # of the squares that are multiplied
_THIN, _FEW = 1024, (1, 4, 16)  # squares that few rows are multiplied with, as in decode steps
_PRODUCT_NS = 10_000_000  # that one of them may take
_MEMORY_SHARE = 0.25  # of what is free that may be taken
_BUSY = 0.25  # cores that others use, and the share of time that is stolen, which disturb
_STOLEN = 0.02


_NO_CLOCK = "The clock of this machine stands still or jumps, so nothing can be measured by it: try again."


#: What matrices may hold whose products are measured, and what torch calls that; float8 on CUDA devices only, since
#: processors widen it.
KINDS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
    "float8": torch.float8_e4m3fn,
}


class CalibrationRefused(Exception):
    """This machine cannot be measured now. The message is one sentence for people."""


class CalibrationInterrupted(Exception):
    """Somebody waits for the engine: measuring was given up."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a record belongs to. `mode`: what products of float32 are rounded to inside, "" for nothing."""

    processor: str
    device: torch.device
    threads: int
    mode: str = ""


class Timer(Protocol):
    """Takes the time of work on a device, ns."""

    def time_ns(self, work: Callable[[], object], times: int) -> int:
        """How long it takes to do it so often, one after the other."""
        ...


@dataclass(frozen=True, slots=True)
class HostTimer:
    """By the host's clock, waiting for the device before and after."""

    device: torch.device
    clock: Callable[[], int] = perf_counter_ns

    def time_ns(self, work: Callable[[], object], times: int) -> int:
        """See Timer."""
        self._wait()
        begin = self.clock()
        for _ in range(times):
            work()
        self._wait()
        return self.clock() - begin

    def _wait(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)


@dataclass(frozen=True, slots=True)
class EventTimer:
    """By events of a CUDA device, of a captured graph: without what launches cost the host."""

    device: torch.device

    def time_ns(self, work: Callable[[], object], times: int) -> int:
        """See Timer."""
        with torch.cuda.device(self.device):
            work()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(times):
                    work()
            graph.replay()
            event: Any = torch.cuda.Event
            begin, end = (event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            return round(float(begin.elapsed_time(end)) * 1e6)


def timer_for(device: torch.device) -> Timer:
    """What takes the time of work on a device."""
    return EventTimer(device) if device.type == "cuda" else HostTimer(device)


@torch.inference_mode()
def measure(
    machine: Machine,
    is_awaited: Callable[[], bool] = lambda: False,
    timer: Timer | None = None,
    largest: int = 0,
) -> Calibration:
    """Measure a machine. Raises CalibrationRefused, and CalibrationInterrupted as soon as somebody waits.

    `largest`: bytes of the largest working set, 0 for what the last-level cache and free memory ask for.
    """
    cache = last_level_cache(machine.device)
    load = _Load()
    begin_ns = perf_counter_ns()
    size, remark = (largest, "") if largest else _largest(machine.device, cache)
    bench = _Bench(machine, timer or timer_for(machine.device), is_awaited, size)
    ways, plain, rates = bench.bandwidths(size), bench.plain_bandwidth(cache), bench.rates()
    fastest, first = max(ways.items(), key=lambda way: way[1])
    some = [way for way, rate in ways.items() if rate > first / 2]
    rungs = {smaller: max(bench.bandwidths(smaller, some).values()) for smaller in LADDER if smaller < size}
    swift = [kind for kind, rate in rates.items() if rate > rates["float32"] / 2]  # the others take long
    again, rates_again = bench.bandwidths(size, [fastest])[fastest], bench.rates(swift)
    rungs[size] = max(first, again)
    spread = max(_apart(first, again), _apart(rates["float32"], rates_again["float32"]))
    busy = load.remark(machine.threads)
    found = Calibration(
        processor=machine.processor,
        device=str(machine.device),
        threads=machine.threads,
        mode=machine.mode,
        at_s=time.time(),
        rungs=tuple(sorted(rungs.items())),
        rates=tuple((kind, max(rate, rates_again.get(kind, 0.0))) for kind, rate in sorted(rates.items())),
        spread=spread,
        cache_bytes=cache,
        took_ns=perf_counter_ns() - begin_ns,
        remark="; ".join(filter(None, (remark, busy))),
        is_disturbed=bool(busy),
        plain_bandwidth=plain,
    )
    try:
        return checked(found)
    except ValueError as error:
        raise CalibrationRefused(f"What was measured makes no sense ({error}): calibrate again.") from error


def _apart(first: float, second: float) -> float:
    return abs(first - second) / max(first, second)


class _Bench:
    """The memory that is read, and what is done with it."""

    def __init__(self, machine: Machine, timer: Timer, is_awaited: Callable[[], bool], size: int) -> None:
        self._machine, self._timer, self._is_awaited = machine, timer, is_awaited
        try:
            self._memory = torch.empty(size // 4, dtype=torch.float32, device=machine.device)
            self._memory.fill_(0.5)  # pages that were never written are all the same one
        except (RuntimeError, MemoryError) as error:
            raise CalibrationRefused(
                f"Calibration needs {size / 2**20:,.0f} MiB, which are not free: close other programs."
            ) from error
        self._each = _MATRIX if machine.device.type == "cpu" else _MATRIX_OF_DEVICES
        self._dtypes = (torch.float32, torch.bfloat16) if machine.device.type != "mps" else (torch.float32,)
        self._call_ns = {dtype: self._cost_of_a_call(dtype) for dtype in self._dtypes}
        self._side: dict[str, int] = {}

    def bandwidths(self, size: int, ways: Sequence[str] = ()) -> dict[str, float]:
        """Bytes a second of a working set, by some ways to read it: all of them where none are named."""
        found = {}
        for dtype in self._dtypes:
            if not ways or str(dtype) in ways:
                matrices, row = self._matrices(dtype, size)
                nbytes = sum(matrix.nbytes for matrix in matrices)
                reads = [partial(functional.linear, row, matrix) for matrix in matrices]
                found[str(dtype)] = nbytes * SECOND_NS / self._best_of_all_ns(reads, self._call_ns[dtype])
        if not ways or _COPIES in ways:
            half = size // 8
            begins = (self._memory[begin : begin + half] for begin in (0, half))
            sources, targets = (_split(numbers, self._each // 4) for numbers in begins)
            copies = [partial(target.copy_, source) for source, target in zip(sources, targets, strict=True)]
            found[_COPIES] = 8 * half * SECOND_NS / self._best_of_all_ns(copies, 0.0)
        return found

    def plain_bandwidth(self, cache: int) -> float:
        """Bytes a second of all of the memory, read by other means; 0 where it fits caches, which outrun these."""
        if self._memory.nbytes < _BEYOND * cache:
            return 0.0
        with plain_reads(self._memory, self._machine.threads) as reads:
            return self._memory.nbytes * SECOND_NS / self._best_of_all_ns(reads, 0.0)

    def rates(self, kinds: Collection[str] = KINDS) -> dict[str, float]:
        """Operations a second of kinds of matrix product, as far as this device has them."""
        here = (kind for kind in kinds if kind != "float8" or self._machine.device.type == "cuda")
        found = {kind: self._rate_of(kind) for kind in here}
        return {kind: rate for kind, rate in found.items() if rate}

    def _rate_of(self, kind: str) -> float:
        """Of one kind, of many rows or (the first time) of few, which other kernels multiply; 0 where there is none."""
        known = self._side.get(kind)
        if known == 0:
            return 0.0
        best = max(self._rate(kind, rows, _THIN) for rows in _FEW) if known is None else 0.0
        for side in _SIDES if known is None else (known,):
            rate = self._rate(kind, side, side)
            best = max(best, rate)
            self._side[kind] = side if rate else 0
            if not rate or 8 * 2 * side**3 * SECOND_NS / rate > _PRODUCT_NS:
                break
        return best

    def _rate(self, kind: str, rows: int, side: int) -> float:
        """Of rows times a square matrix; 0 where that cannot be multiplied here."""
        left, right = self._factors(kind, rows, side)
        product = partial(_MULTIPLY.get(kind, functional.linear), left, right)
        try:
            product()
        except (RuntimeError, NotImplementedError):
            return 0.0
        return 2 * rows * side**2 * SECOND_NS / self._best_ns(product, 0.0)

    def _factors(self, kind: str, rows: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        dtype, device = KINDS[kind], self._machine.device
        left, square = torch.ones(rows, side, device=device), torch.ones(side, side, device=device)
        if kind not in _MULTIPLY:
            return left.to(dtype), square.mul(0.5).to(dtype)
        return left.to(dtype), square.to(dtype).t()

    def _matrices(self, dtype: torch.dtype, size: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The memory up to `size` as matrices of a middling model's size, and a row to multiply with."""
        numbers = self._memory[: size // 4].view(dtype)
        columns = min(_COLUMNS, 2 ** ((len(numbers).bit_length() - 1) // 2))
        each = max(1, self._each // dtype.itemsize // columns) * columns
        pieces = [piece[: len(piece) // columns * columns] for piece in _split(numbers, each)]
        matrices = [piece.view(-1, columns) for piece in pieces if len(piece)]
        return matrices, torch.full((1, columns), 0.5, dtype=dtype, device=numbers.device)

    def _cost_of_a_call(self, dtype: torch.dtype) -> float:
        if self._machine.device.type == "cuda":
            return 0.0  # a captured graph has no calls
        tiny = torch.full((8, 8), 0.5, dtype=dtype, device=self._machine.device)
        return self._best_ns(lambda: functional.linear(tiny[:1], tiny), 0.0)

    def _best_of_all_ns(self, works: Sequence[Callable[[], object]], call_ns: float) -> float:
        """The shortest time of several pieces of work one after the other, in ns, without `call_ns` for each.

        Of long ones each piece's best counts: hardly one of them is not interrupted as a whole where others work, too.
        """
        if len(works) < _PIECES or self._machine.device.type == "cuda":

            def one_after_the_other() -> None:
                for work in works:
                    work()

            return self._best_ns(one_after_the_other, len(works) * call_ns)
        best = [float("inf")] * len(works)
        for _ in range(_PASSES):
            if self._is_awaited():
                raise CalibrationInterrupted
            for place, work in enumerate(works):
                took = self._timer.time_ns(work, 1)
                if 0 < took < best[place]:
                    best[place] = took
        total = sum(best)
        if total == float("inf"):
            raise CalibrationRefused(_NO_CLOCK)
        return total - min(len(works) * call_ns, total / 2)

    def _best_ns(self, work: Callable[[], object], calls_ns: float) -> float:
        """The shortest time of a piece of work in ns, without its calls.

        Raises CalibrationRefused where no time passes.
        """
        times, best = 1, float("inf")
        for done in range(_BEST_OF):
            if done >= _BEST_OF_LONG and best * times > _LONG_NS:
                break
            if self._is_awaited():
                raise CalibrationInterrupted
            took = self._timer.time_ns(work, times)
            if took <= 0:
                continue
            best = min(best, took / times)
            if took < _BATCH_NS:
                times = max(times, min(10_000, -(-_BATCH_NS * times // took)))
        if best == float("inf"):
            raise CalibrationRefused(_NO_CLOCK)
        return best - min(calls_ns, best / 2)


def _float8_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    scale = torch.ones((), device=left.device)
    product: torch.Tensor = torch._scaled_mm(left, right, scale, scale, out_dtype=torch.bfloat16)
    return product


#: What multiplies narrow matrices; the second one lies by columns.
_MULTIPLY: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "int8": torch._int_mm,
    "float8": _float8_product,
}


def _split(numbers: torch.Tensor, each: int) -> Sequence[torch.Tensor]:
    split: Any = torch.split
    pieces: Sequence[torch.Tensor] = split(numbers, each)
    return pieces


# ---------------------------------------------------------------- the machine


def _largest(device: torch.device, cache: int) -> tuple[int, str]:
    """Bytes of the largest working set here, and what is to be said of it."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    wanted = min(MOST_SET, max(LEAST_SET, CACHES_OVER * cache))
    size = min(wanted, int(free * _MEMORY_SHARE)) // MIB * MIB
    least = _BEYOND * max(cache, MIB)
    if size < least:
        raise CalibrationRefused(
            f"Calibration needs {least / MIB / _MEMORY_SHARE:,.0f} MiB of free memory to read beyond the"
            f" caches, and {free / MIB:,.0f} MiB are free: close other programs."
        )
    if size < CACHES_OVER * cache:
        return size, f"the working set was only {size / cache:.1f} × the last-level cache"
    return size, ""


def last_level_cache(device: torch.device) -> int:
    """Bytes of the last-level cache, all of its pieces together; 0 where the system does not say."""
    if device.type == "cuda":
        properties: Any = torch.cuda.get_device_properties(device)
        return int(getattr(properties, "L2_cache_size", 0))
    if device.type != "cpu":
        return 0
    found: dict[int, dict[str, int]] = {}
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        try:
            level, kind, size, shared = (
                (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        if kind != "Instruction":
            found.setdefault(int(level), {})[shared] = _bytes(size)
    if found:
        return sum(found[max(found)].values())
    try:
        return max(0, os.sysconf("SC_LEVEL3_CACHE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return 0


def _bytes(size: str) -> int:
    unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(size[-1:], 1)
    return int(size.rstrip("KMG") or 0) * unit


class _Load:
    """How busy this machine is while something is measured: by others, or by another machine on the same host."""

    def __init__(self) -> None:
        self._before = self._now()

    def remark(self, threads: int) -> str:
        """What disturbed, in words; "" for nothing."""
        wall, busy, own, stolen = (
            after - before for after, before in zip(self._now(), self._before, strict=True)
        )
        cores = psutil.cpu_count() or 1
        if wall <= 0:
            return ""
        return busy_words(cores, threads, max(0.0, busy - own) / wall, stolen / wall / cores)

    def _now(self) -> tuple[float, float, float, float]:
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        stolen = getattr(times, "steal", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        # `user` holds `guest` already
        busy = sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0) - stolen
        return time.monotonic(), busy, own.user + own.system, stolen


def busy_words(cores: int, threads: int, others: float, stolen: float) -> str:
    """What others did meanwhile, where it disturbs: `others`: cores that they used; `stolen`: share of time taken."""
    words = []
    if others > _BUSY and others + threads > cores - 1 + _BUSY:
        words.append(f"other programs used {others:.1f} of {cores} cores meanwhile")
    if stolen > _STOLEN:
        words.append(f"{stolen:.0%} of the processor's time went to other machines on this host")
    return "; ".join(words)


def is_busy(threads: int, seconds: float = 0.1) -> str:
    """What makes this machine too busy to be measured, looked at for a moment; "" for nothing."""
    load = _Load()
    time.sleep(seconds)
    return load.remark(threads)
