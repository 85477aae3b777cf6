"""Caches: conversions in mid-generation keep the tokens, bytes are what is allocated."""

import pytest
import torch

from engine.runtime.caches import cache_bytes, cast, convert, new_cache
from engine.runtime.sampling import Chooser
from tests.engine.runtime.settings.small_live import PROMPT_LENGTH, begin, generate, small_live, step
from tests.engine.runtime.small_models import prompt_ids

TOKENS = 30  # well past the windows of 16 tokens
WINDOWED = ["mistral", "gemma2", "gemma3", "gpt_oss"]
PLAIN = ["llama", "gpt2", "deepseek_v3"]
HYBRID = ["qwen3_next", "falcon_h1", "lfm2"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("family", PLAIN + WINDOWED + HYBRID)
def test_every_way_through_the_kinds_of_cache_keeps_the_greedy_tokens(family: str) -> None:
    expected = generate(small_live(family), TOKENS)
    kinds = ["static", "dynamic", "none", "static", "none", "dynamic", "static", "dynamic"]
    changes = {index * 3: {"kv_cache": kind} for index, kind in enumerate(kinds)}
    assert generate(small_live(family), TOKENS, changes) == expected
    assert len(set(expected)) > 3


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
@pytest.mark.parametrize("length", [1, 13, 14, 15, 16, 17, 30])
def test_conversion_is_right_around_the_window_in_both_directions(family: str, length: int) -> None:
    def run(*kinds: str) -> list[int]:
        live = small_live(family)
        begin(live, capacity=length + 24, length=length)
        chooser = Chooser(live.decoding, live.device)
        tokens = []
        for kind in (*kinds, *[None] * (8 - len(kinds))):
            if kind is not None:
                assert live.context is not None
                convert(live, live.context, kind)
                live.cache_kind = kind
            tokens.append(step(live, chooser))
        return tokens

    expected = run("dynamic")
    assert run("dynamic", "static") == expected
    assert run("static", "dynamic") == expected
    assert run("dynamic", "static", "dynamic", "static") == expected


def test_a_capacity_below_the_window_does_not_lose_the_first_token() -> None:
    expected: list[list[int]] = []
    for kinds in (["dynamic"] * 4, ["dynamic", "static", "dynamic", "static"]):
        live = small_live("mistral")
        begin(live, capacity=10, length=6)
        chooser = Chooser(live.decoding, live.device)
        tokens = []
        for kind in kinds:
            assert live.context is not None
            convert(live, live.context, kind)
            tokens.append(step(live, chooser))
        expected.append(tokens)
    assert expected[0] == expected[1]


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_dynamic_to_static_and_back_is_bit_exact(family: str) -> None:
    live = small_live(family)
    begin(live)
    step(live, Chooser(live.decoding, live.device))
    context = live.context
    assert context is not None
    assert context.cache is not None
    before = [(layer.keys.clone(), layer.values.clone()) for layer in context.cache.layers]
    convert(live, context, "static")
    assert context.cached == PROMPT_LENGTH
    convert(live, context, "dynamic")
    after = [(layer.keys, layer.values) for layer in context.cache.layers]
    for (keys, values), (new_keys, new_values) in zip(before, after, strict=True):
        assert torch.equal(keys, new_keys)
        assert torch.equal(values, new_values)
    assert context.cache.get_seq_length() == PROMPT_LENGTH


def test_a_conversion_between_two_prefill_chunks_keeps_the_tokens() -> None:
    expected = generate(small_live("gemma3"), 8)
    live = small_live("gemma3")
    begin(live)
    context = live.context
    assert context is not None
    with torch.inference_mode():
        live.model(input_ids=prompt_ids(7), past_key_values=context.cache, use_cache=True)
    context.cached = 7
    convert(live, context, "static")
    assert context.cached == 7
    live.cache_kind = "static"
    chooser = Chooser(live.decoding, live.device)
    assert [step(live, chooser) for _ in range(8)] == expected


def test_without_a_cache_everything_is_pending_again() -> None:
    live = small_live("llama")
    begin(live)
    step(live, Chooser(live.decoding, live.device))
    assert live.context is not None
    convert(live, live.context, "none")
    assert live.context.cache is None
    assert live.context.cached == 0
    convert(live, live.context, "dynamic")
    assert live.context.cached == 0
    assert cache_bytes(live.context.cache) == 0


def test_an_unknown_kind_is_refused_and_nothing_changes() -> None:
    live = small_live("llama")
    begin(live)
    assert live.context is not None
    cache = live.context.cache
    with pytest.raises(ValueError, match="no kind of KV cache called 'paged'"):
        convert(live, live.context, "paged")
    assert live.context.cache is cache


def test_bytes_are_what_keys_and_values_take() -> None:
    live = small_live("llama")  # 2 layers, 2 key-value heads of 8 numbers, float32
    per_token = 2 * 2 * 2 * 8 * 4
    begin(live)
    step(live, Chooser(live.decoding, live.device))
    assert live.context is not None
    assert cache_bytes(live.context.cache) == PROMPT_LENGTH * per_token
    convert(live, live.context, "static")
    assert cache_bytes(live.context.cache) == live.context.capacity * per_token
    assert cast(live.context.cache, torch.bfloat16)
    assert cache_bytes(live.context.cache) == live.context.capacity * per_token // 2
    assert cache_bytes(None) == 0


@pytest.mark.parametrize("family", ["mamba", "rwkv"])
def test_bytes_of_a_state_do_not_grow(family: str) -> None:
    live = small_live(family)
    begin(live)
    chooser = Chooser(live.decoding, live.device)
    counts = []
    for _ in range(3):
        step(live, chooser)
        assert live.context is not None
        counts.append(cache_bytes(live.context.cache))
    assert counts[0] > 0
    assert len(set(counts)) == 1


def test_a_cache_with_states_is_not_cast_but_left_alone() -> None:
    live = small_live("falcon_h1")
    begin(live)
    step(live, Chooser(live.decoding, live.device))
    assert live.context is not None
    assert live.context.cache is not None
    assert not cast(live.context.cache, torch.bfloat16)
    assert live.context.cache.layers[0].keys.dtype == torch.float32


def test_a_model_that_hands_its_state_back_gets_no_cache_made() -> None:
    assert new_cache(small_live("rwkv"), "dynamic", 32) is None
