"""Notes on steps: replaced, removed, read right behind their steps, and bounded where a stranger wrote them."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from engine.protocol import LONGEST_NOTE, Event, NoteTaken, StepEnded
from engine.trace.recording import read_session, read_trace
from engine.trace.recording.references import MOST_NOTED
from tests.engine.trace import building
from tests.engine.trace.building import T0, started, step
from tests.engine.trace.recording.sessions import LOADED, STARTED, assert_same, fold, numbered, written


def session(*notes: NoteTaken, steps: int = 6, first: int = 0) -> list[Event]:
    """Steps, numbered from `first` on, and notes behind all of them."""
    events = numbered([STARTED, LOADED, building.APART, started(), *(step() for _ in range(steps))])
    shifted = [replace(e, index=e.index + first) if isinstance(e, StepEnded) else e for e in events]
    return [*shifted, *notes]


def texts(events: list[Event]) -> list[tuple[int, str]]:
    return [(note.step, note.event.text) for note in fold(events).notes]


def test_a_step_has_one_note_which_the_latest_is() -> None:
    assert texts(session(NoteTaken(1, 4, "b"), NoteTaken(2, 1, "a"), NoteTaken(3, 4, "c"))) == [
        (1, "a"),
        (4, "c"),
    ]
    assert texts(session(NoteTaken(1, 4, "b"), NoteTaken(2, 1, "a"), NoteTaken(3, 4, ""))) == [(1, "a")]
    assert texts(session(NoteTaken(1, 2, ""))) == []


def test_notes_are_of_steps_by_the_number_that_the_engine_gave_them() -> None:
    assert texts(session(NoteTaken(1, 103, "a"), NoteTaken(1, 3, "of none"), first=100)) == [(3, "a")]
    assert texts(session(NoteTaken(1, 6, "of none yet"))) == []


def test_what_is_said_of_a_note_on_the_trace() -> None:
    trace = fold(session(NoteTaken(1, 2, "two\nlines")))
    assert trace.notes[0].text == "“two↵lines”"
    assert (trace.note_on(2), trace.note_on(3)) == ("two\nlines", "")


def test_a_file_tells_the_last_text_right_behind_its_step_and_makes_the_same_trace(tmp_path: Path) -> None:
    events = session(
        NoteTaken(1, 4, "b"), NoteTaken(2, 1, "a"), NoteTaken(3, 4, "c"), NoteTaken(4, 5, "gone")
    )
    events.append(NoteTaken(5, 5, ""))
    recorded = read_session(written(tmp_path / "a.cyclograph", events))
    assert recorded.notices == ()
    told = list(recorded.events())
    notes = [
        (told[place - 1].index, event.text)
        for place, event in enumerate(told)
        if isinstance(event, NoteTaken)
    ]
    assert notes == [(1, "a"), (4, "c")]
    live = fold(events)
    live.revision = recorded.trace().revision  # which counted what is not told any more
    assert_same(recorded.trace(), live)
    assert [note.event.text for note in recorded.trace(3).notes] == ["a"]


def test_sql_finds_what_is_left_of_them(tmp_path: Path) -> None:
    notes = (NoteTaken(1, 4, "b"), NoteTaken(2, 1, "it's"), NoteTaken(3, 4, "c"), NoteTaken(4, 1, ""))
    path = written(tmp_path / "a.cyclograph", session(*notes))
    found = sqlite3.connect(path)
    assert found.execute("SELECT * FROM notes").fetchall() == [(4, 3, "c")]
    joined = "SELECT s.step FROM notes AS n JOIN steps AS s ON s.step_index = n.step_index"
    assert found.execute(joined).fetchall() == [(4,)]
    found.close()


def test_a_strangers_notes_are_bounded_in_length_and_number(tmp_path: Path) -> None:
    long = NoteTaken(1, 0, "x" * (LONGEST_NOTE + 1))
    recorded = read_session(written(tmp_path / "long.cyclograph", session(long)))
    assert recorded.notices == ("Left out: 1 × events of the kind NoteTaken that are too long.",)
    assert recorded.trace().notes == []
    steps = MOST_NOTED + 2
    many = [NoteTaken(1, number, "n") for number in range(steps)]
    again = NoteTaken(2, 0, "again")
    recorded = read_session(written(tmp_path / "many.cyclograph", session(*many, again, steps=steps), 500))
    assert recorded.notices == ("Left out: 2 × events of the kind NoteTaken that are too many.",)
    assert len(recorded.trace().notes) == MOST_NOTED
    assert recorded.trace().note_on(0) == "again"


def test_a_note_on_a_step_that_is_not_there_is_left_out_and_told(tmp_path: Path) -> None:
    recorded = read_session(
        written(tmp_path / "a.cyclograph", session(NoteTaken(1, 77, "x"), NoteTaken(T0, -1, "y")))
    )
    (notice,) = recorded.notices
    assert notice == "Left out: 2 × events of the kind NoteTaken about a step that does not exist."
    assert recorded.trace().notes == []


def test_a_note_that_is_added_to_a_recording_takes_its_place(tmp_path: Path) -> None:
    path = written(tmp_path / "a.cyclograph", session(NoteTaken(1, 54, "b"), first=50))
    recorded = read_session(path)
    assert recorded.with_note(NoteTaken(1, 99, "of none")) is recorded
    changed = recorded.with_note(NoteTaken(9, 51, "a")).with_note(NoteTaken(9, 54, ""))
    assert [(note.step, note.event.text) for note in changed.trace().notes] == [(1, "a")]
    assert len(changed.others) == len(recorded.others)
    assert read_trace(path).notes == recorded.trace().notes
