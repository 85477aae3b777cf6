"""What was written down comes back: the same events, and a trace that is the fold of them to the last bit."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from engine.protocol import (
    CatalogueListed,
    Event,
    LayoutDefined,
    ModelLoaded,
    Progress,
    StepEnded,
    TokensCounted,
)
from engine.trace.phases import PHASE_COUNT, Phase
from engine.trace.recording import RecordingError, read_metadata, read_session, read_trace
from engine.trace.recording.schema import KINDS
from engine.trace.recording.session_file import SessionFile
from tests.engine.trace import building
from tests.engine.trace.building import started, step
from tests.engine.trace.recording.sessions import (
    LOADED,
    assert_same,
    each_kind,
    fold,
    numbered,
    rich,
    written,
)
from tests.gui import synthetic


@pytest.mark.parametrize("together", [1, 7, 1000])
def test_events_come_back_exactly_and_make_the_same_trace(tmp_path: Path, together: int) -> None:
    events = rich()
    session = read_session(written(tmp_path / "a.cyclograph", events, together))
    assert session.notices == ()
    assert list(session.events()) == events
    assert_same(session.trace(), fold(events))


@pytest.mark.parametrize("last", [0, 1, 5, 16, 28, 10_000])
def test_the_beginning_of_a_session_is_the_fold_of_its_first_steps(tmp_path: Path, last: int) -> None:
    session = read_session(written(tmp_path / "a.cyclograph", rich()))
    last = min(last, len(session.steps))
    events = list(session.events(last))
    assert sum(isinstance(event, StepEnded) for event in events) == last
    assert_same(session.trace(last), fold(events))


def test_a_long_session_of_several_layouts_makes_the_same_trace(tmp_path: Path) -> None:
    shape = synthetic.Shape(layers=3, generation_steps=700, mark_every=90)
    events: list[Event] = [synthetic.loaded(3), building.WHOLE, *synthetic.events(2000, shape)]
    assert_same(read_trace(written(tmp_path / "a.cyclograph", events, 500)), fold(events))


def test_a_layout_may_be_defined_anew(tmp_path: Path) -> None:
    whole = LayoutDefined(0, building.WHOLE.names, building.WHOLE.codes)
    steps = [step(), step(), step(stamps=(0, 1, 5, 5, 9, 9)), step(stamps=(0, 2, 5, 6, 9, 9))]
    events = numbered(
        [LOADED, building.APART, started(), *steps[:2], whole, *steps[2:], building.APART, step()]
    )
    session = read_session(written(tmp_path / "a.cyclograph", events))
    assert list(session.events()) == events
    assert_same(session.trace(), fold(events))


def test_any_event_between_any_steps_comes_back(tmp_path: Path) -> None:
    others = [event for event in each_kind(KINDS, 3) if not isinstance(event, ModelLoaded | LayoutDefined)]
    events = numbered([LOADED, building.APART, step(), *others, step()])
    file = SessionFile(tmp_path / "a.cyclograph", {})
    file.write(events)
    file.close()
    with sqlite3.connect(tmp_path / "a.cyclograph") as connection:
        stored = connection.execute("SELECT count(*), min(step), max(step) FROM events").fetchone()
    connection.close()
    assert stored == (len(events) - 2, 0, 1)


def test_what_an_engine_says_of_other_things_is_not_written_down(tmp_path: Path) -> None:
    private = [Progress(1, "x", None), CatalogueListed(1, ()), TokensCounted(1, 1, 3, 4, "what I type")]
    path = written(tmp_path / "a.cyclograph", [LOADED, *private, building.APART, started(), step()])
    assert b"what I type" not in path.read_bytes()
    assert len(list(read_session(path).events())) == 4


def test_a_step_that_no_trace_could_take_is_not_written_down(tmp_path: Path) -> None:
    events = [LOADED, building.APART, started(), step(layout=9), step(stamps=(1, 2)), step()]
    assert len(read_trace(written(tmp_path / "a.cyclograph", events)).steps) == 1


def test_the_columns_for_people_say_what_the_trace_says(tmp_path: Path) -> None:
    path = written(tmp_path / "a.cyclograph", rich())
    trace = read_trace(path)
    names = ", ".join(f"{phase.name.lower()}_ns" for phase in Phase)
    connection = sqlite3.connect(path)
    phases = np.array(connection.execute(f"SELECT {names} FROM steps ORDER BY step").fetchall())
    walls = np.array(connection.execute("SELECT wall_ns FROM steps ORDER BY step").fetchall())[:, 0]
    layers = connection.execute(
        "SELECT step, layer, attention_ns, mlp_ns, rest_ns FROM step_layers ORDER BY step, layer"
    ).fetchall()
    gaps = connection.execute("SELECT step, sum(ns) FROM step_gaps GROUP BY step ORDER BY step").fetchall()
    connection.close()
    assert phases.shape == (len(trace.steps), PHASE_COUNT)
    by_host = trace.steps.device_offset < 0  # the columns are by the clock of the host, which all steps have
    assert 0 < by_host.sum() < len(by_host)
    np.testing.assert_array_equal(phases[by_host], trace.steps.phases_ns[by_host])
    np.testing.assert_array_equal(phases.sum(axis=1), trace.steps.wall_ns)
    np.testing.assert_array_equal(walls, trace.steps.wall_ns)
    assert [total for _, total in gaps] == walls.tolist()  # one of them of more than 2³² ns
    assert max(walls) > 2**32
    assert layers
    for number, layer, *roles in layers:
        assert trace.steps.layers_ns[number, layer].tolist() == roles or not by_host[number]


def test_nothing_is_overwritten_unless_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.cyclograph"
    path.write_text("mine")
    with pytest.raises(RecordingError, match="nothing is overwritten"):
        SessionFile(path, {})
    assert path.read_text() == "mine"
    SessionFile(path, {"title": "yours"}, overwrite=True).close()
    assert read_metadata(path) == {"title": "yours"}


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"Recording to '.*' stopped .*: choose another place"):
        SessionFile(tmp_path / "nowhere" / "a.cyclograph", {})


def test_a_finished_file_is_one_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.cyclograph", rich())
    before = path.read_bytes()
    read_trace(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.cyclograph"]
    assert path.read_bytes() == before


def test_a_file_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    events = rich()
    file = SessionFile(tmp_path / "a.cyclograph", {})
    file.write(events[:20])
    assert list(read_session(file.path).events()) == events[:20]
    file.write(events[20:])
    assert_same(read_trace(file.path), fold(events))
    file.close()
