"""A session file is input from a stranger: one clear sentence, or what makes no sense is left out with a notice."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.protocol import GenerationStarted, SettingsChanged, StepEnded
from engine.trace.recording import RecordingError, opening, read_metadata, read_session, schema
from engine.trace.recording.recorded import RecordedSession
from tests.engine.trace.recording.sessions import assert_same, fold, rich, written

STEPS = sum(isinstance(event, StepEnded) for event in rich())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("whole") / "whole.cyclograph", rich())


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "session.cyclograph"))


def refused(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(RecordingError) as caught:
        read_session(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def changed(path: Path, *statements: str) -> Path:
    """The file after these statements."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


def repaired(path: Path, *statements: str) -> RecordedSession:
    """The session after these statements; its trace is the fold of what was left in."""
    session = read_session(changed(path, *statements))
    assert_same(session.trace(), fold(list(session.events())))
    return session


# ---------------------------------------------------------------- no session


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\0", "is no session of Cyclograph"),
        (b"%PDF-1.7" + b"x" * 5000, "is no session of Cyclograph"),
        (b"SQLite format 3\0", "cut short, behind its first bytes"),
    ],
)
def test_what_is_no_database_is_said_so(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "session.cyclograph"
    path.write_bytes(content)
    assert words in refused(path)


def test_a_gigabyte_of_zeros_is_refused_at_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "session.cyclograph"
    with path.open("wb") as file:
        file.truncate(2**30)
    begin = time.process_time()
    assert "is no session" in refused(path)
    assert time.process_time() - begin < 0.5


def test_a_gigabyte_of_zeros_behind_a_session_is_not_read(path: Path) -> None:
    os.truncate(path, 2**30)
    begin = time.process_time()
    assert len(read_session(path).steps) == STEPS
    assert time.process_time() - begin < 2


def test_what_is_no_file_is_said_so(tmp_path: Path) -> None:
    assert refused(tmp_path).endswith("is no file: choose a session file.")
    assert refused(tmp_path / "nothing").startswith("There is no file")
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refused(tmp_path / "pipe")


def test_a_file_that_was_cut_short_is_said_so(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, size // 2)
    assert f"it has {size // 2:,} of {size:,} bytes" in refused(path)


def test_a_database_of_another_program_is_said_so(tmp_path: Path) -> None:
    changed(tmp_path / "other.db", "CREATE TABLE steps (a)")
    assert "a database of another program" in refused(tmp_path / "other.db")


def test_a_newer_format_is_said_so_with_both_versions(path: Path) -> None:
    changed(path, "PRAGMA user_version = 2003")
    assert "(format 2.3; this one reads 1.x): open it with that version, or update this one" in refused(path)


def test_a_file_with_damaged_pages_is_said_so(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    page = int.from_bytes(raw[16:18], "big")
    raw[page * 2 : page * 3] = b"\xff" * page
    path.write_bytes(raw)
    assert "is damaged" in refused(path)


# ---------------------------------------------------------------- no such tables


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["DROP TABLE steps"], "lacks the table 'steps'"),
        (["DROP TABLE steps", "CREATE VIEW steps AS SELECT * FROM tokens"], "lacks the table 'steps'"),
        (["DROP TABLE tokens", "CREATE TABLE tokens (token INTEGER PRIMARY KEY)"], "lacks the table 'tokens'"),
        (["CREATE VIRTUAL TABLE mine USING fts5(a)"], "holds a virtual table"),
        (["ALTER TABLE steps DROP COLUMN gaps"], "lacks the column 'steps.gaps'"),
        (["ALTER TABLE steps DROP COLUMN held_ns"], "lacks the column 'steps.held_ns'"),
        (["ALTER TABLE steps DROP COLUMN batch", "ALTER TABLE steps ADD COLUMN batch TEXT NOT NULL DEFAULT 'many'"],
         "a column 'steps.batch' of a kind that no session has"),
        (["ALTER TABLE tokens ADD COLUMN twice INTEGER AS (id * 2)"], "a column 'tokens.twice' of a kind"),
        (["DELETE FROM events"], "does not say which model was measured"),
    ],
)  # fmt: skip
def test_tables_that_are_not_those_of_a_session_are_refused(
    path: Path, statements: list[str], words: str
) -> None:
    # Views refer to what is dropped here.
    views = [f"DROP VIEW {view.split()[2]}" for view in schema.VIEWS]
    assert words in refused(changed(path, *views, *statements))


