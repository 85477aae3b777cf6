"""The recorder: whoever measures waits for no disk, each model has a file of its own, and trouble is one sentence."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.protocol import Event, Failed, MemorySampled, ModelLoaded
from engine.trace.recording import Recorder, RecordingError, read_metadata, read_session, recorder
from engine.trace.recording.session_file import SessionFile
from tests.engine.trace import building
from tests.engine.trace.building import started, step
from tests.engine.trace.recording.sessions import LOADED, STARTED, numbered, rich

PATIENCE_S = 20.0


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Places:
    """One file after another, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[str] = []

    def __call__(self, loaded: ModelLoaded) -> Path:
        self.asked.append(loaded.model.name)
        return self.directory / f"{len(self.asked)}.cyclograph"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


@pytest.fixture
def made(places: Places) -> Iterator[Recorder]:
    made = Recorder(places, front="test")
    yield made
    made.close()


def take(made: Recorder, events: list[Event]) -> None:
    for event in events:
        made.take(event)


def test_a_session_is_written_while_it_goes_on(made: Recorder, tmp_path: Path) -> None:
    events = rich()
    take(made, events[:20])
    until(lambda: made.steps_written)
    assert made.path == tmp_path / "1.cyclograph"
    assert list(read_session(made.path).events()) == events[:20]
    take(made, events[20:])
    made.close()
    session = read_session(tmp_path / "1.cyclograph")
    assert list(session.events()) == events
    assert (session.metadata["front"], session.metadata["model"]) == ("test", "toy")
    assert session.metadata["started_at"] <= session.metadata["ended_at"]
    assert not made.problem
    assert not made.news


def test_what_was_taken_is_in_the_file_within_a_quarter_of_a_second(made: Recorder) -> None:
    take(made, numbered([LOADED, building.APART, started(), step()]))
    until(lambda: made.steps_written == 1)
    waits = []
    for count in range(2, 8):
        begin = time.monotonic()
        made.take(step())
        until(lambda wanted=count: made.steps_written == wanted)
        waits.append(time.monotonic() - begin)
    assert sorted(waits)[3] < 0.25  # the median: this machine has other things to do


def test_each_model_has_a_file_of_its_own(made: Recorder, tmp_path: Path) -> None:
    one = numbered([LOADED, building.APART, started(), step()])
    two = numbered([building.loaded(1), building.WHOLE, started(), step(stamps=(1, 2, 3, 4, 5, 6), layout=1)])
    take(made, [STARTED, *one, *two])
    made.close()
    assert list(read_session(tmp_path / "1.cyclograph").events()) == [STARTED, *one]
    assert list(read_session(tmp_path / "2.cyclograph").events()) == [STARTED, *two]


def test_where_nothing_ran_no_file_is_left(made: Recorder, tmp_path: Path) -> None:
    take(made, [STARTED, Failed(1, "no such model", "", "load"), LOADED, building.APART])
    made.close()
    assert not list(tmp_path.iterdir())


