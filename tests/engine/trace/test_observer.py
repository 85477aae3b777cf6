"""What the instrument costs, and how deep it may look for that."""

import pytest

from engine.protocol import AlternationEnded, AlternationStarted, ObserverReport, PartCompared
from engine.trace.observer import (
    DISPLAY,
    as_part,
    beyond_budget,
    choose_detail,
    cost_ns,
    instrument_cost,
    marks_compared,
    part_compared,
)
from engine.trace.phases import Detail
from engine.trace.statistics import Effect, Verdict
from tests.engine.trace.building import started, step, trace_of

STEP, PHASE, LAYER, CORE = Detail


@pytest.mark.parametrize(
    ("now", "costs", "wanted"),
    [
        (LAYER, {LAYER: 9.0}, LAYER),  # 0.9 %: within the budget
        (LAYER, {LAYER: 11.0}, PHASE),  # 1.1 %: one level up, whose cost nobody knows yet
        (LAYER, {LAYER: 11.0, PHASE: 10.5}, STEP),  # which is known to be too dear as well
        (PHASE, {PHASE: 11.0, LAYER: 5.0}, STEP),
        (STEP, {STEP: 50.0}, STEP),  # nothing is marked, and handing over still costs too much
        (STEP, {STEP: 1.0, PHASE: 5.9, LAYER: 6.1}, PHASE),  # hysteresis: not at 0.61 %
        (STEP, {STEP: 1.0, PHASE: 3.0, LAYER: 6.0}, LAYER),
        (PHASE, {PHASE: 7.0, LAYER: 8.0}, PHASE),  # between the two limits nothing changes
        (LAYER, {LAYER: 1.0, CORE: 1.0}, LAYER),  # deeper than the default is not chosen by itself
        (CORE, {CORE: 12.0}, LAYER),
        (PHASE, {}, PHASE),
    ],
)
def test_how_deep_to_look(now: Detail, costs: dict[Detail, float], wanted: Detail) -> None:
    assert choose_detail(now, LAYER, costs, 1_000.0) is wanted


def test_a_slower_step_lets_one_look_deeper_again() -> None:
    costs = {LAYER: 15.0, PHASE: 8.0}
    assert choose_detail(LAYER, LAYER, costs, 1_000.0) is PHASE
    assert choose_detail(PHASE, LAYER, costs, 2_000.0) is PHASE  # layers would take 0.75 %
    assert choose_detail(PHASE, LAYER, costs, 2_500.0) is LAYER


@pytest.mark.parametrize(
    ("marks_ns", "emit_ns", "settings", "words"),
    [
        (4_000.0, 5_000.0, {"detail": "layer", "auto_detail": "on"}, ""),
        (4_000.0, 8_000.0, {"detail": "layer", "auto_detail": "on"}, "at any detail: handing a step over"),
        (12_000.0, 1_000.0, {"detail": "layer", "auto_detail": "off"}, "choose less detail"),
        (12_000.0, 1_000.0, {"detail": "layer", "auto_detail": "on"}, "the detail follows"),
        (12_000.0, 1_000.0, {"detail": "step", "auto_detail": "on"}, "too short to be looked into"),
    ],
)
def test_a_cost_beyond_the_budget_is_told_with_what_it_touches(
    marks_ns: float, emit_ns: float, settings: dict[str, str], words: str
) -> None:
    trace = trace_of(started(), step(stamps=(0, *[1] * 6, 1_000_000)))
    cost = instrument_cost(trace, ObserverReport(0, 10, marks_ns / 10, emit_ns))
    found = beyond_budget(cost, tuple(settings.items()))
    assert words in found
    assert bool(found) is bool(words)
    assert beyond_budget(None, ()) == ""


def test_the_cost_of_measuring_is_a_share_of_the_median_decode_step() -> None:
    report = ObserverReport(0, 40, 100.0, 6_000.0)
    assert cost_ns(report) == 10_000
    trace = trace_of(
        started(), *(step(stamps=(0, *[1] * 6, wall)) for wall in (900_000, 1_000_000, 5_000_000))
    )
    found = instrument_cost(trace, report)
    assert found is not None
    assert found.share == pytest.approx(0.01)
    assert found.marks_share == pytest.approx(0.004)
    assert instrument_cost(trace, None) is None
    assert instrument_cost(trace_of(), report) is None


def test_what_turns_have_shown_is_found_in_the_trace() -> None:
    trace = trace_of(started())
    assert marks_compared(trace) is None
    effective = ((("detail", "layer"),), (("detail", "step"),))
    trace.append(AlternationStarted(0, 0, "detail", "layer", "step", 1, (0, 1), effective))
    for place in range(4 * 64 + 1):
        second = place % 4 in (1, 2)
        wall = 1_000_000 if second else 1_010_000
        trace.append(step(stamps=(0, *[1] * 6, wall), configuration=int(second)))
    trace.append(AlternationEnded(0, 257, 0))
    found = marks_compared(trace)
    assert found is not None
    assert found.effect.ratio == pytest.approx(1.01)
    shown = as_part(DISPLAY, Effect(1.02, 0.99, 1.04, Verdict.UNCLEAR, 64), 5, 257)
    trace.append(PartCompared(1, 100, DISPLAY, None, None, None, 3))
    trace.append(shown)
    assert part_compared(trace, DISPLAY) == shown
    assert part_compared(trace, "recording") is None
