"""A step captured in depth on real small models: the tokens stay, the phases are right, and the shares agree."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.protocol import (
    CaptureStep,
    Command,
    Configuration,
    EngineState,
    Event,
    Failed,
    Generate,
    GenerationEnded,
    Join,
    KernelsCaptured,
    Load,
    ModelLoaded,
    Prompt,
    Shutdown,
    StateChanged,
    StepEnded,
)
from engine.runtime.profiling import CaptureRefused
from engine.trace.agreement import agreement
from engine.trace.kernels import Capture
from engine.trace.phases import Phase, StepKind
from engine.trace.store import NO_LATENCY, Trace
from tests.engine.runtime import small_seq2seq
from tests.engine.runtime.live_models import Bench, family_checkpoint, save_checkpoint, torch_kept
from tests.engine.runtime.test_session import of, play, tokens_of

kept = pytest.fixture(autouse=True)(torch_kept)

TOKENS = 12


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def bench(llama: Path) -> Iterator[Bench]:
    made = Bench(llama)
    yield made
    made.close()


def run(model: Path, *commands: Command, at: int = 4, settings: Configuration = ()) -> list[Event]:
    """A generation, with commands behind its step `at`."""

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index == at:
            for command in commands:
                send(command)
        if isinstance(event, GenerationEnded):
            send(Shutdown())

    generate = Generate(Prompt("in depth"), TOKENS, stop_at_end_token=False)
    return play([Load(str(model), "cpu", settings), generate], answer)


def trace_of(events: list[Event]) -> Trace:
    (loaded,) = of(events, ModelLoaded)
    trace = Trace(loaded)
    trace.extend(events[events.index(loaded) + 1 :])
    return trace


def captured(trace: Trace, row: int) -> Capture:
    capture = trace.capture(row)
    assert capture is not None
    return capture


def linears(capture: Capture) -> list[tuple[Phase, int]]:
    """Phase and layer of every matrix product by weights, in order."""
    name = capture.event.names.index("aten::linear")
    rows = np.flatnonzero(capture.name == name)
    return [
        (Phase(phase), layer) for phase, layer in np.stack((capture.phase, capture.layer), 1)[rows].tolist()
    ]


#: What a Llama of two layers is known to do: queries, keys, values, output; gate, up, down.
LLAMA = [
    *(entry for layer in (0, 1) for entry in [(Phase.ATTENTION, layer)] * 4 + [(Phase.MLP, layer)] * 3),
    (Phase.HEAD, -1),
]


# ---------------------------------------------------------------- the next step


def test_the_next_step_is_captured_with_its_tokens_and_in_no_latency(llama: Path) -> None:
    events = run(llama, CaptureStep())
    assert tokens_of(events) == tokens_of(run(llama))
    steps, (seen,) = of(events, StepEnded), of(events, KernelsCaptured)
    assert [step.index for step in steps if step.captured] == [5] == [seen.step]
    assert events.index(seen) == events.index(steps[5]) + 1 or not steps[5].tokens
    assert seen.stamps == steps[5].stamps
    assert not seen.again
    assert not of(events, Failed)
    trace = trace_of(events)
    assert trace.steps.itl_ns[5] == NO_LATENCY
    assert trace.steps.held_ns[5] > 0
    # the gap behind it is one step and what passes between two: nothing of the profiler's time, which is held
    begin, end = trace.steps.begin_ns[6], trace.steps.begin_ns[6] + trace.steps.wall_ns[6]
    assert trace.steps.held_ns[6] > seen.overhead_ns / 4
    assert trace.steps.itl_ns[6] < (end - begin) + trace.steps.wall_ns[4] + trace.steps.wall_ns[5]


def test_every_operation_lies_in_the_phase_and_layer_that_the_model_says(llama: Path) -> None:
    trace = trace_of(run(llama, CaptureStep()))
    capture = captured(trace, 5)
    assert linears(capture) == LLAMA
    core = capture.event.names.index("aten::scaled_dot_product_attention")
    assert set(capture.phase[capture.name == core].tolist()) == {Phase.ATTENTION}
    chosen = capture.event.names.index("aten::argmax")
    assert set(capture.phase[capture.name == chosen].tolist()) == {Phase.SAMPLE}
    # nothing is counted twice: what lies in phases is what the outermost took
    outermost = capture.duration_ns[capture.depth == 0].sum()
    assert capture.phases_ns(False).sum() == outermost <= capture.wall_ns
    assert capture.self_ns.sum() == outermost


def test_a_prompt_that_is_read_can_be_captured_and_a_paused_generation_makes_one_step(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StateChanged) and event.state is EngineState.PAUSED:
            send(CaptureStep())
        if isinstance(event, KernelsCaptured | Failed):
            send(Shutdown())

    generate = Generate(Prompt("in depth"), TOKENS, stop_at_end_token=False, paused=True)
    events = play([Load(str(llama), "cpu"), generate], answer)
    (step,) = of(events, StepEnded)
    assert (step.kind, step.captured) == (StepKind.PREFILL, True)
    assert linears(captured(trace_of(events), 0)) == LLAMA


def test_the_last_step_of_a_generation_can_be_captured(llama: Path) -> None:
    events = run(llama, CaptureStep(), at=TOKENS - 2)
    assert of(events, KernelsCaptured)[0].step == TOKENS - 1
    assert of(events, GenerationEnded)[0].reason == "length"


@pytest.mark.parametrize(
    "settings", [(("read_back", "pipelined"),), (("batch", 2),), (("speculation", "lookup"),)]
)
def test_a_step_of_any_strategy_can_be_captured(llama: Path, settings: Configuration) -> None:
    events = run(llama, CaptureStep(), settings=settings)
    (seen,) = of(events, KernelsCaptured)
    assert tokens_of(events) == tokens_of(run(llama, settings=settings))
    assert linears(captured(trace_of(events), seen.step))


def test_without_a_generation_or_a_model_it_is_refused() -> None:
    events = play([CaptureStep(), CaptureStep(3), Shutdown()])
    assert [failed.sentence for failed in of(events, Failed)] == [
        "A step is captured in a generation: start one first.",
        "There is no model whose steps could be captured: load one first.",
    ]
    assert {failed.command for failed in of(events, Failed)} == {"capture"}


def test_without_a_profiler_the_sentence_comes_and_the_generation_goes_on(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.autograd, "kineto_available", lambda: False)
    events = run(llama, CaptureStep(), CaptureStep(2))
    assert [failed.command for failed in of(events, Failed)] == ["capture"] * 2
    assert "no profiler" in of(events, Failed)[0].sentence
    assert len(tokens_of(events)) == TOKENS
    assert not any(step.captured for step in of(events, StepEnded))


def test_while_a_sequence_is_about_to_join_it_is_refused(llama: Path) -> None:
    chunks: Configuration = (("prefill_chunk", 2),)
    events = run(llama, Join(Prompt("another"), 4, False), CaptureStep(), settings=chunks)
    assert "about to join" in of(events, Failed)[0].sentence
    assert not of(events, KernelsCaptured)


def test_a_step_that_fails_under_the_profiler_ends_the_generation_and_the_profiler(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = bench.start()
    under_way.step(False)

    def fail(**_: object) -> None:
        raise RuntimeError("the device is gone")

    with monkeypatch.context() as patch:
        patch.setattr(bench.workbench.live.model, "forward", fail)
        with pytest.raises(RuntimeError, match="gone"):
            under_way.capture_next()
    assert not torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    under_way.end("failed")
    assert len(bench.generate(tokens=3)) == 3


# ---------------------------------------------------------------- a step that was made


def test_a_step_is_done_again_and_the_generation_does_not_notice(llama: Path) -> None:
    settings: Configuration = (("decoding", "sample"), ("seed", 3))
    events = run(llama, CaptureStep(2), CaptureStep(0), settings=settings)
    assert tokens_of(events) == tokens_of(run(llama, settings=settings))
    assert [(seen.step, seen.again) for seen in of(events, KernelsCaptured)] == [(2, True), (0, True)]
    assert not any(step.captured for step in of(events, StepEnded))
    trace = trace_of(events)
    for row in (2, 0):
        assert linears(captured(trace, row)) == LLAMA
    # as many operations as the step itself has
    at_once = captured(trace_of(run(llama, CaptureStep(), at=1, settings=settings)), 2)
    assert len(captured(trace, 2)) == pytest.approx(len(at_once), rel=0.02)


def test_a_step_of_a_generation_that_is_over_is_done_again(bench: Bench) -> None:
    bench.generate()
    bench.generate(tokens=4)
    bench.workbench.capture_again(7)
    assert linears(captured(bench.trace, 7)) == LLAMA
    assert bench.workbench.live.context is None


@pytest.mark.parametrize("cache", ["none", "static", "sliding", "quantized"])
def test_it_works_with_every_kind_of_cache(llama: Path, cache: str) -> None:
    made = Bench(llama, (("kv_cache", cache), ("prefill_chunk", 8)))
    assert dict(made.workbench.effective())["kv_cache"] == cache
    made.generate()
    chunks = int((made.trace.steps.kind == 0).sum())
    for step in (0, chunks + 3):
        made.workbench.capture_again(step)
        assert linears(captured(made.trace, step))[:-1] == LLAMA[:-1]
    made.close()


@pytest.mark.parametrize("family", ["mamba", "gemma3", "qwen3_moe"])
def test_it_works_with_other_families(family: str, tmp_path: Path) -> None:
    made = Bench(family_checkpoint(family, tmp_path))
    made.generate()
    made.workbench.capture_again(5)
    assert len(captured(made.trace, 5)) > 50
    made.close()


def test_it_works_with_an_encoder_decoder(tmp_path: Path) -> None:
    made = Bench(save_checkpoint(small_seq2seq.build("t5"), tmp_path))
    made.generate()
    decodes = np.flatnonzero(made.trace.steps.kind == 1)
    made.workbench.capture_again(int(decodes[3]))
    assert {Phase.ATTENTION, Phase.CROSS_ATTENTION} <= set(
        captured(made.trace, int(decodes[3])).phase.tolist()
    )
    with pytest.raises(CaptureRefused, match="single sequence"):
        made.workbench.capture_again(0)
    made.close()


def test_what_cannot_be_done_again_is_refused_and_the_next_step_offered(bench: Bench) -> None:
    bench.generate(tokens=6)
    refusals = {99: "is not remembered"}
    bench.workbench.change((("attention", "eager"),))
    refusals[3] = "other settings"
    first = len(bench.trace.steps)
    bench.workbench.change((("batch", 2),))
    bench.generate(tokens=6)
    refusals[first + 2] = "single sequence"
    refusals[first] = "several sequences"
    for step, reason in refusals.items():
        with pytest.raises(CaptureRefused, match=reason) as refused:
            bench.workbench.capture_again(step)
        assert str(refused.value).endswith("capture the next step instead.")
    assert not bench.trace.captures


def test_back_under_the_settings_of_a_step_it_can_be_done_again(bench: Bench) -> None:
    before = dict(bench.workbench.effective())["attention"]
    bench.generate(tokens=6)
    bench.workbench.change((("attention", "eager"),))
    bench.workbench.change((("attention", before),))
    bench.workbench.capture_again(3)
    assert captured(bench.trace, 3).event.again


def test_generations_long_ago_are_forgotten(bench: Bench) -> None:
    for _ in range(9):
        bench.generate(tokens=2)
    with pytest.raises(CaptureRefused, match="not remembered"):
        bench.workbench.capture_again(0)
    bench.workbench.capture_again(3)


def test_too_little_memory_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.generate(tokens=3)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("engine.runtime.capturing.new_cache", full)
    with pytest.raises(CaptureRefused, match="too little memory"):
        bench.workbench.capture_again(1)
    assert bench.workbench.live.context is None


# ---------------------------------------------------------------- against our clocks


def test_shares_of_captures_and_of_our_clocks_agree_within_five_points(tmp_path: Path) -> None:
    """Steps of some milliseconds, so that operations are most of them.

    In the same run they agree whatever disturbs it. What disturbs a step only makes it longer, so that against the
    steps around them the shortest of many captures speak; where steps vary too much for that, the machine is too busy.
    """
    torch.manual_seed(1)
    shape = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 2, "vocab_size": 256}
    model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=8, num_key_value_heads=4))
    made = Bench(save_checkpoint(model, tmp_path), (("attention", "eager"),))
    under_way = made.start(tokens=90)
    for _ in range(8):
        under_way.step(False)
    rows = []
    for _ in range(15):
        under_way.capture_next()
        rows.append(len(made.trace.steps) - 1)
        for held in (True, False, False):
            under_way.step(held)
    under_way.end("stopped")
    made.close()
    found = {row: agreement(made.trace, row) for row in rows}
    assert {tuple(each.part for each in parts) for parts in found.values()} == {("attention", "MLP")}
    in_run = [each.points_in_run for parts in found.values() for each in parts]
    assert np.percentile(in_run, 90) < 5, in_run
    if not all(each.is_clear for parts in found.values() for each in parts):
        pytest.skip("steps vary by more than five points from one to the next: the machine is too busy")
    shortest = sorted(rows, key=lambda row: made.trace.steps.wall_ns[row])[:5]
    for place in (0, 1):
        apart = [100 * (found[row][place].captured - found[row][place].around) for row in shortest]
        assert abs(float(np.median(apart))) < 5, (place, apart)
