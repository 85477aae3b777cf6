"""Many steps of a device at once: the same numbers as one by one, whatever the device says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol import Event, StepEnded
from engine.trace import device_bulk, device_ledger
from engine.trace.device_ledger import NO_TIME
from engine.trace.ledger import Layout
from engine.trace.recording import read_session
from tests.engine.trace import building
from tests.engine.trace.recording.sessions import assert_same, fold, written
from tests.gui import synthetic

LAYOUT = Layout(building.APART.names, building.APART.codes)
COUNT = LAYOUT.stamp_count
gaps = st.lists(st.integers(0, 10**6), min_size=COUNT, max_size=COUNT)
one = st.tuples(
    gaps, gaps, st.integers(-(10**6), 10**6), st.lists(st.booleans(), min_size=COUNT, max_size=COUNT)
)


@given(st.lists(one, min_size=1, max_size=6))
def test_the_ledgers_are_those_of_each_step_alone(steps: list[tuple]) -> None:
    host = np.array([10**9 + np.cumsum(own) for own, *_ in steps])
    times = np.array(
        [np.where(there, 10**9 + begin + np.cumsum(own), NO_TIME) for _, own, begin, there in steps]
    )
    assert device_bulk.run_forward(times).all()
    phases, layers = device_bulk.ledgers(LAYOUT, host[:, 0], np.diff(host, axis=1), times)
    for row, (stamps, device) in enumerate(zip(host, times, strict=True)):
        ran = device_ledger.NOTHING
        if (device != NO_TIME).any():
            ran = device_ledger.device_gaps(LAYOUT, stamps, device)
        assert phases[row].tolist() == device_ledger.phases_ns(LAYOUT, stamps, ran).tolist()
        assert layers[row].tolist() == device_ledger.layers_ns(LAYOUT, ran).tolist()


def test_what_goes_back_in_time_or_runs_on_is_told_apart() -> None:
    times = np.array([[5, NO_TIME, 7], [7, NO_TIME, 5], [-5, 1, 2], [NO_TIME] * 3, [5, 5, 5]])
    assert device_bulk.run_forward(times).tolist() == [True, False, False, True, True]
    ends = np.array([7, 6, 2, 9, 4])
    assert device_bulk.stand_alone(times, ends).tolist() == [True, False, True, False, False]


def device_steps(count: int) -> list[Event]:
    """Steps of two layouts; of every seventh the device runs on, of every eleventh it said nothing."""
    events: list[Event] = []
    for event in synthetic.events(count, synthetic.Shape(layers=3, generation_steps=90, mark_every=40)):
        if isinstance(event, StepEnded) and event.index % 5:
            host = np.frombuffer(event.stamps, np.int64)
            late = 0 if event.index % 7 else 10**6
            times = np.minimum(host[0] + 3_000 + (host - host[0]) * 9 // 10, host[-1]) + late
            times[[0, -1]] = NO_TIME
            times[1 + event.index % 3 :: 13] = NO_TIME
            if event.index % 11 == 0:
                times[:] = NO_TIME
            event = replace(event, device_stamps=times.tobytes())
        events.append(event)
    return events


def test_a_session_of_a_device_makes_the_same_trace(tmp_path: Path) -> None:
    events: list[Event] = [synthetic.loaded(3), *device_steps(400)]
    session = read_session(written(tmp_path / "a.cyclograph", events, 100))
    assert session.notices == ()
    entangled = session.steps.has_entangled_device
    assert 0 < entangled.sum() < session.steps.has_device.sum() / 2
    trace = session.trace()
    assert_same(trace, fold(events))
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()
    assert_same(session.trace(77), fold(list(session.events(77))))
