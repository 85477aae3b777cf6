"""Opening a session file that a stranger may have made: read-only, bounded in memory and time, its tables known.

A finished file is opened as immutable: nothing is written beside it, no lock is taken. One with a log of its writer
beside it (a session that goes on, or whose program died) is opened read-only with that log, so that what was
committed last is seen; where the directory cannot be written to, which SQLite needs for that, a private copy of both
is. Triggers never fire in a file that is only read, and `trusted_schema` off keeps a schema from calling functions.
"""

import contextlib
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

from engine.trace.recording import schema
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.session_file import beside, is_written_here

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
LONGEST = 64 * 1024 * 1024  # bytes of a text or a blob
PATIENCE_S = 2.0  # for a small file;
BYTES_A_SECOND = 20_000_000  # and a second for each of so many bytes of a larger one
LOOK_EVERY = 20_000  # instructions of SQLite between two looks at the clock
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LONGEST,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 400,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


@contextlib.contextmanager
def opened(path: Path, *, whole: bool = True, seconds: float | None = None) -> Iterator[sqlite3.Connection]:
    """A connection to a session file within one transaction; `whole`: all of its pages are looked through meanwhile.

    `seconds`: how long that may take, by default the longer the larger the file is.
    Raises RecordingError, also from the block, for whatever is wrong with the file.
    """
    size = check_header(path)
    with contextlib.ExitStack() as after, as_sentences(path):
        seconds = seconds or PATIENCE_S + size / BYTES_A_SECOND
        connection = after.enter_context(_connected(path))
        set_limits(connection, seconds)
        connection.execute("BEGIN")
        check_schema(path, connection)
        pages = after.enter_context(ThreadPoolExecutor(1, "page check")) if whole else None
        checked = pages.submit(_check_pages_apart, path, seconds) if pages else None
        yield connection
        if checked is not None:
            checked.result()


def _check_pages_apart(path: Path, seconds: float) -> None:
    """On a thread and a connection of its own: SQLite lets go of the interpreter's lock meanwhile."""
    with _connected(path) as connection:
        set_limits(connection, seconds)
        check_pages(path, connection)


@contextlib.contextmanager
def as_sentences(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file in the block is a RecordingError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            raise RecordingError(
                f"Reading '{path.name}' took too long for its size and was given up: it may be damaged."
            ) from error
        raise RecordingError(f"'{path.name}' cannot be read ({_short(error)}): it may be damaged.") from error
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        raise RecordingError(f"'{path.name}' is damaged ({_short(error)}) and cannot be opened.") from error
    except OSError as error:
        raise RecordingError(f"'{path}' cannot be read ({error.strerror or error}).") from error
    except MemoryError as error:
        raise RecordingError(f"'{path.name}' needs more memory than there is.") from error


def _short(said: object) -> str:
    """What SQLite says, which may be long and quote the file, as part of a sentence."""
    return " ".join(str(said)[:200].split())


def check_header(path: Path) -> int:
    """Look at the first bytes; returns the size of the file in bytes. Raises RecordingError."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RecordingError(f"'{path}' is no file: choose a session file.")
        if is_written_here(path):
            return status.st_size
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError:
        raise RecordingError(f"There is no file '{path}'.") from None
    except (OSError, ValueError) as error:
        raise RecordingError(f"'{path}' cannot be read ({error}).") from error
    if not header:
        raise RecordingError(f"'{path.name}' is empty: nothing was recorded into it.")
    if not header.startswith(MAGIC):
        raise RecordingError(f"'{path.name}' is no session of Cyclograph: choose another file.")
    if len(header) < HEADER_BYTES:
        raise RecordingError(
            f"'{path.name}' was cut short, behind its first bytes: nothing of it can be read."
        )
    _check_length(path, header, status.st_size)
    if int.from_bytes(header[68:72], "big") != schema.APPLICATION_ID:
        raise RecordingError(f"'{path.name}' is a database of another program, no session of Cyclograph.")
    major, minor = divmod(int.from_bytes(header[60:64], "big"), 1000)
    if major != schema.MAJOR:
        raise RecordingError(
            f"'{path.name}' was written by another version of Cyclograph (format {major}.{minor}; this one reads"
            f" {schema.MAJOR}.x): open it with that version, or update this one."
        )
    return status.st_size


def _check_length(path: Path, header: bytes, size: int) -> None:
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    expected = page * int.from_bytes(header[28:32], "big")
    has_log = any(each.exists() for each in beside(path))  # pages may be there alone
    if expected > size and not has_log:
        raise RecordingError(
            f"'{path.name}' was cut short: it has {size:,} of {expected:,} bytes; copy it anew from where it is whole."
        )


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that writes nothing into the file, nor (of a finished one) beside it."""
    if not any(each.exists() and each.stat().st_size for each in beside(path)):
        with contextlib.closing(_connect(path, "mode=ro&immutable=1")) as connection:
            yield connection
        return
    try:
        connection = _connect(path, "mode=ro")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        with tempfile.TemporaryDirectory(prefix="cyclograph-") as directory:
            copy = Path(directory) / "session.cyclograph"
            for each, name in zip((path, *beside(path)), (copy, *beside(copy)), strict=True):
                if each.exists() and not each.name.endswith("-shm"):
                    shutil.copyfile(each, name)
            with contextlib.closing(_connect(copy, "mode=rw")) as connection:
                yield connection
        return
    with contextlib.closing(connection):
        yield connection


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=1.0, isolation_level=None)


