"""What is left beside a session that did not end as it should: a text that says how far it had come, for people.

While a session is written, a crash of the program that writes it (a signal, not a kill -9) leaves the stacks of its
threads in a file beside it, which the report then quotes.
"""

import contextlib
import faulthandler
import json
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from engine.trace.phases import LABELS, Phase

LONGEST = 64 * 1024  # characters of what is quoted
SHOWN = 5  # phases of the last step, the longest first


def report_path(session: Path) -> Path:
    """Where the report of a session lies."""
    return session.with_suffix(".report.txt")


def crash_path(session: Path) -> Path:
    """Where a crash of the program that writes a session leaves its stacks."""
    return session.with_suffix(".crash.txt")


class CrashGuard:
    """Lets a crash of this process leave the stacks of its threads beside the session that is being written."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None
        self._path: Path | None = None
        self._before = False

    def watch(self, session: Path) -> None:
        """From now on a crash is one of this session."""
        self.leave()
        with contextlib.suppress(OSError, ValueError):
            self._path = crash_path(session)
            self._file = self._path.open("w", encoding="utf-8")
            self._before = faulthandler.is_enabled()
            faulthandler.enable(self._file)

    def leave(self) -> None:
        """As before; a file into which no crash was written goes."""
        if self._file is None or self._path is None:
            return
        faulthandler.disable()
        if self._before and sys.__stderr__ is not None:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                faulthandler.enable(sys.__stderr__)
        self._file.close()
        self._file = None
        with contextlib.suppress(OSError):
            if not self._path.stat().st_size:
                self._path.unlink()


def write_report(session: Path, connection: sqlite3.Connection, metadata: Mapping[str, str]) -> Path | None:
    """Write the report of a session; None where that is not possible. What it quotes of a crash goes with it."""
    lines = [
        f"Session: {session.name}",
        *(f"{key}: {metadata[key]}" for key in ("program", "front", "python", "platform") if key in metadata),
        *(f"{key}: {metadata[key]}" for key in ("model", "device", "started_at") if key in metadata),
        *_engine(connection),
        "",
        *_last_step(connection),
        *_last_words(connection),
        *_stacks(session),
    ]
    path = report_path(session)
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
        crash_path(session).unlink(missing_ok=True)
    except OSError:
        return None
    return path


def _engine(connection: sqlite3.Connection) -> Iterator[str]:
    for (body,) in connection.execute("SELECT body FROM events WHERE kind = 'EngineStarted' LIMIT 1"):
        started = _plain(body)
        with contextlib.suppress(TypeError, ValueError):
            yield "versions: " + ", ".join(
                f"{name} {version}" for name, version in started.get("versions", ())
            )
        yield f"processor: {started.get('processor', '')}"


def _last_step(connection: sqlite3.Connection) -> Iterator[str]:
    columns = [f"{phase.name.lower()}_ns" for phase in Phase]
    query = (
        f"SELECT step, kind, generation, wall_ns, {', '.join(columns)} FROM steps ORDER BY step DESC LIMIT 1"
    )
    row = connection.execute(query).fetchone()
    if row is None:
        yield "No step was written down."
        return
    step, kind, generation, wall_ns, *times = row
    yield f"Last step that was written down: {step} ({kind}), of generation {generation}, {wall_ns / 1e6:,.3f} ms."
    longest = sorted(zip(times, Phase, strict=True), reverse=True)[:SHOWN]
    yield (
        "Its longest phases: " + ", ".join(f"{LABELS[p]} {ns / 1e6:,.3f} ms" for ns, p in longest if ns) + "."
    )


def _last_words(connection: sqlite3.Connection) -> Iterator[str]:
    for (body,) in connection.execute(
        "SELECT body FROM events WHERE kind = 'StateChanged' ORDER BY event DESC LIMIT 1"
    ):
        yield f"The engine was {_plain(body).get('state', '')} then."
    query = (
        "SELECT kind, body FROM events WHERE kind IN ('Failed', 'EngineEnded') ORDER BY event DESC LIMIT 1"
    )
    for _, body in connection.execute(query):
        said = _plain(body)
        if said.get("sentence"):
            yield f"The last trouble: {said['sentence']}"
            yield str(said.get("details") or said.get("report") or "")[-LONGEST:]


def _stacks(session: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        found = crash_path(session).read_bytes()[:LONGEST].decode("utf-8", "replace")
        if found:
            yield "\nThe stacks of the program that wrote the session, when it crashed:\n"
            yield found


def _plain(body: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(body)
        if isinstance(found, dict):
            return found
    return {}
