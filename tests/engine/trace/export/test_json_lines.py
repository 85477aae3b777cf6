import json

from engine.trace.export import excerpt_of
from engine.trace.export.json_lines import records
from engine.trace.records import step_record
from engine.trace.store import Trace
from tests.engine.trace.export import sessions
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
        *("end", "generation", "step", "summary"),
    ]
    steps = [record for record in told(trace) if record["event"] == "step"]
    assert steps == [step_record(trace, row) for row in range(6)]


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
