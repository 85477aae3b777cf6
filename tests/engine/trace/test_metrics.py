"""Metrics by hand arithmetic: the worked examples, held time, speculation, and what has no value."""

import json

import numpy as np
import pytest

from engine.protocol import Family, StepEnded
from engine.trace.metrics import (
    CHAT,
    METRICS,
    SECOND_LEVEL,
    Targets,
    as_json,
    find_stalls,
    summary,
    view_generation,
)
from engine.trace.phases import StepKind
from engine.trace.store import NO_LATENCY, Trace
from tests.engine.trace.building import (
    MS,
    T0,
    changed,
    encode_step,
    ended,
    generation_at,
    joined,
    loaded,
    started,
    step,
    trace_of,
)


def values(trace: Trace, **options: object) -> dict[str, float | None]:
    return {key: m.value for key, m in summary(trace, **options).items()}  # type: ignore[arg-type]


def one_each(*arrivals_ms: float) -> list[list[float]]:
    return [[a] for a in arrivals_ms]


def test_worked_example_1_several_tokens_share_an_arrival() -> None:
    measured = summary(trace_of(*generation_at([[100], [140, 140], [180, 180]])))
    assert measured["ttft"].value == 100 * MS
    assert measured["itl_mean"].value == measured["itl_p50"].value == 40 * MS
    assert measured["itl_mean"].count == 2
    assert measured["tpot"].value == 20 * MS
    assert measured["end_to_end"].value == 180 * MS
    assert measured["output_throughput"].value == pytest.approx(5 / 0.180)
    assert measured["decode_throughput"].value == pytest.approx(4 / 0.080)
    assert measured["tokens"].value == 5


def test_worked_example_2_a_single_token_has_no_gap() -> None:
    measured = values(trace_of(*generation_at([[70]])))
    assert measured["ttft"] == measured["end_to_end"] == 70 * MS
    assert [measured[k] for k in ("itl_p50", "itl_p95", "itl_p99", "itl_max", "itl_mean", "tpot")] == [
        None
    ] * 6
    assert measured["decode_throughput"] is None
    assert measured["stalls"] is None
    assert measured["output_throughput"] == pytest.approx(1 / 0.070)


def test_worked_example_3_and_its_stall_once_there_is_history() -> None:
    arrivals = [50.0, 60, 70, 170, 180]
    short = values(trace_of(*generation_at(one_each(*arrivals))))
    assert (short["itl_p50"], short["itl_max"], short["tpot"]) == (10 * MS, 100 * MS, 32.5 * MS)
    assert short["stalls"] is None
    assert short["stall_largest"] is None
    before = [50.0 - 10 * i for i in range(16, 0, -1)]
    long = summary(trace_of(*generation_at(one_each(*(a + 200 for a in before + arrivals)))))
    assert long["stalls"].value == 1
    assert long["stalls"].count == 4  # gaps with 16 before them
    assert long["stall_largest"].value == 100 * MS


def test_worked_example_4_a_batch() -> None:
    arrivals = [200 + 50 * i for i in range(11)]
    measured = values(trace_of(*generation_at(one_each(*arrivals), batch=4)))
    assert measured["tpot"] == 50 * MS
    assert measured["decode_throughput"] == pytest.approx(80)
    assert measured["decode_throughput_each"] == pytest.approx(20)
    assert measured["output_throughput"] == pytest.approx(44 / 0.7)
    assert measured["tokens"] == 44
    assert measured["itl_mean"] == measured["itl_max"] == 50 * MS  # a gap an arrival, not one a token


