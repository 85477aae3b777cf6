"""What drawing costs is what was spent between frames."""

import pytest

from gui import frame_meter
from gui.frame_meter import FrameMeter

MS = 1_000_000


class Clocks:
    wall = 0
    spent = 0

    def pass_(self, wall_ms: int, spent_ms: int) -> None:
        self.wall += wall_ms * MS
        self.spent += spent_ms * MS


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(frame_meter, "perf_counter_ns", lambda: made.wall)
    monkeypatch.setattr(frame_meter, "thread_time_ns", lambda: made.spent)
    return made


def test_nothing_is_said_before_there_are_frames(clocks: Clocks) -> None:
    meter = FrameMeter()
    assert meter.cost() is None
    meter.frame(True)
    clocks.pass_(33, 4)
    meter.frame(True)
    assert meter.cost() is None


def test_frames_that_drew_are_told_from_those_that_did_not(clocks: Clocks) -> None:
    meter = FrameMeter()
    for number in range(41):
        meter.frame(number % 2 == 0)
        clocks.pass_(25, 5 if number % 2 == 0 else 1)
    cost = meter.cost()
    assert cost is not None
    assert cost.frame_ns == 5 * MS
    assert cost.core_share == pytest.approx(3 / 25, rel=0.02)
    assert cost.frames_per_second == pytest.approx(20, rel=0.06)


def test_a_window_at_rest_draws_nothing(clocks: Clocks) -> None:
    meter = FrameMeter()
    meter.frame(True)
    for _ in range(200):
        clocks.pass_(33, 0)
        meter.frame(False)
    cost = meter.cost()
    assert cost is not None
    assert cost.frame_ns is None
    assert cost.frames_per_second == 0
    assert cost.core_share == 0
