"""Exporting a trace, whole or some of its steps: CSV, JSON Lines, Parquet, Perfetto, text, and a report to mail.

No torch, no Qt: the window and the headless program write the same files. A file is there whole or not at all.
"""

from engine.trace.export.excerpt import Excerpt as Excerpt
from engine.trace.export.excerpt import excerpt_of as excerpt_of
from engine.trace.export.excerpt import parse_steps as parse_steps
from engine.trace.export.formats import FORMATS as FORMATS
from engine.trace.export.formats import Format as Format
from engine.trace.export.formats import export as export
from engine.trace.export.formats import files_of as files_of
from engine.trace.export.formats import format_of as format_of
from engine.trace.export.refused import ExportCancelled as ExportCancelled
from engine.trace.export.refused import ExportRefused as ExportRefused
from engine.trace.export.tables import TABLES as TABLES
from engine.trace.export.writing import existing as existing
