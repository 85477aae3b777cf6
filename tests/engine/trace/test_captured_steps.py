"""A step that was captured in depth is in no statistic: as if it had not been."""

from collections.abc import Sequence

import numpy as np
import pytest

from engine.protocol import (
    AlternationEnded,
    AlternationStarted,
    Event,
    SettingChange,
    SettingsChanged,
    StepEnded,
)
from engine.trace.comparison import comparable_rows
from engine.trace.cycle_model import decode_models
from engine.trace.effects import Effects, effect_of_alternation
from engine.trace.export.drawing import step_chart
from engine.trace.export.excerpt import excerpt_of
from engine.trace.export.report_tables import phase_table
from engine.trace.export.tables import STEPS
from engine.trace.metrics import summary, view_generations
from engine.trace.phases import StepKind
from engine.trace.records import step_record
from engine.trace.store import NO_LATENCY, Trace
from tests.engine.trace.building import MS, T0, ended, started, step, trace_of


def timed(
    walls_ms: Sequence[float], captured: Sequence[int] = (), held_ms: float = 0.0, configuration: int = 0
) -> list[StepEnded]:
    """Steps one right after the other, the first a prefill; so much is held before and behind the captured ones."""
    events, now, context = [], T0, 5
    for index, wall_ms in enumerate(walls_ms):
        held = round(held_ms * MS) if index in captured or index - 1 in captured else 0
        begin, end = now + held, now + held + round(wall_ms * MS)
        context += index not in captured
        made = step(
            [end - MS],
            stamps=(*(begin + offset for offset in (0, 1, 3, 3, 6, 6, 8)), end),
            kind=StepKind.DECODE if index else StepKind.PREFILL,
            held_ns=held,
            index=index,
            context_length=context,
            prompt_tokens=0 if index else 5,
            captured=index in captured,
            configuration=configuration,
        )
        events.append(made)
        now = end
    return events


def plain(walls_ms: Sequence[float]) -> Trace:
    return trace_of(started(), *timed(walls_ms), ended())


def with_capture(
    walls_ms: Sequence[float], place: int, took_ms: float = 40.0, held_ms: float = 90.0
) -> Trace:
    """The same steps, with a captured one, which takes long, put in at a place."""
    walls = [*walls_ms[:place], took_ms, *walls_ms[place:]]
    return trace_of(started(), *timed(walls, [place], held_ms), ended())


def values(trace: Trace, *left_out: str) -> dict[str, float | None]:
    return {key: found.value for key, found in summary(trace).items() if key not in ("held", *left_out)}


WALLS = [30.0, *(8 + 0.1 * (i % 7) for i in range(40))]


@pytest.mark.parametrize("place", [2, 17, 41])
def test_no_metric_changes_by_it(place: int) -> None:
    without, within = plain(WALLS), with_capture(WALLS, place)
    assert len(within.steps) == len(without.steps) + 1
    assert values(within) == values(without)
    assert summary(within)["tokens"].note == "1 step captured in depth left out"
    assert summary(without)["tokens"].note == ""


def test_the_gap_behind_it_is_one_step_long_and_it_ends_none() -> None:
    itl = with_capture(WALLS, 5).steps.itl_ns
    assert itl[5] == NO_LATENCY
    assert np.delete(itl, 5).tolist() == plain(WALLS).steps.itl_ns.tolist()


def test_captured_before_the_first_token_its_generation_has_no_latencies_of_its_own() -> None:
    trace = trace_of(started(), *timed([60, *WALLS[1:]], [0], 50), ended())
    found = values(trace)
    for key in ("ttft", "end_to_end", "tpot", "decode_throughput", "output_throughput", "prefill_throughput"):
        assert found[key] is None, key
    assert found["itl_p50"] == values(plain(WALLS[1:]))["itl_p50"]  # the others follow each other as ever


def test_a_generation_that_was_captured_whole_has_no_values() -> None:
    found = values(trace_of(started(), *timed([30, 8, 8], [0, 1, 2]), ended()))
    assert set(found.values()) == {None}


def test_other_generations_do_not_notice() -> None:
    later: list[Event] = [started(1, T0 + 10_000 * MS)]
    for event in timed([30, 9, 9, 9]):
        stamps = np.frombuffer(event.stamps, np.int64) + 10_000 * MS
        arrivals = [token.arrival_ns + 10_000 * MS for token in event.tokens]
        later.append(step(arrivals, stamps=stamps.tolist(), kind=event.kind, generation=1))
    trace = trace_of(started(), *timed([30, 50, 8], [1], 90), ended(), *later, ended(1))
    view = view_generations(trace)
    assert view.step_begin.tolist() == [0, 2]
    assert view.step_end.tolist() == [2, 6]
    assert view.held_ns.tolist()[2:] == [0, 0, 0, 0]
    assert (view.arrivals_ns[view.token_begin] == 29 * MS).all()


def test_it_stands_for_nothing_when_configurations_are_compared() -> None:
    walls = [8 + 0.1 * (i % 5) for i in range(120)]
    change = SettingChange("precision", "bfloat16", "bfloat16")
    other = SettingsChanged(T0, 120, (change,), 0, 1, (("precision", "bfloat16"),))
    trace = trace_of(
        started(),
        *timed([*walls[:10], 90, 90, *walls[10:]], [10, 11], 50),
        other,
        *timed([*walls[:20], 1, *walls[20:]], [20], 50, configuration=1),
    )
    clean = trace_of(started(), *timed(walls), other, *timed(walls, configuration=1))
    assert not set(comparable_rows(trace, 0, len(trace.steps)).tolist()) & {10, 11, 142}
    within, without = (Effects(each).of("precision") for each in (trace, clean))
    assert within is not None
    assert without is not None
    assert within.effect == without.effect
    assert within.effect.ratio is not None


def test_turns_of_an_alternation_keep_their_places() -> None:
    walls = [30.0, *(8.0 if i % 4 in (0, 3) else 4.0 for i in range(200))]  # A B B A …, B twice as fast
    begun = AlternationStarted(
        T0, 1, "attention", "eager", "sdpa", 1, (0, 1), ((("attention", "eager"),), (("attention", "sdpa"),))
    )

    def found(captured: Sequence[int]) -> float | None:
        slow = [100.0 if i in captured else wall for i, wall in enumerate(walls)]
        first, *others = timed(slow, captured)
        trace = trace_of(started(), first, begun, *others, AlternationEnded(T0, 201, 0))
        effect = effect_of_alternation(trace, trace.alternations[0])
        assert effect.pairs >= 64
        return effect.effect.ratio

    assert found([]) == pytest.approx(2.0)
    assert found([3, 50, 51, 120]) == pytest.approx(2.0)


def test_exports_tell_it_apart_and_leave_it_out_of_their_sums() -> None:
    without, within = plain(WALLS), with_capture(WALLS, 5)
    assert phase_table(excerpt_of(within)) == phase_table(excerpt_of(without))
    (chunk,) = STEPS.chunks(excerpt_of(within))
    assert [step for step, captured in zip(chunk["step"], chunk["captured"], strict=True) if captured] == [5]
    assert step_record(within, 5)["captured"]
    assert "hatched" in step_chart(excerpt_of(trace_of(started(), *timed([8, 60, 8], [1]))))


def test_the_fitted_cycle_does_not_know_of_it() -> None:
    walls = [30.0, *(8 + 0.01 * i for i in range(80))]
    assert decode_models(plain(walls))
    assert decode_models(with_capture(walls, 40)) == decode_models(plain(walls))
