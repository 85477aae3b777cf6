"""From a session file to a session: what its tables hold, its types checked, and then what it says."""

import sqlite3
from pathlib import Path

from engine.collecting import uncollected
from engine.protocol import Event
from engine.trace.recording import schema
from engine.trace.recording.checking import checked
from engine.trace.recording.codec import CodecError, from_json
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.opening import opened
from engine.trace.recording.recorded import RecordedSession
from engine.trace.recording.rows import Notices
from engine.trace.recording.tables import read_steps, read_tokens
from engine.trace.store import Trace

MOST_OF_A_KIND = 100_000  # events, but for samples, and for what every step may have:
OFTEN = {
    *("MemorySampled", "TelemetrySampled", "ObserverReport", "DisplayReport", "RecordingReport"),
    *("SequencesEncoded", "BeamsRanked"),
}
MOST_OFTEN = 5_000_000
MOST_METADATA, LONGEST_METADATA = 200, 10_000  # entries, characters


def read_trace(path: Path | str) -> Trace:
    """The trace that a session file holds. Raises RecordingError."""
    return read_session(path).trace()


def read_session(path: Path | str) -> RecordedSession:
    """All that a session file holds. Raises RecordingError with one sentence for a file that is none, or damaged."""
    path = Path(path)
    notices = Notices()
    with uncollected():
        with opened(path) as connection:
            _check_counts(path, connection)
            metadata = metadata_of(connection)
            events = _events(connection, notices)
            steps, tokens = read_steps(path, connection, notices), read_tokens(path, connection, notices)
        return checked(path, metadata, events, steps, tokens, notices)


def read_metadata(path: Path | str) -> dict[str, str]:
    """What a session file says of itself, without a look at its events. Raises RecordingError."""
    with opened(Path(path), whole=False) as connection:
        return metadata_of(connection)


def _check_counts(path: Path, connection: sqlite3.Connection) -> None:
    for kind, count in connection.execute("SELECT kind, count(*) FROM events GROUP BY kind"):
        if count > (MOST_OFTEN if kind in OFTEN else MOST_OF_A_KIND):
            raise RecordingError(
                f"'{path.name}' has {count:,} events of one kind ({str(kind)[:40]}), more than a session can have:"
                " it was not written by Cyclograph, and is not opened."
            )


def metadata_of(connection: sqlite3.Connection) -> dict[str, str]:
    """The lines of metadata, so many and so long as are read."""
    rows = connection.execute(
        "SELECT substr(key, 1, ?1), substr(value, 1, ?1) FROM metadata LIMIT ?2",
        (LONGEST_METADATA, MOST_METADATA),
    )
    return {str(key): str(value) for key, value in rows}


def _events(connection: sqlite3.Connection, notices: Notices) -> list[tuple[int, Event]]:
    """The events that are kept as JSON, each with the number of the step that it comes before."""
    found: list[tuple[int, Event]] = []
    unknown: set[str] = set()
    for step, kind, body in connection.execute("SELECT step, kind, body FROM events ORDER BY event"):
        made = schema.KINDS.get(kind)
        if made is None:
            notices.add(f"events of a kind that this version does not know ({str(kind)[:40]})")
            continue
        try:
            found.append((step, from_json(made, body, unknown)))
        except (CodecError, ValueError, TypeError) as error:
            notices.add(f"events that make no sense ({str(error)[:120]})")
    for name in sorted(unknown)[:20]:
        notices.add(f"fields that this version does not know ({name})")
    return found
