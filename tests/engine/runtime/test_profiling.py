"""The profiler's events read onto our clock: whatever order they come in, of host or device, never too many."""

import sys
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import SimpleNamespace

import pytest
import torch

from engine.runtime import profiling
from engine.runtime.profiling import ANCHOR, CaptureRefused, StepProfiler, clock_offset, read_entries

OFFSET = 1_700_000_000_000_000_000  # the system's clock over the host's


@dataclass
class FakeEvent:
    """An event as kineto gives it: a name, times, where it ran, and the numbers that link launches and kernels."""

    called: str
    begin_ns: int  # of the host clock
    took_ns: int
    number: int = 0
    linked: int = 0
    device: str = "CPU"
    stream: int = 1
    kind: str = "cpu_op"
    offset_ns: int = field(default=OFFSET)

    def name(self) -> str:
        return self.called

    def start_ns(self) -> int:
        return self.begin_ns + self.offset_ns

    def duration_ns(self) -> int:
        return self.took_ns

    def device_type(self) -> SimpleNamespace:
        return SimpleNamespace(name=self.device)

    def device_index(self) -> int:
        return 0

    def device_resource_id(self) -> int:
        return self.stream

    def start_thread_id(self) -> int:
        return self.stream

    def correlation_id(self) -> int:
        return self.number

    def linked_correlation_id(self) -> int:
        return self.linked

    def activity_type(self) -> str:
        return self.kind


def anchors(*begins_ns: int, offset_ns: int = OFFSET) -> list[FakeEvent]:
    return [
        FakeEvent(f"{ANCHOR} {place}", begin, 1, offset_ns=offset_ns, kind="user_annotation")
        for place, begin in enumerate(begins_ns)
    ]


BRACKETS = [(100, 110), (9_000, 9_004)]
ANCHORS = anchors(105, 9_003)


def test_the_tightest_brackets_say_how_far_the_clocks_are_apart() -> None:
    # the first anchor: -5 … +5; the second: -1 … +3; together -1 … +3
    assert clock_offset(ANCHORS, BRACKETS) == (OFFSET + 1, 2)


def test_clocks_that_drift_apart_are_known_as_well_as_they_drift() -> None:
    early, late = anchors(105, 9_003)
    late.offset_ns += 500  # the system's clock was set in between
    offset, exact = clock_offset([early, late], BRACKETS)
    assert OFFSET < offset < OFFSET + 500
    assert 200 < exact < 300


def test_a_clock_that_is_set_meanwhile_places_nothing() -> None:
    early, late = anchors(105, 9_003)
    late.offset_ns += 3_600 * 10**9  # daylight saving time, say
    with pytest.raises(CaptureRefused, match="clock was set meanwhile"):
        clock_offset([early, late], BRACKETS)


def test_without_anchors_nothing_can_be_placed() -> None:
    with pytest.raises(CaptureRefused, match="cannot be placed"):
        read_entries([FakeEvent("aten::mm", 500, 10)], BRACKETS, 0, 1_000)


def test_what_began_in_the_step_is_kept_in_order_and_the_longer_first() -> None:
    events = [
        FakeEvent("inner", 500, 10, 2),
        FakeEvent("before", 190, 100, 1),
        FakeEvent("outer", 500, 80, 3),
        FakeEvent("behind", 1_010, 10, 4),
        *ANCHORS,
        FakeEvent("last", 999, 10, 5),
    ]
    found = read_entries(events, BRACKETS, 200, 1_000)
    assert [found.names[name] for name in found.name] == ["outer", "inner", "last"]
    assert found.begin_ns.tolist() == [499, 499, 998]  # as exact as the anchors
    assert found.exact_ns == 2
    assert found.lanes == ("host",)
    assert found.launched_by.tolist() == [-1, -1, -1]
    assert sorted(found.names) == ["inner", "last", "outer"]


