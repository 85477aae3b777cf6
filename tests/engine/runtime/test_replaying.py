"""Replayed steps, on a stand-in for the device: a graph that runs again what it captured, and a clock of its own."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.runtime.graph_marks import captured
from engine.runtime.live import LiveModel
from engine.runtime.replaying import CudaCapture, ReplayedStep, placed, why_not_cache
from engine.runtime.sampling import Chooser
from engine.runtime.settings import adapting, cuda_graphs
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.resolve import resolve
from engine.trace.ledger import Layout
from tests.engine.runtime.settings.small_live import begin, generate, setting, small_live, step

TOKENS = 12


class Event:
    def __init__(self, at_ms: float) -> None:
        self.at_ms = at_ms

    def elapsed_time(self, later: "Event") -> float:
        return later.at_ms - self.at_ms


class Device(CudaCapture):
    """Captures by running, replays by running again into the same output and the same events, without a stamp.

    Its clock ticks a microsecond an event.
    """

    step: ReplayedStep

    def __init__(self) -> None:
        self.ticks = 0
        self.graphs = 0
        self.replays = 0

    def event(self) -> Event:
        self.ticks += 1
        return Event(self.ticks / 1000)

    def end(self) -> Event:
        return self.event()

    def warm_up(self, function: Callable[[], Any]) -> None:
        for _ in range(3):
            function()

    def graph(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.graphs += 1
        output = function()

        def replay() -> None:
            self.replays += 1
            events = iter(self.step._captured._events)  # type: ignore[union-attr]
            recorder = self.step._live.recorder
            stamped = len(recorder.codes)
            self.step._capturing = True
            with captured(lambda _: setattr(next(events), "at_ms", self.event().at_ms)):
                output.logits = function().logits
            self.step._capturing = False
            del recorder.codes[stamped:], recorder.times[stamped + 1 :]
            assert next(events, None) is None

        return replay, output


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
    live = small_live("llama")
    setting("detail").apply(live, detail)
    setting("kv_cache").apply(live, "static")
    setting("cuda_graphs").apply(live, "on")
    begin(live, capacity)
    chooser, tokens, layouts = Chooser(live.decoding, live.device), [], []
    for _ in range(TOKENS):
        if adapting.has_missed(live):
            assert [change.effective for change in adapting.made_for_missed(live)] == ["on"]
        live.recorder.begin_step()
        tokens.append(step(live, chooser))
        live.recorder.end_step()
        times = live.recorder.times.tolist()
        assert times == sorted(times)
        layouts.append(Layout(live.recorder.names, tuple(live.recorder.codes)).codes)
    assert tokens == expected
    assert (device.graphs, device.replays) == (
        1,
        TOKENS - 2,
    )  # after the prefill, and a step that found no graph
    assert len(set(layouts[1:])) == 1  # replayed or not, a step has the same spans
    setting("cuda_graphs").apply(live, "off")
    setting("detail").apply(live, "step")
    assert "forward" not in vars(live.model)


def test_another_generation_is_captured_anew(device: Device) -> None:
    live = small_live("llama")
    setting("kv_cache").apply(live, "static")
    setting("cuda_graphs").apply(live, "on")
    for generation in (1, 2):
        begin(live)
        chooser = Chooser(live.decoding, live.device)
        for _ in range(4):
            adapting.made_for_missed(live)
            step(live, chooser)
        assert device.graphs == generation


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


def test_events_are_placed_backwards_from_the_end_in_order_and_never_before_the_launch() -> None:
    assert placed([0.003, 0.002, 0.0], 1_000, 10_000) == [7_000, 8_000, 10_000]
    assert placed([0.02, 0.002, 0.0021], 5_000, 10_000) == [5_000, 8_000, 8_000]
    assert placed([-0.001], 5_000, 10_000) == [10_000]


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
