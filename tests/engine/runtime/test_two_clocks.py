"""Real models on a device whose clock is not the host's: events in order, ledgers that sum, lanes, exact commands."""

import io
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from engine.commands import Running
from engine.protocol import (
    Change,
    Command,
    Event,
    Generate,
    GenerationEnded,
    Load,
    Noticed,
    Pause,
    Prompt,
    SettingsChanged,
    SettingValue,
    Shutdown,
    StepEnded,
)
from engine.report import JsonReport
from engine.runtime.session import run_session
from engine.trace.device_ledger import NO_TIME
from engine.trace.lanes import Bound, lanes, verdict
from engine.trace.phases import Phase
from tests.engine.runtime.fake_device import FakeDevice, install
from tests.engine.runtime.live_models import PROMPT, Bench, family_checkpoint, torch_kept

LAUNCH_BOUND, DEVICE_BOUND = (
    (2_000, 60_000),
    (40_000, 0),
)  # of each part: the device's work, the host's launch


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    yield from torch_kept()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@dataclass
class OnDevice:
    """A bench on a device that is not there. What a test makes of it begins at its own first event and step."""

    bench: Bench
    device: FakeDevice
    event: int = 0
    row: int = 0

    def begin(self, costs: tuple[int, int] = DEVICE_BOUND) -> None:
        self.device.work_ns, self.device.launch_ns = costs
        self.event, self.row = len(self.bench.events), len(self.bench.trace.steps)
        self.device.pauses = self.device.waits = 0

    @property
    def events(self) -> list[Event]:
        return self.bench.events[self.event :]

    @property
    def told(self) -> list[StepEnded]:
        return [event for event in self.events if isinstance(event, StepEnded)]

    @property
    def rows(self) -> range:
        return range(self.row, len(self.bench.trace.steps))


@pytest.fixture(scope="module")
def made(llama: Path) -> Iterator[OnDevice]:
    device = FakeDevice()  # without work: loading tries out what a mark costs
    with pytest.MonkeyPatch.context() as patch:
        install(device, patch)
        bench = Bench(llama)
        yield OnDevice(bench, device)
        bench.close()


@pytest.fixture
def live(made: OnDevice) -> Iterator[OnDevice]:
    """Its settings are as they were, afterwards."""
    made.begin()
    before = made.bench.trace.configuration
    is_awaited = made.bench.workbench.is_awaited
    made.bench.workbench.is_awaited = lambda: False
    yield made
    made.bench.workbench.is_awaited = is_awaited
    made.device.is_stuck = False
    now = dict(made.bench.trace.configuration)
    changed = tuple((key, value) for key, value in before if now[key] != value)
    if changed:
        made.bench.workbench.change(changed)


@pytest.mark.parametrize("costs", [LAUNCH_BOUND, DEVICE_BOUND], ids=["launch-bound", "device-bound"])
@pytest.mark.parametrize("read_back", ["synchronous", "pipelined"])
def test_the_ledger_sums_and_little_of_it_is_unattributed(
    live: OnDevice, costs: tuple[int, int], read_back: str
) -> None:
    live.bench.workbench.change((("read_back", read_back),))
    live.begin(costs)
    live.bench.generate(tokens=16)
    steps, rows = live.bench.trace.steps, slice(live.row, None)
    assert (steps.device_offset[rows] >= 0).all()
    assert (steps.phases_ns[rows].sum(axis=1) == steps.wall_ns[rows]).all()
    assert (steps.phases_ns[rows] >= 0).all()
    unattributed = steps.phases_ns[rows, Phase.UNATTRIBUTED] / steps.wall_ns[rows]
    assert np.median(unattributed) <= 0.05
    assert live.device.synchronizations == live.device.pauses == 0
    assert live.device.waits == 16  # for the tokens


def test_on_a_device_phases_are_what_it_ran_and_not_what_was_waited_for(live: OnDevice) -> None:
    trace = live.bench.trace
    live.bench.generate(tokens=12)
    steps, row = trace.steps, live.row + 8
    layout = trace.layout(row)
    host = layout.phases_ns(trace.stamps(row)[None])[0]
    assert host[Phase.TRANSFER] > 0.8 * steps.wall_ns[row]  # on the host's clock all of it is waiting
    assert steps.phases_ns[row, Phase.TRANSFER] < 0.02 * steps.wall_ns[row]
    for phase in (Phase.MLP, Phase.ATTENTION, Phase.NORM, Phase.HEAD):
        gaps = int((layout.phase_columns == phase).sum())
        assert steps.phases_ns[row, phase] == pytest.approx(40_000 * gaps, rel=0.02)
    in_layers = int((layout.layer_columns >= 0).sum())
    assert steps.layers_ns[row].sum() == pytest.approx(40_000 * in_layers, rel=0.02)


def test_steps_are_told_once_their_times_are_known_and_everything_in_order(live: OnDevice) -> None:
    run = live.bench.start(tokens=8)
    told = []
    for _ in range(4):
        run.step(held=False)
        told.append(len(live.told))
    assert told == [0, 1, 2, 3]  # one behind: it is read while the next one runs
    live.bench.workbench.change((("detail", "phase"),))
    assert not isinstance(live.events[-1], SettingsChanged)  # it waits behind the step before it
    run.end("stopped")
    kinds = [type(e) for e in live.events if isinstance(e, StepEnded | SettingsChanged | GenerationEnded)]
    assert kinds == [StepEnded] * 4 + [SettingsChanged, GenerationEnded]
    assert all(event.device_stamps for event in live.told)
    assert [event.index for event in live.told] == list(range(live.told[0].index, live.told[0].index + 4))


