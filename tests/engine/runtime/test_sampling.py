"""The choice of a token: the same as `generate()` of transformers makes, and reproducible."""

from dataclasses import asdict, replace

import pytest
import torch
from transformers import PreTrainedModel, TopPLogitsWarper

from engine.runtime.live import Decoding
from engine.runtime.sampling import Chooser, TopPAmongFirst
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
    del options["top_p_method"], options["sampling_place"]  # which `generate()` does not know
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


@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("spread", [0.01, 1.0, 8.0])
def test_top_p_keeps_the_same_tokens_however_it_looks_for_them(top_p: float, spread: float) -> None:
    logits = spread * torch.randn(5, 2_000, generator=torch.Generator().manual_seed(3))
    everything = TopPLogitsWarper(top_p)(torch.empty(0), logits)
    looked = TopPAmongFirst(top_p)
    assert torch.equal(looked(torch.empty(0), logits), everything)
    narrow = TopPAmongFirst(top_p, among=3)  # too few nearly always: all are sorted then
    assert torch.equal(narrow(torch.empty(0), logits), everything)


def test_all_tokens_are_sorted_only_where_the_likeliest_few_do_not_suffice() -> None:
    def sorts(logits: torch.Tensor) -> int:
        looked, calls = TopPAmongFirst(0.9), []
        looked._all = lambda ids, scores: calls.append(1) or scores  # type: ignore[assignment,func-returns-value]
        looked(torch.empty(0), logits)
        return len(calls)

    assert sorts(8 * torch.randn(1, 2_000, generator=torch.Generator().manual_seed(4))) == 0
    assert sorts(torch.zeros(1, 2_000)) == 1


@pytest.mark.parametrize("top_k", [0, 500])
def test_the_way_to_top_p_does_not_change_what_is_drawn(top_k: int) -> None:
    decoding = Decoding("sample", temperature=1.2, top_k=top_k, top_p=0.8, seed=6)
    rows = 3 * torch.randn(30, 1, 2_000, generator=torch.Generator().manual_seed(7))

    def drawn(decoding: Decoding) -> list[int]:
        chooser = Chooser(decoding, CPU)
        return [int(chooser.choose(row, [])) for row in rows]

    expected = drawn(decoding)
    assert len(set(expected)) > 20
    assert drawn(replace(decoding, top_p_method="first")) == expected


@pytest.mark.parametrize("strategy", ["greedy", "sample"])
def test_on_the_host_the_same_is_computed_and_the_token_goes_back_to_the_device(strategy: str) -> None:
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(8))
    decoding = Decoding(strategy, top_p=0.7, repetition_penalty=1.2)
    elsewhere = Chooser(replace(decoding, sampling_place="host"), torch.device("meta"))
    weights = elsewhere.weigh(logits, ([1, 2],))
    assert torch.equal(weights, Chooser(decoding, CPU).weigh(logits, ([1, 2],)))
    assert elsewhere.draw(weights).device.type == "meta"
    assert not elsewhere.is_plain
