"""What sensors said, warnings, and captures of steps, in every format."""

import csv
import io
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engine.trace.capture_record import capture_record
from engine.trace.export import TABLES, excerpt_of, export
from engine.trace.export.capture_tracks import CAPTURES, FIRST_LANE
from engine.trace.export.csv_table import write_csv
from engine.trace.export.drawing import BOTTOM, LEFT, RIGHT, TOP, WIDTH
from engine.trace.export.json_lines import records
from engine.trace.export.perfetto import write_perfetto
from engine.trace.export.report import write_report
from engine.trace.export.sample_charts import HEIGHT
from engine.trace.export.samples import lines, sampled
from engine.trace.store import Trace
from tests.engine.trace.building import T0
from tests.engine.trace.export import machine, sessions, trace_events
from tests.engine.trace.export.test_report import Page

ORIGIN = T0 - 50_000


def read(name: str, trace: Trace, first: int = 0, last: int | None = None) -> list[dict[str, str]]:
    file = io.BytesIO()
    write_csv(TABLES[name], excerpt_of(trace, first, last), file, lambda _: None)
    return list(csv.DictReader(io.StringIO(file.getvalue().decode("utf-8"), newline="")))


def perfetto(trace: Trace, first: int = 0, last: int | None = None) -> trace_events.Parsed:
    file = io.BytesIO()
    write_perfetto(excerpt_of(trace, first, last), file, lambda _: None)
    return trace_events.read(file.getvalue())


def page(trace: Trace, first: int = 0, last: int | None = None) -> str:
    file = io.BytesIO()
    write_report(excerpt_of(trace, first, last), file, lambda _: None)
    return file.getvalue().decode("utf-8")


# ---------------------------------------------------------------- tables


def test_a_row_a_sample_and_source() -> None:
    rows = read("telemetry", machine.trace())
    assert [row["source"] for row in rows] == [
        *("machine",) * 3,
        *("engine",) * 2,
        *("cuda:0",) * 3,
        *("cuda:1",) * 3,
    ]
    assert [row["step"] for row in rows[:3]] == ["", "3", "5"]
    first, memory, device, other = rows[0], rows[4], rows[5], rows[8]
    assert (first["at_ns"], first["cpu"], first["energy_j"]) == (str(T0 - 50_000), "0.5", "10.0")
    assert (first["processors"], first["memory_total_bytes"]) == ("4", str(8 << 30))
    assert (first["throttled"], first["on_battery"], first["steal"]) == ("0", "1", "")
    assert (first["power_w"], first["weight_bytes"]) == ("", "")
    assert (memory["cache_bytes"], memory["device_reserved_bytes"]) == ("2048", str(1 << 21))
    assert (device["power_w"], device["utilization"], device["temperature_c"]) == ("300.5", "0.75", "61.5")
    assert (other["power_w"], other["memory_used_bytes"]) == ("", str(5 << 30))


def test_a_selection_has_the_samples_of_its_time() -> None:
    trace = machine.trace()
    part, whole = read("telemetry", trace, 3, 4), read("telemetry", trace)
    assert [row["source"] for row in part] == ["machine", "engine", "cuda:0", "cuda:1"]
    assert all(row in whole for row in part)
    assert read("telemetry", trace, 4, 4) == []


def test_a_row_an_entry_of_a_capture() -> None:
    trace = machine.trace()
    rows = read("kernels", trace)
    assert [(row["step"], row["again"]) for row in rows] == [("1", "0")] * 4 + [("3", "1")] * 4
    capture = trace.capture(1)
    assert capture is not None
    assert [row["begin_ns"] for row in rows[:4]] == [
        str(T0 + 20_000 + begin) for begin in (1_100, 1_200, 1_400, 1_500)
    ]
    assert [int(row["self_ns"]) for row in rows[:4]] == capture.self_ns.tolist()
    assert [row["parent"] for row in rows[:4]] == ["", "0", "", "2"]
    assert [row["launched_by"] for row in rows[:4]] == ["", "", "1", "1"]
    assert rows[2]["name"] == sessions.MARKUP.replace("\udc80", "\\udc80")
    assert rows[2]["lane"] == "cuda:0 stream 7"
    assert [row["step"] for row in read("kernels", trace, 3, 4)] == ["3"] * 4


