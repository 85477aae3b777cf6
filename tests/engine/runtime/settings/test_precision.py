"""Precision: back is bit-exact, buffers are left alone, tied stays tied, and what fails is undone."""

import pytest
import torch
from transformers import PreTrainedModel

from engine.runtime.live import LiveModel
from engine.runtime.sampling import Chooser
from engine.runtime.settings.base import SettingRefused
from engine.runtime.weights.plan import WeightPlan
from tests.engine.runtime.settings.small_live import begin, generate, setting, small_live, step
from tests.engine.runtime.small_models import build, families

PRECISION = setting("precision")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def snapshot(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().clone() for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("family", families())
def test_there_and_back_is_bit_exact_in_mid_generation(family: str) -> None:
    live = small_live(family)
    before = snapshot(live.model)
    begin(live)
    chooser = Chooser(live.decoding, live.device)
    for precision in ("float32", "bfloat16", "float16", "bfloat16", "float32"):
        PRECISION.apply(live, precision)
        assert PRECISION.current(live) == precision
        step(live, chooser)
        step(live, chooser)
    assert same(snapshot(live.model), before)


def test_the_tokens_after_a_visit_to_another_precision_are_finite_and_many() -> None:
    live = small_live("llama")
    tokens = generate(live, 12, {3: {"precision": "bfloat16"}, 8: {"precision": "float32"}})
    assert tokens[:3] == generate(small_live("llama"), 3)
    assert len(set(tokens)) > 3


def test_buffers_keep_their_values_and_their_dtype() -> None:
    live = small_live("llama")
    frequencies = live.model.model.rotary_emb.inv_freq
    before = frequencies.clone()
    PRECISION.apply(live, "bfloat16")
    assert live.model.model.rotary_emb.inv_freq is frequencies
    assert frequencies.dtype == torch.float32
    assert torch.equal(frequencies, before)
    assert all(parameter.dtype == torch.bfloat16 for parameter in live.model.parameters())


def test_tied_embeddings_stay_tied() -> None:
    live = small_live(model=build("llama", tie_word_embeddings=True))

    def tied() -> bool:
        embedding, head = live.model.get_input_embeddings().weight, live.model.get_output_embeddings().weight
        return embedding is head and embedding.data_ptr() == head.data_ptr()

    before = snapshot(live.model)
    assert tied()
    for precision in ("bfloat16", "float32"):
        PRECISION.apply(live, precision)
        assert tied()
    assert same(snapshot(live.model), before)


def test_the_cache_is_cast_and_kept() -> None:
    live = small_live("llama")
    begin(live)
    step(live, Chooser(live.decoding, live.device))
    context = live.context
    assert context is not None
    assert context.cache is not None
    cached = context.cached
    PRECISION.apply(live, "bfloat16")
    assert context.cached == cached
    assert {layer.keys.dtype for layer in context.cache.layers} == {torch.bfloat16}


def test_float16_is_rounded_from_what_was_loaded_not_from_bfloat16() -> None:
    live = small_live("llama")
    loaded = live.model.get_input_embeddings().weight.detach().clone()
    PRECISION.apply(live, "bfloat16")
    PRECISION.apply(live, "float16")
    assert torch.equal(live.model.get_input_embeddings().weight, loaded.to(torch.float16))


def test_a_model_loaded_narrow_comes_back_narrow_and_exact() -> None:
    live = small_live(model=build("llama").to(torch.bfloat16))
    before = {name: p.detach().clone() for name, p in live.model.named_parameters()}
    PRECISION.apply(live, "float32")
    PRECISION.apply(live, "bfloat16")
    assert same({name: p.detach() for name, p in live.model.named_parameters()}, before)


def test_too_little_memory_is_said_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    live = small_live("llama")
    before = snapshot(live.model)
    monkeypatch.setattr("engine.runtime.weights.realizing.available_bytes", lambda device: 1000)
    with pytest.raises(
        SettingRefused, match=r"needs .* MiB, but only 0\.0 MiB are free: close other programs"
    ):
        PRECISION.apply(live, "bfloat16")
    assert same(snapshot(live.model), before)


def test_copies_that_can_be_made_again_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    live = small_live("llama")
    PRECISION.apply(live, "bfloat16")
    PRECISION.apply(live, "float32")

    def freed_by_forgetting(device: str) -> int:
        return 1000 if WeightPlan(torch.bfloat16) in live.weights.made else 10**9

    monkeypatch.setattr("engine.runtime.weights.realizing.available_bytes", freed_by_forgetting)
    PRECISION.apply(live, "float16")
    assert set(live.weights.made) == {WeightPlan(), WeightPlan(torch.float16)}


@pytest.mark.parametrize("kept", [False, True])
def test_a_model_that_fails_in_a_precision_is_put_back(monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    live = small_live("llama")
    before = snapshot(live.model)
    begin(live)
    cache = live.context.cache if live.context else None
    if kept:  # a cache with something in it
        step(live, Chooser(live.decoding, live.device))
    refuse_bfloat16(live, monkeypatch)
    with pytest.raises(SettingRefused, match="does not run in bfloat16 here: expected scalar type Float"):
        PRECISION.apply(live, "bfloat16")
    assert same(snapshot(live.model), before)
    assert live.context is not None
    assert live.context.cache is cache
    assert WeightPlan(torch.bfloat16) not in live.weights.made
    step(live, Chooser(live.decoding, live.device))


def refuse_bfloat16(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model do what a kernel without bfloat16 does."""
    forward = live.model.forward

    def failing(*args: object, **kwargs: object) -> object:
        if live.model.dtype == torch.bfloat16:
            raise RuntimeError("expected scalar type Float. Found BFloat16")
        return forward(*args, **kwargs)

    monkeypatch.setattr(live.model, "forward", failing)


def test_wide_parts_of_a_model_stay_wide() -> None:
    live = small_live("gpt2")  # torch's layer norm takes weights wider than its input
    live.model._keep_in_fp32_modules_strict = {"ln_1"}
    PRECISION.apply(live, "bfloat16")
    dtypes = {name: p.dtype for name, p in live.model.named_parameters() if ".ln_" in name}
    assert dtypes["transformer.h.0.ln_1.weight"] == torch.float32
    assert dtypes["transformer.h.0.ln_2.weight"] == torch.bfloat16
