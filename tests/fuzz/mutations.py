"""Ways to spoil a session file: bytes of it, and what its tables say. Seeded, so that a case can be made again."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

Mutation = Callable[[random.Random, Path], None]

NUMBERS = (0, 1, -1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 10**9)
TEXTS = (
    "",
    "<script>alert(1)</script>",
    "\0",
    "é" * 1000,
    "NaN",
    "null",
    "[" * 2000,
    "{}",
    "'; DROP TABLE steps; --",
)
REALS = ("0.5", "-1e308", "9e999")
JSON = ("null", "[]", "{}", "-1", "1e999", "9223372036854775807", '"NaN"', "true", "[[[[1]]]]", '"\\ud800"')


def flip_bits(source: random.Random, path: Path) -> None:
    """A few bits anywhere."""
    raw = bytearray(path.read_bytes())
    for _ in range(source.choice((1, 2, 8, 64))):
        raw[source.randrange(len(raw))] ^= 1 << source.randrange(8)
    path.write_bytes(raw)


def flip_header(source: random.Random, path: Path) -> None:
    """Bytes of the first page: the header, and the schema behind it."""
    raw = bytearray(path.read_bytes())
    for _ in range(source.choice((1, 4))):
        raw[source.randrange(18, min(len(raw), 2000))] = source.randrange(256)
    path.write_bytes(raw)


def cut(source: random.Random, path: Path) -> None:
    """The end is missing."""
    raw = path.read_bytes()
    path.write_bytes(raw[: source.randrange(len(raw))])


def lengthen(source: random.Random, path: Path) -> None:
    """Something stands behind the end."""
    path.write_bytes(path.read_bytes() + source.randbytes(source.choice((1, 4096, 70_000))))


def mix_pages(source: random.Random, path: Path) -> None:
    """A page lies where another one was: references lead in circles."""
    raw = bytearray(path.read_bytes())
    size = int.from_bytes(raw[16:18], "big") or 65536
    pages = max(1, len(raw) // size)
    one, other = (source.randrange(pages) * size for _ in range(2))
    raw[other : other + size] = raw[one : one + size]
    path.write_bytes(raw)


def zero(source: random.Random, path: Path) -> None:
    """A stretch of zeros, or of ones."""
    raw = bytearray(path.read_bytes())
    begin = source.randrange(len(raw))
    length = min(source.choice((16, 512, 16384)), len(raw) - begin)
    raw[begin : begin + length] = source.choice((b"\0", b"\xff")) * length
    path.write_bytes(raw)


def log_of_noise(source: random.Random, path: Path) -> None:
    """A log beside it that is none."""
    begin = source.choice((b"\x37\x7f\x06\x82\x00\x2d\xe2\x18", b"", b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"))
    name = source.choice(("-wal", "-wal", "-journal"))
    Path(f"{path}{name}").write_bytes(begin + source.randbytes(source.randrange(40_000)))


def change_values(source: random.Random, path: Path) -> None:
    """Values of any column, of the kind that it has."""
    for _ in range(source.choice((1, 3))):
        table = source.choice(("steps", "steps", "tokens", "events", "metadata", "packed"))
        _run(path, lambda connection, table=table: _change(source, connection, table))


def _change(source: random.Random, connection: sqlite3.Connection, table: str) -> None:
    columns = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}
    column = source.choice(list(columns))
    value: object = {
        "INTEGER": source.choice(NUMBERS),
        "TEXT": source.choice(TEXTS),
        "BLOB": source.randbytes(source.choice((0, 1, 28, 56, 4096))),
    }.get(columns[column], 0.0)
    where = f"rowid % {source.choice((1, 2, 7))} = 0"
    connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {where}", (value,))


def change_json(source: random.Random, path: Path) -> None:
    """A member of an event, at any depth."""

    def change(connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT event, body FROM events").fetchall()
        event, body = source.choice(rows)
        paths = connection.execute("SELECT fullkey FROM json_tree(?)", (body,)).fetchall()
        (place,) = source.choice(paths)
        connection.execute(
            "UPDATE events SET body = json_set(body, ?, json(?)) WHERE event = ?",
            (place, source.choice(JSON), event),
        )

    _run(path, change)


def change_body(source: random.Random, path: Path) -> None:
    """Characters of an event."""

    def change(connection: sqlite3.Connection) -> None:
        event, body = source.choice(connection.execute("SELECT event, body FROM events").fetchall())
        place = source.randrange(len(body) + 1)
        body = (
            body[:place]
            + source.choice(('"', "{", "]", "9", "", "\0", body))
            + body[place + source.randrange(3) :]
        )
        connection.execute("UPDATE events SET body = ? WHERE event = ?", (body, event))

    _run(path, change)


def shuffle(source: random.Random, path: Path) -> None:
    """Rows go, come twice, or stand elsewhere."""
    statement = source.choice(
        (
            "DELETE FROM {t} WHERE rowid % 3 = 1",
            "DELETE FROM {t}",
            "UPDATE {t} SET rowid = -rowid",
            "UPDATE {t} SET rowid = rowid * 1000000007",
            "UPDATE {t} SET step = {n}",
            "INSERT INTO events (step, at_ns, kind, body) SELECT step, at_ns, kind, body FROM events",
            "UPDATE events SET kind = (SELECT kind FROM events AS o WHERE o.event = events.event + 1)",
        )
    ).format(t=source.choice(("steps", "tokens", "events", "packed")), n=source.choice(NUMBERS))
    _run(path, lambda connection: connection.execute(statement))


def change_schema(source: random.Random, path: Path) -> None:
    """Other tables, columns, views and triggers, or the words of the schema itself."""
    statement = source.choice(
        (
            "CREATE TABLE mine (a)",
            "CREATE VIEW v AS SELECT * FROM v",
            "CREATE TRIGGER t AFTER DELETE ON steps BEGIN DELETE FROM tokens; END",
            "ALTER TABLE steps ADD COLUMN mine INTEGER NOT NULL DEFAULT 5",
            "ALTER TABLE tokens ADD COLUMN twice INTEGER AS (id * 2)",
            "CREATE UNIQUE INDEX i ON events (event, kind)",
            "DROP TABLE metadata",
            "PRAGMA user_version = 1001",
            "UPDATE sqlite_schema SET sql = replace(sql, 'INTEGER', 'TEXT') WHERE name = 'steps'",
            "UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '') WHERE name = 'tokens'",
            "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'steps'",
            "UPDATE sqlite_schema SET rootpage = 4000000 WHERE name = 'events'",
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE events (a, b' WHERE name = 'events'",
            "DELETE FROM sqlite_schema WHERE name = 'metadata'",
        )
    )
    _run(path, lambda connection: connection.execute(statement))


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    flip_header,
    cut,
    lengthen,
    mix_pages,
    zero,
    log_of_noise,
    change_values,
    change_values,
    change_json,
    change_json,
    change_body,
    shuffle,
    change_schema,
)


def mutate(seed: int, path: Path) -> str:
    """Spoil a file by one to three of them; returns their names."""
    source = random.Random(seed)
    chosen = source.choices(MUTATIONS, k=source.choice((1, 1, 1, 2, 3)))
    chosen.sort(key=lambda each: each in (flip_bits, flip_header, cut, mix_pages, zero, log_of_noise))
    for each in chosen:
        if path.stat().st_size:
            each(source, path)
    return ", ".join(each.__name__ for each in chosen)


def _run(path: Path, change: Callable[[sqlite3.Connection], object]) -> None:
    """Change a database; one that is spoiled already, is empty, or does not take it, stays as it is."""
    with suppress(sqlite3.Error, IndexError), closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        change(connection)
