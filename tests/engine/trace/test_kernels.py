"""A capture: entries nested, each in its phase and layer, and what they add up to."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.protocol import Event
from engine.trace.agreement import agreement, agreement_sentences, undisturbed
from engine.trace.chrome_trace import chrome_trace, write_chrome_trace
from engine.trace.export import ExportRefused
from engine.trace.kernels import NONE, Capture
from engine.trace.ledger import Layout
from engine.trace.phases import Phase, StepKind
from engine.trace.store import Trace
from tests.engine.trace.building import APART, Entry, kernels, loaded, started, step, trace_of

LAYOUT = Layout(APART.names, APART.codes)
#: Attention 10–30, MLP 30–60, sampling 60–80, of a step of 100.
STAMPS = (0, 10, 30, 30, 60, 60, 80, 100)
HOST: list[Entry] = [
    ("linear", 0, 12, 10, -1),
    ("mm", 0, 13, 8, -1),
    ("mul", 0, 25, 3, -1),
    ("linear", 0, 40, 20, -1),
    ("mm", 0, 42, 15, -1),
    ("argmax", 0, 70, 5, -1),
]


def capture(entries: list[Entry] = HOST, **others: object) -> Capture:
    return Capture(kernels(entries, stamps=STAMPS, **others), LAYOUT)  # type: ignore[arg-type]


def times(found: np.ndarray) -> dict[Phase, int]:
    return {phase: int(found[phase]) for phase in Phase if found[phase]}


def test_entries_nest_by_time_and_keep_what_their_inner_ones_leave() -> None:
    found = capture()
    assert found.parent.tolist() == [NONE, 0, NONE, NONE, 3, NONE]
    assert found.depth.tolist() == [0, 1, 0, 0, 1, 0]
    assert found.self_ns.tolist() == [2, 8, 3, 5, 15, 5]


def test_entries_lie_in_the_phase_and_layer_in_which_they_began() -> None:
    found = capture()
    attention, mlp, sample = Phase.ATTENTION, Phase.MLP, Phase.SAMPLE
    assert found.phase.tolist() == [attention, attention, attention, mlp, mlp, sample]
    assert found.layer.tolist() == [0, 0, 0, 0, 0, NONE]
    assert times(found.phases_ns(False)) == {attention: 13, mlp: 20, sample: 5}
    assert found.layers_ns(False)[0].tolist() == [13, 20, 0]
    assert found.between_ns == 100 - 38


def test_what_leads_up_to_an_operation_is_given_to_it() -> None:
    # attention 0–22 and 22–28, MLP 28–60, sampling 60–75; 75–100 leads to nothing
    found = capture().step_phases_ns()
    assert times(found) == {Phase.ATTENTION: 28, Phase.MLP: 32, Phase.SAMPLE: 15}
    assert capture().share("attention") == pytest.approx(0.28)
    assert capture().share("MLP") == pytest.approx(0.32)


def test_an_operation_that_spans_phases_is_cut_where_they_begin() -> None:
    # compiled code: one region over the whole step, with the calls of a library in it
    found = capture([("region", 0, 5, 80, -1), ("mm", 0, 35, 10, -1)])
    assert times(found.phases_ns(False)) == {
        Phase.ATTENTION: 20, Phase.MLP: 30, Phase.SAMPLE: 20, Phase.UNATTRIBUTED: 10,
    }  # fmt: skip
    assert found.spanning_ns == 80
    assert capture().spanning_ns == 0  # what ends with its span goes on across no stamp


def test_work_of_a_device_belongs_to_where_it_was_launched_and_that_of_a_graph_to_when_it_ran() -> None:
    entries: list[Entry] = [
        ("linear", 0, 12, 10, -1),
        ("cudaLaunchKernel", 0, 14, 2, -1),
        ("gemm", 1, 50, 25, 1),  # runs in the MLP's time, launched in attention's
        ("copy", 1, 76, 4, -1),  # nobody knows who launched it
    ]
    found = capture(entries, lanes=("host", "cuda:0 stream 7"))
    assert found.has_device
    assert times(found.phases_ns(True)) == {Phase.ATTENTION: 25, Phase.SAMPLE: 4}
    assert found.share("attention") == pytest.approx(25 / 29)
    entries[1] = ("cudaGraphLaunch", 0, 14, 2, -1)
    replayed = capture(entries, lanes=("host", "cuda:0 stream 7"))
    assert times(replayed.phases_ns(True)) == {Phase.MLP: 25, Phase.SAMPLE: 4}


def test_the_names_that_took_the_longest_by_themselves_come_first() -> None:
    found = capture().top(False)
    assert [(e.name, e.count, e.total_ns, e.self_ns) for e in found] == [
        ("mm", 2, 23, 23),
        ("linear", 2, 30, 7),
        ("argmax", 1, 5, 5),
        ("mul", 1, 3, 3),
    ]
    assert found[0].phase is Phase.MLP
    assert sum(e.share for e in found) == pytest.approx(1)
    assert capture().top(True) == []


def test_a_capture_without_entries_is_one() -> None:
    found = capture([])
    assert len(found) == 0
    assert not found.has_device
    assert found.top(False) == []
    assert found.share("MLP") == 0
    assert found.between_ns == 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": np.array([9] * 6, np.uint32).tobytes()},
        {"lane": np.array([1] * 6, np.uint32).tobytes()},
        {"launched_by": np.array([6] * 6, np.int32).tobytes()},
        {"launched_by": np.array([-2] * 6, np.int32).tobytes()},
        {"duration_ns": np.array([-1] * 6, np.int64).tobytes()},
        {"duration_ns": b""},
        {"begin_ns": np.arange(6, 0, -1, np.int64).tobytes()},
        {"stamps": b"\0" * 16},
    ],
)
def test_entries_that_do_not_fit_together_are_refused(wrong: dict[str, bytes]) -> None:
    event = replace(kernels(HOST, stamps=STAMPS), **wrong)
    with pytest.raises(ValueError, match="capture of step 0"):
        Capture(event, LAYOUT)


def test_a_trace_keeps_the_latest_capture_of_a_step() -> None:
    first, second = kernels(HOST, step=41), kernels(HOST[:3], step=41)
    trace = trace_of(started(), step(index=40), step(index=41, captured=True), first, second)
    assert trace.first_index == 40
    assert trace.captures == {1: second}
    found = trace.capture(1)
    assert found is not None
    assert len(found) == 3
    assert trace.capture(0) is None


def test_a_capture_of_a_step_that_was_cleared_away_is_dropped() -> None:
    trace = trace_of(started(), step(index=3))
    fresh = trace.emptied(loaded())
    fresh.extend([step(index=4), kernels(HOST, step=3)])
    assert not fresh.captures


# ---------------------------------------------------------------- against our clocks


def held_against(*attention_ns: int) -> list[Event]:
    """Steps of 100 ns with so much in attention, as much in the MLP, then a captured one."""
    steps: list[Event] = []
    for took in attention_ns:
        stamps = (0, 10, 10 + took, 10 + took, 10 + 2 * took, 90, 95, 100)
        steps.append(step(stamps=stamps, index=len(steps)))
    return [started(), *steps, step(stamps=STAMPS, captured=True, index=len(steps))]


def compared(*attention_ns: int) -> Trace:
    """Such steps, then the captured one, whose attention is 20 by our clocks and 28 by the capture."""
    place = len(attention_ns)
    return trace_of(*held_against(*attention_ns), kernels(HOST, step=place, stamps=STAMPS))


def test_our_clocks_speak_of_the_same_run_and_of_the_steps_around_it() -> None:
    attention, mlp = agreement(compared(30, 28, 32), 3)
    assert attention.part == "attention"
    assert (attention.captured, attention.in_run, attention.around) == pytest.approx((0.28, 0.20, 0.30))
    assert (attention.points_in_run, attention.points) == pytest.approx((8, 2))
    assert attention.spread == pytest.approx(0.02)
    assert (mlp.points_in_run, mlp.points) == pytest.approx((2, 2))


def verdict(trace: Trace) -> str:
    return agreement_sentences(trace, len(trace.steps) - 1)[2]


def test_whether_they_agree_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "are 8.0 points apart: one of them tells phases wrongly" in verdict(compared(30, 28, 32))
    # with operations that fill their spans the same run agrees
    monkeypatch.setattr(Capture, "between_ns", 0)
    full: list[Entry] = [("linear", 0, 10, 20, -1), ("linear", 0, 30, 30, -1)]

    def filled(*attention_ns: int) -> Trace:
        return trace_of(
            *held_against(*attention_ns), kernels(full, step=len(attention_ns), stamps=(0, 0, *STAMPS[2:]))
        )

    close = filled(30, 29, 31)
    assert agreement(close, 3)[0].points_in_run == pytest.approx(0)
    assert verdict(close) == "they agree within 5 points"
    assert "the steps around it are 20.0 points away" in verdict(filled(10, 10, 10))
    assert "the machine is busy" in verdict(filled(2, 10, 40))


def test_only_steps_like_it_are_held_against_a_capture() -> None:
    events = [
        started(),
        step(index=0, kind=StepKind.PREFILL, prompt_tokens=4),
        step(index=1),
        step(index=2, captured=True),
        step(index=3, batch=2),
        step(index=4),
    ]
    trace = trace_of(*events, kernels(HOST, step=2))
    assert undisturbed(trace, 2).tolist() == [1, 4]


def test_where_nothing_can_be_compared_the_reason_is_said() -> None:
    alone = trace_of(started(), step(index=0, captured=True), kernels(HOST, step=0))
    assert agreement(alone, 0) == ()
    assert "no step like it" in agreement_sentences(alone, 0)[0]
    on_device = kernels([("gemm", 1, 1, 1, -1)], step=1, lanes=("host", "cuda:0 stream 7"))
    trace = trace_of(started(), step(index=0), step(index=1, captured=True), on_device)
    assert agreement(trace, 1) == ()
    assert "say when work was launched" in agreement_sentences(trace, 1)[0]
    whole = (0, 1, 6, 6, 8, 10)
    plain = trace_of(
        started(),
        step(index=0, layout=1, stamps=whole),
        step(index=1, layout=1, stamps=whole, captured=True),
        kernels([("mm", 0, 2, 2, -1)], step=1, layout=1, stamps=whole),
    )
    assert "neither attention nor MLP" in agreement_sentences(plain, 1)[0]


def test_what_our_stamps_alone_take_apart_is_no_witness_for_them() -> None:
    region: list[Entry] = [("Torch-Compiled Region: 0/0", 0, 5, 80, -1), ("mm", 0, 35, 10, -1)]
    compiled = trace_of(*held_against(30, 28, 32), kernels(region, step=3, stamps=STAMPS))
    assert agreement(compiled, 3) == ()
    (sentence,) = agreement_sentences(compiled, 3)
    assert "in one piece" in sentence
    lookup: list[Entry] = [*HOST[:5], ("lookup", 0, 62, 3, -1), ("argmax", 0, 78, 4, -1)]
    eager = trace_of(*held_against(30, 28, 32), kernels(lookup, step=3, stamps=STAMPS))
    assert len(agreement(eager, 3)) == 2  # a few of a hundred say nothing against the others


# ---------------------------------------------------------------- the Chrome trace


def test_a_chrome_trace_has_every_entry_and_span_on_its_lane_and_flows_from_launch_to_kernel() -> None:
    entries: list[Entry] = [("linear", 0, 12, 10, -1), ("gemm", 1, 1_500, 25, 0)]
    found = chrome_trace(capture(entries, lanes=("host", "cuda:0 stream 7")))
    events = found["traceEvents"]
    named = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    whole = [e for e in events if e["ph"] == "X"]
    assert {(e["pid"], e["tid"]) for e in whole} <= set(named)
    by_name = {e["name"]: e for e in whole}
    assert (by_name["attention"]["ts"], by_name["attention"]["dur"]) == (0.01, 0.02)
    assert named[by_name["attention"]["pid"], by_name["attention"]["tid"]] == "phases (Cyclograph)"
    kernel = by_name["gemm"]
    assert (kernel["ts"], kernel["dur"], kernel["cat"]) == (1.5, 0.025, "kernel")
    assert kernel["args"] == {"phase": "attention", "layer": 0}
    begin, end = (next(e for e in events if e["ph"] == kind) for kind in "sf")
    assert begin["id"] == end["id"]
    assert (begin["ts"], begin["tid"]) == (by_name["linear"]["ts"], by_name["linear"]["tid"])
    assert (end["ts"], end["pid"], end["bp"]) == (kernel["ts"], kernel["pid"], "e")
    for event in events:  # what the format asks of each
        assert {"name", "ph", "pid", "tid"} <= set(event)
        assert event["ph"] == "M" or event["ts"] >= 0


def test_a_chrome_trace_is_written_whole_and_never_over_another_file(tmp_path: Path) -> None:
    target = tmp_path / "step.json"
    write_chrome_trace(capture(), target)
    assert json.loads(target.read_text())["otherData"]["step"] == 0
    target.write_text("mine")
    with pytest.raises(ExportRefused, match="is there already"):
        write_chrome_trace(capture(), target)
    assert target.read_text() == "mine"
    write_chrome_trace(capture(), target, replace=True)
    assert len(json.loads(target.read_text())["traceEvents"]) > 6
    with pytest.raises(ExportRefused, match="nowhere"):
        write_chrome_trace(capture(), tmp_path / "nowhere" / "step.json")
    assert [path.name for path in tmp_path.iterdir()] == ["step.json"]  # nothing half-written is left


def test_a_chrome_trace_holds_any_name(tmp_path: Path) -> None:
    trace = trace_of(started(), step())
    trace.append(kernels([("half \udc80 of <b>it</b>", 0, 1, 2, -1)]))
    made = trace.capture(0)
    assert made is not None
    write_chrome_trace(made, tmp_path / "step.json")
    names = {event["name"] for event in json.loads((tmp_path / "step.json").read_text())["traceEvents"]}
    assert "half \udc80 of <b>it</b>" in names
