"""The loop on real small models of every family: tokens, ledger, text, planted delays."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.protocol import GenerationEnded, Prompt
from engine.runtime.starting import start
from engine.trace.phases import Phase, Role, StepKind
from tests.engine.runtime.live_models import PROMPT, Bench, family_checkpoint
from tests.engine.runtime.small_models import families


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def bench(llama: Path) -> Iterator[Bench]:
    bench = Bench(llama)
    yield bench
    bench.close()


@pytest.mark.parametrize("family", families())
def test_every_family_generates_the_tokens_of_generate_and_its_ledger_sums(
    family: str, tmp_path: Path
) -> None:
    bench = Bench(family_checkpoint(family, tmp_path))
    expected = bench.reference()
    assert bench.generate() == expected
    steps = bench.trace.steps
    assert (steps.phases_ns.sum(axis=1) == steps.wall_ns).all()
    assert (steps.layers_ns.sum(axis=(1, 2)) <= steps.wall_ns).all()
    layer_totals = steps.layers_ns.sum(axis=(0, 2))
    assert len(layer_totals) == bench.workbench.live.model.config.num_hidden_layers
    assert (layer_totals > 0).all()
    assert steps.phases_ns[:, Phase.HEAD].min() > 0
    assert steps.phases_ns[:, Phase.EMBED].min() > 0
    in_layers = steps.phases_ns[:, [Phase.ATTENTION, Phase.MIXER]].sum(axis=1)
    assert in_layers.min() > 0
    bench.close()


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_a_prompt_is_prefilled_in_chunks_and_gives_the_same_tokens(bench: Bench, chunk: int) -> None:
    expected = bench.reference()
    bench.workbench.change((("prefill_chunk", chunk),))
    assert bench.generate() == expected
    length = len(PROMPT.encode())
    kinds = [bench.trace.kind(row) for row in range(len(bench.trace.steps))]
    assert kinds.count(StepKind.PREFILL) == -(-length // chunk)
    assert kinds.count(StepKind.DECODE) == 15
    assert bench.trace.steps.prompt_tokens.sum() == length
    assert bench.trace.steps.token_count[: -(-length // chunk) - 1].sum() == 0


def test_context_grows_by_one_a_token_and_the_cache_holds_all_but_the_newest(bench: Bench) -> None:
    bench.generate(tokens=5)
    length = len(PROMPT.encode())
    assert bench.trace.steps.context_length.tolist() == [length + n for n in range(1, 6)]
    assert bench.trace.steps.cache_bytes[-1] > bench.trace.steps.cache_bytes[0] > 0


def test_a_planted_delay_appears_in_its_layer_and_phase_with_its_size(llama: Path) -> None:
    bench = Bench(llama)
    bench.generate()
    undisturbed = bench.trace.steps.layers_ns.copy()
    delay_ns = 4_000_000
    mlp = bench.workbench.live.model.model.layers[1].mlp.gate_proj
    plain = mlp.forward

    def late(x: torch.Tensor) -> torch.Tensor:
        end_ns = time.perf_counter_ns() + delay_ns
        while time.perf_counter_ns() < end_ns:
            pass
        return plain(x)

    mlp.forward = late
    bench.generate()
    del mlp.forward
    delayed = bench.trace.steps.layers_ns[len(undisturbed) :]
    extra = delayed.min(axis=0) - undisturbed.min(axis=0)  # disturbances of a busy machine only ever add
    assert np.unravel_index(extra.argmax(), extra.shape) == (1, Role.MLP)
    assert (delayed[:, 1, Role.MLP] >= delay_ns).all()
    assert extra[1, Role.MLP] < 1.5 * delay_ns
    others = extra.copy()
    others[1, Role.MLP] = 0
    assert np.abs(others).max() < delay_ns / 4
    bench.close()


@pytest.mark.parametrize("detail", ["step", "phase", "layer", "core"])
def test_each_detail_level_sums_and_tells_apart_what_it_promises(bench: Bench, detail: str) -> None:
    expected = bench.reference()
    bench.workbench.change((("detail", detail),))
    assert bench.generate() == expected
    steps = bench.trace.steps
    assert (steps.phases_ns.sum(axis=1) == steps.wall_ns).all()
    totals = steps.phases_ns.sum(axis=0)
    assert (totals[Phase.FORWARD] > 0) == (detail == "step")
    assert (totals[Phase.ATTENTION] > 0) == (detail != "step")
    assert (totals[Phase.ATTENTION_CORE] > 0) == (detail == "core")
    assert (steps.layers_ns.sum() > 0) == (detail in ("layer", "core"))


def test_text_streams_in_whole_characters_and_nothing_is_lost(bench: Bench) -> None:
    ids = bench.generate(tokens=40)
    trace = bench.trace
    ended = next(event for event in bench.events if isinstance(event, GenerationEnded))
    whole = bench.workbench.live.tokenizer.decode(ids)
    assert "".join(trace.tokens.text) + ended.tail == whole
    assert trace.text_of(trace.generations[0]) == whole


def test_sampling_with_a_seed_repeats_itself_and_differs_between_seeds(bench: Bench) -> None:
    bench.workbench.change((("decoding", "sample"), ("temperature", 1.5), ("seed", 7)))
    first, again = bench.generate(), bench.generate()
    bench.workbench.change((("seed", 8),))
    assert first == again != bench.generate()


def test_a_generation_ends_when_the_context_is_full(bench: Bench) -> None:
    limit = bench.workbench.live.facts.context_limit
    prompt = "x" * (limit - 3)
    run = bench.start(prompt, tokens=50)
    reasons = []
    while not reasons or not reasons[-1]:
        reasons.append(run.step(False))
    run.end(reasons[-1])
    assert len(reasons) == 3
    assert reasons[-1] in ("context full", "length")


def test_an_end_token_ends_the_generation(llama: Path) -> None:
    bench = Bench(llama)
    tokens = bench.generate()
    bench.workbench.live.model.generation_config.eos_token_id = tokens[3]
    from engine.protocol import Generate

    run = start(bench.workbench, Generate(Prompt(PROMPT), 16), time.perf_counter_ns())
    steps = 1
    while not (reason := run.step(False)):
        steps += 1
    assert reason == "end token"
    assert steps == tokens.index(tokens[3]) + 1
    bench.close()


LOSSLESS = [
    ("attention", "eager"),
    ("attention", "sdpa:math"),
    ("kv_cache", "static"),
    ("kv_cache", "none"),
    ("threads", 2),
    ("detail", "core"),
    ("prefill_chunk", 7),
]


@pytest.mark.parametrize(("key", "value"), LOSSLESS)
def test_a_lossless_switch_in_mid_generation_leaves_the_tokens_unchanged(
    bench: Bench, key: str, value: object
) -> None:
    expected = bench.reference(tokens=24)
    before = dict(bench.workbench.effective())[key]
    threads = torch.get_num_threads()
    changed = bench.generate(tokens=24, changes={8: ((key, value),), 16: ((key, before),)})
    torch.set_num_threads(threads)
    assert changed == expected
    marks = bench.trace.marks
    assert [mark.event.changes[0].effective for mark in marks] == [value, before]
    assert all(mark.event.switch_ns > 0 for mark in marks)


def test_precision_switches_in_mid_generation_and_comes_back_exact(bench: Bench) -> None:
    before = {name: p.detach().clone() for name, p in bench.workbench.live.model.named_parameters()}
    tokens = bench.generate(
        tokens=24, changes={8: (("precision", "bfloat16"),), 16: (("precision", "float32"),)}
    )
    assert len(tokens) == 24
    after = dict(bench.workbench.live.model.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert bench.generate(tokens=12) == bench.reference(tokens=12)
