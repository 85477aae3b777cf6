"""The examples that the README gives for reading a session file without this program."""

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from engine.trace.phases import Phase, StepKind
from engine.trace.recording import read_trace
from engine.trace.recording.schema import VIEWS
from engine.trace.store import KINDS, Trace
from tests.engine.trace.recording.sessions import rich, written
from tests.gui import synthetic

EXAMPLES = Path(__file__).parent / "examples"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = synthetic.Shape(layers=3, generation_steps=60, mark_every=50)
    events = [synthetic.loaded(3), *synthetic.events(180, shape)]
    return written(tmp_path_factory.mktemp("examples") / "session.cyclograph", events)


@pytest.fixture(scope="module")
def trace(path: Path) -> Trace:
    return read_trace(path)


def rows(path: Path, name: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute((EXAMPLES / name).read_text()).fetchall()


def example(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def decode(trace: Trace) -> np.ndarray:
    return trace.steps.kind == KINDS.index(StepKind.DECODE)


def test_sql_finds_the_slowest_steps(path: Path, trace: Trace) -> None:
    found = rows(path, "slowest.sql")
    walls = trace.steps.wall_ns * decode(trace)
    slowest = np.argsort(walls)[::-1][:5]
    assert [row[0] for row in found] == slowest.tolist()
    step = int(slowest[0])
    attention = trace.steps.phases_ns[step, Phase.ATTENTION] / trace.steps.wall_ns[step]
    (token,) = trace.tokens_of(step)
    assert found[0][1] == pytest.approx(walls[step] / 1e6)
    assert found[0][3] == trace.tokens.text[token]
    assert found[0][4] == pytest.approx(100 * attention, abs=0.51)


def test_sql_lists_switches_with_what_they_led_to(path: Path, trace: Trace) -> None:
    found = rows(path, "switches.sql")
    assert [(row[0], row[1], row[3]) for row in found] == [
        (mark.step, "attention", mark.event.changes[0].effective) for mark in trace.marks
    ]
    own = decode(trace) & (trace.steps.configuration == 2)
    assert found[1][5] == own.sum()
    assert found[1][6] == pytest.approx(trace.steps.wall_ns[own].mean() / 1e6)


def test_sql_takes_a_step_apart_into_layers(path: Path, trace: Trace) -> None:
    found = [row[1:] for row in rows(path, "layers.sql")]
    assert found == [tuple(row) for row in trace.steps.layers_ns[3].tolist()]


def test_numpy_reads_the_gaps(path: Path, trace: Trace) -> None:
    totals = example("with_numpy").phase_totals(str(path))
    for phase in Phase:
        assert totals.get(phase.name.lower(), 0) == trace.steps.phases_ns[:, phase].sum()


def test_pandas_reads_the_steps(path: Path, trace: Trace) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    table = example("with_pandas").percentiles(str(path))
    own = decode(trace) & (trace.steps.configuration == 1)
    assert table.loc[1, 0.5] == pytest.approx(np.median(trace.steps.wall_ns[own]) / 1e6)
    assert table.loc[1, 0.99] == pytest.approx(np.quantile(trace.steps.wall_ns[own], 0.99) / 1e6)


def test_duckdb_reads_the_tables(path: Path, trace: Trace) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    found = example("with_duckdb").rates(str(path))
    assert [row[0] for row in found] == [0, 1, 2]
    rows = trace.token_indices(trace.generations[1])
    arrivals = trace.tokens.arrival_ns[rows.start : rows.stop]
    assert found[1][1] == len(arrivals)
    assert found[1][2] == pytest.approx((len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) * 1e9)


def test_every_view_can_be_read(tmp_path: Path) -> None:
    path = written(tmp_path / "rich.cyclograph", rich())
    counts = {}
    with closing(sqlite3.connect(path)) as connection:
        for view in VIEWS:
            name = view.split()[2]
            counts[name] = len(connection.execute(f"SELECT * FROM {name}").fetchall())
    assert counts.pop("settings") == 0  # the model of this session has none
    assert min(counts.values()) > 0, counts
    assert counts["notes"] == 1
    assert counts["failures"] == 1
    assert counts["generations"] == 2
