"""Sessions in a directory: the oldest goes first, what a crash left is put right, all of it there."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.protocol import EngineEnded, ModelLoaded
from engine.trace.recording import Recorder, RecordingError, read_metadata, read_session
from engine.trace.recording.changing import change_metadata, pin
from engine.trace.recording.report import crash_path, report_path
from engine.trace.recording.session_file import SessionFile
from engine.trace.recording.shelf import Shelf, is_in_use
from tests.engine.trace import building
from tests.engine.trace.building import started, step
from tests.engine.trace.recording.sessions import LOADED, numbered, rich, written

NOON = 1_700_000_000.0


def named(name: str) -> ModelLoaded:
    return replace(LOADED, model=replace(LOADED.model, name=name))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "sessions", clock=lambda: NOON)


def filled(shelf: Shelf, *names: str) -> list[Path]:
    """Sessions of some size, the first the oldest."""
    shelf.directory.mkdir()
    paths = []
    for place, name in enumerate(names):
        path = written(shelf.directory / f"{name}.cyclograph", rich())
        os.utime(path, (NOON + place, NOON + place))
        paths.append(path)
    return paths


def test_a_session_is_named_for_its_time_and_model_and_never_twice_the_same(shelf: Shelf) -> None:
    first = shelf.place(named("org/a model: 你好/../x"))
    assert first.parent == shelf.directory
    assert first.suffix == ".cyclograph"
    assert first.name.endswith(" org-a-model-..-x.cyclograph")
    first.touch()
    assert shelf.place(named("org/a model: 你好/../x")).stem == f"{first.stem} 2"
    assert shelf.place(named("/" * 200)).name.count("-") == 2  # those of the date


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="Sessions cannot be kept in"):
        Shelf(tmp_path / "file" / "sessions").place(LOADED)


def test_the_oldest_goes_first_but_none_that_is_pinned_or_in_use(shelf: Shelf) -> None:
    paths = filled(shelf, "a", "b", "c", "d", "e")
    one = paths[0].stat().st_size
    pin(paths[1], True)
    os.utime(paths[1], (NOON + 1, NOON + 1))
    used = SessionFile(shelf.directory / "used.cyclograph", {})
    os.utime(used.path, (NOON - 9, NOON - 9))
    report_path(paths[0]).write_text("of a")
    shelf.most_bytes = shelf.bytes - 2 * one + 1
    assert shelf.make_room() == [paths[0], paths[2]]
    assert not report_path(paths[0]).exists()
    shelf.most_bytes = 0
    assert shelf.make_room(keep=paths[4]) == [paths[3]]
    assert set(shelf.sessions()) == {used.path, paths[4], paths[1]}
    used.close()
    pin(paths[1], False)
    assert len(shelf.make_room()) == 3
    assert shelf.bytes == 0


def test_a_new_session_makes_room_for_itself(shelf: Shelf) -> None:
    paths = filled(shelf, "a", "b")
    shelf.most_bytes = 1
    shelf.place(LOADED)
    assert not any(path.exists() for path in paths)


def test_a_session_that_alone_is_too_large_ends_its_recording(shelf: Shelf) -> None:
    filled(shelf, "old")
    shelf.most_bytes = 1
    made = Recorder(shelf.place, keep_room=shelf.keep_room)
    for event in numbered([LOADED, building.APART, started(), step()]):
        made.take(event)
    made.close()
    assert "GiB that sessions may take" in made.problem
    assert [path.stem[-3:] for path in shelf.sessions()] == ["toy"]
    assert len(read_session(shelf.sessions()[0]).steps) == 1


def test_what_a_session_says_of_itself_can_be_changed(shelf: Shelf) -> None:
    (path,) = filled(shelf, "a")
    change_metadata(path, {"title": "<b>First</b> 试"})
    assert read_metadata(path)["title"] == "<b>First</b> 试"
    path.write_bytes(b"SQLite format 3\0" + bytes(200))
    with pytest.raises(RecordingError):
        change_metadata(path, {"title": "x"})


def test_a_session_in_use_is_not_taken_for_interrupted(shelf: Shelf) -> None:
    shelf.directory.mkdir()
    path = written(shelf.directory / "a.cyclograph", rich(), ended=False)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "here\n"
    assert is_in_use(path)
    assert shelf.interrupted() == []
    holder.communicate("\n")
    assert not is_in_use(path)


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM steps").fetchall()
print("here", flush=True)
sys.stdin.readline()
"""


