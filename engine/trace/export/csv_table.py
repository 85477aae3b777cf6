"""Tables as CSV (RFC 4180, UTF-8): a header of column names, one row a line, nothing where there is no value."""

import csv
import io
from typing import BinaryIO

from engine.trace.export.excerpt import Excerpt
from engine.trace.export.progress import Tick, counted
from engine.trace.export.tables import Table


def write_csv(table: Table, excerpt: Excerpt, file: BinaryIO, tick: Tick) -> None:
    """Write one table. Line ends are CR LF, as the standard has it; those inside of a text stay as they are."""
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(table.columns)
    for chunk in counted(table.chunks(excerpt), table.rows(excerpt), tick):
        writer.writerows(zip(*(chunk[name] for name in table.columns), strict=True))
    text.detach()
