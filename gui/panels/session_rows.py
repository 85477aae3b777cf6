"""What the list of sessions says of each, as texts and as what to sort by; and what a smaller cap would cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from engine.trace.recording.listing import SessionEntry
from gui import units

COLUMNS = ("session", "model", "device", "started", "length", "steps", "tokens", "size", "")
NAME, STARTED, SIZE, STATE = 0, 3, 7, 8
NUMBERS = range(STARTED, STATE)  # columns of figures
LONGEST_NAME = 120  # characters
TIP_NOTES = 8  # notes in a tooltip

SortKey = str | float


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as a row: a text a column, and what each is sorted by."""

    entry: SessionEntry
    cells: tuple[str, ...]
    keys: tuple[SortKey, ...]
    words: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.entry.path

    def matches(self, words: Sequence[str]) -> bool:
        """Whether all these words, in lower case, are in it: title, description, model, device, notes, date or file."""
        return all(word in self.words for word in words)


def row_of(entry: SessionEntry) -> SessionRow:
    """The row of a session."""
    told = datetime.fromtimestamp(entry.started_s)
    name = name_of(entry)
    known = not entry.problem
    cells = (
        name,
        _line(entry.model),
        _line(entry.device),
        f"{told:%Y-%m-%d %H:%M}",
        length_text(entry.length_ns) if known else "",
        f"{entry.steps:,}" if known else "",
        f"{entry.tokens:,}" if known else "",
        units.size(entry.size_bytes),
        state_text(entry),
    )
    keys: tuple[SortKey, ...] = (
        name.casefold(),
        entry.model.casefold(),
        entry.device.casefold(),
        entry.started_s,
        float(entry.length_ns),
        float(entry.steps),
        float(entry.tokens),
        float(entry.size_bytes),
        state_text(entry),
    )
    about = (name, entry.description, entry.model, entry.device, *entry.notes, cells[STARTED], cells[STATE])
    return SessionRow(entry, cells, keys, "\n".join((*about, entry.path.name)).casefold())


def name_of(entry: SessionEntry) -> str:
    """What a session is called: its title, else its model, else its file."""
    if entry.title.strip():
        return _line(entry.title)
    return _line(entry.model) if entry.model and not entry.problem else _line(entry.path.stem)


def state_text(entry: SessionEntry) -> str:
    """What is special about a session."""
    if entry.problem:
        return "cannot be opened"
    signs = {
        "recording": entry.is_live,
        "pinned": entry.is_pinned,
        "interrupted": entry.is_interrupted,
    }
    return ", ".join(word for word, holds in signs.items() if holds)


def length_text(ns: int) -> str:
    """How long a session was: "8.42 s", "4:05 min", "2:03:09 h"."""
    seconds = round(ns / 1e9)
    if seconds < 60:
        return units.duration(ns)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"


def tip_of(entry: SessionEntry) -> str:
    """What there is to say of a session beside its row, as plain text."""
    notes = [f"“{_line(note)}”" for note in entry.notes[:TIP_NOTES]]
    more = len(entry.notes) - len(notes)
    notes += [f"and {more:,} more note{'s' * (more > 1)}"] if more > 0 else []
    return "\n".join(
        filter(None, (name_of(entry), entry.description, entry.problem, *notes, str(entry.path)))
    )


def too_many(entries: Sequence[SessionEntry], most_bytes: int) -> list[SessionEntry]:
    """The sessions that would be deleted for the rest to fit: the oldest, none that is pinned or being recorded.

    `entries`: that written last first.
    """
    total, found = sum(entry.size_bytes for entry in entries), []
    for entry in reversed(entries):
        if total <= most_bytes:
            break
        if not (entry.is_pinned or entry.is_live):
            total -= entry.size_bytes
            found.append(entry)
    return found


def cost_of_room(entries: Sequence[SessionEntry], most_bytes: int) -> str:
    """What it would cost at once that sessions may take no more than that, in a sentence; "" for nothing."""
    gone = too_many(entries, most_bytes)
    size = units.size(sum(entry.size_bytes for entry in gone))
    costs = []
    if gone:
        which = (
            f"the {len(gone):,} oldest sessions that are" if len(gone) > 1 else "the oldest session that is"
        )
        costs.append(f"deletes {which} not pinned ({size}), for good")
    if any(entry.is_live and entry.size_bytes > most_bytes for entry in entries):
        costs.append("ends the recording that goes on")
    return f"This {', and '.join(costs)}: press again." if costs else ""


def _line(text: str) -> str:
    """A text as one line."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"
