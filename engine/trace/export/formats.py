"""The formats that a trace can be written in, and which files each makes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from engine.trace.export.csv_table import write_csv
from engine.trace.export.excerpt import Excerpt
from engine.trace.export.json_lines import write_json_lines
from engine.trace.export.parquet import why_not_parquet, write_parquet
from engine.trace.export.perfetto import write_perfetto
from engine.trace.export.plain_text import write_text
from engine.trace.export.progress import Tick
from engine.trace.export.refused import ExportRefused
from engine.trace.export.report import write_report
from engine.trace.export.tables import TABLES, Table
from engine.trace.export.writing import write_files

Writer = Callable[[Excerpt, BinaryIO, Tick], None]
TableWriter = Callable[[Table, Excerpt, BinaryIO, Tick], None]


@dataclass(frozen=True, slots=True)
class Format:
    """A format. Either it is one file (`write`), or tables of a file each (`write_table`).

    `why_not`: why it cannot be written here; empty where it can.
    """

    suffix: str
    label: str
    about: str
    write: Writer | None = None
    write_table: TableWriter | None = None
    why_not: Callable[[], str] = lambda: ""


FORMATS = {
    each.suffix: each
    for each in (
        Format(".html", "Report", "one page with charts and tables, to read, print or mail", write_report),
        Format(".json", "Perfetto trace", "opens in ui.perfetto.dev or chrome://tracing", write_perfetto),
        Format(
            ".jsonl", "JSON Lines", "one object an event, as `engine run --json` prints", write_json_lines
        ),
        Format(".csv", "CSV", "tables, a file each", write_table=write_csv),
        Format(
            ".parquet",
            "Parquet",
            "tables for pandas and DuckDB, a file each",
            None,
            write_parquet,
            why_not_parquet,
        ),
        Format(".txt", "Text", "the prompts and what the model wrote", write_text),
    )
}


def format_of(path: Path) -> Format:
    """The format that a file's name asks for. Raises ExportRefused."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(FORMATS)
        raise ExportRefused(
            f"'{path.name}' does not say in which format: let the name end in {known}."
        ) from None


def files_of(path: Path, what: str | None = None) -> dict[Path, Table | None]:
    """The files that an export to `path` writes, each with its table, None where it is no table.

    `what`: one table; without it, all of them, their names added to the file's ("out-steps.csv"). Raises ExportRefused.
    """
    wanted = format_of(path)
    if wanted.write_table is None:
        if what is not None:
            raise ExportRefused(
                f"{wanted.label} has no tables to choose from: leave '{what}' out, or export CSV."
            )
        return {path: None}
    if what is None:
        return {path.with_stem(f"{path.stem}-{name}"): table for name, table in TABLES.items()}
    if what not in TABLES:
        raise ExportRefused(f"There is no table '{what}': there are {', '.join(TABLES)}.")
    return {path: TABLES[what]}


def export(
    excerpt: Excerpt,
    path: Path,
    what: str | None = None,
    *,
    replace: bool = False,
    tick: Tick = lambda _: None,
) -> list[Path]:
    """Write an excerpt in the format of the file's name; returns the files, all of which are there now.

    Raises ExportRefused with a sentence, ExportCancelled where `tick` does: then everything is as it was.
    """
    wanted, files = format_of(path), files_of(path, what)
    if reason := wanted.why_not():
        raise ExportRefused(reason)
    parts = [
        (target, partial(_write, wanted, table, excerpt, _share(tick, place, len(files))))
        for place, (target, table) in enumerate(files.items())
    ]
    write_files(parts, replace=replace)
    tick(1.0)
    return list(files)


def _write(wanted: Format, table: Table | None, excerpt: Excerpt, tick: Tick, file: BinaryIO) -> None:
    if table is not None and wanted.write_table is not None:
        wanted.write_table(table, excerpt, file, tick)
    elif wanted.write is not None:
        wanted.write(excerpt, file, tick)


def _share(tick: Tick, place: int, of: int) -> Tick:
    """One file's part of the whole progress."""
    return lambda fraction: tick((place + fraction) / of)
