"""What is wished of recorded sessions is done on a thread of its own, one thing after the other, or said why not."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QFile
from pytestqt.qtbot import QtBot

from engine.protocol import NoteTaken
from engine.trace.recording import Recorder, read_metadata, read_session
from engine.trace.recording.listing import SessionEntry
from engine.trace.recording.report import report_path
from engine.trace.recording.session_file import SessionFile
from engine.trace.recording.shelf import Shelf
from gui.session_keeper import SessionKeeper
from tests.engine.trace.recording.sessions import rich, written

NOON = 1_700_000_000


class Keeping:
    """A keeper of a shelf with three sessions, and what it has said."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.shelf = Shelf(directory)
        self.recorder: Recorder | None = None
        self.paths = [written(directory / f"{name}.cyclograph", rich()) for name in "abc"]
        for place, path in enumerate(self.paths):
            os.utime(path, (NOON + place, NOON + place))
        self.keeper = SessionKeeper(self.shelf, lambda: self.recorder)
        self.lists: list[list[SessionEntry]] = []
        self.said: list[str] = []
        self.keeper.listed.connect(lambda entries, _: self.lists.append(entries))
        self.keeper.done.connect(self.said.append)
        self.keeper.failed.connect(self.said.append)
        self.keeper.note_failed.connect(self.said.append)

    def titles(self) -> dict[str, str]:
        return {entry.path.stem: entry.title for entry in self.lists[-1]} if self.lists else {}


@pytest.fixture
def keeping(tmp_path: Path, qapp: object) -> Iterator[Keeping]:
    made = Keeping(tmp_path / "sessions")
    yield made
    made.keeper.stop()


Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def until(qtbot: QtBot) -> Until:
    return lambda condition: qtbot.waitUntil(lambda: bool(condition()), timeout=10_000)


def test_it_lists_what_there_is_that_written_last_first(keeping: Keeping, until: Until) -> None:
    keeping.keeper.refresh()
    until(lambda: keeping.lists)
    assert [entry.path.stem for entry in keeping.lists[-1]] == ["c", "b", "a"]


def test_a_session_is_named_and_pinned_and_the_list_never_shows_the_old_name_again(
    keeping: Keeping, until: Until
) -> None:
    keeping.keeper.refresh()
    keeping.keeper.describe(keeping.paths[0], {"title": "first", "description": "of all"})
    keeping.keeper.pin(keeping.paths[0], True)
    keeping.keeper.refresh()
    until(lambda: keeping.lists and keeping.lists[-1][-1].is_pinned and keeping.titles()["a"] == "first")
    assert all(titles[-1].title == "first" for titles in keeping.lists[1:])
    keeping.keeper.stop()
    told = read_metadata(keeping.paths[0])
    assert (told["title"], told["description"], told["pinned"]) == ("first", "of all", "yes")


def test_what_cannot_be_written_is_said_and_the_list_shows_what_is_in_the_file(
    keeping: Keeping, until: Until
) -> None:
    keeping.keeper.describe(keeping.paths[0], {"title": "x" * 500})
    assert "up to 200" in keeping.said[-1]
    keeping.paths[1].write_text("no session")
    keeping.keeper.describe(keeping.paths[1], {"title": "x"})
    until(lambda: len(keeping.said) == 2 and keeping.lists)
    assert "is no session" in keeping.said[-1]
    assert keeping.titles()["b"] == ""


def test_nothing_outside_of_the_shelf_is_touched(keeping: Keeping, tmp_path: Path, until: Until) -> None:
    outside = written(tmp_path / "mine.cyclograph", rich())
    link = keeping.shelf.directory / "link.cyclograph"
    link.symlink_to(outside)
    raw = outside.read_bytes()
    for path in (outside, link):
        keeping.keeper.describe(path, {"title": "x"})
        keeping.keeper.add_note(path, NoteTaken(1, 2, "x"))
        keeping.keeper.discard(path)
    until(lambda: len(keeping.said) == 6)
    assert all("does not lie where sessions are kept" in sentence for sentence in keeping.said)
    assert outside.read_bytes() == raw


def test_a_note_is_written_into_a_recording(keeping: Keeping) -> None:
    keeping.keeper.add_note(keeping.paths[0], NoteTaken(1, 2, "here"))
    keeping.keeper.stop()
    assert read_session(keeping.paths[0]).trace().note_on(2) == "here"
    assert keeping.said == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it would be the trash of whoever runs this")
def test_a_session_goes_to_the_trash_with_what_lies_beside_it(keeping: Keeping, until: Until) -> None:
    Path(os.environ["XDG_DATA_HOME"]).mkdir(parents=True, exist_ok=True)
    path = keeping.paths[1]
    report_path(path).write_text("of a crash")
    path.with_name(f"{path.name}-journal").touch()
    keeping.keeper.discard(path)
    until(lambda: keeping.said)
    assert keeping.said == ["“b” was moved to the trash."]
    until(lambda: keeping.lists)
    assert [entry.path.stem for entry in keeping.lists[-1]] == ["c", "a"]
    assert sorted(each.name for each in keeping.shelf.directory.iterdir()) == ["a.cyclograph", "c.cyclograph"]


def test_where_there_is_no_trash_nothing_is_deleted(
    keeping: Keeping, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QFile, "moveToTrash", lambda _: False)
    report_path(keeping.paths[0]).write_text("of a crash")
    keeping.keeper.discard(keeping.paths[0])
    until(lambda: keeping.said)
    assert "There is no trash" in keeping.said[0]
    assert "nothing was deleted" in keeping.said[0]
    assert keeping.paths[0].exists()
    assert report_path(keeping.paths[0]).exists()


def test_the_session_that_is_recorded_is_not_deleted(keeping: Keeping, until: Until) -> None:
    file = SessionFile(keeping.shelf.directory / "live.cyclograph", {})
    file.write(rich())
    keeping.keeper.discard(file.path)
    until(lambda: keeping.said)
    assert "is in use" in keeping.said[0]
    assert file.path.exists()
    file.close()


def test_the_oldest_make_room(keeping: Keeping, until: Until) -> None:
    keeping.shelf.most_bytes = 2 * keeping.paths[0].stat().st_size
    keeping.keeper.make_room()
    until(lambda: keeping.lists)
    assert [entry.path.stem for entry in keeping.lists[-1]] == ["c", "b"]
    assert keeping.said[0].startswith("1 session deleted, ")


def test_after_the_end_nothing_is_done(keeping: Keeping) -> None:
    keeping.keeper.stop()
    keeping.keeper.refresh()
    keeping.keeper.stop()
    assert keeping.lists == []
