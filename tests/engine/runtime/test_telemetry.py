"""What surrounds the model: described as it is, sampled seldom, and the cost of measuring measured."""

from pathlib import Path

import pytest

from engine.protocol import Event, MemorySampled, ObserverReport
from engine.runtime.clocks import StampRecorder
from engine.runtime.telemetry import (
    REPORT_EVERY_NS,
    SAMPLE_EVERY_NS,
    MemorySampler,
    Observer,
    describe_engine,
    measure_mark_cost_ns,
)
from tests.engine.runtime.live_models import Bench, family_checkpoint


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(family_checkpoint("llama", tmp_path_factory.mktemp("llama")))


def test_an_engine_is_described() -> None:
    started = describe_engine()
    assert dict(started.versions)["torch"][0].isdigit()
    assert started.devices[0].device == "cpu"
    assert 0 < started.devices[0].available_bytes <= started.devices[0].memory_bytes
    assert started.cores >= 1


def test_memory_is_sampled_at_most_four_times_a_second(bench: Bench) -> None:
    events: list[Event] = []
    sampler = MemorySampler(bench.workbench.live)
    for now_ns in range(10**9, 10**9 + 2 * SAMPLE_EVERY_NS, SAMPLE_EVERY_NS // 5):
        sampler.after_step(events.append, now_ns)
    assert len(events) == 2
    (first, _) = events
    assert isinstance(first, MemorySampled)
    assert first.process_bytes is not None
    assert first.process_bytes > first.weight_bytes > 0
    assert first.device_allocated_bytes is None  # absent, not zero


def test_a_mark_costs_something_but_less_than_a_step_could_notice() -> None:
    cost_ns = measure_mark_cost_ns(StampRecorder())
    assert 10 < cost_ns < 50_000


def test_the_observer_reports_the_mean_cost_of_handing_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.runtime import telemetry

    observer = Observer(bench.workbench.recorder)
    events: list[Event] = []
    now = iter([5_000, 6_000, 7_000, REPORT_EVERY_NS + 9_000, REPORT_EVERY_NS + 9_500])
    spent = iter([1_000, 2_600, 2_600, 5_400, 9_000])
    monkeypatch.setattr(telemetry, "perf_counter_ns", lambda: next(now))
    monkeypatch.setattr(telemetry, "thread_time_ns", lambda: next(spent))

    def after_step(marks: int, begin_thread_ns: int) -> None:
        observer.after_step(marks, begin_thread_ns)
        observer.tell(events.append)

    after_step(40, 400)  # 600 ns, reported at once
    after_step(41, 2_400)  # 200 ns: of twice as many steps in the mean 400
    after_step(42, 2_400)  # 200 ns, too soon to be reported
    after_step(43, 2_400)  # 3,000 ns: in the mean 1,000, and it is time
    after_step(44, 2_400)  # the next mean begins anew, in half a second
    assert [event.emit_ns_per_step for event in events if isinstance(event, ObserverReport)] == [
        600,
        400,
        1_000,
    ]
    assert [event.marks_per_step for event in events if isinstance(event, ObserverReport)] == [40, 41, 43]


def test_weight_bytes_follow_the_settings_of_the_weights(tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("llama", tmp_path))
    bench.generate(tokens=3, changes={1: (("quantization", "int8"),)})
    samples = [event.weight_bytes for event in bench.events if isinstance(event, MemorySampled)]
    assert samples[0] == bench.workbench.live.facts.weight_bytes
    assert samples[-1] == bench.workbench.live.weight_bytes < 0.6 * samples[0]
    bench.close()