def test_a_kernel_knows_its_launch_and_counts_where_that_was() -> None:
    events = [
        *ANCHORS,
        FakeEvent("aten::mm", 300, 50, 41, stream=3),
        FakeEvent("cudaLaunchKernel", 320, 5, 900, linked=41, stream=3),
        FakeEvent("gemm", 5_000, 70, 900, linked=41, device="CUDA", stream=7),  # long behind the step
        FakeEvent("aten::add", 360, 5, 42, stream=3),
        FakeEvent("add", 6_000, 5, 901, linked=42, device="CUDA", stream=7),  # only its operation is known
        FakeEvent("copy", 7_000, 5, 0, device="CUDA", stream=9),  # nobody launched it, in no step
        FakeEvent("early", 400, 5, 902, linked=40, device="CUDA", stream=9),
        FakeEvent("aten::old", 100, 5, 40, stream=3),
        FakeEvent("another thread", 350, 5, 43, stream=5),
        FakeEvent("waiting", 300, 500, 0, kind="overhead"),
    ]
    found = read_entries(events, BRACKETS, 200, 1_000)
    names = [found.names[name] for name in found.name]
    assert names == ["aten::mm", "cudaLaunchKernel", "another thread", "aten::add", "gemm", "add"]
    launchers = {name: found.launched_by[place] for place, name in enumerate(names)}
    assert names[launchers["gemm"]] == "cudaLaunchKernel"
    assert names[launchers["add"]] == "aten::add"
    assert launchers["aten::mm"] == -1
    assert found.lanes == ("host", "host, thread 2", "cuda:0 stream 7")
    assert found.host_lanes == 2
    assert [found.lanes[lane] for lane in found.lane][-1] == "cuda:0 stream 7"


def test_of_too_many_entries_the_shortest_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "MOST_ENTRIES", 3)
    events = [*ANCHORS, FakeEvent("outer", 300, 90), FakeEvent("kernel", 700, 5, 7, linked=3, device="CUDA")]
    events += [FakeEvent(f"op {took}", 300 + took, took, took) for took in (1, 30, 3, 4)]
    found = read_entries(events, BRACKETS, 200, 1_000)
    assert [found.names[name] for name in found.name] == ["outer", "op 30", "kernel"]
    assert found.dropped == 3
    assert found.launched_by.tolist() == [-1, -1, -1]  # what launched it is not among them


def test_nothing_in_the_step_is_no_entries() -> None:
    found = read_entries(ANCHORS, BRACKETS, 200, 1_000)
    assert (len(found.begin_ns), found.lanes, found.names) == (0, (), ())


# ---------------------------------------------------------------- the real profiler


def test_a_real_profile_lies_within_the_times_around_it() -> None:
    profiler = StepProfiler(torch.device("cpu"))
    profiler.ready()
    profiler.start()
    matrix = torch.ones(200, 200)
    begin_ns = perf_counter_ns()
    for _ in range(3):
        matrix @ matrix
    end_ns = perf_counter_ns()
    torch.ones(3)
    profiler.stop()
    found = profiler.entries(begin_ns, end_ns)
    names = [found.names[name] for name in found.name]
    assert names.count("aten::matmul") == names.count("aten::mm") == 3
    assert "aten::ones" not in names
    assert not [name for name in names if name.startswith(ANCHOR)]
    assert found.begin_ns[0] >= begin_ns - found.exact_ns
    assert (found.begin_ns + found.duration_ns).max() <= end_ns + found.exact_ns
    assert 0 < found.exact_ns < 1_000_000


def test_without_kineto_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.autograd, "kineto_available", lambda: False)
    with pytest.raises(CaptureRefused, match="no profiler"):
        StepProfiler(torch.device("cpu")).ready()


def test_without_its_module_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.profiler", None)
    with pytest.raises(CaptureRefused, match="no profiler"):
        StepProfiler(torch.device("cpu")).ready()


def test_while_another_profiler_runs_it_is_refused_and_leaves_that_alone() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as other:
        with pytest.raises(CaptureRefused, match="Another profiler"):
            StepProfiler(torch.device("cpu")).ready()
        torch.ones(3)
    assert "aten::ones" in {event.name for event in other.events() or ()}


def test_what_cannot_be_started_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: object) -> None:
        raise RuntimeError("CUPTI_ERROR_NOT_INITIALIZED\nmore")

    monkeypatch.setattr(torch.profiler.profile, "start", start)
    with pytest.raises(CaptureRefused, match=r"could not be started \(CUPTI_ERROR_NOT_INITIALIZED\): end"):
        StepProfiler(torch.device("cpu")).ready()