def test_sequences_that_end_or_begin_at_different_times_have_latencies_of_their_own() -> None:
    trace = trace_of(
        started(),
        step([T0 + 10 * MS]),
        step([T0 + 20 * MS], sequences=(0, 1, 2), batch=1),
        step([T0 + 40 * MS], sequences=(0, 1, 2), batch=3),
        step([T0 + 50 * MS], sequences=(0, 2), batch=2),
        ended(),
    )
    view = view_generation(trace, trace.generations[0])
    assert view.sequences.tokens.tolist() == [4, 2, 3]
    assert view.sequences.first_ns.tolist() == [10 * MS, 20 * MS, 20 * MS]
    assert view.sequences.last_ns.tolist() == [50 * MS, 40 * MS, 50 * MS]
    measured = summary(trace)
    assert measured["tpot"].value == 15 * MS  # the middle of 40/3, 20 and 15
    assert "3 sequences" in measured["tpot"].note
    assert measured["tokens"].value == 9
    assert measured["decode_throughput"].value == pytest.approx(8 / 0.040)
    assert measured["output_throughput"].value == pytest.approx(9 / 0.050)
    assert (measured["itl_p50"].value, measured["itl_p50"].count) == (10 * MS, 3)
    assert trace.text_of(trace.generations[0], 1) == "aa"
    assert trace.sequences_of(trace.generations[0]) == [0, 1, 2]


def joining(*, held_ms: int = 0) -> Trace:
    """Sequence 1 is submitted at 145 ms and read in a step from 190 to 200 ms, while sequence 0 waits."""
    stamps = tuple(T0 + ms * MS for ms in (190, 191, 193, 193, 196, 196, 198, 200))
    read = step(
        [T0 + 200 * MS],
        kind=StepKind.PREFILL,
        stamps=stamps,
        held_ns=held_ms * MS,
        prompt_tokens=23,
        sequences=(1,),
    )
    return trace_of(
        started(),
        step([T0 + 100 * MS], kind=StepKind.PREFILL),
        step([T0 + 140 * MS]),
        joined(1, T0 + 145 * MS),
        read,
        step([T0 + 240 * MS], sequences=(0, 1), batch=2),
        step([T0 + 280 * MS], sequences=(0, 1), batch=2),
        ended(),
    )


def test_a_sequence_that_joins_has_latencies_from_its_own_submission() -> None:
    trace = joining()
    found = summary(trace)
    assert found["ttft"].value == (100 + 55) / 2 * MS
    assert "1 of them" in found["ttft"].note
    view = view_generation(trace, trace.generations[0])
    assert (view.gaps.step.tolist(), view.gaps.gap_ns.tolist()) == (
        [1, 3, 3, 4],
        [40 * MS, 40 * MS, 100 * MS, 40 * MS],  # after the join one has waited for it, the other has not
    )
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY, 40 * MS, NO_LATENCY, 100 * MS, 40 * MS]
    assert values(trace)["tpot"] == (60 + 40) * MS / 2
    targets = Targets("both", ttft_ns=60 * MS, itl_ns=50 * MS)
    assert (
        values(trace, targets=targets)["goodput_tokens"] == 5 / 7
    )  # late: the first of 0, and its wait for the join
    assert (trace.joins[0].step, trace.joins[0].text) == (2, "joined: 23 tokens")


def test_what_is_held_after_a_join_was_submitted_is_in_no_latency_of_it() -> None:
    trace = joining(held_ms=50)  # from 140 to 190 ms
    assert summary(trace)["ttft"].value == (100 + 10) / 2 * MS
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY, 40 * MS, NO_LATENCY, 50 * MS, 40 * MS]


def test_a_sequence_that_goes_on_alone_waits_since_its_own_first_token() -> None:
    trace = trace_of(
        started(),
        step([T0 + 100 * MS], kind=StepKind.PREFILL),
        joined(1, T0 + 100 * MS),
        step([T0 + 170 * MS], kind=StepKind.PREFILL, sequences=(1,)),
        step([T0 + 200 * MS], sequences=(1,)),
    )
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY, NO_LATENCY, 30 * MS]
    assert values(trace)["itl_max"] == 30 * MS