def test_taking_an_event_waits_for_nothing(made: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    write = SessionFile.write

    def slow(self: SessionFile, events: list[Event]) -> None:
        gate.wait(PATIENCE_S)
        write(self, events)

    monkeypatch.setattr(SessionFile, "write", slow)
    events = numbered([LOADED, building.APART, started(), *(step() for _ in range(2000))])
    begin = time.thread_time()
    take(made, events)
    assert time.thread_time() - begin < 0.2  # of processor time, for 2,000
    assert not made.steps_written
    gate.set()
    made.close()
    assert made.steps_written == 2000


def test_a_disk_that_is_slower_than_the_engine_is_told_of_once(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = 0
    monkeypatch.setattr(recorder, "TOGETHER", 1)
    made = Recorder(places, clock=lambda: now_ns)
    lock = threading.Lock()
    write = SessionFile.write

    def held(self: SessionFile, events: list[Event]) -> None:
        with lock:
            write(self, events)

    monkeypatch.setattr(SessionFile, "write", held)
    take(made, numbered([LOADED, building.APART, started()]))
    until(lambda: made.path)
    assert not made.is_behind
    with lock:
        take(made, numbered([step(), step(), step()]))
        now_ns = 3_000_000_000
        assert made.is_behind
    made.close()
    assert [news for news in made.news if "slower" in news] == [made.news[0]]
    assert len(made.news) == 1
    assert made.steps_written == 3


def test_when_memory_would_run_out_recording_stops_and_says_so(places: Places, tmp_path: Path) -> None:
    made = Recorder(places, most_bytes=100_000)
    take(made, numbered([LOADED, building.APART, started(), step()]))
    until(lambda: made.steps_written)
    for _ in range(1000):  # in one go: the writer looks every tenth of a second
        made.take(step())
    until(lambda: made.problem)
    made.take(step())
    made.close()
    assert "slower than the engine" in made.problem
    assert list(made.news)[-1] == made.problem
    assert len(read_session(tmp_path / "1.cyclograph").steps) == 1


def test_a_full_disk_ends_the_recording_with_one_sentence_and_keeps_what_is_there(
    made: Recorder, tmp_path: Path
) -> None:
    take(made, numbered([LOADED, building.APART, started(), step()]))
    until(lambda: made.steps_written)
    assert made._file is not None
    made._file._connection.execute(
        "PRAGMA max_page_count = 1"
    )  # SQLite says then what it says of a full disk
    many = numbered([step() for _ in range(3000)])
    take(made, many)
    until(lambda: made.problem)
    assert made.problem.startswith("The disk is full: recording to ")
    made.take(step())  # nobody minds
    made.close()
    session = read_session(tmp_path / "1.cyclograph")
    assert len(session.steps) == 1
    assert "ended_at" not in session.metadata


def test_a_place_that_cannot_be_written_to_ends_the_recording(tmp_path: Path) -> None:
    made = Recorder(lambda loaded: tmp_path / "nowhere" / "a.cyclograph")
    take(made, numbered([LOADED, building.APART, started(), step()]))
    until(lambda: made.problem)
    made.close()
    assert "choose another place" in made.problem
    assert list(made.news) == [made.problem]


def test_an_error_of_its_own_ends_the_recording_and_nothing_else(
    made: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: SessionFile, events: list[Event]) -> None:
        raise ZeroDivisionError("so")

    monkeypatch.setattr(SessionFile, "write", broken)
    take(made, numbered([LOADED, building.APART, started(), step()]))
    until(lambda: made.problem)
    assert "ZeroDivisionError: so" in made.problem


def test_an_event_of_types_that_it_does_not_declare_is_left_out_and_told_of_once(made: Recorder) -> None:
    wrong = MemorySampled(1, 2, 3, {"a": "mapping"})  # type: ignore[arg-type]
    take(made, numbered([LOADED, building.APART, started(), step(), wrong, wrong, step()]))
    made.close()
    assert not made.problem
    assert len(made.news) == 1
    assert "leaves out what is said as MemorySampled" in made.news[0]
    assert made.path is not None
    assert len(list(read_session(made.path).events())) == 5


def test_its_own_cost_is_processor_time_a_step(made: Recorder) -> None:
    take(made, numbered([LOADED, building.APART, started(), *(step() for _ in range(500))]))
    until(lambda: made.steps_written == 500)
    made.close()
    steps, ns = made.cost()
    assert steps == 500
    assert 100 < ns < 10_000_000
    assert made.cost() == (0, 0.0)


def test_a_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.cyclograph"
    path.write_text("mine")
    made = Recorder(lambda loaded: path)
    take(made, numbered([LOADED, building.APART, started(), step()]))
    until(lambda: made.problem)
    made.close()
    assert "nothing is overwritten" in made.problem
    assert path.read_text() == "mine"
    with pytest.raises(RecordingError):
        read_metadata(path)


def test_the_session_that_is_written_can_be_named_and_so_can_one_that_is_over(
    made: Recorder, tmp_path: Path
) -> None:
    events = numbered([LOADED, building.APART, started(), step()])
    take(made, events)
    until(lambda: made.steps_written)
    live = tmp_path / "1.cyclograph"
    made.change(live, {"title": "while it runs"})
    until(lambda: read_metadata(live)["title"])
    take(made, events)  # another session
    until(lambda: made.path != live)
    made.change(live, {"description": "afterwards", "pinned": "yes"})
    made.close()
    assert read_metadata(live)["title"] == "while it runs"
    assert (read_metadata(live)["description"], read_metadata(live)["pinned"]) == ("afterwards", "yes")
    assert read_metadata(tmp_path / "2.cyclograph")["title"] == ""
    assert not made.news


def test_a_change_that_cannot_be_is_refused_and_recording_goes_on(made: Recorder, tmp_path: Path) -> None:
    take(made, numbered([LOADED, building.APART, started(), step()]))
    until(lambda: made.steps_written)
    with pytest.raises(RecordingError, match="cannot be changed"):
        made.change(tmp_path / "1.cyclograph", {"model": "another"})
    made.change(tmp_path / "gone.cyclograph", {"title": "x"})
    until(lambda: made.news)
    assert "There is no file" in made.news[0]
    assert not made.problem
