"""What exports say of a device's clock and of an engine that was replaced."""

import csv
import io

import pytest

from engine.protocol import EngineReplaced
from engine.trace.export import TABLES, excerpt_of, export
from engine.trace.export.csv_table import write_csv
from engine.trace.export.json_lines import records
from engine.trace.export.perfetto import DEVICE, write_perfetto
from engine.trace.store import Trace
from tests.engine.trace.export import trace_events
from tests.gui import synthetic

HOST = 1
LOST = EngineReplaced(9_000_000_000, 6, "The device failed.", 3_200_000_000, 1, synthetic.BASE)


@pytest.fixture
def trace() -> Trace:
    made = synthetic.on_device(6, layers=2)
    made.append(LOST)
    return made


def parsed(trace: Trace) -> trace_events.Parsed:
    file = io.BytesIO()
    write_perfetto(excerpt_of(trace), file, lambda _: None)
    return trace_events.read(file.getvalue())


def test_the_device_has_a_track_of_what_it_ran(trace: Trace) -> None:
    found = parsed(trace)
    assert found.tracks[DEVICE] == "device: steps"
    origin = min(int(trace.steps.begin_ns[0]), trace.generations[0].started.submitted_ns)
    inner = [each for each in found.slices[DEVICE] if each.depth]
    ran = [span for row in range(6) for span in _device_spans(trace, row)]
    assert [(each.begin_ns, each.end_ns) for each in inner] == [(b - origin, e - origin) for b, e in ran]
    assert len([each for each in found.slices[DEVICE] if not each.depth]) == 6
    assert len(found.slices[HOST]) > len(found.slices[DEVICE])  # the host has phases of its own
    assert DEVICE not in parsed(synthetic.trace(3)).tracks


def _device_spans(trace: Trace, row: int) -> list[tuple[int, int]]:
    from engine.trace.device_ledger import device_spans

    stamps = trace.device_stamps(row)
    assert stamps is not None
    origin = int(trace.stamps(row)[0])
    spans = device_spans(trace.layout(row), trace.stamps(row), stamps)
    return [(origin + s.begin_ns, origin + s.begin_ns + s.duration_ns) for s in spans]


def test_records_of_steps_say_by_which_clock_and_what_limits_them(trace: Trace) -> None:
    steps = [record for record in records(excerpt_of(trace)) if record["event"] == "step"]
    assert {step["clock"] for step in steps} == {"device"}
    assert {step["bound"] for step in steps} == {"device-bound"}
    assert all(step["device_ns"] <= step["wall_ns"] for step in steps)
    (gap,) = (record for record in records(excerpt_of(trace)) if record["event"] == "gap")
    assert (gap["step"], gap["reason"], gap["gap_ns"]) == (6, "The device failed.", 3_200_000_000)


def test_a_gap_is_a_mark_in_tables_reports_and_traces(trace: Trace) -> None:
    file = io.BytesIO()
    write_csv(TABLES["marks"], excerpt_of(trace), file, lambda _: None)
    (row,) = csv.DictReader(io.StringIO(file.getvalue().decode(), newline=""))
    assert (row["kind"], row["step"], row["reason"]) == ("gap", "6", "The device failed.")
    assert [each["name"] for each in parsed(trace).instants if each["cat"] == "mark"] == ["engine replaced"]


def test_a_report_tells_of_a_gap(trace: Trace, tmp_path: object) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    export(excerpt_of(trace), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The device failed." in text
    assert "another engine went on after 3.20 s" in text
