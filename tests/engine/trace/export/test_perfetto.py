import io
import json

import numpy as np
import pytest

from engine.trace.export import excerpt_of, perfetto
from engine.trace.export.perfetto import GENERATIONS, SETTINGS, TOKENS, write_perfetto
from engine.trace.store import Trace
from tests.engine.trace import building
from tests.engine.trace.export import sessions, trace_events
from tests.gui import synthetic

HOST = 1
ORIGIN = building.T0 - 5_000  # the prompt was submitted


def written(trace: Trace, first: int = 0, last: int | None = None) -> trace_events.Parsed:
    file = io.BytesIO()
    write_perfetto(excerpt_of(trace, first, last), file, lambda _: None)
    return trace_events.read(file.getvalue())


def test_every_span_is_there_to_the_nanosecond() -> None:
    trace = sessions.trace()
    slices = written(trace).slices[HOST]
    for row in range(len(trace.steps)):
        spans = trace.spans(row)
        whole, *inner = slices[row * (1 + len(spans)) : (row + 1) * (1 + len(spans))]
        begin = int(trace.steps.begin_ns[row])
        assert (whole.begin_ns, whole.end_ns - whole.begin_ns) == (begin - ORIGIN, sessions.WALL)
        assert (whole.name, whole.depth) == (f"{trace.kind(row).value} step {row}", 0)
        for span, made in zip(spans, inner, strict=True):
            assert made.begin_ns == begin + span.begin_ns - ORIGIN
            assert made.end_ns - made.begin_ns == span.duration_ns
            assert (made.depth, made.args["module"]) == (span.depth + 1, span.name.name)


def test_layers_hold_their_phases() -> None:
    trace = synthetic.trace(40, synthetic.Shape(layers=3, generation_steps=20, mark_every=15))
    parsed = written(trace)
    slices = parsed.slices[HOST]
    assert len(slices) == sum(1 + len(trace.spans(row)) for row in range(40))
    layer = next(each for each in slices if each.name == "layer 1")
    inside = [s.name for s in slices if s.depth > layer.depth and layer.begin_ns <= s.begin_ns < layer.end_ns]
    assert inside == ["L01 attention", "L01 MLP"]
    assert len(parsed.asynchronous) == 2


def test_marks_generations_tokens_and_counters() -> None:
    parsed = written(sessions.trace())
    assert parsed.tracks == {
        HOST: "host: steps",
        GENERATIONS: "generations",
        SETTINGS: "settings",
        TOKENS: "tokens",
    }
    marks = [each for each in parsed.instants if each["cat"] == "mark"]
    assert [mark["name"] for mark in marks] == ["joined: 23 tokens", "precision → bfloat16"]
    assert marks[1]["args"] == {"before step": 4}
    (switch,) = parsed.slices[SETTINGS]
    assert switch.end_ns - switch.begin_ns == 2_500
    assert switch.end_ns == marks[1]["ts"]
    tokens = [each["name"] for each in parsed.instants if each["cat"] == "token"]
    assert tokens == ["He", "a", "b", "x", "c", "y", "Q"]
    first, second = parsed.asynchronous["0x0"][0], parsed.asynchronous["0x1"][0]
    assert first.args["ended"] == "length"
    assert second.args["ended"] == "not over"
    assert second.begin_ns < first.end_ns  # they overlap, and no track minds
    assert [value for _, value in parsed.counters["context"]] == [4, 5, 6, 7, 8, 9]
    assert [value for _, value in parsed.counters["batch"]] == [1, 1, 1, 2, 2, 1]
    assert parsed.counters["memory of the engine"] == [(building.T0 + 15_000 - ORIGIN, 1 << 20)]
    assert "device memory allocated" not in parsed.counters  # nobody measured it
    assert parsed.about["torch"] == "2.13"


def test_another_lane_is_a_row_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def later(trace: Trace, step: int) -> np.ndarray | None:
        return trace.stamps(step) + 7 if step % 2 else None

    monkeypatch.setattr(perfetto, "LANES", (*perfetto.LANES, perfetto.Lane(3, "later: steps", later)))
    monkeypatch.setitem(perfetto.TRACKS, 3, "later: steps")
    slices = written(sessions.trace()).slices
    assert [each.name for each in slices[3] if not each.depth] == [
        "decode step 1",
        "decode step 3",
        "prefill step 5",
    ]
    assert [each.begin_ns for each in slices[3]] == [each.begin_ns + 7 for each in slices[HOST] if each.begin_ns in
                                                     {other.begin_ns - 7 for other in slices[3]}]  # fmt: skip
    assert len(slices[HOST]) == 2 * len(slices[3])


def test_a_selection_keeps_its_numbers() -> None:
    parsed = written(sessions.trace(), 3, 4)
    steps = [each.name for each in parsed.slices[HOST] if not each.depth]
    assert steps == ["decode step 3", "decode step 4"]
    assert parsed.about["steps"] == "steps 3 to 4 of 6"


def test_any_text_is_text() -> None:
    parsed = written(sessions.trace(sessions.MARKUP, sessions.MARKUP))
    names = [each["name"] for each in parsed.instants]
    assert sessions.MARKUP in names
    assert parsed.about["model"] == sessions.MARKUP


@pytest.mark.parametrize(
    "broken",
    [
        {"ph": "B", "name": "a", "cat": "b", "pid": 1, "tid": 1, "ts": 1},  # never ended
        {"ph": "E", "pid": 1, "tid": 1, "ts": 1},  # never begun
        {"ph": "X", "name": "a", "cat": "b", "pid": 1, "tid": 1, "ts": 1},  # how long?
        {"ph": "C", "name": "a", "pid": 1, "tid": 0, "ts": 1, "args": {"a": "1"}},
        {"ph": "i", "name": "a", "pid": 1, "tid": 1, "ts": 0.0001, "s": "p"},  # a tenth of a nanosecond
        {"ph": "i", "name": "a", "pid": 1, "tid": 9, "ts": 1, "s": "p"},  # a track without a name
        {"ph": "Z", "name": "a", "pid": 1, "tid": 1, "ts": 1},
    ],
)
def test_the_reader_notices(broken: dict) -> None:
    file = io.BytesIO()
    write_perfetto(excerpt_of(sessions.trace()), file, lambda _: None)
    whole = json.loads(file.getvalue())
    whole["traceEvents"].append(broken)
    with pytest.raises((AssertionError, KeyError, IndexError)):
        trace_events.read(json.dumps(whole).encode())
