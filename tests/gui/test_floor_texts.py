"""What is said of floors and calibrations: every figure with what it stands on, and why one is missing."""

from dataclasses import replace
from typing import Any

import pytest

from engine.protocol import Calibrated, FloorBeaten, LayoutDefined, StepEnded
from engine.trace.ledger import END
from engine.trace.phases import Phase, SpanName
from engine.trace.store import Trace
from gui import floor_texts
from gui.floor_texts import NOT_APART, floor_sentence, part_remark, part_rows
from tests.gui import synthetic

FLOORED = synthetic.Shape(layers=8, floors=True)


def trace() -> Trace:
    return synthetic.trace(60, FLOORED)


def test_a_step_is_held_against_its_floor() -> None:
    made = trace()
    share = made.steps.floor_ns[40] / made.steps.wall_ns[40]
    said = floor_sentence(made, 40)
    assert said.startswith("floor 1.05 ms · ")
    assert f"{share:.1%}".replace("%", " %") + " of the step" in said
    assert "MBU" in said
    assert said.endswith("bound by memory")
    assert floor_sentence(made, 0).endswith("bound by compute")  # prefill


def test_without_a_floor_it_says_why() -> None:
    told = [event for event in synthetic.events(30, FLOORED) if not isinstance(event, Calibrated)]
    unmeasured = [
        replace(event, floor_ns=0, calibration=-1) if isinstance(event, StepEnded) else event
        for event in told
    ]
    made = Trace(synthetic.loaded(8, floors=True))
    made.extend(unmeasured)
    assert "no floor: this machine was not measured before it" in floor_sentence(made, 20)
    assert [row[2] for row in part_rows(made, 20)] == ["–"] * 5
    assert floor_sentence(synthetic.trace(30, synthetic.Shape(layers=8)), 20) == ""
    assert part_rows(synthetic.trace(30, synthetic.Shape(layers=8)), 20) == []


@pytest.mark.parametrize(
    ("changes", "calibrated", "said"),
    [
        ({"no_floor": "its weights wait on disk"}, True, "no floor: its weights wait on disk"),
        ({"computes": ("float8",)}, True, "no floor: no products of float8 were measured here"),
        (
            {"embed_device": "cuda:0", "head_device": "cuda:1"},
            False,
            "no floor: not all of cuda:0 and cuda:1 were measured before it",
        ),
    ],
)
def test_what_cannot_have_a_floor_is_told(changes: dict[str, Any], calibrated: bool, said: str) -> None:
    made = shaped(changes, calibration=0 if calibrated else -1, floor_ns=0)
    assert floor_sentence(made, 20).endswith(said)


def test_a_floor_on_several_devices_names_them_and_no_bandwidth() -> None:
    said = floor_sentence(shaped({"embed_device": "cuda:0", "head_device": "cuda:1"}), 20)
    assert said.startswith("floor ")
    assert said.endswith(" FLOP/byte · the sum of cuda:0 and cuda:1")
    assert "MBU" not in said


def shaped(changes: dict[str, Any], **others: int) -> Trace:
    """A trace of a model of another shape; `others`: of its steps."""
    loaded = synthetic.loaded(8, floors=True)
    facts = loaded.model
    assert facts.shape is not None
    made = Trace(replace(loaded, model=replace(facts, shape=replace(facts.shape, **changes))))
    told = synthetic.events(30, FLOORED)
    made.extend([replace(e, **others) if isinstance(e, StepEnded) else e for e in told])
    return made


def test_parts_are_told_with_time_floor_share_and_intensity() -> None:
    made = trace()
    rows = part_rows(made, 40)
    assert [row[0] for row in rows] == ["step", "attention", "MLP", "head", "rest"]
    attention = made.steps.phases_ns[40, Phase.ATTENTION]
    assert rows[1][1] == floor_texts.units.duration(float(attention))
    assert rows[2][4] == "0.500"  # two operations for each weight of four bytes
    assert part_remark(made, 40) == ""