def test_whoever_waits_for_a_step_hears_all_of_it(live: OnDevice) -> None:
    live.bench.workbench.is_awaited = lambda: True
    run = live.bench.start(tokens=8)
    for made in range(1, 4):  # somebody waits at each, as for single steps
        run.step(held=True)
        assert len(live.told) == made
    run.end("stopped")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("detail", "step"),
        ("detail", "phase"),
        ("detail", "core"),
        ("speculation", "lookup"),
        ("batch", 3),
        ("beams", 3),
        ("kv_cache", "none"),
        ("prefill_chunk", 16),
    ],
)
def test_all_ways_to_go_on_have_both_clocks(live: OnDevice, key: str, value: SettingValue) -> None:
    bench = live.bench
    bench.workbench.change(((key, value),))
    assert dict(bench.trace.configuration)[key] == value
    live.begin((5_000, 1_000))
    bench.generate(tokens=10)
    assert len(live.rows) >= 3
    for row in live.rows:
        stamps, host = bench.trace.device_stamps(row), bench.trace.stamps(row)
        assert stamps is not None
        assert bench.trace.steps.phases_ns[row].sum() == bench.trace.steps.wall_ns[row]
        there = stamps != NO_TIME
        assert (stamps[there] >= host[there]).all()
    assert not [event for event in live.events if isinstance(event, Noticed)]


@pytest.mark.parametrize(("costs", "bound"), [(LAUNCH_BOUND, Bound.LAUNCH), (DEVICE_BOUND, Bound.DEVICE)])
def test_lanes_tell_waiting_for_launches_from_work(
    live: OnDevice, costs: tuple[int, int], bound: Bound
) -> None:
    live.begin(costs)
    live.bench.generate(tokens=10)
    both = lanes(live.bench.trace, live.row + 6)
    assert both is not None
    found = verdict(both.times)
    assert found.bound is bound
    assert found.reason.endswith(".")
    if bound is Bound.DEVICE:
        assert both.times.waiting_ns > 0.5 * both.times.wall_ns
        assert both.times.starved_ns < 0.1 * both.times.device_ns
        assert verdict(both.times, 0.8 * both.times.device_ns, 1e3).bound is Bound.MEMORY
        assert verdict(both.times, 1e3, 0.8 * both.times.device_ns).bound is Bound.COMPUTE
        assert verdict(both.times, 1e3, 1e3).bound is Bound.DEVICE
    else:
        assert both.times.starved_ns > 0.8 * both.times.device_ns
        assert both.times.waiting_ns < 0.1 * both.times.wall_ns
    ran = {(span.name, span.depth) for span in both.ran}
    assert ran < {(span.name, span.depth) for span in both.launched}
    idle = sum(stretch.duration_ns for stretch in both.idle)
    assert idle + both.times.device_ns == both.times.wall_ns


def test_what_is_asked_for_at_a_step_comes_before_it(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(FakeDevice(), monkeypatch)
    out = io.StringIO()
    front = Running(JsonReport(out), {5: (("detail", "phase"),)})
    load = Load(str(llama), "cpu")
    assert front.run(load, Generate(Prompt(PROMPT), 10, stop_at_end_token=False)) == 0
    (mark,) = front.trace.marks
    assert mark.step == mark.event.step == 5
    assert front.trace.steps.configuration.tolist() == [0] * 5 + [1] * 5
    lines = out.getvalue().splitlines()
    assert sum('"clock": "device"' in line for line in lines) == 10
    assert sum('"bound": "' in line for line in lines) == 10


def test_a_pause_says_all_that_was_measured(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(FakeDevice(), monkeypatch)
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    heard: list[Event] = []

    def emit(event: Event) -> None:
        heard.append(event)
        if isinstance(event, StepEnded) and event.index == 3:
            for command in (Pause(), Change((("detail", "phase"),)), Shutdown()):
                commands.put(command)

    commands.put(Load(str(llama), "cpu"))
    commands.put(Generate(Prompt(PROMPT), 50, stop_at_end_token=False))
    run_session(commands, emit)
    steps = [event for event in heard if isinstance(event, StepEnded)]
    changed = next(event for event in heard if isinstance(event, SettingsChanged))
    assert changed.step == len(steps)
    assert heard.index(changed) > heard.index(steps[-1])
    assert all(event.device_stamps for event in steps)


def test_a_clock_without_an_answer_is_a_notice_and_steps_go_on(live: OnDevice) -> None:
    live.device.is_stuck = True
    assert len(live.bench.generate(tokens=6)) == 6
    notices = [event for event in live.events if isinstance(event, Noticed)]
    assert len(notices) == 1
    steps = live.bench.trace.steps
    assert (steps.device_offset[live.row :] == -1).all()
    assert (steps.phases_ns[live.row :].sum(axis=1) == steps.wall_ns[live.row :]).all()
    live.device.is_stuck = False
    live.begin()
    live.bench.generate(tokens=6)
    assert (steps.device_offset[live.row :] >= 0).all()


def test_a_device_without_a_clock_says_so_beside_the_level_of_detail(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.workbench.open_events", lambda *_: ([], "Events keep no time here."))
    bench = Bench(llama)
    (detail,) = (facts for facts in bench.workbench.facts if facts.key == "detail")
    assert "Events keep no time here." in detail.expected
    bench.generate(tokens=2)
    steps = [event for event in bench.events if isinstance(event, StepEnded)]
    assert all(event.device_stamps == b"" for event in steps)
    bench.close()
