"""Tables as Parquet, for pandas, DuckDB and their like. Needs pyarrow, which is an extra."""

from typing import Any, BinaryIO

from engine.trace.export.excerpt import Excerpt
from engine.trace.export.progress import Tick, counted
from engine.trace.export.refused import ExportRefused
from engine.trace.export.tables import NUMBER, TEXT, WHOLE, Table

HOW_TO_INSTALL = (
    'Parquet needs the package pyarrow: install it with `pip install "cyclograph[parquet]"`, or export CSV.'
)


def why_not_parquet() -> str:
    """Why Parquet cannot be written here; empty where it can."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return HOW_TO_INSTALL
    return ""


def write_parquet(table: Table, excerpt: Excerpt, file: BinaryIO, tick: Tick) -> None:
    """Write one table: int64, float64 and string columns, null where there is no value, a row group a chunk.

    Raises ExportRefused where pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ExportRefused(HOW_TO_INSTALL) from error
    types = {WHOLE: pyarrow.int64(), NUMBER: pyarrow.float64(), TEXT: pyarrow.string()}
    schema: Any = pyarrow.schema([(name, types[kind]) for name, kind in table.columns.items()])
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for chunk in counted(table.chunks(excerpt), table.rows(excerpt), tick):
            writer.write_table(pyarrow.Table.from_pydict(chunk, schema=schema))
