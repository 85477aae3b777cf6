"""`python -m engine export`: a recorded session written in another format."""

import argparse
import sys
from pathlib import Path

from engine.sample_session import SESSION_HELP, session_path
from engine.trace.export import FORMATS, TABLES, ExportRefused, excerpt_of, export, parse_steps
from engine.trace.recording import RecordingError, read_session
from engine.trace.store import Trace


def load_trace(path: Path) -> Trace:
    """The trace of a recorded session. Raises ExportRefused with a sentence."""
    try:
        session = read_session(path)
    except RecordingError as problem:
        raise ExportRefused(str(problem)) from problem
    for notice in session.notices:
        print(notice, file=sys.stderr)
    return session.trace()


def add_export(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    endings = ", ".join(f"{suffix} ({each.label})" for suffix, each in FORMATS.items())
    parser.add_argument("file", metavar="FILE", type=session_path, help=SESSION_HELP)
    parser.add_argument(
        "--to", metavar="FILE", type=Path, required=True, help=f"its ending says the format: {endings}"
    )
    parser.add_argument(
        "--steps", metavar="A:B", default=":", help="only steps A to B, both included; either can be left out"
    )
    parser.add_argument(
        "--what", choices=tuple(TABLES), help="of CSV and Parquet one table only, in a file of just that name"
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    parser.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    """Export, and print the files that were written; a bar of progress where somebody looks. Raises ExportRefused."""
    first, last = parse_steps(options.steps)
    excerpt = excerpt_of(load_trace(options.file), first, last)
    for path in export(excerpt, options.to.expanduser(), options.what, replace=options.force, tick=_tick):
        print(path)
    return 0


def _tick(fraction: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{fraction:4.0%}", end="\n" if fraction >= 1 else "", file=sys.stderr, flush=True)
