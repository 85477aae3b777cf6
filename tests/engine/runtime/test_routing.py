"""Experts that were really routed to: counted in the floor of a step; unknown where nobody hears them called."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from engine.runtime.routing import Routing
from engine.trace.floor import Costs, Fed
from engine.trace.phases import StepKind
from tests.engine.runtime.live_models import Bench, save_checkpoint
from tests.engine.runtime.small_models import build

CHOSEN = 2  # of four


@pytest.fixture(params=["mixtral", "qwen3_moe"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(save_checkpoint(build(request.param), tmp_path))
    yield made
    made.close()


def routers(bench: Bench) -> list[nn.Parameter]:
    found = bench.workbench.live.model.named_parameters()
    return [parameter for name, parameter in found if name.endswith("mlp.gate.weight")]


def test_a_prompt_reads_the_experts_that_its_tokens_were_sent_to(bench: Bench) -> None:
    with torch.no_grad():
        for router in routers(bench):
            router.zero_()  # all are as good to it: each token gets the same two
    bench.generate(tokens=2)
    steps, shape = bench.trace.steps, bench.trace.shape(0)
    assert shape is not None
    prompt = len(bench.trace.generations[0].started.prompt_ids)
    fed = Fed(StepKind.PREFILL, positions=prompt, routed=CHOSEN * len(routers(bench)))
    assert int(steps.moved_bytes[0]) == Costs(shape).told(fed, None)[0]
    # where it is not known, nearly all four are expected to be read
    assert int(steps.moved_bytes[0]) < Costs(shape).told(fed._replace(routed=None), None)[0]


def test_each_sequence_of_a_batch_chooses_for_itself(bench: Bench) -> None:
    chosen: list[set[int]] = []
    for name, module in bench.workbench.live.model.named_modules():
        if name.endswith("mlp.experts"):
            module.register_forward_pre_hook(lambda _, given: chosen.append(set(given[1].unique().tolist())))
    bench.workbench.change((("batch", 3), ("decoding", "sample"), ("temperature", 2.0)))
    bench.generate(tokens=4)
    steps, shape, layers = bench.trace.steps, bench.trace.shape(0), len(routers(bench))
    assert shape is not None
    last = len(steps) - 1
    assert steps.batch[last] == 3
    fed = Fed(
        StepKind.DECODE,
        rows=3,
        routed=sum(map(len, chosen[-layers:])),
        past=int(steps.context_length[last]) - 2,
    )
    assert int(steps.moved_bytes[last]) == Costs(shape).told(fed, None)[0]


def test_calls_that_were_not_heard_are_not_known() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.ones(3, 4, 4))

        def forward(self, hidden: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
            return hidden

    model = nn.ModuleList([Experts(), Experts()])
    routing = Routing(model)
    model[0](torch.ones(2, 4), torch.tensor([[0, 1], [1, 2]]))
    assert routing.distinct() is None  # one of two layers
    model[1](torch.ones(2, 4), torch.tensor([[0, 0], [0, 0]]))
    assert routing.distinct() == 4
    routing.forget()
    assert routing.distinct() is None
    assert Routing(nn.Linear(2, 2)).distinct() is None
