"""Notes on steps leave with the marks, as text and never as markup, each at its step."""

import csv
import io
import json
from pathlib import Path

import pytest

from engine.protocol import NoteTaken
from engine.trace.export import excerpt_of, export
from engine.trace.export.json_lines import records
from engine.trace.export.perfetto import write_perfetto
from engine.trace.export.report import write_report
from engine.trace.store import Trace
from tests.engine.trace import building
from tests.engine.trace.export import sessions, trace_events

LONG_AFTER = building.T0 + 10**12
TEXT = f"slow here {sessions.MARKUP}"


@pytest.fixture
def trace() -> Trace:
    made = sessions.trace()
    made.extend([NoteTaken(LONG_AFTER, 3, TEXT), NoteTaken(LONG_AFTER + 1, 1, "first")])
    return made


def test_they_are_lines_right_behind_their_steps(trace: Trace) -> None:
    told = list(records(excerpt_of(trace)))
    places = [place for place, record in enumerate(told) if record.get("kind") == "note"]
    assert [(told[place - 1]["index"], told[place]["text"]) for place in places] == [(1, "first"), (3, TEXT)]
    assert told[places[0]] == {
        "event": "mark", "kind": "note", "at_ns": LONG_AFTER + 1, "step": 1, "text": "first"
    }  # fmt: skip


def test_only_those_on_the_steps_that_are_written(trace: Trace) -> None:
    told = records(excerpt_of(trace, 2, 4))
    assert [record["step"] for record in told if record.get("kind") == "note"] == [3]


def test_they_are_rows_of_the_table_of_marks(trace: Trace, tmp_path: Path) -> None:
    export(excerpt_of(trace), tmp_path / "marks.csv", "marks")
    text = (tmp_path / "marks.csv").read_bytes().decode("utf-8", "replace")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    notes = [row for row in rows if row["kind"] == "note"]
    assert [(row["step"], row["text"][:9]) for row in notes] == [("1", "first"), ("3", "slow here")]


def test_the_report_lists_them_as_text(trace: Trace) -> None:
    file = io.BytesIO()
    write_report(excerpt_of(trace), file, lambda _: None)
    page = file.getvalue().decode()
    assert "note on this step: “first”" in page
    assert "note on this step: “slow here &lt;script&gt;alert(" in page
    assert "<script>alert" not in page


def test_in_a_trace_they_stand_where_their_steps_begin(trace: Trace) -> None:
    file = io.BytesIO()
    write_perfetto(excerpt_of(trace), file, lambda _: None)
    instants = trace_events.read(file.getvalue()).instants
    notes = {
        each["args"]["step"]: each for each in instants if "step" in each["args"] and each["cat"] == "mark"
    }
    assert notes.keys() == {1, 3}
    assert notes[1]["name"] == "“first”"
    events = json.loads(file.getvalue().decode("utf-8", "surrogatepass"))["traceEvents"]
    begin = {e["name"]: e["ts"] for e in events if e.get("cat") == "step" and e["ph"] == "B"}
    shown = next(e for e in events if e.get("name") == "“first”")
    assert shown["ts"] == begin["decode step 1"]
