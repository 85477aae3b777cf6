"""Energy over stretches, by hand arithmetic; no number where the counter is too coarse for one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.protocol import DeviceSample, TelemetrySampled
from engine.trace.energy import energy, energy_counters
from engine.trace.metrics import summary
from engine.trace.store import Trace
from engine.trace.telemetry import rates_of
from tests.engine.trace.building import APART, MS, T0, changed, ended, loaded, started, step

STEP_MS = 100


def trace_on(device: str = "cpu", steps: int = 40, held: dict[int, int] | None = None) -> Trace:
    """Steps of 100 ms, one token each at its end, from T0 on; `held`: ms before some of them."""
    event = loaded()
    trace = Trace(replace(event, model=replace(event.model, device=device)))
    trace.extend([APART, started()])
    at = T0
    for row in range(steps):
        pause = (held or {}).get(row, 0) * MS
        at += pause
        end = at + STEP_MS * MS
        trace.append(step((end,), stamps=(at, *[at + 1] * 6, end), held_ns=pause))
        at = end
    trace.append(ended())
    return trace


def sample(
    trace: Trace, joules: Sequence[float | None], every_ms: int = 250, first_ms: int = 0, device: str = ""
) -> None:
    for place, value in enumerate(joules):
        at_ns = T0 + (first_ms + place * every_ms) * MS
        devices = (DeviceSample(device, energy_j=value),) if device else ()
        trace.append(TelemetrySampled(at_ns, 1, 2, energy_j=None if device else value, devices=devices))


def test_a_counter_that_began_anew_has_no_rate_there() -> None:
    at_ns = np.arange(4, dtype=np.int64) * 250_000_000
    found = rates_of(np.array([10.0, 15.0, 0.0, 8.0]), at_ns)
    assert found[[1, 3]].tolist() == [20.0, 32.0]
    assert np.isnan(found[[0, 2]]).all()


def test_joules_between_the_samples_by_the_tokens_between_them() -> None:
    trace = trace_on()
    sample(trace, [10.0 * place for place in range(17)])  # 40 W from 0 to 4 s; the last at the end is outside
    found = energy(trace)
    # from 0 to 3.75 s: 150 J; tokens at 0.1, 0.2 … 3.7 s
    assert (found.joules, found.seconds, found.tokens, found.stretches) == (150.0, 3.75, 37, 1)
    measured = summary(trace)
    assert measured["energy_per_token"].value == pytest.approx(150 / 37)
    assert measured["mean_power"].value == pytest.approx(40.0)
    assert "processor" in measured["energy_per_token"].note


def test_a_pause_divides_and_what_is_drawn_in_it_is_nobodys() -> None:
    trace = trace_on(held={20: 5_000})
    counter = [10.0 * place for place in range(60)]
    sample(trace, counter)
    found = energy(trace)
    assert found.stretches == 2
    assert found.power_w == pytest.approx(40.0)
    assert found.seconds < 4.0


@pytest.mark.parametrize(
    "counter",
    [
        [10.0, 20.0, 30.0, 40.0],  # three moves in 0.75 s
        [0.0, 0.0, 0.0, 100.0] * 1 + [100.0] * 12,  # a counter that jumps once in 4 s
        [None] * 16,
        [100.0 - place for place in range(16)],  # a counter that goes back was set anew
    ],
)
def test_no_number_where_the_counter_says_too_little(counter: list[float | None]) -> None:
    trace = trace_on()
    sample(trace, counter)
    assert energy(trace).stretches == 0
    assert summary(trace)["energy_per_token"].value is None
    assert summary(trace)["mean_power"].value is None


def test_the_counter_of_the_model_s_device_counts() -> None:
    trace = trace_on("cuda:0")
    sample(trace, [5.0 * place for place in range(16)])  # the processor's, which says nothing of the device
    assert energy_counters(trace) == {}
    sample(trace, [75.0 * place for place in range(16)], device="cuda:0")
    assert energy(trace).power_w == pytest.approx(300.0)
    assert energy(trace).counters == ("cuda:0",)


def test_half_of_the_devices_is_no_answer() -> None:
    trace = trace_on("cuda:0")
    assert trace.model is not None
    trace.model = replace(trace.model, placement=(("cuda:0", 1), ("cuda:1", 1)))
    sample(trace, [75.0 * place for place in range(16)], device="cuda:0")
    assert energy_counters(trace) == {}


def test_under_one_configuration_only_its_steps_count() -> None:
    trace = trace_on(steps=20)
    trace.append(changed(1, (("precision", "bfloat16"),)))
    at = T0 + 2_000 * MS
    trace.append(started(1))
    for row in range(20):
        begin = at + row * STEP_MS * MS
        trace.append(
            step(
                (begin + STEP_MS * MS,),
                stamps=(begin, *[begin + 1] * 6, begin + STEP_MS * MS),
                generation=1,
                configuration=1,
            )
        )
    watts = [10.0] * 8 + [30.0] * 8
    counter = [sum(watts[:place]) * 0.25 for place in range(17)]
    sample(trace, counter)
    assert energy(trace, None, 0).power_w == pytest.approx(10.0)
    assert energy(trace, None, 1).power_w == pytest.approx(30.0)