def test_what_else_lies_in_the_file_is_left_alone(path: Path) -> None:
    trap = "CREATE TRIGGER trap AFTER INSERT ON steps BEGIN DELETE FROM steps; END"
    session = repaired(path, trap, "CREATE TABLE mine (a)", "CREATE VIEW loop AS SELECT * FROM loop")
    assert len(session.steps) == STEPS


def test_a_newer_minor_version_is_read_and_what_is_new_in_it_told(path: Path) -> None:
    session = repaired(
        path,
        "PRAGMA user_version = 1099",
        "ALTER TABLE steps ADD COLUMN dreams INTEGER NOT NULL DEFAULT 1",
        "UPDATE events SET body = json_set(body, '$.mood', 1) WHERE kind = 'GenerationEnded'",
        "INSERT INTO events (step, at_ns, kind, body) VALUES (3, 1, 'DreamSeen', '{}')",
    )
    assert session.notices == (
        "Left out: 1 × events of a kind that this version does not know (DreamSeen).",
        "Left out: 1 × fields that this version does not know (GenerationEnded.mood).",
        "Left out: 1 × a column that this version does not know (steps.dreams).",
    )
    assert len(session.steps) == STEPS


def test_a_column_that_an_older_version_did_not_have_has_its_default(path: Path) -> None:
    views = [f"DROP VIEW {view.split()[2]}" for view in schema.VIEWS]
    session = repaired(path, *views, "ALTER TABLE steps DROP COLUMN batch")
    assert session.notices == ()
    assert set(session.trace().steps.batch.tolist()) == {1}


# ---------------------------------------------------------------- nonsense in it


