"""The list of sessions: what it says of each, of broken and hostile files, too, and what it reads again."""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.protocol import NoteTaken
from engine.trace.recording import listing
from engine.trace.recording.changing import change_metadata, pin
from engine.trace.recording.listing import Listing, SessionEntry, read_entry
from engine.trace.recording.recorder import metadata
from engine.trace.recording.session_file import SessionFile
from engine.trace.recording.shelf import Shelf
from engine.user_directories import user_sessions
from tests.engine.trace.recording.sessions import LOADED, rich, written
from tests.fuzz.mutations import mutate

NOON = 1_700_000_000


def recorded(path: Path, *notes: NoteTaken, **told: str) -> SessionFile:
    file = SessionFile(path, metadata(LOADED, "test") | told)
    file.write([*rich(), *notes])
    return file


def finished(path: Path, *notes: NoteTaken, **told: str) -> Path:
    file = recorded(path, *notes, **told)
    file.note({"ended_at": "now"})
    file.close()
    return path


def test_it_says_what_a_session_is(tmp_path: Path) -> None:
    notes = NoteTaken(1, 3, "later"), NoteTaken(2, 2, "a"), NoteTaken(3, 3, "b"), NoteTaken(4, 2, "")
    path = finished(tmp_path / "a.cyclograph", *notes, started_at="2026-01-02T03:04:05+00:00")
    change_metadata(path, {"title": "A <b>title</b>", "description": "of two\nlines"})
    pin(path, True)
    entry = read_entry(path)
    assert (entry.title, entry.description) == ("A <b>title</b>", "of two\nlines")
    assert (entry.model, entry.device) == ("toy", LOADED.model.device)
    assert (entry.steps, entry.tokens) == (35, 34)
    assert entry.length_ns > 0
    assert entry.started_s == 1767323045
    assert entry.size_bytes == path.stat().st_size
    assert entry.notes == ("b", "<i>here</i> it begins")
    assert (entry.is_pinned, entry.is_interrupted, entry.is_live, entry.problem) == (True, False, False, "")


def test_the_one_that_is_recorded_is_live_and_not_interrupted(tmp_path: Path) -> None:
    file = recorded(tmp_path / "a.cyclograph")
    entry = read_entry(file.path)
    assert (entry.is_live, entry.is_interrupted, entry.steps, entry.problem) == (True, False, 35, "")
    file.abandon()
    dead = read_entry(file.path)
    assert (dead.is_live, dead.is_interrupted) == (False, True)


def test_one_that_another_program_writes_is_live_while_that_runs(tmp_path: Path) -> None:
    copied = tmp_path / "copied.cyclograph"
    file = recorded(tmp_path / "a.cyclograph", pid=str(os.getppid()))
    for end in ("", "-wal"):
        shutil.copyfile(f"{file.path}{end}", f"{copied}{end}")
    file.close()
    assert read_entry(copied).is_live
    other = tmp_path / "other.cyclograph"
    file = recorded(tmp_path / "b.cyclograph", pid="999999999")
    for end in ("", "-wal"):
        shutil.copyfile(f"{file.path}{end}", f"{other}{end}")
    file.close()
    assert (read_entry(other).is_live, read_entry(other).is_interrupted) == (False, True)


def test_a_file_that_cannot_be_opened_is_listed_with_the_reason(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    finished(tmp_path / "good.cyclograph")
    (tmp_path / "text.cyclograph").write_text("my diary")
    (tmp_path / "empty.cyclograph").touch()
    (tmp_path / "directory.cyclograph").mkdir()
    (tmp_path / "elsewhere.txt").write_text("no session")
    found = {entry.path.stem: entry.problem for entry in Listing(shelf).entries()}
    assert found.keys() == {"good", "text", "empty", "directory"}
    assert not found["good"]
    assert "is no session" in found["text"]
    assert "is empty" in found["empty"]
    assert "is no file" in found["directory"]


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert list(Listing(Shelf(tmp_path / "nowhere")).entries()) == []


def test_what_a_stranger_says_is_bounded(tmp_path: Path) -> None:
    told = {"started_at": "9999-12-31T23:59:59-23:59", "title": "t" * 5000, "model": "m" * 5000}
    path = finished(tmp_path / "a.cyclograph", **told)
    os.utime(path, (NOON, NOON))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE steps SET step = 9223372036854775807 WHERE step = 34")
        connection.execute("UPDATE steps SET begin_ns = -9223372036854775808 WHERE step = 0")
        connection.execute("UPDATE events SET body = '{' WHERE kind = 'NoteTaken'")
    os.utime(path, (NOON, NOON))
    entry = read_entry(path)
    assert (len(entry.title), len(entry.model)) == (200, 200)
    assert entry.started_s == NOON
    assert 0 <= entry.length_ns <= 2**61
    assert 0 <= entry.steps <= 2**61
    assert entry.notes == ()


@pytest.mark.parametrize("begin", [0, 50])
def test_spoiled_files_are_listed_whatever_is_wrong_with_them(tmp_path: Path, begin: int) -> None:
    whole = finished(tmp_path / "whole.txt", NoteTaken(1, 2, "a"))
    outcomes = set()
    for seed in range(begin, begin + 50):
        path = tmp_path / f"{seed}.cyclograph"
        shutil.copyfile(whole, path)
        mutate(seed, path)
        entry = read_entry(path)
        outcomes.add(bool(entry.problem))
        assert "\n" not in entry.problem
        assert isinstance(entry.title, str)
    assert outcomes == {True, False}


def test_what_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path)
    one = finished(tmp_path / "one.cyclograph")
    finished(tmp_path / "two.cyclograph")
    live = recorded(tmp_path / "live.cyclograph")
    read: list[str] = []
    real: Callable[[Path], SessionEntry] = listing.read_entry

    def counted(path: Path) -> SessionEntry:
        read.append(path.stem)
        return real(path)

    monkeypatch.setattr(listing, "read_entry", counted)
    listed = Listing(shelf)
    first = {entry.path.stem: entry for entry in listed.entries()}
    assert sorted(read) == ["live", "one", "two"]
    read.clear()
    assert {entry.path.stem: entry for entry in listed.entries()} == first
    assert read == ["live"]
    read.clear()
    change_metadata(one, {"title": "new"})
    found = {entry.path.stem: entry for entry in listed.entries()}
    assert sorted(read) == ["live", "one"]
    assert found["one"].title == "new"
    live.close()


def test_reading_an_entry_changes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "a.cyclograph", rich(), ended=False)
    raw = path.read_bytes()
    read_entry(path)
    assert path.read_bytes() == raw
    assert [each.name for each in tmp_path.iterdir()] == ["a.cyclograph"]


@pytest.mark.skipif(sys.platform != "linux", reason="XDG is of Linux")
def test_sessions_lie_with_the_data_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_sessions() == tmp_path / "cyclograph" / "sessions"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert user_sessions() == Path.home() / ".local" / "share" / "cyclograph" / "sessions"


def test_a_file_that_takes_long_is_given_up_and_listed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = finished(tmp_path / "a.cyclograph")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)"
            " INSERT INTO events (step, at_ns, kind, body) SELECT 0, 0, 'Other', '{}' FROM n"
        )
    assert read_entry(path).problem == ""
    monkeypatch.setattr(listing, "PATIENCE_S", 1e-9)
    assert "took too long for its size and was given up" in read_entry(path).problem
