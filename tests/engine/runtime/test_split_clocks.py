"""Layers that are split over two devices, each with a clock of its own: what really happened is known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from engine.protocol import Noticed, StepEnded
from engine.runtime import device_events, telemetry, workbench
from engine.runtime.clocks import StampRecorder
from engine.runtime.device_events import open_events
from engine.runtime.event_reading import PATIENCE_NS, SETS
from engine.runtime.models.memory import DeviceMemory
from engine.runtime.placement import devices_of, time_crossings
from engine.runtime.placing import JUMP_NS, RESOLUTION_NS
from engine.trace.device_ledger import NO_TIME, device_gaps, phases_ns
from engine.trace.lanes import lanes
from engine.trace.ledger import Layout
from engine.trace.phases import Phase
from tests.engine.runtime.fake_device import TRANSFER_NS, FakeDevice, FakeEvent, FakeRecorder, install
from tests.engine.runtime.live_models import Bench, family_checkpoint, torch_kept

PARTS = 10  # on each device
TOLERANCE_NS = 8_000  # two anchors, each known to what lies between two looks at the clock


class Loop:
    """Steps that go from a first device to a second one and back. `truth`: when events came."""

    def __init__(self, first: FakeDevice, second: FakeDevice) -> None:
        self.first, self.second = first, second
        self.recorder = FakeRecorder([first, second])
        self.part = self.recorder.define(Phase.MLP, 0, "part")
        self.move = self.recorder.define(Phase.COMMUNICATE, name="between devices")
        self.sample = self.recorder.define(Phase.SAMPLE, name="choose")
        self.transfer = self.recorder.define(Phase.TRANSFER, name="token to host")
        self.truth: list[list[int]] = []
        self.host: list[list[int]] = []
        self.codes: list[bytes] = []

    def span(self, code: int, enter: str = "") -> None:
        self.recorder.begin(code)
        if enter:
            self.recorder.enter(enter)
        self.recorder.end()

    def step(self, crosses: bool = True) -> None:
        recorder = self.recorder
        recorder.begin_step()
        for _ in range(PARTS):
            self.span(self.part)
        if crosses:
            self.span(self.move, "cpu:1")
            for _ in range(PARTS):
                self.span(self.part)
            self.span(self.move, "cpu:0")
        self.span(self.sample)
        self.truth.append(
            [e.at_ns for e in self.recorder._current.marks if isinstance(e, FakeEvent) and e.at_ns]
        )
        recorder.begin(self.transfer)
        self.first.wait_until(self.first.busy_until_ns)
        recorder.end()
        codes, stamps = recorder.end_step()
        self.codes.append(codes)
        self.host.append(np.frombuffer(stamps, np.int64).tolist())

    def device_stamps(self, number: int) -> np.ndarray:
        stamps = self.recorder.take(number)
        assert stamps is not None, f"step {number} has not been read"
        return np.frombuffer(stamps, np.int64)

    def error_ns(self, number: int) -> int:
        """By how much a step's device times are wrong."""
        stamps = self.device_stamps(number)
        return int(np.abs(stamps[stamps != NO_TIME] - self.truth[number]).max())


def two(work_ns: int = 30_000, drifts: tuple[float, float] = (0.0, 0.0)) -> tuple[FakeDevice, FakeDevice]:
    """Two devices whose timers began at different times."""
    first = FakeDevice(work_ns, drift=drifts[0])
    second = FakeDevice(work_ns, drift=drifts[1], beside=first, name="cpu:1", timer_ns=77_000_000_000)
    return first, second


@pytest.mark.parametrize("work_ns", [0, 30_000])
def test_each_device_is_timed_by_its_own_clock_and_all_times_are_on_one_axis(work_ns: int) -> None:
    loop = Loop(*two(work_ns))
    for _ in range(20):
        loop.step()
    loop.recorder.settle()
    for number in range(20):
        stamps = loop.device_stamps(number)
        known = stamps != NO_TIME
        assert np.abs(stamps[known] - loop.truth[number]).max() <= TOLERANCE_NS
        assert (np.diff(stamps[known]) >= 0).all()
        assert (stamps[known] >= np.array(loop.host[number])[known]).all()
    assert loop.recorder.problems == []


def test_the_ledger_of_a_step_is_whole() -> None:
    loop = Loop(*two())
    for _ in range(12):
        loop.step()
    loop.recorder.settle()
    for number in range(1, 12):
        layout = Layout(loop.recorder.names, tuple(np.frombuffer(loop.codes[number], np.uint16).tolist()))
        host, device = np.array(loop.host[number]), loop.device_stamps(number)
        phases = phases_ns(layout, host, device_gaps(layout, host, device))
        wall_ns = host[-1] - host[0]
        assert phases.sum() == wall_ns
        assert phases[Phase.UNATTRIBUTED] <= 0.05 * wall_ns
        assert phases[Phase.MLP] == pytest.approx(2 * PARTS * 30_000, abs=2 * TOLERANCE_NS)
        moves_ns = 2 * (TRANSFER_NS + 30_000)  # each of them also holds a part's work, as all spans here
        assert phases[Phase.COMMUNICATE] == pytest.approx(moves_ns, abs=4 * TOLERANCE_NS)


