"""The device's clock on a device that is not there: what really happened is known, and so is what may be waited for."""

import numpy as np
import pytest

from engine.runtime.event_reading import PATIENCE_NS, SETS
from engine.runtime.placing import JUMP_NS, RESOLUTION_NS
from engine.trace.device_ledger import NO_TIME
from engine.trace.phases import Phase
from tests.engine.runtime.fake_device import LATENCY_NS, FakeDevice, FakeEvent, FakeRecorder

PARTS = 20
TOLERANCE_NS = 5_000  # the anchor's own: it was looked for between two looks at the clock


class Loop:
    """Steps as a loop makes them: parts, a choice, a wait for the token, host work. `truth`: when events came."""

    def __init__(self, device: FakeDevice, pipelined: bool = False) -> None:
        self.device = device
        self.recorder = FakeRecorder([device])
        self.part = self.recorder.define(Phase.MLP, 0, "part")
        self.sample = self.recorder.define(Phase.SAMPLE, name="choose")
        self.transfer = self.recorder.define(Phase.TRANSFER, name="token to host")
        self.stop = self.recorder.define(Phase.STOP, name="stop")
        self.pipelined = pipelined
        self.before_ns: int | None = None
        self.truth: list[list[int]] = []
        self.host: list[list[int]] = []
        self.ends_ns: list[int] = []

    def step(self, parts: int = PARTS, work_ns: int | None = None) -> None:
        recorder, device = self.recorder, self.device
        recorder.begin_step()
        for _ in range(parts):
            recorder.begin(self.part)
            device.launch(work_ns or 0)
            recorder.end()
        recorder.begin(self.sample)
        recorder.end()
        events = [event for event in recorder._current.marks if isinstance(event, FakeEvent)]
        self.truth.append([event.at_ns for event in events if event.at_ns is not None])
        chosen_ns = device.busy_until_ns
        recorder.begin(self.transfer)
        wanted_ns = self.before_ns if self.pipelined else chosen_ns
        if wanted_ns is not None:
            device.wait_until(wanted_ns)
        self.before_ns = chosen_ns
        recorder.end()
        recorder.begin(self.stop)
        recorder.end()
        _, stamps = recorder.end_step()
        self.host.append(np.frombuffer(stamps, np.int64).tolist())
        self.ends_ns.append(device.now_ns)

    def device_stamps(self, number: int) -> list[int]:
        stamps = self.recorder.take(number)
        assert stamps is not None, f"step {number} has not been read"
        return np.frombuffer(stamps, np.int64).tolist()


def known(stamps: list[int]) -> np.ndarray:
    return np.array([stamp for stamp in stamps if stamp != NO_TIME])


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("work_ns", [0, 30_000])
def test_device_times_are_those_at_which_the_device_came_by(work_ns: int, pipelined: bool) -> None:
    loop = Loop(FakeDevice(work_ns), pipelined)
    for _ in range(30):
        loop.step()
    loop.recorder.settle()
    for number, truth in enumerate(loop.truth):
        stamps = loop.device_stamps(number)
        assert len(stamps) == len(loop.host[number])
        times = known(stamps)
        assert np.abs(times - truth).max() <= TOLERANCE_NS
        assert (np.diff(times) >= 0).all()
        assert all(
            at >= launched for at, launched in zip(stamps, loop.host[number], strict=True) if at != NO_TIME
        )
    assert loop.recorder.problems == []


def test_only_the_host_has_stamps_of_its_own_phases_and_of_the_end() -> None:
    loop = Loop(FakeDevice())
    loop.step(parts=1)
    loop.step(parts=1)
    loop.recorder.settle()
    device = [stamp != NO_TIME for stamp in loop.device_stamps(0)]
    assert device == [True, True, True, True, True, False, False, False, False, False]
    # the second also says how long reading the first took: two stamps more, of the host
    assert len(loop.device_stamps(1)) == len(device) + 2


@pytest.mark.parametrize("pipelined", [False, True])
def test_reading_waits_for_nothing_and_synchronizes_nothing(pipelined: bool) -> None:
    device = FakeDevice(work_ns=30_000)
    loop = Loop(device, pipelined)
    for _ in range(40):
        loop.step()
    assert device.synchronizations == device.pauses == 0
    assert device.waits == (39 if pipelined else 40)  # the tokens' own
    # all but those that still run have been read: each was while the host would have waited anyway
    unread = 2 if pipelined else 1
    assert [loop.recorder.take(number) is None for number in (0, 39 - unread, 40 - unread)] == [
        False,
        False,
        True,
    ]


def test_events_are_used_again_and_never_before_they_were_read() -> None:
    device = FakeDevice(work_ns=20_000)
    loop = Loop(device)
    for _ in range(200):
        loop.step()
    a_step = 2 * PARTS + 3
    bases = 2 + 200  # the anchor's, and one a step that the next one is measured from
    assert len(device.made) <= SETS * a_step + bases
    reader = loop.recorder._reader
    sets = (*reader._free, *reader.waiting, loop.recorder._current)
    alive = {id(event) for each in sets for pool in each.pools for event in pool._events}
    assert len(alive) <= SETS * a_step


