"""Numbers that are packed a thousand rows at a time: the same as the rows, and never in place of other rows."""

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from engine.trace.recording import read_session, read_trace
from engine.trace.recording.packed import AT_LEAST, pack, unpack
from engine.trace.store import Trace
from tests.engine.trace.recording.sessions import assert_same, fold, written
from tests.gui import synthetic

SHAPE = synthetic.Shape(layers=3, generation_steps=300, mark_every=70)
EVENTS = [synthetic.loaded(3), *synthetic.events(3000, SHAPE)]


@pytest.fixture(scope="module")
def folded() -> Trace:
    return fold(EVENTS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "session.cyclograph", EVENTS, together=200)


def change(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


def packed_rows(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT source, sum(count) FROM packed GROUP BY source").fetchall())


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_any_numbers_come_back(rows: int) -> None:
    random = np.random.default_rng(rows)
    whole = np.iinfo(np.int64)
    columns = np.stack(
        [
            np.full(rows, 7),
            np.arange(rows) * 1000,
            random.integers(whole.min, whole.max, rows, endpoint=True),
            np.resize([whole.min, whole.max], rows),
        ]
    )
    assert (unpack(pack(columns), 4, rows) == columns).all()


def test_steps_that_are_alike_take_next_to_nothing() -> None:
    assert len(pack(np.tile(np.arange(AT_LEAST) * 52, (20, 1)))) < AT_LEAST  # bytes: 160 times fewer


@pytest.mark.parametrize(
    "blob", [b"", b"noise", zlib.compress(b"short"), zlib.compress(bytes(50_000_000)), pack(np.ones((4, 99)))[:-9]]
)  # fmt: skip
def test_what_does_not_hold_the_numbers_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="packed numbers"):
        unpack(blob, 4, 99)


def test_most_rows_of_a_session_are_packed_and_make_the_same_trace(path: Path, folded: Trace) -> None:
    counts = packed_rows(path)
    assert 3000 - AT_LEAST - 200 < counts["steps"] <= 3000
    assert counts["tokens"] >= AT_LEAST
    assert_same(read_trace(path), folded)


def test_packed_numbers_are_what_is_read(path: Path) -> None:
    session = read_session(change(path, "UPDATE steps SET batch = 9"))
    count = packed_rows(path)["steps"]
    assert set(session.steps.fields["batch"][:count].tolist()) == {1}
    assert set(session.steps.fields["batch"][count:].tolist()) == {9}


@pytest.mark.parametrize("statement", ["DROP TABLE packed", "DELETE FROM packed WHERE block > 2"])
def test_without_them_the_rows_are_read(path: Path, folded: Trace, statement: str) -> None:
    session = read_session(change(path, "PRAGMA user_version = 1000", statement))  # as a file of 1.0 is
    assert session.notices == ()
    assert_same(session.trace(), folded)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE packed SET numbers = x'00'",
        "UPDATE packed SET numbers = zeroblob(3000000)",
        "UPDATE packed SET count = count + 1",
        "UPDATE packed SET count = -1",
        "UPDATE packed SET count = 4611686018427387904",
        "UPDATE packed SET columns = 'step,step'",
        "UPDATE packed SET columns = ''",
        "UPDATE packed SET source = 'steps'",
        "DELETE FROM packed WHERE block % 2 = 1",
        "INSERT INTO packed (source, count, columns, numbers) SELECT source, count, columns, numbers FROM packed",
    ],
)
def test_what_does_not_belong_to_the_rows_is_not_taken(path: Path, folded: Trace, statement: str) -> None:
    session = read_session(change(path, statement))
    assert session.notices == ()
    assert_same(session.trace(), folded)


@pytest.mark.parametrize(("table", "field"), [("steps", "batch"), ("tokens", "sequence")])
def test_whoever_changes_rows_and_empties_the_table_is_believed(path: Path, table: str, field: str) -> None:
    session = read_session(
        change(path, f"UPDATE {table} SET {field} = 5 WHERE rowid = 2", "DELETE FROM packed")
    )
    column = {"steps": session.steps.fields, "tokens": session.steps.token_fields}[table][field]
    assert column[:4].tolist() == [column[0], column[1], 5, column[3]]


def test_rows_with_other_numbers_are_read_themselves(path: Path) -> None:
    session = read_session(change(path, "UPDATE steps SET step = step + 5000, batch = 9 WHERE step = 10"))
    assert session.steps.fields["batch"][-1] == 9
    assert session.steps.fields["index"][-1] == 2999  # all are counted anew
    assert "tokens of a step that does not exist" in "".join(session.notices)


def test_rows_that_are_gone_are_gone(path: Path) -> None:
    session = read_session(change(path, "DELETE FROM steps WHERE step >= 1500"))
    assert len(session.steps) == 1500
