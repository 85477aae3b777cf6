"""Which steps are compared when a setting changes: those of one kind, with the work that each of them was."""

import numpy as np

from engine.protocol import Family
from engine.trace.comparison import comparable_rows, time_of, work_of
from engine.trace.phases import StepKind
from engine.trace.statistics import Verdict, effect
from tests.engine.trace.building import MS, encode_step, started, step, trace_of


def test_where_tokens_are_written_decode_steps_are_compared_at_their_context() -> None:
    trace = trace_of(
        started(),
        encode_step(900 * MS, tokens=50),
        step(kind=StepKind.PREFILL, context_length=1),
        step(context_length=2),
        step(context_length=3),
        family=Family.ENCODER_DECODER,
    )
    rows = comparable_rows(trace, 0, 4)
    assert rows.tolist() == [2, 3]
    assert comparable_rows(trace, 1, 3).tolist() == [2]
    assert work_of(trace, rows).tolist() == [2, 3]


def test_a_verify_step_stands_for_each_of_its_tokens() -> None:
    verify = step([MS] * 3, kind=StepKind.VERIFY, stamps=(0,) * 7 + (30,), drafted=4, accepted=2)
    batch = step([MS], stamps=(0,) * 7 + (12,), batch=4, sequences=range(4))
    trace = trace_of(started(), step([MS]), verify, step(batch=4), batch)
    rows = comparable_rows(trace, 0, 4)
    assert rows.tolist() == [0, 1, 1, 1, 2, 3]
    assert time_of(trace, rows).tolist() == [10, 10, 10, 10, 10, 12]


def test_an_encoders_steps_are_compared_at_the_positions_they_computed() -> None:
    trace = trace_of(
        started(),
        encode_step(MS, batch=2, tokens=9, padding=3),
        encode_step(MS, tokens=7),
        family=Family.ENCODER,
    )
    rows = comparable_rows(trace, 0, 2)
    assert rows.tolist() == [0, 1]
    assert work_of(trace, rows).tolist() == [12, 7]


def test_longer_inputs_after_a_switch_do_not_make_it_slower() -> None:
    """Wall time grows as exp(length / 100): the same machine, another stretch of a file."""
    generator = np.random.default_rng(0)
    lengths = np.concatenate((generator.integers(10, 60, 80), generator.integers(30, 80, 80)))
    walls = np.exp(lengths / 100) * generator.normal(1, 0.002, 160) * MS
    steps = [encode_step(int(w), tokens=int(n)) for w, n in zip(walls, lengths, strict=True)]
    trace = trace_of(started(), *steps, family=Family.ENCODER)
    before, after = comparable_rows(trace, 0, 80), comparable_rows(trace, 80, 160)
    wall = trace.steps.wall_ns
    naive = effect(wall[before], wall[after])
    fair = effect(wall[before], wall[after], work_of(trace, before), work_of(trace, after))
    assert naive.verdict is Verdict.SLOWER
    assert fair.verdict is not Verdict.SLOWER
    assert fair.ratio is not None
    assert abs(fair.ratio - 1) < 0.05
