"""What makes numbers doubtful: the signs in a sample, and warnings that neither miss nor flicker."""

from dataclasses import replace

import pytest

from engine.protocol import DeviceSample, ObserverReport, TelemetryEnded, TelemetrySampled
from engine.trace.warnings import ENDS_AFTER_NS, MachineWarning, Trouble, Watchman, signs
from tests.engine.trace.building import MS, T0, started, step, trace_of

QUIET = TelemetrySampled(
    at_ns=T0, took_ns=1, processors=8, cpu=0.2, engine_cpu=1.0, others_cpu=0.2, steal=0.0, throttled=False,
    on_battery=False, debugger="", devices=(DeviceSample("cuda:0", throttled=(), others=()),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("sample", "expected", "words"),
    [
        (QUIET, None, ""),
        (TelemetrySampled(T0, 1, 8), None, ""),  # nothing can be read: nothing is claimed
        (replace(QUIET, others_cpu=2.5), Trouble.BUSY, "2.5 of 8 processors"),
        (replace(QUIET, others_cpu=0.7, cpu=0.95), Trouble.BUSY, "0.7 of 8"),
        (replace(QUIET, others_cpu=0.7, cpu=0.5), None, ""),  # there is room for everybody
        (replace(QUIET, steal=0.08), Trouble.STOLEN, "8%"),
        (replace(QUIET, throttled=True), Trouble.THROTTLED, "heat"),
        (
            replace(QUIET, devices=(DeviceSample("cuda:0", throttled=("power limit",)),)),
            Trouble.THROTTLED,
            "power",
        ),
        (
            replace(QUIET, devices=(DeviceSample("cuda:1", others=((7, 9), (8, None))),)),
            Trouble.SHARED,
            "7, 8",
        ),
        (replace(QUIET, on_battery=True), Trouble.BATTERY, "battery"),
        (replace(QUIET, debugger="gdb, process 9"), Trouble.DEBUGGER, "gdb, process 9"),
    ],
)
def test_signs_of_a_sample(sample: TelemetrySampled, expected: Trouble | None, words: str) -> None:
    found = signs(sample, stepping=True)
    assert [warning.trouble for warning in found] == ([expected] if expected else [])
    for warning in found:
        assert words in warning.sentence
        assert warning.remedy.endswith(".")


def test_while_nothing_runs_nobody_is_in_the_way() -> None:
    assert signs(replace(QUIET, others_cpu=6.0, steal=0.5, throttled=True), stepping=False) == ()
    (warning,) = signs(QUIET, stepping=False, tracer="sys.settrace")
    assert warning.trouble is Trouble.DEBUGGER


BUSY = MachineWarning(Trouble.BUSY, "busy", "end it.")


def test_a_warning_begins_when_its_sign_stays_and_ends_when_it_stays_away() -> None:
    watch = Watchman()
    began = [bool(watch.take(at * 250 * MS, (BUSY,))) for at in range(12)]
    assert began.index(True) == 8  # 2 s
    assert sum(began) == 1
    louder = replace(BUSY, sentence="busier")
    watch.take(12 * 250 * MS, (louder,))
    assert watch.in_force == (louder,)
    last_ns = 12 * 250 * MS
    watch.take(last_ns + ENDS_AFTER_NS - 1, ())
    assert watch.in_force == (louder,)
    watch.take(last_ns + ENDS_AFTER_NS, ())
    assert watch.in_force == ()


def test_a_sign_that_comes_and_goes_is_no_warning() -> None:
    watch = Watchman()
    assert not any(watch.take(at * 250 * MS, (BUSY,) if at % 4 else ()) for at in range(100))


def test_warnings_are_marks_of_the_trace_and_what_a_sensor_did_not_say_is_no_number() -> None:
    trace = trace_of(
        started(),
        *(step(stamps=(at, *[at + 1] * 6, at + 200 * MS)) for at in range(T0, T0 + 2000 * MS, 200 * MS)),
    )
    samples = [replace(QUIET, at_ns=T0 + n * 250 * MS, others_cpu=6.0, energy_j=None) for n in range(12)]
    for sample in samples:
        trace.append(sample)
    (mark,) = trace.warnings
    assert (mark.step, mark.text) == (10, "busy machine")
    assert mark.at_ns == T0 + 2_000 * MS
    assert trace.warnings_in_force[0].trouble is Trouble.BUSY
    host = trace.telemetry.host
    assert host["others_cpu"].tolist() == [6.0] * 12
    assert all(host["energy_j"] != host["energy_j"])  # NaN, not 0
    assert host.at_ns.tolist() == [sample.at_ns for sample in samples]
    assert len(trace.telemetry.devices["cuda:0"]) == 12
    revision = trace.revision
    trace.append(samples[-1])
    assert trace.revision == revision  # numbers of steps are not computed anew for it
    trace.append(TelemetryEnded(T0, "it died"))
    assert trace.telemetry.ended == "it died"


def test_a_debugger_inside_the_engine_is_told_by_the_engine() -> None:
    trace = trace_of(started(), step())
    trace.append(ObserverReport(T0, 4, 100.0, 1.0, "sys.settrace"))
    trace.append(QUIET)
    assert [mark.text for mark in trace.warnings] == ["debugger attached"]