def test_a_file_into_which_nothing_came_is_removed(shelf: Shelf) -> None:
    shelf.directory.mkdir()
    for name in ("a", "b"):
        (shelf.directory / f"{name}.cyclograph").touch()
    (shelf.directory / "a.cyclograph-wal").touch()
    assert shelf.interrupted() == []
    assert [path.name for path in shelf.directory.iterdir()] == ["b.cyclograph"]


# ---------------------------------------------------------------- kill -9

WRITE = """
import sys, time
from pathlib import Path
from engine.protocol import EngineStarted
from engine.trace.recording import Recorder
from engine.trace.recording.shelf import Shelf
from tests.gui import synthetic

shape = synthetic.Shape(layers=4, generation_steps=400)
events = list(synthetic.events(6000, shape))
shelf = Shelf(Path(sys.argv[1]))
recorder = Recorder(shelf.place, front="test")
recorder.take(EngineStarted(1, 3, 1, (("torch", "0"),), (), "a CPU", 2))
recorder.take(synthetic.loaded(4))
begin = time.monotonic()
for count, event in enumerate(events):
    recorder.take(event)
    if count % 10 == 9:
        print(time.monotonic(), count, recorder.steps_written, flush=True)
        time.sleep(0.002)
time.sleep(60)
"""


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a program that records into a directory of this name."""
    root = Path(__file__).resolve().parents[4]
    processes: list[subprocess.Popen[str]] = []

    def start(name: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WRITE, str(tmp_path / name)]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_killed_at_ten_random_moments_each_has_what_it_had_acknowledged(
    write: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    moments, late = random.Random(4), 0
    for number in range(10):
        process = write(str(number))
        assert process.stdout is not None
        lines = []
        until = moments.randrange(1, 250)
        while len(lines) < until or not int(lines[-1].split()[2]):
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        lines += process.stdout.readlines()
        told = [
            (float(at), int(taken), int(written))
            for at, taken, written in (line.split() for line in lines if line.count(" ") == 2)
        ]
        (found,) = Shelf(tmp_path / str(number)).interrupted()
        session = read_session(found.path)
        assert session.notices == ()
        assert found.steps == len(session.steps) == len(session.trace().steps)
        assert found.steps >= told[-1][2]
        early = [taken for at, taken, _ in told if at < killed_at - 0.5]
        events = sum(1 for _ in session.events()) - 2  # all that came after the model
        late += events < (early[-1] if early else 0)
        assert found.report is not None
        assert [path.suffix for path in (tmp_path / str(number)).glob("*-wal")] == []
    assert late <= 1  # lost more than half a second: only where the machine itself stood still


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_a_crash_leaves_a_report_beside_the_session(
    write: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = write("0")
    assert process.stdout is not None
    while not int(process.stdout.readline().split()[2]):
        pass
    process.send_signal(signal.SIGSEGV)
    process.wait()
    shelf = Shelf(tmp_path / "0")
    (found,) = shelf.interrupted()
    assert (found.model, found.report) == ("synthetic", report_path(found.path))
    text = report_path(found.path).read_text()
    assert "Segmentation fault" in text
    assert "versions: torch 0" in text
    assert "Last step that was written down: " in text
    assert "Its longest phases: " in text
    assert not crash_path(found.path).exists()
    assert shelf.interrupted() == []  # told of once
    assert read_metadata(found.path)["interrupted"] == "yes"


def test_the_death_of_an_engine_leaves_a_report_and_the_session_goes_on(shelf: Shelf) -> None:
    made = Recorder(shelf.place)
    for event in numbered(
        [LOADED, building.APART, started(), step(), EngineEnded(9, "The engine was killed.", -9, "a stack")]
    ):
        made.take(event)
    made.close()
    (path,) = shelf.sessions()
    text = report_path(path).read_text()
    assert "The last trouble: The engine was killed." in text
    assert "a stack" in text
    assert not crash_path(path).exists()
    connection = sqlite3.connect(path)
    (body,) = connection.execute("SELECT body FROM events WHERE kind = 'EngineEnded'").fetchone()
    connection.close()
    assert json.loads(body)["exit_code"] == -9
