"""The sample session: what is in it, that it comes with the program, and that it can be made again."""

import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from engine.sample_session import SAMPLE_FILE, session_path
from engine.trace.phases import StepKind
from engine.trace.recording import read_session
from engine.trace.recording.recorded import RecordedSession
from resources.sample_session import make

ROOT = Path(__file__).resolve().parents[2]
SWITCHED = {"quantization", "kv_cache", "speculation", "attention"}


@pytest.fixture(scope="module")
def sample() -> RecordedSession:
    return read_session(SAMPLE_FILE)


def test_it_is_short_whole_and_says_what_it_is(sample: RecordedSession) -> None:
    assert sample.notices == ()
    assert SAMPLE_FILE.stat().st_size <= 1_500_000
    assert 400 <= len(sample.steps) <= 800
    assert sample.metadata["title"] == make.SAMPLE_TITLE
    assert "on a CPU (" in sample.metadata["description"]
    assert sample.metadata["ended_at"]
    assert sample.loaded.model.device == "cpu"


def test_it_shows_switches_that_a_viewer_can_see(sample: RecordedSession) -> None:
    trace = sample.trace()
    assert len(trace.generations) == len(make.RUNS)
    assert all(generation.ended for generation in trace.generations)
    asked = {(c.key, c.effective) for mark in trace.marks for c in mark.event.changes}
    assert {key for key, _ in asked} == SWITCHED
    assert {("quantization", "int8"), ("quantization", "int4"), ("kv_cache", "none")} <= asked
    assert not [mark for mark in trace.marks for c in mark.event.changes if c.reason]  # none was refused
    assert StepKind.VERIFY in {trace.kind(step) for step in range(len(trace.steps))}
    assert [note.event.text for note in trace.notes] == [
        text for run in make.RUNS for text in run.notes.values()
    ]
    assert trace.calibrations
    assert (trace.steps.floor_ns > 0).any()
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()


def test_nothing_of_the_machine_but_its_kind_is_in_it() -> None:
    with closing(sqlite3.connect(f"{SAMPLE_FILE.as_uri()}?mode=ro", uri=True)) as connection:
        texts = [str(cell) for row in connection.execute("SELECT body FROM events") for cell in row]
        texts += [str(cell) for row in connection.execute("SELECT * FROM metadata") for cell in row]
    assert not [
        text for text in texts if any(root in text for root in ("/home", "/root", "/tmp", "/work", "C:\\"))
    ]


def test_it_is_named_and_packaged() -> None:
    assert session_path("sample") == SAMPLE_FILE
    assert session_path("a.cyclograph") == Path("a.cyclograph")
    assert SAMPLE_FILE.is_relative_to(ROOT / "resources")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"*{SAMPLE_FILE.suffix}" in project["tool"]["setuptools"]["package-data"]["*"]


def test_it_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = (
        make.Run("def ", 6, {3: (("attention", "eager"),)}, {2: "here"}),
        make.Run("class ", 4, {0: (("attention", "sdpa"),)}),
    )
    monkeypatch.setattr(make, "RUNS", runs)
    make.record(tmp_path / "a.cyclograph")
    made = read_session(tmp_path / "a.cyclograph")
    trace = made.trace()
    assert made.notices == ()
    assert made.metadata["title"] == make.SAMPLE_TITLE
    assert [generation.end_step - generation.first_step for generation in trace.generations] == [6, 4]
    assert [(mark.step, mark.event.changes[0].effective) for mark in trace.marks] == [
        (3, "eager"),
        (6, "sdpa"),
    ]
    assert [note.event.text for note in trace.notes] == ["here"]
