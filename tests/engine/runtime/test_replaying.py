"""Replayed steps, on a stand-in for the device: a graph that runs again what it captured, and a clock of its own."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from engine.runtime.graph_marks import captured
from engine.runtime.live import LiveModel
from engine.runtime.replaying import CudaCapture, ReplayedStep, why_not_cache
from engine.runtime.sampling import Chooser
from engine.runtime.settings import adapting, cuda_graphs
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.resolve import resolve
from engine.trace.device_ledger import NO_TIME, checked, device_gaps, phases_ns
from engine.trace.ledger import Int64, Layout
from engine.trace.phases import Phase
from tests.engine.runtime.fake_device import FakeDevice, FakeEvent, FakeRecorder
from tests.engine.runtime.settings.small_live import begin, generate, setting, small_live, step

TOKENS = 12


class Device(CudaCapture):
    """Captures by running, replays by running again into the same output, recording the same events anew.

    `fake`: the device that all of it runs on, as far as clocks are concerned. `cannot`: why events are not captured.
    """

    step: ReplayedStep

    def __init__(self) -> None:
        self.fake = FakeDevice(work_ns=100_000)
        self.depth = 0
        self.cannot = ""
        self.graphs = 0
        self.replays: list[int] = []

    def event(self) -> FakeEvent:
        if self.cannot:
            raise RuntimeError(self.cannot)
        return self.fake.make()

    def warm_up(self, function: Callable[[], Any]) -> None:
        for _ in range(3):
            function()

    def graph(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        number = self.graphs
        output = function()
        self.graphs += 1

        def replay() -> None:
            self.replays.append(number)
            recorder, captured_graphs = self.step._live.recorder, self.step._captured
            assert captured_graphs is not None
            events = iter(captured_graphs.graphs[-1].events)  # it has just had its turn
            stamped = recorder.place()
            marks: list[Any] = []
            if isinstance(recorder, FakeRecorder):
                marks = list(recorder._current.marks)
            self.step._capturing = True
            self.depth = sum(1 if code else -1 for code in recorder.codes)
            with captured(lambda code: self._run(code, next(events, None))), recorder.muted():
                output.logits = function().logits
            self.step._capturing = False
            del recorder.codes[stamped:], recorder.times[stamped + 1 :]
            if isinstance(recorder, FakeRecorder):
                recorder._current.marks[:] = marks
            assert next(events, None) is None

        return replay, output

    def _run(self, code: int, event: FakeEvent | None) -> None:
        if self.depth > 0:  # between two layers there is nothing to do
            self.fake.launch(self.fake.work_ns)
        self.depth += 1 if code else -1
        if event is not None:
            event.record()


def on_device(device: Device, family: str = "llama") -> LiveModel:
    live = small_live(family)
    live.recorder = FakeRecorder([device.fake])
    return live


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(cuda_graphs, "why_not", lambda _: "")

    def make(live: LiveModel) -> ReplayedStep:
        device.step = ReplayedStep(live, device)
        return device.step

    monkeypatch.setattr(cuda_graphs, "ReplayedStep", make)
    return device


@pytest.mark.parametrize("capacity", [40, 20 + TOKENS])  # the second has no room for what warming up writes
@pytest.mark.parametrize("detail", ["layer", "phase", "core", "step"])
def test_replayed_steps_give_the_same_tokens_and_whole_ledgers(
    device: Device, detail: str, capacity: int
) -> None:
    expected = generate(small_live("llama"), TOKENS)
    live = on_device(device)
    setting("detail").apply(live, detail)
    setting("kv_cache").apply(live, "static")
    setting("cuda_graphs").apply(live, "on")
    begin(live, capacity)
    chooser, tokens, layouts = Chooser(live.decoding, live.device), [], []
    before = np.zeros(0, np.int64)
    recorder = live.recorder
    assert isinstance(recorder, FakeRecorder)
    for number in range(TOKENS):
        if adapting.has_missed(live):
            assert [change.effective for change in adapting.made_for_missed(live)] == ["on"]
        recorder.begin_step()
        tokens.append(step(live, chooser))
        device.fake.wait_until(device.fake.busy_until_ns)  # as whoever reads the token does
        codes, stamps = recorder.end_step()
        host = np.frombuffer(stamps, np.int64)
        assert (np.diff(host) >= 0).all()
        layouts.append(Layout(recorder.names, tuple(np.frombuffer(codes, np.uint16).tolist())))
        if number:  # a step later, when its graph may have run again
            check_ledger(recorder, number - 1, layouts[number - 1], before)
        before = host
    assert tokens == expected
    # after the prefill, and a step that found no graph; two graphs take turns where there is something to read
    assert len(device.replays) == TOKENS - 2
    assert device.graphs == (1 if detail == "step" else 2)
    assert set(device.replays) == set(range(device.graphs))
    assert all(a != b or detail == "step" for a, b in pairwise(device.replays))
    assert len({layout.codes for layout in layouts[1:]}) == 1  # replayed or not, a step has the same spans
    assert device.fake.synchronizations == device.fake.pauses == 0
    assert live.replayed is not None
    assert live.replayed.blind == ""
    setting("cuda_graphs").apply(live, "off")
    setting("detail").apply(live, "step")
    assert "forward" not in vars(live.model)


def check_ledger(recorder: FakeRecorder, number: int, layout: Layout, host: Int64) -> None:
    """All of a step's times are there, in order, not before their launch; what the device ran fills most of it."""
    recorder.collect()
    told = recorder.take(number)
    assert told is not None
    times = checked(layout, told)
    assert times is not None
    there = times != NO_TIME
    assert (times[there] >= host[there]).all()
    gaps = device_gaps(layout, host, times)
    ledger = phases_ns(layout, host, gaps)
    assert ledger.sum() == host[-1] - host[0]
    assert ledger[Phase.UNATTRIBUTED] <= 0.05 * ledger.sum()