def test_at_detail_step_it_says_what_to_choose() -> None:
    whole = LayoutDefined(2, (SpanName(Phase.FORWARD, -1, "model"),), (1, END))
    made = trace()
    last = next(e for e in reversed(list(synthetic.events(60, FLOORED))) if isinstance(e, StepEnded))
    stamps = b"".join(stamp.to_bytes(8, "little") for stamp in (0, 1_000, 2_000_000, 2_100_000))
    made.extend([whole, replace(last, layout=2, stamps=stamps)])
    rows = part_rows(made, 60)
    assert [row[1] for row in rows] == ["2.10 ms", "–", "–", "–", "–"]
    assert all(row[2] != "–" for row in rows), "floors are known even so"
    assert part_remark(made, 60) == NOT_APART


def test_what_cannot_be_told_apart_is_said() -> None:
    made = trace()
    last = next(e for e in reversed(list(synthetic.events(60, FLOORED))) if isinstance(e, StepEnded))
    made.append(replace(last, operations=last.operations + 1))
    assert "cannot be told" in part_remark(made, 60)
    made.append(replace(last, moved_bytes=0, operations=0))
    assert "not known" in part_remark(made, 61)


def test_a_calibration_is_named_with_its_date() -> None:
    told = Calibrated(0, 3, synthetic.CALIBRATION, "measured")
    name = floor_texts.calibration_name(told)
    assert name.startswith("calibration 3: cpu, 1 thread, measured 2025-11-2")
    on_device = replace(synthetic.CALIBRATION, device="cuda:0", mode="tf32")
    assert floor_texts.setup(on_device) == "cuda:0, float32 rounded to tf32"


def test_figures_explain_themselves() -> None:
    rows = floor_texts.figures(synthetic.CALIBRATION)
    assert [row[:2] for row in rows] == [
        ("memory", "10.0 GB/s"),
        ("caches (1.00 MiB)", "40.0 GB/s"),
        ("bfloat16 products", "100 GFLOP/s"),
        ("float32 products", "200 GFLOP/s"),
    ]
    assert "16.0 MiB: 20.0 GB/s" in rows[1][2]
    flat = replace(synthetic.CALIBRATION, rungs=((2**29, 10e9),))
    assert [row[0] for row in floor_texts.figures(flat)] == [
        "memory",
        "bfloat16 products",
        "float32 products",
    ]


@pytest.mark.parametrize(
    ("spread", "remark", "said"),
    [
        (0.01, "", []),
        (0.2, "", ["Two measurements lay 20.0 % apart: measure again while the machine is idle."]),
        (0.01, "it was busy; it is warm", ["It was busy.", "It is warm."]),
    ],
)
def test_doubts_are_sentences(spread: float, remark: str, said: list[str]) -> None:
    assert floor_texts.doubts(replace(synthetic.CALIBRATION, spread=spread, remark=remark)) == said


def test_a_bandwidth_that_other_means_do_not_confirm_is_doubted() -> None:
    (doubt,) = floor_texts.doubts(replace(synthetic.CALIBRATION, plain_bandwidth=5e9))
    assert doubt.startswith(
        "Products and copies gave 10.0 GB/s, reading the same memory by other means 5.00 GB/s"
    )
    assert floor_texts.doubts(replace(synthetic.CALIBRATION, plain_bandwidth=9e9)) == []


def test_a_broken_calibration_is_told() -> None:
    said = floor_texts.beaten_sentence(FloorBeaten(0, 1234, 300_000, 420_000), 34)
    assert said.startswith("Step 34 took 300 µs, less than its floor of 420 µs: the calibration is broken.")
    again = Calibrated(0, 1, synthetic.CALIBRATION, "measured", "a step had beaten its floor")
    assert "measured again, since a step had beaten its floor" in floor_texts.measured_sentence(again)


def test_calibrations_behind_generations() -> None:
    made = synthetic.trace(60, synthetic.Shape(layers=2, floors=True, generation_steps=20))
    assert [told.number for told in floor_texts.calibrations_of(made, None)] == [0]
    assert floor_texts.calibrations_of(made, []) == []
