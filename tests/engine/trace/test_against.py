"""A trace against a reference: ratios, what differs, and what is said of the time of a step."""

import numpy as np
import pytest

from engine.protocol import Family
from engine.trace import against as module
from engine.trace.against import NOTHING, Against, differences, ratio_to, reference_lines
from engine.trace.export import excerpt_of
from engine.trace.metrics import METRICS, Measured
from engine.trace.reference import Reference, reference_of
from engine.trace.statistics import Verdict
from engine.trace.store import Trace
from tests.engine.trace.building import changed, encode_step, ended, started, trace_of
from tests.engine.trace.runs import generation

EAGER = (("precision", "float32"), ("attention", "eager"))


def walls(count: int, usual: float = 1_000, seed: int = 1) -> list[int]:
    """Times that scatter by 2 %."""
    return (usual * np.random.default_rng(seed).normal(1, 0.02, count)).astype(int).tolist()


def reference(trace: Trace) -> Reference:
    return reference_of(excerpt_of(trace), "then")


def whole(trace: Trace) -> range:
    return range(len(trace.steps))


def measured(value: float | None, count: int = 5, key: str = "itl_p50") -> Measured:
    return Measured(METRICS[key], value, count)


# ---------------------------------------------------------------- ratios


@pytest.mark.parametrize(
    ("here", "there", "ratio"),
    [
        (measured(30), measured(20), 1.5),
        (measured(None, 0), measured(20), None),
        (measured(30), measured(None, 0), None),
        (measured(30), measured(0), None),
        (measured(0), measured(20), 0.0),
        (measured(30), measured(20, 0), None),
    ],
)
def test_a_ratio_needs_both(here: Measured, there: Measured, ratio: float | None) -> None:
    assert ratio_to({"itl_p50": there}, here).ratio == ratio


def test_a_metric_that_a_reference_does_not_know_is_absent() -> None:
    found = ratio_to({}, measured(30))
    assert found.reference.value is None
    assert found.ratio is None


# ---------------------------------------------------------------- settings


def test_what_differs_between_settings() -> None:
    one, other = (("a", 1), ("b", "x"), ("c", 2.5)), (("a", "1"), ("b", "y"), ("d", 0))
    assert differences(one, other) == [("b", "x", "y"), ("c", 2.5, None), ("d", None, 0)]
    assert differences(one, one) == []


def test_a_reference_says_what_it_is() -> None:
    trace = trace_of(
        *generation([10, 20]),
        ended(),
        *generation([10], 1),
        changed(1, EAGER),
        *generation([30], 2, configuration=1)[1:],
    )
    lines = reference_lines(reference(trace), EAGER)
    assert lines[0] == "toy · 10 parameters, float32, random weights · on cpu"
    assert lines[1] == "all 7 steps; what is drawn over steps is the longest of its 2 generations"
    assert lines[2] == "other settings: attention not known (here eager)"
    assert lines[3] == "these were in force for most of its steps; it has 1 more configuration"
    assert "the same settings as here" in reference_lines(reference(trace), (("precision", "float32"),))


# ---------------------------------------------------------------- the time of a step


def test_twice_as_slow_is_told_with_an_interval() -> None:
    fast, slow = trace_of(*generation(walls(200))), trace_of(*generation(walls(200, 2_000, seed=2)))
    times = Against(reference(fast), slow).step_times(whole(slow))
    effect = times.effect
    assert effect.verdict is Verdict.SLOWER
    assert effect.low is not None
    assert effect.high is not None
    assert effect.low < 2 < effect.high
    assert 1.9 < effect.low < effect.high < 2.1
    assert times.configuration == (("precision", "float32"),)
    other_way = Against(reference(slow), fast).step_times(whole(fast))
    assert other_way.effect.verdict is Verdict.FASTER


def test_steps_of_the_same_times_are_not_told_apart() -> None:
    one, other = trace_of(*generation(walls(400))), trace_of(*generation(walls(400, seed=2)))
    effect = Against(reference(one), other).step_times(whole(other)).effect
    assert effect.low is not None
    assert effect.high is not None
    assert effect.low < 1 < effect.high
    assert effect.verdict in (Verdict.SAME, Verdict.UNCLEAR)


def test_there_is_no_verdict_on_few_steps() -> None:
    long, short = trace_of(*generation(walls(200))), trace_of(*generation(walls(50)))
    for then, now in ((long, short), (short, long)):
        times = Against(reference(then), now).step_times(whole(now))
        assert times.effect.ratio is None
        assert times.effect.verdict is Verdict.UNCLEAR


def test_only_the_same_lengths_of_context_are_compared() -> None:
    """Here a step takes as long as its context is, on both sides: whoever compared all would find 1.5 times."""
    then = trace_of(*generation(list(range(1_000, 1_400)), context=1_000))
    now = trace_of(*generation(list(range(1_200, 2_400)), context=1_200))
    times = Against(reference(then), now).step_times(whole(now))
    assert times.reference_steps == times.steps <= 200
    assert times.effect.ratio == pytest.approx(1, abs=0.001)


def test_contexts_that_do_not_meet_are_not_compared() -> None:
    then = trace_of(*generation(walls(200), context=0))
    now = trace_of(*generation(walls(200), context=5_000))
    times = Against(reference(then), now).step_times(whole(now))
    assert (times.steps, times.reference_steps, times.effect.ratio) == (0, 0, None)


def test_the_settings_of_the_latest_step_are_compared() -> None:
    then = trace_of(*generation(walls(300)))
    slow = generation(walls(150, 3_000), context=150, configuration=1)[1:]
    now = trace_of(*generation(walls(150)), changed(1, EAGER), *slow)
    times = Against(reference(then), now).step_times(whole(now))
    assert times.configuration == EAGER
    assert times.effect.ratio == pytest.approx(3, abs=0.1)


def test_only_the_rows_that_are_asked_for_count() -> None:
    now = trace_of(*generation(walls(150, 5_000)), ended(), *generation(walls(150), 1))
    against = Against(reference(trace_of(*generation(walls(150)))), now)
    assert against.step_times(range(151, 302)).effect.ratio == pytest.approx(1, abs=0.03)
    assert against.step_times(range(151)).effect.ratio == pytest.approx(5, abs=0.1)


def test_reading_and_writing_are_not_compared() -> None:
    reads = trace_of(started(), *(encode_step(1_000) for _ in range(100)), family=Family.ENCODER)
    writes = trace_of(*generation(walls(100)))
    assert Against(reference(reads), writes).step_times(whole(writes)).effect is NOTHING
    assert Against(reference(reads), reads).step_times(whole(reads)).effect.ratio == 1


def test_a_verdict_stays_between_looks_and_is_computed_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    real = module.effect
    monkeypatch.setattr(module, "effect", lambda *args: computed.append(len(args[1])) or real(*args))
    then, times = trace_of(*generation(walls(300))), walls(300, 1_100, seed=3)
    now = trace_of()
    against, told = Against(reference(then), now), {}
    for place, event in enumerate(generation(times)):
        now.append(event)
        told[place] = against.step_times(whole(now)).effect
    assert len({told[place] for place in range(80, 128)}) == 1
    assert told[100].ratio is not None
    assert len(computed) <= 12, "once a block until the first look, then once a look: 64, 128 and 256 steps"
    late = Against(reference(then), now).step_times(whole(now)).effect
    assert late == told[300], "whenever it is asked"