@pytest.mark.parametrize("cannot", ["operation not supported", ""], ids=["no events in graphs", "no clock"])
def test_without_events_in_graphs_steps_are_replayed_and_it_is_told_what_is_not(
    device: Device, cannot: str
) -> None:
    device.cannot = cannot
    live = on_device(device) if cannot else small_live("llama")
    told: list[str] = []
    live.notice = lambda sentence, about: told.append(sentence)
    setting("detail").apply(live, "layer")
    setting("kv_cache").apply(live, "static")
    setting("cuda_graphs").apply(live, "on")
    begin(live)
    chooser, tokens = Chooser(live.decoding, live.device), []
    for _ in range(6):
        adapting.made_for_missed(live)
        live.recorder.begin_step()
        tokens.append(step(live, chooser))
        codes, _ = live.recorder.end_step()
    assert len(device.replays) == 4
    assert tokens == generate(small_live("llama"), 6)
    assert len(codes) // 2 <= 4  # what surrounds the replay
    assert len(told) == 1
    assert "Nothing inside of a replayed step is told apart" in told[0]
    assert cannot in told[0]


def test_another_generation_is_captured_anew(device: Device) -> None:
    live = on_device(device)
    setting("detail").apply(live, "layer")
    setting("kv_cache").apply(live, "static")
    setting("cuda_graphs").apply(live, "on")
    for generation in (1, 2):
        begin(live)
        chooser = Chooser(live.decoding, live.device)
        for _ in range(4):
            adapting.made_for_missed(live)
            step(live, chooser)
        assert device.graphs == 2 * generation


def test_what_cannot_be_captured_switches_graphs_off_with_the_reason(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(device, "graph", fails)
    live = small_live("llama")
    setting("kv_cache").apply(live, "static")
    begin(live)
    chooser = Chooser(live.decoding, live.device)
    step(live, chooser)
    with pytest.raises(SettingRefused, match="cannot be captured: operation not permitted"):
        setting("cuda_graphs").apply(live, "on")
    assert live.replayed is None
    assert live.context is not None
    assert live.context.cache is not None
    assert int(live.context.cache.get_seq_length()) == len(live.context.ids) - 1  # warming up left no trace


def test_on_the_cpu_graphs_are_refused_with_the_reason() -> None:
    live = small_live("llama")
    facts = setting("cuda_graphs").probe(live)
    assert "CUDA device" in facts.choices[1].reason
    with pytest.raises(SettingRefused, match="CUDA device"):
        setting("cuda_graphs").apply(live, "on")


def test_graphs_and_other_caches_or_compilation_exclude_each_other(device: Device) -> None:
    live = small_live("llama")
    facts = [setting(key).probe(live) for key in ("kv_cache", "compile", "cuda_graphs")]
    assert "static KV cache" in resolve({"cuda_graphs": "on"}, facts).reasons["cuda_graphs"]
    assert not resolve({"cuda_graphs": "on", "kv_cache": "static"}, facts).reasons
    both = resolve({"cuda_graphs": "on", "kv_cache": "static", "compile": "default"}, facts)
    assert "reduce-overhead" in both.reasons["cuda_graphs"]


def test_only_caches_that_keep_their_place_can_be_replayed() -> None:
    live = small_live("mistral")
    setting("kv_cache").apply(live, "static")
    begin(live)
    step(live, Chooser(live.decoding, live.device))
    assert live.context is not None
    assert "static cache of all tokens" in why_not_cache(live.context.cache)
