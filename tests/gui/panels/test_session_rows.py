"""What a list says of sessions, in words, and what a smaller cap would cost."""

from pathlib import Path

import pytest

from engine.trace.recording.listing import SessionEntry
from gui.panels.session_rows import (
    STATE,
    SessionRow,
    cost_of_room,
    length_text,
    name_of,
    row_of,
    tip_of,
    too_many,
)

NOON = 1_700_000_000.0


def entry(name: str = "a", size: int = 100, **told: object) -> SessionEntry:
    return SessionEntry(Path(f"/shelf/{name}.cyclograph"), size, NOON, **told)  # type: ignore[arg-type]


def test_a_session_is_called_by_its_title_else_by_its_model_else_by_its_file() -> None:
    assert name_of(entry(title=" My\n\trun\x1b ", model="demo")) == "My run"
    assert name_of(entry(title="  ", model="demo")) == "demo"
    assert name_of(entry("file", model="demo", problem="It is damaged.")) == "file"
    assert len(name_of(entry(title="x" * 500))) == 120


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, ""),
        ({"is_live": True, "is_pinned": True}, "recording, pinned"),
        ({"is_interrupted": True}, "interrupted"),
        ({"problem": "It is damaged.", "is_pinned": True}, "cannot be opened"),
    ],
)
def test_what_is_special_is_said(told: dict[str, object], words: str) -> None:
    assert row_of(entry(**told)).cells[STATE] == words


def test_of_a_file_that_cannot_be_opened_no_numbers_are_made_up() -> None:
    cells = row_of(entry(problem="It is damaged.")).cells
    assert [cells[column] for column in (4, 5, 6)] == ["", "", ""]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.00842, "8.42 ms"), (59.2, "59.2 s"), (59.7, "1:00 min"), (245, "4:05 min"), (7389, "2:03:09 h")],
)
def test_lengths_in_words(seconds: float, words: str) -> None:
    assert length_text(round(seconds * 1e9)) == words


def test_a_search_looks_at_all_that_was_written_by_people() -> None:
    row = row_of(
        entry(
            title="Int8 run",
            description="On BATTERY",
            model="Qwen/Qwen2.5",
            notes=("the fan",),
            is_pinned=True,
        )
    )
    for words in (["int8"], ["battery", "fan"], ["qwen"], ["pinned"], ["a.cyclograph"], []):
        assert row.matches(words), words
    assert not row.matches(["int8", "nowhere"])


def test_a_tip_has_the_first_notes_and_says_how_many_more() -> None:
    tip = tip_of(entry(title="T", description="D", notes=tuple(f"note {n}" for n in range(10))))
    assert tip.splitlines()[:3] == ["T", "D", "“note 0”"]
    assert "and 2 more notes" in tip


def test_the_oldest_are_too_many_and_never_what_is_pinned_or_recorded() -> None:
    entries = [
        entry("new"),
        entry("live", is_live=True),
        entry("pinned", is_pinned=True),
        entry("old"),
        entry("oldest"),
    ]
    assert [each.path.stem for each in too_many(entries, 500)] == []
    assert [each.path.stem for each in too_many(entries, 499)] == ["oldest"]
    assert [each.path.stem for each in too_many(entries, 0)] == ["oldest", "old", "new"]


def test_what_less_room_costs_is_said() -> None:
    entries = [entry("live", 300, is_live=True), entry("old"), entry("oldest")]
    assert cost_of_room(entries, 500) == ""
    assert cost_of_room(entries, 400) == (
        "This deletes the oldest session that is not pinned (100 B), for good: press again."
    )
    assert "2 oldest sessions" in cost_of_room(entries, 200)
    assert cost_of_room(entries, 200).endswith(" and ends the recording that goes on: press again.")


def test_rows_of_the_same_session_are_equal() -> None:
    assert isinstance(row_of(entry()), SessionRow)
    assert row_of(entry()) == row_of(entry())
