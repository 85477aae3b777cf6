"""What each part of a live model's step had to do is found again from the trace, under every kind of setting."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

import pytest

from engine.protocol import Configuration, Join, ProbeTraining, Prompt, StepEnded
from engine.trace.floor import Part
from engine.trace.parts import fed_of, parts_of
from engine.trace.phases import Phase, StepKind
from engine.trace.store import Trace
from tests.engine.runtime import small_models, small_seq2seq
from tests.engine.runtime.live_models import Bench, save_checkpoint, torch_kept
from tests.engine.runtime.small_encoders import encoder_checkpoint
from tests.engine.trace.test_floor import calibration


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    yield from torch_kept()


def hold(trace: Trace) -> None:
    """Every step's parts are known, and add up to what its event told."""
    steps = trace.steps
    for step in range(len(steps)):
        parts = parts_of(trace, step)
        assert parts, f"step {step} ({trace.kind(step)}) cannot be told"
        assert int(sum(part.work.nbytes for part in parts)) == steps.moved_bytes[step]
        assert int(sum(part.work.operations for part in parts)) == steps.operations[step]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        (("prefill_chunk", 16),),
        (("kv_cache", "static"),),
        (("kv_cache", "none"),),
        (("kv_cache", "sliding"), ("kv_window", 16)),
        (("kv_cache", "quantized"),),
        (("precision", "bfloat16"),),
        (("quantization", "int8"),),
        (("read_back", "pipelined"),),
        (("speculation", "prompt_lookup"),),
        (("batch", 3),),
        (("beams", 3),),
    ],
    ids=str,
)
def test_parts_add_up_to_what_was_told(bench: Bench, settings: Configuration) -> None:
    bench.workbench.change(settings)
    bench.generate(tokens=8)
    hold(bench.trace)


def test_a_change_in_mid_generation_is_followed(bench: Bench) -> None:
    bench.generate(tokens=4)
    bench.workbench.change((("kv_cache", "static"),))
    bench.generate(tokens=4)
    hold(bench.trace)


def test_a_training_step(bench: Bench) -> None:
    run = bench.start(tokens=6)
    run.step(False)
    run.step(False)
    run.probe_training(ProbeTraining())
    run.end("stopped")
    assert bench.trace.kind(2) is StepKind.BACKWARD
    hold(bench.trace)
    assert {part.wall_ns for part in parts_of(bench.trace, 2)} == {None}, "backward is measured in one piece"


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_training_step_in_pieces_and_in_mixed_precision(family: str, pieces: int, tmp_path: Path) -> None:
    build = small_seq2seq.build if family == "t5" else small_models.build
    bench = Bench(save_checkpoint(build(family), tmp_path))
    try:
        floors = bench.workbench.floors
        # so fast a memory that products count, of which those in 16 bit are four times as fast
        rates = (("bfloat16", 4e6), ("float32", 1e6))
        floors._put(*floors._machines(), calibration(rungs=((1, 1e15),), rates=rates), "measured", "")
        run = bench.start(tokens=9)
        for _ in range(8):
            run.step(False)
        for mixed in (False, True):
            run.probe_training(ProbeTraining(mixed=mixed, accumulate=pieces))
        run.end("stopped")
    finally:
        bench.close()
    hold(bench.trace)
    plain, mixed_ns = bench.trace.steps.floor_ns[-2:].tolist()
    assert plain == pytest.approx(4 * mixed_ns, rel=1e-6)
    for step in (-2, -1):
        row = len(bench.trace.steps) + step
        fed = fed_of(bench.trace, row)
        assert fed is not None
        assert (fed.pieces, fed.mixed) == (pieces, step == -1)
        told = sum(part.floor_ns for part in parts_of(bench.trace, row))
        assert told == pytest.approx(bench.trace.steps.floor_ns[row], rel=1e-6)


def test_an_encoder_decoder(tmp_path: Path) -> None:
    bench = Bench(save_checkpoint(small_seq2seq.build("t5"), tmp_path))
    try:
        bench.generate(tokens=5)
    finally:
        bench.close()
    hold(bench.trace)


def test_an_encoder_alone(tmp_path: Path) -> None:
    bench = Bench(encoder_checkpoint("bert", tmp_path))
    try:
        bench.generate("a line\nanother line")
    finally:
        bench.close()
    hold(bench.trace)


def test_a_sequence_that_joins(bench: Bench) -> None:
    run = bench.start(tokens=8)
    for _ in range(3):
        run.step(False)
    run.join(Join(Prompt("a prompt of its own"), 4), perf_counter_ns())
    while not (reason := run.step(False)):
        pass
    run.end(reason)
    assert bench.trace.steps.batch.max() == 2
    hold(bench.trace)


def test_a_part_is_held_against_its_floor(bench: Bench) -> None:
    floors = bench.workbench.floors
    floors._put(*floors._machines(), calibration(), "measured", "")
    bench.generate(tokens=4)
    parts = {part.part: part for part in parts_of(bench.trace, 3)}
    assert {Part.ATTENTION, Part.MLP, Part.HEAD} <= set(parts)
    attention, phases = parts[Part.ATTENTION], bench.trace.steps.phases_ns[3]
    assert attention.wall_ns == phases[Phase.ATTENTION] + phases[Phase.ATTENTION_CORE]
    assert attention.wall_ns is not None
    assert attention.rate == pytest.approx(attention.work.operations * 1e9 / attention.wall_ns)
    # all of it fits into the smallest working set, which is read at 100 GB/s
    assert attention.floor_ns == int(attention.work.nbytes / 100)
    assert attention.share == pytest.approx(attention.floor_ns / attention.wall_ns)


def test_at_detail_step_times_are_not_told_apart(bench: Bench) -> None:
    bench.workbench.change((("detail", "step"),))
    bench.generate(tokens=4)
    parts = parts_of(bench.trace, 2)
    assert parts
    assert {part.wall_ns for part in parts} == {None}
    assert {part.share for part in parts} == {None}


def test_a_step_whose_numbers_fit_nothing_has_no_parts(bench: Bench) -> None:
    bench.generate(tokens=3)
    steps = [event for event in bench.events if isinstance(event, StepEnded)]
    bench.trace.append(replace(steps[-1], moved_bytes=steps[-1].moved_bytes + 1))
    assert parts_of(bench.trace, len(bench.trace.steps) - 1) == ()
