"""A session that is over is changed only after all checks, alone, and in nothing that was measured."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.protocol import LONGEST_NOTE, NoteTaken
from engine.trace.recording import RecordingError, read_metadata, read_session
from engine.trace.recording.changing import LONGEST, add_note, change_metadata, pin
from engine.trace.recording.session_file import SessionFile, beside
from tests.engine.trace.recording.sessions import rich, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "a.cyclograph", rich())


CHANGES: tuple[Callable[[Path], None], ...] = (
    lambda path: change_metadata(path, {"title": "x"}),
    lambda path: pin(path, True),
    lambda path: add_note(path, NoteTaken(1, 3, "x")),
)


def test_title_and_description_are_kept_as_they_are_and_nothing_else_changes(path: Path) -> None:
    before, when = read_session(path), path.stat().st_mtime_ns
    told = {"title": "<b>Erste</b> 试 \N{GRINNING FACE}", "description": "two\nlines"}
    change_metadata(path, told)
    after = read_session(path)
    assert after.metadata == before.metadata | told
    assert list(after.events()) == list(before.events())
    assert path.stat().st_mtime_ns == when  # the shelf goes by it
    assert not any(each.exists() for each in beside(path))


def test_a_note_is_added_replaced_and_removed(path: Path) -> None:
    add_note(path, NoteTaken(7, 3, "first"))
    add_note(path, NoteTaken(8, 3, "<i>second</i>"))
    recorded = read_session(path)
    assert recorded.notices == ()
    assert recorded.trace().note_on(3) == "<i>second</i>"
    assert len(recorded.trace().notes) == 2
    add_note(path, NoteTaken(9, 3, ""))
    assert read_session(path).trace().note_on(3) == ""


def test_what_was_measured_cannot_be_changed_nor_a_text_be_endless(path: Path) -> None:
    raw = path.read_bytes()
    with pytest.raises(RecordingError, match="cannot be changed"):
        change_metadata(path, {"model": "another"})
    with pytest.raises(RecordingError, match="up to 200 are kept"):
        change_metadata(path, {"title": "x" * (LONGEST["title"] + 1)})
    with pytest.raises(RecordingError, match="half a character"):
        change_metadata(path, {"title": "\ud83d"})
    with pytest.raises(RecordingError, match="up to 500 characters"):
        add_note(path, NoteTaken(1, 3, "x" * (LONGEST_NOTE + 1)))
    assert path.read_bytes() == raw


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_that_is_being_recorded_is_left_alone(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    file = SessionFile(tmp_path / "live.cyclograph", {"title": "mine"})
    file.write(rich())
    with pytest.raises(RecordingError, match="is being recorded"):
        change(file.path)
    file.close()
    assert read_metadata(file.path)["title"] == "mine"


@pytest.mark.parametrize("change", CHANGES)
def test_a_session_that_another_program_changes_is_left_alone(
    path: Path, change: Callable[[Path], None]
) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RecordingError, match="is open in another program"):
            change(path)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON metadata BEGIN DELETE FROM steps; END", "holds triggers"),
        ("CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM steps; END", "holds triggers"),
        ("DROP TABLE tokens", "lacks the table"),
        ("CREATE VIRTUAL TABLE v USING fts5(a)", "virtual table"),
    ],
)
def test_a_file_that_fails_a_check_is_not_written_to(
    path: Path, change: Callable[[Path], None], spoil: str, reason: str
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(spoil)
    raw = path.read_bytes()
    with pytest.raises(RecordingError, match=reason):
        change(path)
    assert path.read_bytes() == raw


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_session_is_not_written_to(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "b.cyclograph"
    path.write_text("my diary")
    with pytest.raises(RecordingError, match="is no session"):
        change(path)
    assert path.read_text() == "my diary"


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="who may do everything is refused nothing"
)
def test_a_file_that_may_not_be_written_is_one_sentence(path: Path) -> None:
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(RecordingError):
            pin(path, True)
    finally:
        path.parent.chmod(0o700)
