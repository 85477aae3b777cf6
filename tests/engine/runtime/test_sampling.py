"""The choice of a token: the same as `generate()` of transformers makes, and reproducible."""

from dataclasses import asdict

import pytest
import torch
from transformers import PreTrainedModel

from engine.runtime.live import Decoding
from engine.runtime.sampling import Chooser
from tests.engine.runtime.small_models import VOCABULARY, build, prompt_ids

CPU = torch.device("cpu")
DECODINGS = [
    Decoding("sample", seed=3),
    Decoding("sample", temperature=0.7, seed=4),
    Decoding("sample", top_k=5, seed=5),
    Decoding("sample", top_p=0.6, seed=6),
    Decoding("sample", min_p=0.1, seed=7),
    Decoding("sample", temperature=1.5, top_k=50, top_p=0.9, min_p=0.02, repetition_penalty=1.3, seed=8),
    Decoding("greedy", repetition_penalty=1.5),
    Decoding("greedy", temperature=0.2, top_k=3, seed=9),
]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    torch.set_num_threads(1)
    return build("llama")


def own_tokens(model: PreTrainedModel, decoding: Decoding, count: int = 16) -> list[int]:
    chooser = Chooser(decoding, CPU)
    ids = prompt_ids()[0].tolist()
    start = len(ids)
    with torch.inference_mode():
        for _ in range(count):
            logits = model(input_ids=torch.tensor([ids])).logits[:, -1]
            ids.append(int(chooser.choose(logits, ids)))
    return ids[start:]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_tokens_are_those_of_generate_with_the_same_seed(model: PreTrainedModel, decoding: Decoding) -> None:
    options = asdict(decoding)
    sample = options.pop("strategy") == "sample"
    seed = options.pop("seed")
    if not sample:
        options = {"repetition_penalty": decoding.repetition_penalty}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        output = model.generate(
            prompt_ids(), attention_mask=torch.ones(1, 12), max_new_tokens=16, do_sample=sample, **options
        )
    assert own_tokens(model, decoding) == output[0, 12:].tolist()


def test_a_seed_repeats_its_tokens_whatever_else_draws_random_numbers(model: PreTrainedModel) -> None:
    first = own_tokens(model, Decoding("sample", seed=11))
    torch.rand(7)
    state = torch.get_rng_state()
    assert own_tokens(model, Decoding("sample", seed=11)) == first
    assert own_tokens(model, Decoding("sample", seed=12)) != first
    assert torch.equal(torch.get_rng_state(), state)


def test_top_k_comes_before_top_p() -> None:
    logits = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    # Of the two most likely tokens, renormalized to 4/7 and 3/7, the first alone reaches one half.
    scores = Chooser(Decoding("sample", top_k=2, top_p=0.5), CPU).scores(logits, [[]])
    assert scores.isfinite().tolist() == [[True, False, False, False]]
    # The other way round, one half of the whole needs two tokens, and both would stay.
    without = Chooser(Decoding("sample", top_p=0.5), CPU).scores(logits, [[]])
    assert without.isfinite().tolist() == [[True, True, False, False]]


def test_greedy_takes_the_largest_logit_and_leaves_the_logits_alone() -> None:
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1))
    before = logits.clone()
    assert Chooser(Decoding(), CPU).choose(logits, [1, 2]).tolist() == [int(before.argmax())]
    penalized = Chooser(Decoding(repetition_penalty=5.0), CPU).choose(logits, [int(before.argmax())])
    assert penalized.shape == (1,)
    assert torch.equal(logits, before)


def test_logits_of_half_width_are_sampled_in_float32() -> None:
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    assert Chooser(Decoding("sample", top_k=3), CPU).scores(logits, [[]]).dtype == torch.float32