def test_acceptance_and_what_speculation_makes_of_latencies() -> None:
    trace = trace_of(
        started(),
        step([T0 + 10 * MS], kind=StepKind.PREFILL),
        step([T0 + 30 * MS] * 4, kind=StepKind.VERIFY, drafted=4, accepted=3),
        step([T0 + 40 * MS]),  # nothing was proposed
        step([T0 + 60 * MS], kind=StepKind.VERIFY, drafted=2, accepted=0),
        ended(),
    )
    measured = summary(trace)
    assert (measured["acceptance"].value, measured["acceptance"].count) == (0.5, 6)
    assert (measured["accepted_length"].value, measured["accepted_length"].count) == (1.5, 2)
    assert measured["tokens_per_step"].value == 2
    assert measured["itl_mean"].value == pytest.approx(50 / 3 * MS)
    assert measured["tpot"].value == pytest.approx(50 / 6 * MS)
    assert values(trace_of(*generation_at(one_each(1, 2))))["acceptance"] is None


def test_a_step_on_which_beams_do_not_agree_still_adds_a_token_to_each() -> None:
    trace = trace_of(
        started(), step([T0 + MS]), step(batch=4), step(batch=4), step([T0 + 4 * MS] * 3, batch=4), ended()
    )
    measured = summary(trace)
    assert (
        measured["token_latency"].value == 10
    )  # the wall time of each step: none yielded three tokens' worth
    assert measured["tokens_per_step"].value == 1
    assert measured["tokens"].value == 4
    assert measured["itl_mean"].value == 3 * MS


def test_nothing_measured_has_no_value_never_zero() -> None:
    for trace in (Trace(), trace_of(), trace_of(started()), trace_of(started(), ended())):
        assert set(summary(trace)) == set(METRICS)
        assert [key for key, value in values(trace).items() if value is not None] == []


def test_held_time_is_in_no_latency() -> None:
    trace = trace_of(
        started(),
        step([T0 + 1100 * MS], held_ns=1000 * MS),  # started on hold
        step([T0 + 1140 * MS]),
        step([T0 + 6180 * MS], held_ns=5000 * MS),  # a pause
        ended(),
    )
    held, free = values(trace), values(trace_of(*generation_at(one_each(100, 140, 180))))
    assert held.pop("held") == 6000 * MS
    assert free.pop("held") == 0
    assert held == free
    assert trace.steps.itl_ns.tolist() == [NO_LATENCY, 40 * MS, 40 * MS]


def test_held_before_a_step_without_tokens_counts_in_the_next_gap() -> None:
    trace = trace_of(
        started(), step([T0 + 10 * MS]), step(held_ns=30 * MS), step([T0 + 65 * MS], held_ns=20 * MS), ended()
    )
    assert view_generation(trace, trace.generations[0]).gaps.gap_ns.tolist() == [5 * MS]
    assert trace.steps.itl_ns.tolist()[-1] == 5 * MS


def test_gaps_of_the_view_are_those_of_the_steps() -> None:
    events = [*generation_at([[20], [30, 30, 30], [], [55]]), *generation_at([[9], [12]], 1, T0 + 100 * MS)]
    trace = trace_of(*events)
    steps = trace.steps.itl_ns[trace.steps.itl_ns != NO_LATENCY].tolist()
    gaps = [g for r in trace.generations for g in view_generation(trace, r).gaps.gap_ns.tolist()]
    assert gaps == steps == [10 * MS, 25 * MS, 3 * MS]


def test_generations_are_pooled_and_latencies_of_their_own_are_medians() -> None:
    events = [
        *generation_at(one_each(100, 110), 0),
        *generation_at([], 1, T0 + 500 * MS),
        *generation_at(one_each(300, 330, 350), 2, T0 + 900 * MS),
    ]
    trace = trace_of(*events)
    measured = summary(trace)
    assert measured["ttft"].value == 200 * MS
    assert measured["ttft"].count == 2
    assert "2 generations" in measured["ttft"].note
    assert "1 without" in measured["ttft"].note
    assert (measured["itl_p50"].value, measured["itl_p50"].count) == (20 * MS, 3)
    assert summary(trace, [trace.generations[2]])["ttft"].value == 300 * MS
    apart = [trace.generations[2], trace.generations[0]]  # neither in order nor next to each other
    assert values(trace_of(*events[:4], *events[6:])) == values(trace, generations=apart)


