import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.trace.export import TABLES, ExportRefused, excerpt_of, export
from engine.trace.export.csv_table import write_csv
from engine.trace.phases import Phase
from engine.trace.store import Trace
from tests.engine.trace.export import machine, sessions
from tests.gui import synthetic


def read(name: str, trace: Trace, first: int = 0, last: int | None = None) -> list[dict[str, str]]:
    file = io.BytesIO()
    write_csv(TABLES[name], excerpt_of(trace, first, last), file, lambda _: None)
    return list(csv.DictReader(io.StringIO(file.getvalue().decode("utf-8"), newline="")))


def test_steps_sum_to_their_wall_time() -> None:
    trace = sessions.trace()
    rows = read("steps", trace)
    assert [row["kind"] for row in rows] == ["prefill", "decode", "prefill", "decode", "decode", "prefill"]
    for row, step in zip(rows, range(6), strict=True):
        phases = [int(row[f"{phase.name.lower()}_ns"]) for phase in Phase]
        assert sum(phases) == int(row["wall_ns"]) == sessions.WALL
        assert phases == trace.steps.phases_ns[step].tolist()
        assert row["begin_ns"] == str(trace.steps.begin_ns[step])
    assert [row["itl_ns"] for row in rows] == ["", "20000", "", "40000", "20000", ""]


def test_tokens_marks_layers_and_configurations() -> None:
    trace = sessions.trace('a "quoted", text\r\nof two lines')
    tokens = read("tokens", trace)
    assert [t["text"] for t in tokens] == ["He", 'a "quoted", text\r\nof two lines', "b", "x", "c", "y", "Q"]
    assert [t["sequence"] for t in tokens] == ["0", "0", "0", "1", "0", "1", "0"]
    assert [t["generation"] for t in tokens] == ["0"] * 6 + ["1"]
    joined, change = read("marks", trace)
    assert (joined["kind"], joined["sequence"], joined["key"]) == ("joined", "1", "")
    assert (change["key"], change["effective"], change["switch_ns"]) == ("precision", "bfloat16", "2500")
    layers = read("layers", trace)
    assert [layer["step"] for layer in layers] == ["0", "1", "2", "3", "4", "5"]
    assert {(layer["attention_ns"], layer["mlp_ns"]) for layer in layers} == {("2332", "2667")}
    assert [(c["configuration"], c["value"]) for c in read("configurations", trace)] == [
        ("0", "float32"),
        ("1", "bfloat16"),
    ]


def test_a_selection_is_a_part_of_the_whole() -> None:
    trace = machine.trace()
    for name in TABLES:
        whole, part = read(name, trace), read(name, trace, 3, 4)
        assert part
        assert all(row in whole for row in part)
    assert [row["step"] for row in read("steps", trace, 3, 4)] == ["3", "4"]


def test_chunks_lose_nothing() -> None:
    trace = synthetic.trace(9_000, synthetic.Shape(layers=2, generation_steps=3_000))
    rows = read("steps", trace)
    assert [int(row["step"]) for row in rows] == list(range(9_000))
    assert sum(int(row["wall_ns"]) for row in rows) == int(trace.steps.wall_ns.sum())
    layers = read("layers", trace)
    assert len(layers) == 18_000
    assert sum(int(row["mlp_ns"]) for row in layers) == int(trace.steps.layers_ns[:, :, 1].sum())
    assert len(read("tokens", trace)) == len(trace.tokens)


def test_parquet_says_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    trace = sessions.trace(sessions.MARKUP)
    files = export(excerpt_of(trace), tmp_path / "out.parquet")
    assert [path.name for path in files] == [f"out-{name}.parquet" for name in TABLES]
    for (name, table), path in zip(TABLES.items(), files, strict=True):
        found = parquet.read_table(path)
        assert found.column_names == list(table.columns)
        told = [
            {key: "" if value is None else str(value) for key, value in row.items()}
            for row in found.to_pylist()
        ]
        assert told == read(name, trace)
    steps = parquet.read_table(files[0])
    assert steps.schema.field("wall_ns").type == "int64"
    assert steps["itl_ns"].null_count == 3
    assert np.array_equal(steps["wall_ns"].to_numpy(), trace.steps.wall_ns)


def test_without_pyarrow_a_sentence_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ExportRefused, match=r'pip install "cyclograph\[parquet\]"'):
        export(excerpt_of(sessions.trace()), tmp_path / "out.parquet")
    assert not list(tmp_path.iterdir())