def set_limits(connection: sqlite3.Connection, seconds: float, read_only: bool = True) -> None:
    """Bound what a connection may take: sizes, depths, and time, after which it is interrupted."""
    for limit, most in LIMITS.items():
        connection.setlimit(limit, most)
    deadline = monotonic() + seconds
    connection.set_progress_handler(lambda: monotonic() > deadline, LOOK_EVERY)
    reads = "ON" if read_only else "OFF"
    for pragma in ("trusted_schema = OFF", f"query_only = {reads}", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")


def check_schema(path: Path, connection: sqlite3.Connection) -> None:
    """Raise RecordingError unless the tables that are read are there, with the columns and types that they have."""
    tables = {row[1]: row for row in connection.execute("PRAGMA table_list") if row[0] == "main"}
    if any(row[2] == "virtual" for row in tables.values()):
        raise RecordingError(f"'{path.name}' holds a virtual table, which no session has: it is not opened.")
    optional = {name: needed for name, needed in schema.OPTIONAL.items() if name in tables}
    for name, needed in {**schema.NEEDED, **optional}.items():
        _, _, kind, _, _, strict = tables.get(name, ("", "", "", 0, 0, 0))
        if kind != "table" or not strict:
            raise RecordingError(
                f"'{path.name}' lacks the table '{name}' as sessions have it: it is damaged."
            )
        found = {row[1]: (row[2], row[6]) for row in connection.execute(f"PRAGMA table_xinfo({name})")}
        known = _known_columns(name)
        for column, (sql_type, hidden) in found.items():
            if hidden or known.get(column, sql_type) != sql_type:
                raise RecordingError(
                    f"'{path.name}' has a column '{name}.{column}' of a kind that no session has."
                )
        if missing := [column for column in needed if column not in found]:
            raise RecordingError(f"'{path.name}' lacks the column '{name}.{missing[0]}': it is damaged.")


def _known_columns(table: str) -> dict[str, str]:
    known = {"event": "INTEGER", "step": "INTEGER", "token": "INTEGER", "begin_ns": "INTEGER", "gaps": "BLOB"}
    known |= {"at_ns": "INTEGER", "body": "TEXT", "key": "TEXT", "value": "TEXT", "block": "INTEGER"}
    known |= {"source": "TEXT", "count": "INTEGER", "columns": "TEXT", "numbers": "BLOB"}
    declared = {"steps": schema.STEP_FIELDS, "tokens": schema.TOKEN_FIELDS}.get(table, {})
    return known | {name: sql_type for name, (_, sql_type, _) in declared.items()}


def check_pages(path: Path, connection: sqlite3.Connection) -> None:
    """Raise RecordingError unless all pages hang together and every value has the type of its column."""
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise RecordingError(f"'{path.name}' is damaged ({_short(found)}) and cannot be opened.")