def test_reading_waits_for_nothing_and_events_are_used_again() -> None:
    first, second = two(20_000)
    loop = Loop(first, second)
    for _ in range(100):
        loop.step()
    assert first.synchronizations == second.synchronizations == first.pauses == second.pauses == 0
    assert first.waits == 100  # for the tokens
    assert second.waits == 0
    for device, a_step in ((first, 2 * PARTS + 5), (second, 2 * PARTS + 2)):
        assert len(device.made) <= SETS * a_step + 2 + 100  # the anchor's, and a base a step
    assert all(event._device is first or event._device is second for event in (*first.made, *second.made))


@pytest.mark.parametrize("drifts", [(400e-6, 0.0), (0.0, 400e-6), (200e-6, -200e-6)])
def test_clocks_that_drift_apart_are_held_together(drifts: tuple[float, float]) -> None:
    loop = Loop(*two(drifts=drifts))
    worst = 0
    for number in range(300):  # 0.23 s; unfollowed, the two would be 90 µs apart
        loop.step()
        if number:
            worst = max(worst, loop.error_ns(number - 1))
    assert (
        worst <= TRANSFER_NS + TOLERANCE_NS + 30_000
    )  # what lies between two devices' marks is all that is certain
    assert loop.first.now_ns > 1_200_000_000
    assert loop.recorder.problems == []


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("jump_ns", [50 * JUMP_NS, -50 * JUMP_NS])
def test_a_clock_of_either_device_that_jumps_costs_one_step_and_says_so(which: int, jump_ns: int) -> None:
    loop = Loop(*two())
    for number in range(10):
        if number == 4:
            (loop.first, loop.second)[which].jumped_ns += jump_ns
        loop.step()
    loop.recorder.settle()
    stamps = loop.recorder._reader._stamps_of
    assert {number for number in range(10) if not stamps[number]} in ({4}, {4, 5})
    assert max(loop.error_ns(number) for number in range(10) if stamps[number]) <= TOLERANCE_NS
    (problem,) = loop.recorder.problems
    assert "jumped" in problem