@pytest.mark.parametrize(
    ("statement", "notice", "lost"),
    [
        ("UPDATE steps SET gaps = x'00' WHERE step = 3", "steps whose times do not fit their layout", 1),
        ("UPDATE steps SET gaps = zeroblob(1000000) WHERE step = 3", "steps whose times do not fit their layout", 1),
        ("UPDATE steps SET layout = 77 WHERE step < 3", "steps whose layout does not exist", 3),
        ("UPDATE steps SET layout = -1 WHERE step < 3", "steps whose layout does not exist", 3),
        ("UPDATE steps SET begin_ns = -5 WHERE step = 0", "steps whose numbers cannot be", 1),
        ("UPDATE steps SET begin_ns = 9223372036854775807", "steps whose numbers cannot be", STEPS),
        ("UPDATE steps SET held_ns = -9223372036854775808 WHERE step = 1", "steps whose numbers cannot be", 1),
        ("UPDATE steps SET batch = 4294967297 WHERE step = 1", "steps whose numbers cannot be", 1),
        ("UPDATE steps SET configuration = 1 WHERE step = 0", "steps whose numbers cannot be", 1),
        ("UPDATE steps SET configuration = 1000000000 WHERE step = 20", "steps whose numbers cannot be", 1),
        ("UPDATE steps SET kind = 'DREAM' WHERE step = 20", "steps whose numbers cannot be", 1),
        ("UPDATE steps SET gaps = CAST(x'ffffffffffffffff' || substr(gaps, 9) AS BLOB)"
         " WHERE step = 13", "steps whose times run backwards", 1),
        ("UPDATE steps SET gaps = CAST(x'ffffffffffffff7f' || substr(gaps, 9) AS BLOB)"
         " WHERE step = 13", "steps whose times run backwards", 1),
        ("UPDATE steps SET device_stamps = x'01' WHERE step = 3", "steps whose device times make no sense", 1),
        ("UPDATE steps SET device_stamps = CAST(x'ffffffffffffff7f' || zeroblob(56) AS BLOB) WHERE step = 3",
         "steps whose device times make no sense", 1),
        ("UPDATE tokens SET step = 1000 WHERE token = 1", "tokens of a step that does not exist", 0),
        ("UPDATE tokens SET step = -1 WHERE token = 1", "tokens of a step that does not exist", 0),
        ("UPDATE tokens SET arrival_ns = -1 WHERE token = 1", "tokens whose numbers cannot be", 0),
        ("UPDATE tokens SET sequence = 4294967297 WHERE token = 1", "tokens whose numbers cannot be", 0),
        ("UPDATE events SET body = '{' WHERE kind = 'MemorySampled' AND step = 0", "events that make no sense (Mem", 0),
        ("UPDATE events SET body = json_set(body, '$.step', 1.5) WHERE kind = 'AlternationStarted'",
         "events that make no sense (AlternationStarted.step: is no whole number", 5),
        ("UPDATE events SET body = json_set(body, '$.at_ns', -5) WHERE kind = 'MemorySampled' AND step = 0",
         "events of the kind MemorySampled whose times or counts cannot be", 0),
        ("UPDATE events SET body = json_set(body, '$.configuration', 99) WHERE kind = 'AlternationEnded'",
         "events of the kind AlternationEnded that refer to a configuration that does not exist", 0),
        ("UPDATE events SET body = json_set(body, '$.configuration', 1000000000) WHERE kind = 'SettingsChanged'",
         "events of the kind SettingsChanged that refer to a configuration", 6),
        ("UPDATE events SET body = json_set(body, '$.codes', json('[1,1]')) WHERE kind = 'LayoutDefined' AND"
         " json_extract(body, '$.layout') = 1", "events of the kind LayoutDefined that make no sense", 1),
        ("UPDATE events SET body = json_set(body, '$.names[0].layer', 1000000) WHERE kind = 'LayoutDefined' AND"
         " json_extract(body, '$.layout') = 1", "events of the kind LayoutDefined that name a layer", 1),
        ("UPDATE events SET body = json_set(body, '$.step', 500) WHERE kind = 'KernelsCaptured'",
         "events of the kind KernelsCaptured about a step that does not exist", 0),
        ("UPDATE events SET body = json_set(body, '$.layout', 5) WHERE kind = 'KernelsCaptured'",
         "events of the kind KernelsCaptured whose layout does not exist", 0),
        ("UPDATE events SET body = json_set(body, '$.lane', 'AAAA') WHERE kind = 'KernelsCaptured'",
         "events of the kind KernelsCaptured whose entries do not fit together", 0),
        ("UPDATE events SET body = json_set(body, '$.calibration.rates[0][1]', 0) WHERE kind = 'Calibrated'",
         "events of the kind Calibrated that no machine measures", 0),
        ("UPDATE events SET body = json_set(body, '$.shape.decoder[0][0]', 1000000000) WHERE kind = 'ShapeDefined'",
         "events of the kind ShapeDefined whose layers cannot be counted", 0),
        ("UPDATE events SET body = json_set(body, '$.mark_cost_ns', 'NaN') WHERE kind = 'ObserverReport'",
         "events that make no sense (ObserverReport.mark_cost_ns: is no finite number)", 0),
        ("INSERT INTO events (event, step, at_ns, kind, body) SELECT 1000, step, at_ns, kind, body FROM events"
         " WHERE kind = 'ModelLoaded'", "a second model in one session", 0),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out_with_a_notice(
    path: Path, statement: str, notice: str, lost: int
) -> None:
    session = repaired(path, statement)
    assert any(notice in each for each in session.notices), session.notices
    assert len(session.steps) == STEPS - lost


def test_events_in_the_wrong_order_are_put_in_order(path: Path) -> None:
    session = repaired(path, "UPDATE events SET step = -4 WHERE kind = 'AlternationEnded'")
    assert [step for step, _ in session.others] == sorted(step for step, _ in session.others)


def test_tokens_in_the_wrong_order_are_put_in_order(path: Path) -> None:
    before = read_session(path).trace().tokens.step.tolist()
    session = repaired(path, "UPDATE tokens SET token = -token")
    assert session.trace().tokens.step.tolist() == before


def test_steps_may_be_missing_in_the_middle(path: Path) -> None:
    session = repaired(path, "DELETE FROM steps WHERE step BETWEEN 3 AND 9")
    assert len(session.steps) == STEPS - 7
    (change,) = (step for step, event in session.others if isinstance(event, SettingsChanged))
    assert change == 2
    assert "tokens of a step that does not exist" in session.notices[0]
    trace = session.trace()
    (captured,) = trace.captures
    assert trace.steps.captured[captured]
    assert [result.step for result in trace.results] == [STEPS - 8]  # the last one, numbered anew


def test_markup_in_names_stays_text(path: Path) -> None:
    markup = "<img src=x onerror=alert(1)>&amp;"
    session = repaired(
        path,
        f"UPDATE metadata SET value = '{markup}' WHERE key = 'program'",
        f"UPDATE events SET body = json_set(body, '$.prompt', '{markup}') WHERE kind = 'GenerationStarted'",
    )
    assert session.metadata["program"] == markup
    assert {event.prompt for _, event in session.others if isinstance(event, GenerationStarted)} == {markup}


def test_a_million_marks_are_refused_before_they_are_read(path: Path) -> None:
    changed(
        path,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)"
        " INSERT INTO events (step, at_ns, kind, body) SELECT 5, 1, 'SettingsChanged', '{}' FROM n",
    )
    begin = time.process_time()
    assert "1,000,001 events of one kind (SettingsChanged), more than a session can have" in refused(path)
    assert time.process_time() - begin < 2


def test_more_layers_than_there_can_be_are_refused(path: Path) -> None:
    names = "('[' || substr(replace(hex(zeroblob(5000)), '0', ',\"\"'), 2) || ']')"
    changed(
        path, f"UPDATE events SET body = json_set(body, '$.model.layer_names', json({names})) WHERE event = 2"
    )
    assert f"has 10,000 layers and {STEPS} steps: more than can be shown" in refused(path)


def test_a_model_of_more_layers_than_can_be_counted_is_refused(path: Path) -> None:
    changed(
        path,
        "UPDATE events SET body = json_set(body, '$.model.shape.decoder[0][0]', 1000000000) WHERE event = 2",
    )
    assert "tells of a model whose layers cannot be counted" in refused(path)


def test_a_text_that_is_too_long_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(path, "UPDATE tokens SET text = hex(zeroblob(600000)) WHERE token = 2")
    monkeypatch.setitem(opening.LIMITS, sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
    assert "is damaged (string or blob too big)" in refused(path)


def test_text_that_is_no_text_is_refused(path: Path) -> None:
    changed(path, "UPDATE tokens SET text = CAST(x'ff00fe' AS TEXT) WHERE token = 2")
    assert "UTF-8" in refused(path)


def test_reading_that_takes_too_long_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE_S", -1.0)
    monkeypatch.setattr(opening, "LOOK_EVERY", 1)
    assert "took too long for its size and was given up" in refused(path)


def test_metadata_is_bounded(path: Path) -> None:
    changed(path, "UPDATE metadata SET value = hex(zeroblob(100000)) WHERE key = 'program'")
    assert len(read_metadata(path)["program"]) == 10_000


# ---------------------------------------------------------------- with a log beside it


def test_a_log_of_nonsense_beside_a_session_is_ignored(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"\x37\x7f\x06\x82" + os.urandom(5000))
    assert len(read_session(path).steps) == STEPS


def test_where_the_directory_cannot_be_written_to_a_copy_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(f"{path}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(5000))
    connect: Callable[[Path, str], sqlite3.Connection] = opening._connect
    seen: list[Path] = []

    def denied(file: Path, how: str) -> sqlite3.Connection:
        seen.append(file)
        if file == path:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(file, how)

    monkeypatch.setattr(opening, "_connect", denied)
    assert len(read_session(path).steps) == STEPS
    assert seen[-1] != path
    assert not seen[-1].exists()
