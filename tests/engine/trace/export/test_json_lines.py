import io
import json
from dataclasses import asdict, replace

from engine.protocol import (
    Beam,
    BeamsRanked,
    Calibrated,
    DisplayReport,
    FloorBeaten,
    PartCompared,
    RecordingReport,
    ShapeDefined,
)
from engine.trace.export import excerpt_of
from engine.trace.export.json_lines import records, write_json_lines
from engine.trace.phases import StepKind
from engine.trace.records import step_record
from engine.trace.shapes import ModelShape
from engine.trace.store import Trace
from tests.engine.trace import building
from tests.engine.trace.export import sessions
from tests.engine.trace.test_floor import calibration
from tests.gui import readers


def told(trace: Trace, first: int = 0, last: int | None = None) -> list[dict]:
    return [json.loads(json.dumps(record)) for record in records(excerpt_of(trace, first, last))]


def test_everything_comes_in_order() -> None:
    trace = sessions.trace()
    kinds = [record["event"] for record in told(trace)]
    assert kinds == [
        *(
            "model",
            "observer",
            "generation",
            "step",
            "memory",
            "step",
            "joined",
            "step",
            "step",
            "mark",
            "step",
        ),
        *("end", "generation", "step", "instrument", "summary"),
    ]
    steps = [record for record in told(trace) if record["event"] == "step"]
    assert steps == [step_record(trace, row) for row in range(6)]


def test_what_every_part_of_the_instrument_cost_is_there() -> None:
    trace = sessions.trace()
    at_ns = int(trace.steps.begin_ns[-1])
    display = DisplayReport(at_ns, 7_500_000.0, 22.0, 0.2)
    recording = RecordingReport(at_ns + 1, 6, 25_000.0)
    part = PartCompared(at_ns + 2, trace.first_index + 5, "display", 1.01, 0.99, 1.02, 64, "drawing")
    trace.extend([display, recording, part])
    found = told(trace)
    names = {"display": display, "recording": recording, "part": replace(part, step=5)}
    for name, event in names.items():
        assert [record for record in found if record["event"] == name] == [{"event": name, **asdict(event)}]
    (whole,) = (record for record in found if record["event"] == "instrument")
    assert whole["display"] == asdict(display)
    assert whole["recording"] == asdict(recording)
    assert whole["drawing"]["ratio"] == 1.01
    assert whole["marks"] is None
    assert whole["cost"]["share"] > 0.01
    assert "more than 1 %" in whole["beyond_budget"]
    assert not {"display", "recording", "part"} & {record["event"] for record in told(trace, 0, 2)}


def test_a_selection_keeps_the_numbers_of_its_steps() -> None:
    found = told(sessions.trace(), 3, 4)
    assert [record["event"] for record in found] == [
        "model",
        "generation",
        "step",
        "mark",
        "step",
        "end",
        "summary",
    ]
    assert [record["index"] for record in found if record["event"] == "step"] == [3, 4]
    assert found[-1]["steps"] == 2
    assert found[-1]["tokens"] == 4
    assert found[-1]["metrics"]["ttft"]["value"] is None


def test_results_stand_behind_their_steps_also_where_a_trace_begins_late() -> None:
    trace = readers.trace()
    kinds = [record["event"] for record in told(trace)]
    assert kinds == ["model", "generation", "step", "sequences", "step", "sequences", "end", "summary"]
    late = Trace(readers.loaded())
    late.extend([event for event in readers.events() if getattr(event, "index", 1) == 1])
    found = [record for record in told(late) if record["event"] == "sequences"]
    assert [record["step"] for record in found] == [0]  # row 0 of this trace is the engine's step 1
    assert found[0]["results"][0]["text"] == "[MASK] and [MASK]"


def test_what_floors_stand_on_comes_before_the_steps_that_do() -> None:
    first = sessions.step(0, StepKind.PREFILL, ("a",), prompt_tokens=3)
    second = replace(
        sessions.step(1, StepKind.DECODE, ("b",)), moved_bytes=5, operations=9, floor_ns=20_000, calibration=0
    )
    between = building.T0 + sessions.WALL + 100
    trace = building.trace_of(
        building.started(),
        first,
        Calibrated(between, 0, calibration(), "measured"),
        ShapeDefined(between + 1, 0, ModelShape(decoder=())),
        second,
        FloorBeaten(between + 30_000, 1, sessions.WALL, 20_000),
    )
    kinds = ["model", "generation", "step", "calibrated", "shape", "step", "floor_beaten", "summary"]
    assert [record["event"] for record in told(trace)] == kinds
    late = told(trace, 1)
    assert [record["event"] for record in late if record["event"] != "generation"] == [
        *("model", "calibrated", "shape", "step", "floor_beaten", "summary")
    ]
    assert "calibrated" not in [record["event"] for record in told(trace, 0, 0)]
    steps = [record for record in told(trace) if record["event"] == "step"]
    assert [step["floor_ns"] for step in steps] == [None, 20_000]


def test_a_beam_that_cannot_go_on_has_no_score() -> None:
    ranked = BeamsRanked(0, 0, (Beam("a", 1, -0.5), Beam("b", 1, float("-inf"), True)))
    trace = building.trace_of(building.started(), sessions.step(0, StepKind.DECODE, ("a",)), ranked)
    file = io.BytesIO()
    write_json_lines(excerpt_of(trace), file, lambda _: None)
    lines = [json.loads(line, parse_constant=str) for line in file.getvalue().splitlines()]
    (beams,) = [line["beams"] for line in lines if line["event"] == "beams"]
    assert [(beam["text"], beam["score"]) for beam in beams] == [("a", -0.5), ("b", None)]