def test_events_of_the_second_device_that_come_back_out_of_order_leave_the_step_out_unless_it_is_its_grain() -> (
    None
):
    for back_ns, is_left_out in ((RESOLUTION_NS // 2, False), (20 * RESOLUTION_NS, True)):
        loop = Loop(*two(0))
        loop.step()
        marks = loop.recorder._reader.waiting[0].marks
        of_second = [mark for mark in marks if isinstance(mark, FakeEvent) and mark._device is loop.second]
        of_second[5].timer_ms = of_second[4].timer_ms - back_ns / 1e6
        loop.recorder.settle()
        assert (loop.recorder.take(0) == b"") is is_left_out


def test_a_second_device_that_never_answers_is_waited_for_once_and_not_for_long() -> None:
    loop = Loop(*two())
    loop.step()
    loop.recorder.settle()
    loop.second.is_stuck = True
    loop.recorder.begin_generation()  # an anchor of either is asked for
    for _ in range(5):
        loop.step()
    loop.recorder.settle()
    assert loop.first.now_ns < loop.host[0][0] + 1.5 * PATIENCE_NS
    assert [loop.recorder.take(number) for number in range(1, 6)] == [b""] * 5
    (problem,) = loop.recorder.problems
    assert "no answer" in problem


def test_steps_that_stay_on_the_first_device_have_times_too() -> None:
    loop = Loop(*two())
    for number in range(12):
        loop.step(crosses=number % 3 == 0)
    loop.recorder.settle()
    assert max(loop.error_ns(number) for number in range(12)) <= TOLERANCE_NS


def test_what_is_forgotten_of_a_step_is_forgotten_with_the_device_it_ran_on() -> None:
    loop = Loop(*two())
    recorder = loop.recorder
    recorder.begin_step()
    loop.span(loop.part)
    place = recorder.place()
    loop.span(loop.move, "cpu:1")
    recorder.forget(place)
    loop.span(loop.part)
    events = [mark for mark in recorder._current.marks if isinstance(mark, FakeEvent)]
    assert {event._device for event in events} == {loop.first}
    assert recorder._current.switches == []
    assert len(events) == 5


def test_a_clock_is_opened_for_each_device_and_none_where_one_keeps_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: dict[str, FakeDevice] = {}

    def fake(device: torch.device) -> FakeDevice:
        name = str(device)
        made[name] = FakeDevice(name=name, timer_ns=len(made) * 10**9)
        return made[name]

    monkeypatch.setattr(device_events, "DeviceEvents", fake)
    first, second = torch.device("cuda:0"), torch.device("cuda:1")
    opened, reason = open_events(first, [first, second])
    assert [events.name for events in opened] == ["cuda:0", "cuda:1"]
    assert reason == ""
    assert open_events(torch.device("cpu"), [first]) == ([], "")

    def broken(device: torch.device) -> FakeDevice:
        events = fake(device)
        if device == second:
            events.error = RuntimeError(
                "CUDA error: operation not permitted\nCompile with TORCH_USE_CUDA_DSA"
            )
        return events

    monkeypatch.setattr(device_events, "DeviceEvents", broken)
    opened, reason = open_events(first, [second])
    assert opened == []
    assert reason == "Events of cuda:1 keep no time here (CUDA error: operation not permitted)."


# ------------------------------------------------------------ real models


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    yield from torch_kept()


class Hook(AlignDevicesHook):
    """To torch both devices are the CPU: what is there need not move."""

    def init_hook(self, module: nn.Module) -> nn.Module:
        return module


def dispatch(model: Any) -> Any:
    """Put hooks as accelerate does where the second half of a model is on a second device."""
    inner = model.model
    half = len(inner.layers) // 2
    first = {"model.embed_tokens": inner.embed_tokens, "model.rotary_emb": inner.rotary_emb}
    first |= {f"model.layers.{index}": layer for index, layer in enumerate(inner.layers[:half])}
    second = {"model.norm": inner.norm, "lm_head": model.lm_head}
    second |= {f"model.layers.{half + index}": layer for index, layer in enumerate(inner.layers[half:])}
    add_hook_to_module(model, Hook("cpu:0", io_same_device=True))
    for place, modules in (("cpu:0", first), ("cpu:1", second)):
        for module in modules.values():
            add_hook_to_module(module, Hook(place))
    model.hf_device_map = dict.fromkeys(first, "cpu:0") | dict.fromkeys(second, "cpu:1")
    return model


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, FakeDevice, FakeDevice]]:
    first, second = two(0)
    checkpoint = family_checkpoint("llama", tmp_path_factory.mktemp("llama"))
    load = workbench.load_model

    def load_split(*args: Any) -> Any:
        loaded = load(*args)
        dispatch(loaded.model)
        return loaded

    whole = Bench(checkpoint)
    expected = whole.generate(tokens=12)
    whole.close()
    with pytest.MonkeyPatch.context() as patch:
        install(first, patch, second)
        patch.setattr(workbench, "load_model", load_split)
        # neither has memory of its own to be asked about
        patch.setattr(telemetry, "forget_peaks", lambda devices: None)
        patch.setattr(telemetry, "device_memory", lambda devices: DeviceMemory())
        bench = Bench(checkpoint)
        assert [place for place, _ in bench.workbench.live.facts.placement] == ["cpu:0", "cpu:1"]
        assert bench.generate(tokens=12) == expected
        yield bench, first, second
        bench.close()


@pytest.mark.parametrize("costs", [(2_000, 60_000), (40_000, 0)], ids=["launch-bound", "device-bound"])
def test_a_split_model_has_whole_ledgers_of_both_its_devices(
    split: tuple[Bench, FakeDevice, FakeDevice], costs: tuple[int, int]
) -> None:
    bench, first, second = split
    for device in (first, second):
        device.work_ns, device.launch_ns = costs
    row, told = len(bench.trace.steps), len(bench.events)
    bench.generate(tokens=12)
    steps, rows = bench.trace.steps, slice(row, None)
    assert (steps.device_offset[rows] >= 0).all()
    assert (steps.phases_ns[rows].sum(axis=1) == steps.wall_ns[rows]).all()
    assert np.median(steps.phases_ns[rows, Phase.UNATTRIBUTED] / steps.wall_ns[rows]) <= 0.05
    assert (steps.phases_ns[rows, Phase.COMMUNICATE] >= TRANSFER_NS).all()
    assert (steps.layers_ns[rows].sum(axis=2) > 0).all(), "layers of both devices have their times"
    assert first.synchronizations == second.synchronizations == 0
    both = lanes(bench.trace, row + 6)
    assert both is not None
    events = bench.events[told:]
    assert all(event.device_stamps for event in events if isinstance(event, StepEnded))
    assert not [event for event in events if isinstance(event, Noticed)]


def test_what_a_split_model_runs_on_is_known_by_its_hooks(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = dispatch(AutoModelForCausalLM.from_pretrained(family_checkpoint("llama", tmp_path)))
    assert devices_of(model) == []  # the CPU keeps no time of its own
    entered: list[str] = []

    class Recorder(StampRecorder):
        def enter(self, device: str) -> None:
            entered.append(device)

    assert time_crossings(model, Recorder()) > 0
    ids = model.dummy_inputs["input_ids"]
    model(input_ids=ids)
    places = [device for at, device in enumerate(entered) if not at or entered[at - 1] != device]
    assert places == ["cpu:0", "cpu:1", "cpu"]  # the output goes back to where the input was
