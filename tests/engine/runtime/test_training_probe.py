"""A training step on the text of a generation: measured, true, and without a trace in the model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.protocol import (
    Command,
    Event,
    Failed,
    Generate,
    GenerationEnded,
    Load,
    ModelLoaded,
    ProbeTraining,
    Prompt,
    Shutdown,
    StepEnded,
)
from engine.runtime.training_probe import ProbeRefused, training_step
from engine.trace.phases import Phase, StepKind
from engine.trace.store import NO_LATENCY, Trace
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.test_session import of, play, tokens_of

IDS = [5, 9, 2, 7, 7, 1, 3, 8, 4, 6]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


def run(llama: Path, *probes: ProbeTraining, tokens: int = 10) -> list[Event]:
    """A generation with training steps before its fifth step."""

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index == 3:
            for probe in probes:
                send(probe)
        if isinstance(event, GenerationEnded):
            send(Shutdown())

    return play(
        [Load(str(llama), "cpu"), Generate(Prompt("training"), tokens, stop_at_end_token=False)], answer
    )


def test_it_is_a_step_of_its_own_and_the_generation_goes_on_as_without(llama: Path) -> None:
    events = run(llama, ProbeTraining())
    kinds = [step.kind for step in of(events, StepEnded)]
    assert kinds.count(StepKind.BACKWARD) == 1
    assert kinds[4] is StepKind.BACKWARD
    assert tokens_of(events) == tokens_of(run(llama))


def test_its_ledger_sums_and_has_a_forward_and_a_backward(llama: Path) -> None:
    events = run(llama, ProbeTraining())
    loaded = of(events, ModelLoaded)[0]
    trace = Trace(loaded)
    trace.extend(events[events.index(loaded) + 1 :])
    phases = trace.steps.phases_ns[4]
    assert phases.sum() == trace.steps.wall_ns[4]
    assert phases[Phase.BACKWARD] > 0
    assert phases[Phase.ATTENTION] > 0
    assert trace.steps.layers_ns[4].sum() > 0
    # what it took is in no latency: the gap to the token after it is without it
    itl = trace.steps.itl_ns
    assert itl[4] == NO_LATENCY
    assert itl[5] < trace.steps.begin_ns[5] + trace.steps.wall_ns[5] - trace.steps.begin_ns[4]


def gradients(
    live_ids: list[int], command: ProbeTraining, monkeypatch: pytest.MonkeyPatch
) -> dict[str, torch.Tensor]:
    """The gradients that a training step makes, caught before they are dropped."""
    live = small_live("llama")
    caught: dict[str, torch.Tensor] = {}
    end_step = live.recorder.end_step

    def catch() -> tuple[bytes, bytes]:
        caught.update({n: p.grad.clone() for n, p in live.model.named_parameters() if p.grad is not None})
        return end_step()

    monkeypatch.setattr(live.recorder, "end_step", catch)
    training_step(live, live_ids, [], command)
    return caught


def test_the_gradients_are_those_of_transformers_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = gradients(IDS, ProbeTraining(), monkeypatch)
    model = small_live("llama").model
    ids = torch.tensor([IDS])
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert caught.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(caught[name], gradient, atol=1e-6), name
    model.zero_grad(set_to_none=True)


def test_accumulated_gradients_are_the_mean_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    both = gradients(IDS, ProbeTraining(accumulate=2), monkeypatch)
    first = gradients(IDS[:5], ProbeTraining(), monkeypatch)
    second = gradients(IDS[5:], ProbeTraining(), monkeypatch)
    for name, gradient in both.items():
        assert torch.allclose(gradient, (first[name] + second[name]) / 2, atol=1e-6), name


def test_mixed_precision_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    live = small_live("llama")
    live.model.lm_head.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    training_step(live, IDS, [], ProbeTraining(mixed=True))
    training_step(live, IDS, [], ProbeTraining())
    assert seen == [torch.bfloat16, torch.float32]


@pytest.mark.parametrize("family", ["gpt2", "gemma3", "mamba", "mixtral"])
def test_parameters_and_gradients_are_left_as_they_were(family: str) -> None:
    live = small_live(family)
    setting("detail").apply(live, "layer")
    before = {name: (p.detach().clone(), p.requires_grad) for name, p in live.model.named_parameters()}
    training_step(live, IDS, [], ProbeTraining(mixed=True, accumulate=2))
    for name, parameter in live.model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert (parameter.grad, parameter.requires_grad) == (None, before[name][1])


def test_too_few_tokens_are_refused_and_so_is_what_cannot_be_trained(llama: Path) -> None:
    with pytest.raises(ProbeRefused, match="3 pieces need at least 6 tokens"):
        training_step(small_live("llama"), IDS[:5], [], ProbeTraining(accumulate=3))
    (failed,) = of(run(llama, ProbeTraining(accumulate=0)), Failed)
    assert "generate more" in failed.sentence


def test_when_memory_runs_out_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("none left")

    live = small_live("llama")
    monkeypatch.setattr("engine.runtime.training_probe.functional.cross_entropy", exhausted)
    with pytest.raises(ProbeRefused, match="too little memory"):
        training_step(live, IDS, [], ProbeTraining())
    assert all(parameter.grad is None for parameter in live.model.parameters())