def test_selected_generations_leave_the_others_out() -> None:
    events = [
        e for i in range(5) for e in generation_at([[10 + i], [], [30 + i, 30 + i]], i, T0 + i * 1000 * MS)
    ]
    trace = trace_of(*events)
    chosen = [trace.generations[i] for i in (0, 2, 3)]
    assert summary(trace, chosen)["ttft"].value == 12 * MS
    assert summary(trace, chosen)["tokens"].value == 9


def test_a_running_generation_has_no_end_to_end_yet() -> None:
    trace = trace_of(*generation_at(one_each(10, 20))[:-1])
    measured = values(trace)
    assert measured["end_to_end"] is None
    assert measured["goodput"] is None
    assert measured["ttft"] == 10 * MS
    assert measured["output_throughput"] == pytest.approx(2 / 0.020)


def test_token_latency_divides_the_step_among_its_tokens() -> None:
    verify = step([T0 + 9, T0 + 9], kind=StepKind.VERIFY)
    prefill = step([T0 + 5], kind=StepKind.PREFILL, stamps=(0, 1, 3, 3, 6, 6, 8, 1000))
    assert values(trace_of(started(), prefill, verify, ended()))["token_latency"] == 5


def test_prefill_throughput_is_prompt_tokens_over_the_wall_of_their_steps() -> None:
    def chunk(wall_ns: int, tokens: int) -> object:
        return step(kind=StepKind.PREFILL, stamps=(0, 0, 0, 0, 0, 0, 0, wall_ns), prompt_tokens=tokens)

    trace = trace_of(started(), chunk(30 * MS, 512), chunk(10 * MS, 88), step([T0 + 60 * MS]), ended())  # type: ignore[arg-type]
    assert values(trace)["prefill_throughput"] == pytest.approx(600 / 0.040)


def test_phase_shares_totals_and_what_is_unattributed() -> None:
    trace = trace_of(started(), step(), step(stamps=(0, 1, 3, 3, 6, 6, 8, 20)), ended())
    measured = values(trace)  # attention 2, MLP 3, sampling 2 of 10 and of 20
    assert measured["attention_share"] == pytest.approx((0.2 + 0.1) / 2)
    assert measured["forward_share"] == pytest.approx((0.3 + 0.15) / 2)
    assert measured["decode_share"] == pytest.approx((0.2 + 0.1) / 2)
    assert measured["unattributed"] == pytest.approx((0.3 + 13 / 20) / 2)
    assert (measured["attention_total"], measured["forward_total"], measured["decode_total"]) == (4, 6, 4)


def test_a_forward_pass_in_one_piece_says_nothing_of_attention() -> None:
    whole = step(layout=1, stamps=(0, 1, 7, 7, 9, 10))
    measured = summary(trace_of(started(), whole, ended()))
    assert measured["attention_share"].value is None
    assert measured["attention_total"].value is None
    assert measured["decode_share"].value == pytest.approx(0.2)
    mixed = summary(trace_of(started(), whole, step(), ended()))
    assert (mixed["attention_share"].value, mixed["attention_share"].count) == (pytest.approx(0.2), 1)
    assert "1 step" in mixed["attention_share"].note


def test_goodput_counts_generations_that_met_all_targets_and_tokens_in_time() -> None:
    trace = trace_of(
        *generation_at(one_each(200, 250, 300), 0),  # exactly at the targets
        *generation_at([[100], [120, 120], [171, 171]], 1),  # a gap of 51 ms, two tokens late
        *generation_at(one_each(201, 210), 2),  # first token late
    )
    measured = summary(trace, targets=CHAT)
    assert measured["goodput"].value == pytest.approx(1 / 3)
    assert measured["goodput_tokens"].value == pytest.approx(7 / 10)
    assert measured["goodput"].note == "chat: TTFT ≤ 200 ms, ITL ≤ 50 ms"
    assert values(trace, targets=SECOND_LEVEL)["goodput"] == 1
    assert values(trace, targets=Targets("none"))["goodput_tokens"] == 1


