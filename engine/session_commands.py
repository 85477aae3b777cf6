"""`python -m engine sessions`: the recorded sessions of this user, or those in another directory."""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.bad_input import BadInput
from engine.trace import units
from engine.trace.recording.listing import Listing, SessionEntry
from engine.trace.recording.shelf import Shelf
from engine.user_directories import user_sessions

LONGEST_TITLE = 40  # characters of a title, and of a model, in a line


def add_sessions(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "--in",
        dest="directory",
        metavar="DIRECTORY",
        type=Path,
        help="where they are (default: where the window keeps them)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=list_sessions)


def list_sessions(options: argparse.Namespace) -> int:
    """Print the sessions, the latest first. Raises BadInput where the directory that was named is none."""
    directory = options.directory.expanduser() if options.directory is not None else user_sessions()
    if options.directory is not None and not directory.is_dir():
        raise BadInput(f"There is no directory '{directory}': name one that holds recorded sessions.")
    found = sorted(Listing(Shelf(directory)).entries(), key=lambda entry: entry.started_s, reverse=True)
    for entry in found:
        if options.json:
            print(json.dumps(session_record(entry), ensure_ascii=False))
        else:
            print(_printable(session_line(entry)))
    if not found and not options.json:
        print(f"No session has been recorded in {directory}.", file=sys.stderr)
    return 0


def session_record(entry: SessionEntry) -> dict[str, Any]:
    """A session as plain values."""
    return {
        **asdict(entry),
        "path": str(entry.path),
        "started_at": _moment(entry).isoformat(timespec="seconds"),
    }


def session_line(entry: SessionEntry) -> str:
    """A session as a line of text; of one that cannot be opened why not."""
    begin = f"{_moment(entry):%Y-%m-%d %H:%M}  {units.size(entry.size_bytes):>9}"
    if entry.problem:
        return f"{begin}  {entry.path}  {entry.problem}"
    signs = {"live": entry.is_live, "pinned": entry.is_pinned, "interrupted": entry.is_interrupted}
    told = f"{_cut(entry.model):<24} {entry.steps:>9,} steps  {_cut(entry.title):<24}"
    return (
        f"{begin}  {told}  {entry.path}  {', '.join(word for word, holds in signs.items() if holds)}".rstrip()
    )


def _printable(text: str) -> str:
    """A text for a terminal: what would move its cursor, or worse, is left out."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _cut(text: str) -> str:
    shown = units.visible(text)
    return shown if len(shown) <= LONGEST_TITLE else shown[: LONGEST_TITLE - 1] + "…"


def _moment(entry: SessionEntry) -> datetime:
    return datetime.fromtimestamp(entry.started_s).astimezone()
