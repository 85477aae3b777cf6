"""Pruning: matrices that are really smaller compute what zeros in the original would, and what cannot be is told."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from engine.protocol import SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import run_trial
from engine.runtime.weights.sparse import half_zero, takes_two_of_four, two_of_four, why_not_two_of_four
from tests.engine.runtime.settings.small_live import begin, setting, small_live
from tests.engine.runtime.settings.test_precision import same, snapshot
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.settings.test_weights import MODELS, deep, distance, logits, put
from tests.engine.runtime.small_models import build, families

GATED_OR_PLAIN = [family for family in MODELS if family != "mixtral"]
HEADS_APART = [family for family in MODELS if family != "phi3"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def readers(live: LiveModel, key: str) -> dict[str, nn.Module]:
    """The matrices that read what is cut, by path, found by size: they are the ones that got fewer inputs."""
    whole = {
        name: module for name, module in live.model.named_modules() if isinstance(module, nn.Linear | Conv1D)
    }
    before = {name: tuple(module.weight.shape) for name, module in whole.items()}
    put(live, **{key: 50})
    inputs = {name: 0 if isinstance(module, Conv1D) else 1 for name, module in whole.items()}
    found = {n: m for n, m in whole.items() if m.weight.shape[inputs[n]] < before[n][inputs[n]]}
    smaller = [n for n, m in whole.items() if tuple(m.weight.shape) != before[n]]
    assert len(smaller) > len(found) > 0  # what makes it is smaller too
    return found


@pytest.mark.parametrize(
    ("key", "family"),
    [*(("mlp_pruning", f) for f in GATED_OR_PLAIN), *(("head_pruning", f) for f in HEADS_APART)],
)
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
def test_what_is_cut_might_as_well_be_zeros_in_the_original(key: str, family: str, cache: str) -> None:
    live, original = small_live(model=deep(family)), deep(family)
    cut = readers(live, key)
    with torch.no_grad():
        for name, module in cut.items():
            whole = original.get_submodule(name).weight
            dim = 0 if isinstance(module, Conv1D) else 1
            # a column of the smaller matrix is one of the original's, in the same order
            columns = [column.tolist() for column in whole.movedim(dim, 0)]
            kept = [columns.index(column.tolist()) for column in module.weight.movedim(dim, 0)]
            assert kept == sorted(set(kept))
            assert len(kept) == whole.shape[dim] // 2
            gone = [index for index in range(whole.shape[dim]) if index not in kept]
            whole.index_fill_(dim, torch.tensor(gone), 0)
    zeroed = run_trial(small_live(model=original), (5, 1, 1), cache)
    assert torch.allclose(run_trial(live, (5, 1, 1), cache), zeroed, rtol=1e-4, atol=1e-5)
    assert distance(zeroed, run_trial(small_live(model=deep(family)), (5, 1, 1), cache)) > 1e-3


def test_the_least_neurons_go() -> None:
    live = small_live("llama")
    mlp = live.model.model.layers[0].mlp
    with torch.no_grad():
        for number in (3, 60):  # small in all three matrices, which none of them says alone
            mlp.gate_proj.weight[number] *= 0.01
            mlp.up_proj.weight[number] *= 0.01
            mlp.down_proj.weight[:, number] *= 0.01
    ups = mlp.up_proj.weight.clone()
    put(live, mlp_pruning=10)
    left = mlp.up_proj.weight
    assert left.shape == (58, 32)
    assert not any(torch.equal(row, ups[number]) for row in left for number in (3, 60))


def test_under_grouped_queries_whole_groups_go() -> None:
    live = small_live("qwen3")  # 4 query heads of 16, in 2 groups
    attention = live.model.model.layers[0].self_attn
    with torch.no_grad():
        attention.o_proj.weight[:, 32:] *= 5  # the second group is the larger
    queries, keys = attention.q_proj.weight.clone(), attention.k_proj.weight.clone()
    put(live, head_pruning=50)
    assert torch.equal(attention.q_proj.weight, queries[32:])
    assert torch.equal(attention.k_proj.weight, keys[16:])
    assert live.weights.in_force.kept_heads[0].tolist() == [1]
    assert attention.num_key_value_groups == 2


def test_where_all_share_one_key_head_query_heads_go_and_the_cache_stays() -> None:
    live = small_live(model=build("llama", num_key_value_heads=1))
    begin(live)
    keys = live.model.model.layers[0].self_attn.k_proj.weight.clone()
    put(live, head_pruning=50)
    attention = live.model.model.layers[0].self_attn
    assert attention.q_proj.weight.shape == (16, 32)
    assert attention.num_key_value_groups == 2
    assert torch.equal(attention.k_proj.weight, keys)
    assert live.weights.in_force.kept_heads == {}


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma3"])
def test_more_cut_is_always_a_part_of_less(family: str) -> None:
    live = small_live(
        model=build(family, **({"n_head": 8} if family == "gpt2" else {"num_attention_heads": 8}))
    )
    kept: dict[int, set[int]] = {}
    for percent in (25, 50, 75):
        put(live, head_pruning=percent)
        now = {layer: set(heads.tolist()) for layer, heads in live.weights.in_force.kept_heads.items()}
        assert now
        assert all(heads < kept.get(layer, heads | {-1}) or len(heads) == 1 for layer, heads in now.items())
        kept = now


def test_sizes_stay_multiples_that_kernels_take() -> None:
    live = small_live(model=build("llama", intermediate_size=1408))
    put(live, mlp_pruning=30, quantization="int4")
    assert live.model.model.layers[0].mlp.down_proj.in_features == 1024  # 986 and up
    assert live.model.model.layers[0].mlp.down_proj.out_features == 32


@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize("key", ["mlp_pruning", "head_pruning", "layer_skipping", "sparsity"])
def test_what_is_offered_runs_and_what_is_not_says_why(family: str, key: str) -> None:
    live = small_live(family)
    before, exact = snapshot(live.model), logits(live)
    fact = setting(key).probe(live)
    assert same(snapshot(live.model), before)
    assert torch.equal(logits(live), exact)
    if fact.reason:
        assert is_sentence(fact.reason)
        return
    most: SettingValue = "unstructured" if key == "sparsity" else int(fact.maximum)
    put(live, **{key: most})
    assert torch.isfinite(logits(live)).all()
    assert distance(logits(live), exact) > 1e-4
    put(live, **{key: fact.default})
    assert same(snapshot(live.model), before)
    assert torch.equal(logits(live), exact)


@pytest.mark.parametrize(
    ("family", "key", "words"),
    [
        ("bloom", "head_pruning", "does not run with fewer attention heads"),  # slopes by number of heads
        ("olmo2", "head_pruning", "does not run with fewer attention heads"),  # norms over all heads together
        ("deepseek_v3", "head_pruning", "heads can be told apart"),
        ("mamba", "mlp_pruning", "No MLP was found"),
        ("llama", "layer_skipping", "None of this model's layers"),
    ],
)
def test_refusals_give_the_true_reason(family: str, key: str, words: str) -> None:
    live = small_live(family)
    before = snapshot(live.model)
    assert words in setting(key).probe(live).reason
    with pytest.raises(SettingRefused) as refusal:
        put(live, **{key: 50})
    assert is_sentence(str(refusal.value))
    assert same(snapshot(live.model), before)


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt", "mixtral", "falcon"])
def test_skipped_layers_are_those_of_a_model_built_without_them(family: str) -> None:
    live, shorter = small_live(model=deep(family)), deep(family)
    put(live, layer_skipping=2)
    skipped = [block.index for block in live.anatomy.blocks if type(block.module).__name__ == "Skipped"]
    assert len(skipped) == 2
    assert 0 not in skipped
    assert 5 not in skipped
    ran: list[int] = []
    for block in live.anatomy.blocks:
        block.module.register_forward_hook(lambda *_, index=block.index: ran.append(index))
    run_trial(live, (1,))
    assert ran == list(range(6))  # each is called, none but those left works
    blocks = small_live(model=shorter).anatomy.blocks
    for index in skipped:
        for part in (*blocks[index].attention, *blocks[index].mlp):
            _silence(part.module if part.until is None else part.until)
    expected = run_trial(small_live(model=shorter), (6, 1), "none")
    assert torch.allclose(run_trial(live, (6, 1), "none"), expected, atol=1e-4)
    assert torch.allclose(run_trial(live, (6, 1))[-1:], run_trial(live, (6, 1), "none"), atol=1e-4)


def _silence(module: nn.Module) -> None:
    """Make a part give zeros, so that only the residual stream passes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