def test_parquet_has_numbers_of_their_kinds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (path,) = export(excerpt_of(machine.trace()), tmp_path / "t.parquet", "telemetry")
    found = parquet.read_table(path)
    assert found.schema.field("power_w").type == "double"
    assert found.schema.field("memory_used_bytes").type == "int64"
    assert found["power_w"].to_pylist() == [None] * 5 + [300.5] * 3 + [None] * 3
    assert found["step"].to_pylist()[:3] == [None, 3, 5]


# ---------------------------------------------------------------- JSON lines


def test_samples_and_captures_stand_where_they_were() -> None:
    trace = machine.trace()
    found = [json.loads(json.dumps(record)) for record in records(excerpt_of(trace))]
    kinds = [record["event"] for record in found]
    assert kinds[:5] == ["model", "observer", "telemetry", "warning", "generation"]
    assert kinds.count("telemetry") == 3
    assert kinds[kinds.index("kernels") - 1] == "step"
    first = found[2]
    assert (first["at_ns"], first["cpu"], first["on_battery"], first["steal"]) == (
        T0 - 50_000,
        0.5,
        True,
        None,
    )
    assert first["memory_used_bytes"] == 3 << 30
    assert [device["device"] for device in first["devices"]] == ["cuda:0", "cuda:1"]
    assert [device["power_w"] for device in first["devices"]] == [300.5, None]
    assert [r for r in found if r["event"] == "kernels"] == [
        json.loads(json.dumps(capture_record(trace, row))) for row in (1, 3)
    ]
    part = [record["event"] for record in records(excerpt_of(trace, 3, 3))]
    assert part.count("telemetry") == 0
    assert part.count("kernels") == 1


# ---------------------------------------------------------------- trace events


def test_everything_that_was_sampled_is_a_counter() -> None:
    counters = perfetto(machine.trace()).counters
    assert counters["utilization of cuda:0"] == [
        (at, 0.75) for at in (0, T0 + 75_000 - ORIGIN, T0 + 10**9 - ORIGIN)
    ]
    assert [value for _, value in counters["power of cuda:0"]] == [300.5] * 3
    assert "power of cuda:1" not in counters  # neither its power nor its energy is known
    rise = [float(value) for _, value in counters["power of the processor"]]
    assert rise == pytest.approx([0.5 / 125e-6, 10 / (10**9 - 75_000) * 1e9])
    assert [value for _, value in counters["memory used on cuda:1"]] == [5 << 30] * 3
    assert [value for _, value in counters["memory of the engine"]] == [1 << 20, 1 << 30]
    assert [value for _, value in counters["KV cache"]] == [1024 * row for row in range(6)]
    assert {"context", "batch", "processors in use", "clock of cuda:0", "weights"} <= counters.keys()


def test_captures_lie_on_tracks_of_their_own_and_nest() -> None:
    trace = machine.trace()
    parsed = perfetto(trace)
    assert {tid: name for tid, name in parsed.tracks.items() if tid >= CAPTURES} == {
        CAPTURES: "captures",
        FIRST_LANE: "captured: host",
        FIRST_LANE + 1: "captured: cuda:0 stream 7",
    }
    captures = [each for each in parsed.slices[CAPTURES] if not each.depth]
    assert [each.name for each in captures] == ["capture of step 1", "capture of step 3"]
    assert [each.begin_ns for each in captures] == [T0 + 20_000 - ORIGIN, T0 + 2 * 10**9 - ORIGIN]
    assert {each.args["done again"] for each in captures} == {False, True}
    assert [each.name for each in parsed.slices[CAPTURES][1:4]] == ["attention", "MLP", "sample"]
    host, device = parsed.slices[FIRST_LANE], parsed.slices[FIRST_LANE + 1]
    assert [(each.name, each.depth) for each in host] == [("aten::mm", 0), ("launch", 1)] * 2
    outer, inner = device[:2]
    assert (outer.name, outer.end_ns - outer.begin_ns) == (sessions.MARKUP, 2_200)
    assert (inner.depth, inner.end_ns) == (1, outer.end_ns)
    assert inner.args["launched by"] == "launch"
    assert perfetto(trace, 4, 4).tracks.keys().isdisjoint((CAPTURES, FIRST_LANE))