def test_drift_is_followed() -> None:
    device = FakeDevice(work_ns=30_000, drift=400e-6)
    loop = Loop(device)
    worst = 0.0
    for number in range(300):  # 0.19 s; unfollowed that would be 76 µs
        loop.step()
        if number:
            times = known(loop.device_stamps(number - 1))
            worst = max(worst, float(np.abs(times - loop.truth[number - 1]).max()))
    assert worst <= TOLERANCE_NS + LATENCY_NS
    assert device.now_ns > 1_180_000_000


def test_a_pause_between_steps_begins_with_a_new_anchor() -> None:
    device = FakeDevice(work_ns=30_000, drift=200e-6)
    loop = Loop(device)
    loop.step()
    device.now_ns += 60_000_000_000
    loop.step()
    loop.recorder.settle()
    assert np.abs(known(loop.device_stamps(1)) - loop.truth[1]).max() <= TOLERANCE_NS
    assert len(loop.device_stamps(0)) == len(loop.host[0])
    assert loop.recorder.problems == []


@pytest.mark.parametrize("jump_ns", [50 * JUMP_NS, -50 * JUMP_NS])
def test_a_clock_that_jumps_costs_one_step_and_says_so_once(jump_ns: int) -> None:
    device = FakeDevice(work_ns=30_000)
    loop = Loop(device)
    for number in range(12):
        if number in (4, 8):
            device.jumped_ns += jump_ns
        loop.step()
    loop.recorder.settle()
    lost = [number for number in range(12) if not loop.recorder._reader._stamps_of[number]]
    assert set(lost) <= {4, 5, 8, 9}
    assert {4, 8} <= set(lost)
    for number in set(range(12)) - set(lost):
        assert np.abs(known(loop.device_stamps(number)) - loop.truth[number]).max() <= TOLERANCE_NS
    assert len(loop.recorder.problems) == 1
    assert "jumped" in loop.recorder.problems[0]


def test_a_step_whose_events_come_back_out_of_order_is_left_out_unless_it_is_the_timers_grain() -> None:
    for back_ns, is_left_out in ((RESOLUTION_NS // 2, False), (20 * RESOLUTION_NS, True)):
        device = FakeDevice(work_ns=0)
        loop = Loop(device)
        loop.step()
        marks = [event for event in loop.recorder._reader.waiting[0].marks if isinstance(event, FakeEvent)]
        marks[5].timer_ms = marks[4].timer_ms - back_ns / 1e6
        loop.recorder.settle()
        stamps = loop.recorder.take(0)
        assert (stamps == b"") is is_left_out
        if stamps:
            assert (np.diff(known(np.frombuffer(stamps, np.int64).tolist())) >= 0).all()


def test_events_that_never_come_are_waited_for_once_and_not_for_long() -> None:
    device = FakeDevice(work_ns=30_000)
    loop = Loop(device)
    loop.step()
    device.is_stuck = True
    for _ in range(10):
        loop.step()
    loop.recorder.settle()
    assert device.now_ns < loop.host[0][0] + 1.5 * PATIENCE_NS
    assert [loop.recorder.take(number) for number in range(11)].count(b"") >= 10
    assert len(loop.recorder.problems) == 1
    assert "no answer" in loop.recorder.problems[0]
    made = len(device.made)
    loop.step()
    assert len(device.made) == made  # it is not asked again in this generation
    device.is_stuck = False
    loop.recorder.begin_generation()
    loop.step()
    loop.recorder.settle()
    assert np.abs(known(loop.device_stamps(12)) - loop.truth[-1]).max() <= TOLERANCE_NS


def test_a_device_that_is_gone_leaves_steps_of_the_hosts_clock() -> None:
    loop = Loop(FakeDevice())
    loop.step()
    loop.device.error = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="device-side assert"):
        loop.recorder.settle()
    loop.recorder.abandon()
    assert loop.recorder.take(0) == b""


def test_what_is_forgotten_of_a_step_is_forgotten_on_both_clocks() -> None:
    loop = Loop(FakeDevice())
    loop.recorder.begin_step()
    loop.recorder.begin(loop.part)
    loop.recorder.end()
    place = loop.recorder.place()
    loop.recorder.begin(loop.part)
    loop.recorder.end()
    loop.recorder.forget(place)
    loop.device.wait_until(loop.device.busy_until_ns)
    loop.recorder.end_step()
    loop.recorder.settle()
    assert len(loop.device_stamps(0)) == 4


def test_a_step_that_fails_in_the_middle_leaves_its_events_to_the_next() -> None:
    loop = Loop(FakeDevice(work_ns=30_000))
    loop.step()
    loop.recorder.begin_step()
    loop.recorder.begin(loop.part)
    for _ in range(3):
        loop.step()
    loop.recorder.settle()
    for number in range(4):
        assert np.abs(known(loop.device_stamps(number)) - loop.truth[number]).max() <= TOLERANCE_NS