# ---------------------------------------------------------------- zeros


def test_unstructured_zeros_are_the_smaller_half_of_the_layers_and_save_no_byte() -> None:
    live = small_live("llama")
    before = snapshot(live.model)
    put(live, sparsity="unstructured")
    for name, parameter in live.model.named_parameters():
        if name.endswith("proj.weight"):
            kept = parameter != 0
            assert kept.float().mean() == pytest.approx(0.5, abs=0.01)
            assert torch.equal(parameter[kept], before[name][kept])
            assert before[name][~kept].abs().max() <= before[name][kept].abs().min()
        else:
            assert torch.equal(parameter, before[name])
    assert live.weight_bytes == sum(tensor.nbytes for tensor in before.values() if tensor.ndim) - sum(
        buffer.nbytes for buffer in live.model.buffers()
    )


def test_two_of_every_four_are_zero() -> None:
    matrix = torch.randn(6, 32)
    sparse = two_of_four(matrix)
    fours, before = sparse.view(6, 8, 4), matrix.view(6, 8, 4)
    assert ((fours != 0).sum(dim=2) == 2).all()
    assert torch.equal(fours.abs().sum(dim=2), before.abs().topk(2, dim=2).values.sum(dim=2))
    assert takes_two_of_four(64, 128)
    assert not takes_two_of_four(64, 96)
    assert torch.equal(
        half_zero(torch.tensor([[1.0, -4.0, 3.0, -2.0]])), torch.tensor([[0.0, -4.0, 3.0, 0.0]])
    )


def test_two_of_four_is_for_hardware_that_skips_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    live = small_live("llama")
    with pytest.raises(SettingRefused, match="Only NVIDIA GPUs"):
        put(live, sparsity="2:4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "has no sparse tensor cores" in why_not_two_of_four(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert why_not_two_of_four(torch.device("cuda:0")) == ""