def throttled() -> Trace:
    """A device that is held down while steps are made."""
    trace = machine.trace()
    first = T0 + 10**9
    for number in range(5):
        at_ns = first + number * 250_000_000
        step = replace(sessions.step(0, trace.kind(0)), index=6 + number)
        stamps = np.frombuffer(step.stamps, np.int64) - T0 + at_ns - 20_000
        trace.append(replace(step, stamps=stamps.tobytes()))
        trace.append(machine.sample(at_ns, 30.0 + number))
    return trace


def test_warnings_are_marks_in_every_format() -> None:
    trace = throttled()
    marks = [each for each in perfetto(trace).instants if each["cat"] == "warning"]
    assert sorted(each["name"] for each in marks) == ["on battery", "throttled", "throttled"]
    told = next(each for each in marks if each["name"] == "throttled")
    assert told["args"]["sentence"] == "The clock of cuda:0 is held down: too hot."
    rows = [row for row in read("marks", trace) if row["kind"] == "warning"]
    assert [row["key"] for row in rows] == ["", "cuda:0", "cuda:1"]
    assert rows[1]["reason"] == told["args"]["sentence"]
    assert "The clock of cuda:0 is held down: too hot." in Page(page(trace)).text


# ---------------------------------------------------------------- the report


def test_the_report_draws_what_was_sampled_and_lists_captures() -> None:
    content = page(machine.trace())
    read = Page(content)
    for title in ("memory", "utilization", "power", "temperature", "clock"):
        assert f"{title} over time" in read.text
    assert "power of cuda:0: mean 300 W, most 300 W" in read.text
    assert "Step 1, 10.0 µs under the profiler, 4 entries" in read.text
    assert "its work was done again for this" in read.text
    assert "<script" not in content
    paths = re.findall(r'<path d="(M[^"]*)" class="line series-\d"', content)
    assert len(paths) == len(lines(sampled(machine.trace())))
    for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", " ".join(paths)):
        assert LEFT <= float(x) <= WIDTH - RIGHT
        assert TOP <= float(y) <= HEIGHT - BOTTOM


def test_no_label_of_an_axis_lies_on_another() -> None:
    charts = re.findall(r"<svg.*?</svg>", page(machine.trace()), re.DOTALL)
    assert len(charts) > 5
    for each in charts:
        found = re.findall(r'<text x="[\d.]+" y="([\d.]+)"[^>]*text-anchor="end"[^>]*>[^<]+</text>', each)
        places = sorted(map(float, found))
        assert all(below - above >= 11 for above, below in pairwise(places)), "text is 11 pixels high"


def test_a_report_of_steps_without_samples_and_captures_leaves_these_out() -> None:
    text = Page(page(machine.trace(), 4, 4)).text
    assert "The machine meanwhile" not in text
    assert "Steps in depth" not in text


def test_long_lines_keep_their_extremes() -> None:
    trace = machine.trace()
    for number in range(20_000):
        gpu = replace(machine.GPU, power_w=500.0 if number == 7_777 else 100.0 + number % 50)
        trace.append(replace(machine.SAMPLE, at_ns=T0 + 3 * 10**9 + number * 1_000_000, devices=(gpu,)))
    content = page(trace)
    assert "most 500 W" in Page(content).text
    line = max(re.findall(r'<path d="(M[^"]*)" class="line', content), key=len)
    assert line.count("L") <= 1010