def test_steps_of_one_configuration_whenever_it_was_in_force() -> None:
    fast, slow = (("precision", "bfloat16"),), (("precision", "float32"),)
    trace = trace_of(
        started(),
        step([T0 + 10 * MS]),
        step([T0 + 20 * MS]),
        changed(1, fast),
        step([T0 + 23 * MS], configuration=1),
        changed(2, slow),  # back, under a new number
        step([T0 + 33 * MS], configuration=2),
        ended(),
        *generation_at(one_each(7), 1, T0 + 90 * MS),
    )
    slow_ones = summary(trace, configuration=2)
    assert (slow_ones["itl_mean"].value, slow_ones["itl_mean"].count) == (10 * MS, 2)
    assert slow_ones["ttft"].value == 7 * MS  # the other generation ran under both
    assert slow_ones["steps"].value == 4
    assert (
        summary(trace, configuration=1)["itl_mean"].value,
        summary(trace, configuration=1)["ttft"].value,
    ) == (
        3 * MS,
        None,
    )
    with pytest.raises(IndexError):
        summary(trace, configuration=9)


def naive_stalls(gaps: list[int], groups: list[int]) -> list[bool]:
    history: dict[int, list[int]] = {}
    found = []
    for gap, group in zip(gaps, groups, strict=True):
        before = history.setdefault(group, [])[-64:]
        middle = float(np.median(before)) if before else 0.0
        spread = float(np.median(np.abs(np.array(before) - middle))) if before else 0.0
        found.append(len(before) >= 16 and gap > max(5 * middle, middle + 10 * spread))
        history[group].append(gap)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_stalls_against_the_definition_gap_by_gap(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gaps = generator.integers(90, 110, 700)
    gaps *= np.where(generator.random(700) < 0.05, generator.integers(3, 20, 700), 1)
    groups = np.repeat(generator.integers(0, 3, 70), 10)  # settings that come and go
    gaps[groups == 2] *= 10
    judged, stalled = find_stalls(gaps, groups)
    assert stalled.tolist() == naive_stalls(gaps.tolist(), groups.tolist())
    assert stalled.any()
    assert not stalled[~judged].any()


def test_a_switch_to_something_slower_is_no_stall() -> None:
    groups = np.repeat([0, 1], 40)
    assert not find_stalls(np.repeat([10, 1000], 40), groups)[1].any()


def encoded(*steps: StepEnded, family: Family = Family.ENCODER) -> Trace:
    return trace_of(started(), *steps, ended(), family=family)


def test_an_encoder_has_latencies_and_rates_of_sequences() -> None:
    trace = encoded(
        encode_step(80 * MS, batch=4, tokens=100, padding=28),  # 20 ms a sequence
        encode_step(60 * MS, batch=2, tokens=30, padding=2),  # 30 ms
        encode_step(10 * MS, batch=1, tokens=20),  # 10 ms
    )
    measured = summary(trace)
    assert (measured["sequence_p50"].value, measured["sequence_p50"].count) == (20 * MS, 3)
    assert measured["sequence_p95"].value == pytest.approx(29 * MS)  # nine tenths of the way from 20 to 30
    assert measured["sequence_p99"].value == pytest.approx(29.8 * MS)
    assert measured["sequence_throughput"].value == pytest.approx(7 / 0.150)
    assert measured["input_throughput"].value == pytest.approx(150 / 0.150)
    assert (measured["padding_share"].value, measured["padding_share"].count) == (pytest.approx(30 / 180), 3)
    assert (measured["sequences"].value, measured["steps"].value) == (7, 3)
    valued = {key for key, m in measured.items() if m.value is not None}
    assert [key for key in valued if Family.ENCODER not in measured[key].metric.families] == []


def test_an_encoder_that_padded_nothing_says_so_and_one_that_did_nothing_has_no_value() -> None:
    assert values(encoded(encode_step(MS, tokens=5)))["padding_share"] == 0
    assert [key for key, value in values(encoded()).items() if value is not None] == []


def test_rates_of_several_encoder_runs_are_medians_and_settings_are_kept_apart() -> None:
    trace = trace_of(
        started(0),
        encode_step(10 * MS, batch=2, tokens=10),
        ended(0),
        started(1, T0 + MS),
        encode_step(20 * MS, batch=2, tokens=10, generation=1),
        changed(1, (("precision", "bfloat16"),)),
        encode_step(5 * MS, batch=2, tokens=10, generation=1, configuration=1),
        ended(1),
        family=Family.ENCODER,
    )
    every = summary(trace)
    assert every["sequence_throughput"].value == pytest.approx((200 + 160) / 2)
    assert "2 generations" in every["sequence_throughput"].note
    assert every["sequence_p50"].value == 5 * MS
    assert summary(trace, configuration=1)["sequence_p50"].value == 2.5 * MS
    assert summary(trace, configuration=0)["sequence_throughput"].value == pytest.approx((200 + 100) / 2)


def test_an_encoder_in_front_of_a_decoder_is_in_the_time_to_the_first_token_and_told_apart() -> None:
    prefill = step([T0 + 50 * MS], kind=StepKind.PREFILL, context_length=1)
    trace = encoded(
        encode_step(30 * MS, tokens=60, padding=0, context_length=0),
        prefill,
        step([T0 + 60 * MS], context_length=2),
        step([T0 + 70 * MS], context_length=3),
        family=Family.ENCODER_DECODER,
    )
    measured = values(trace)
    assert measured["encode_time"] == 30 * MS
    assert measured["input_throughput"] == pytest.approx(60 / 0.030)
    assert measured["ttft"] == 50 * MS
    assert measured["itl_p50"] == measured["tpot"] == 10 * MS
    assert measured["token_latency"] == 10  # of the decode steps: the encode step yields no token
    assert measured["decode_throughput"] == pytest.approx(2 / 0.020)
    assert measured["context_length"] == 3
    assert [measured[k] for k in ("sequence_p50", "sequence_throughput", "padding_share", "sequences")] == [
        None
    ] * 4


def test_a_decoder_has_nothing_of_an_encoder() -> None:
    trace = trace_of(*generation_at(one_each(10, 20)))
    measured = summary(trace)
    assert [
        k for k, m in measured.items() if Family.DECODER not in m.metric.families and m.value is not None
    ] == []


def test_an_encode_step_has_no_context_for_the_next() -> None:
    assert values(encoded(encode_step(MS, tokens=9)))["context_length"] is None


def test_context_length_is_the_latest() -> None:
    assert values(trace_of(started(), step(context_length=5), step(context_length=6)))["context_length"] == 6


def test_every_metric_explains_itself() -> None:
    assert len({m.short for m in METRICS.values()}) == len(METRICS)
    for key, metric in METRICS.items():
        assert metric.key == key
        assert metric.unit in {"ns", "tokens/s", "sequences/s", "J/token", "W", "FLOP/byte", "1", ""}
        assert metric.families
        assert metric.better in {"lower", "higher", ""}
        assert all((metric.name, metric.short, metric.formula, metric.needs, metric.clock))


def test_json_has_value_unit_and_count() -> None:
    measured = summary(trace_of(*generation_at(one_each(100, 140))))
    assert as_json(measured["ttft"]) == {"value": 100.0 * MS, "unit": "ns", "count": 1}
    assert as_json(measured["stalls"]) == {"value": None, "unit": "", "count": 0}
    json.dumps({key: as_json(m) for key, m in measured.items()}, allow_nan=False)


def test_values_are_plain_numbers() -> None:
    trace = Trace(loaded())
    assert all(m.value is None or type(m.value) is float for m in summary(trace).values())
    trace = trace_of(*generation_at(one_each(*range(1, 40))))
    assert all(m.value is None or type(m.value) is float for m in summary(trace).values())
