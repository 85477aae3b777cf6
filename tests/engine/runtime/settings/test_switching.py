"""Settings on real small models: lossless ones keep the greedy tokens, impossible ones say why."""

from collections.abc import Iterator

import pytest
import torch

from engine.protocol import SettingFacts
from engine.runtime.settings import ALL, attention
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.conflicts import CONFLICTS, settle
from engine.runtime.settings.execution import usable_processors
from engine.runtime.settings.resolve import current_values
from engine.runtime.settings.trial import first_layers, run_trial
from engine.trace.phases import Phase
from tests.engine.runtime.live_models import torch_kept
from tests.engine.runtime.settings.small_live import begin, generate, setting, small_live
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_models import build, families

TOKENS = 16
MODELS = ["llama", "gpt2", "gemma3"]
KERNELS = ["eager", "sdpa", "sdpa:math", "sdpa:flash", "flex"]


@pytest.fixture(autouse=True)
def global_flags_as_before() -> Iterator[None]:
    yield from torch_kept()


@pytest.fixture(scope="module", params=MODELS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(family: str) -> list[int]:
    return generate(small_live(family), TOKENS)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cache", ["none", "dynamic", "static"])
def test_attention_kernels_keep_the_tokens_with_every_cache(
    family: str, expected: list[int], kernel: str, cache: str
) -> None:
    live = small_live(family)
    changes = {0: {"kv_cache": cache}, 3: {"attention": kernel}, 10: {"attention": "sdpa"}}
    assert generate(live, TOKENS, changes) == expected


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_attention_kernels_keep_the_tokens_through_a_chunked_prefill(
    family: str, expected: list[int], kernel: str, cache: str
) -> None:
    changes = {0: {"attention": kernel, "prefill_chunk": 7, "kv_cache": cache}}
    assert generate(small_live(family), TOKENS, changes) == expected


@pytest.mark.parametrize("chunk", [1, 3, 16, 19])
def test_the_size_of_prefill_chunks_keeps_the_tokens(family: str, expected: list[int], chunk: int) -> None:
    assert generate(small_live(family), TOKENS, {0: {"prefill_chunk": chunk}}) == expected


def test_threads_keep_the_tokens(family: str, expected: list[int]) -> None:
    assert (
        generate(small_live(family), TOKENS, {4: {"threads": usable_processors()}, 8: {"threads": 1}})
        == expected
    )


def test_levels_of_detail_keep_the_tokens_and_take_their_probes_out(family: str, expected: list[int]) -> None:
    live = small_live(family)
    levels = {index * 3: {"detail": level} for index, level in enumerate(["layer", "core", "phase", "step"])}
    forward = live.model.forward
    assert generate(live, TOKENS, levels) == expected
    assert live.model.forward == forward
    phases = {name.phase for name in live.recorder.names}
    assert {Phase.ATTENTION, Phase.ATTENTION_CORE, Phase.MLP, Phase.HEAD} <= phases


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_attention_core_is_measured_with_every_kernel(kernel: str) -> None:
    live = small_live("llama")
    setting("detail").apply(live, "core")
    setting("attention").apply(live, kernel)
    core = live.recorder.define(Phase.ATTENTION_CORE, 0, "core")
    begin(live)
    live.recorder.begin_step()
    with torch.inference_mode():
        live.model(input_ids=torch.tensor([[1, 2, 3]]))
    assert list(live.recorder.codes).count(core) == 1
    setting("detail").apply(live, "step")  # what is shared by all models is as before


def test_probing_offers_what_works_here() -> None:
    facts = probed("llama")
    assert [c.value for c in facts["attention"].choices if not c.reason] == KERNELS
    kinds = ["none", "dynamic", "static", "quantized", "sliding"]
    assert [c.value for c in facts["kv_cache"].choices if not c.reason] == kinds
    assert [c.value for c in facts["kv_cache"].choices if not c.lossless] == ["quantized", "sliding"]
    assert facts["threads"].maximum >= facts["threads"].default >= 1
    assert facts["prefill_chunk"].default == 512


def probed(family: str) -> dict[str, SettingFacts]:
    live = small_live(family)
    return {one.key: one.probe(live) for one in ALL}


@pytest.mark.parametrize("family_of_all", families())
def test_probing_leaves_the_model_as_it_was_refuses_in_sentences_and_what_it_offers_keeps_the_tokens(
    family_of_all: str,
) -> None:
    live = small_live(family_of_all)
    tokens = generate(live, 6)
    before = current_values(live)
    facts = {one.key: one.probe(live) for one in ALL}
    assert current_values(live) == before
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.math_sdp_enabled()
    for key, fact in facts.items():
        assert fact.default == before[key] or key in ("threads", "prefill_chunk", "kv_cache")
        reasons = [fact.reason, *(choice.reason for choice in fact.choices)]
        assert all(is_sentence(reason) for reason in reasons if reason)
        if fact.kind == "choice":
            assert not next(c.reason for c in fact.choices if c.value == before[key])
    for key in ("attention", "kv_cache"):
        for choice in facts[key].choices:
            if not choice.reason and not facts[key].reason and choice.lossless is not False:
                assert generate(live, 6, {2: {key: choice.value}}) == tokens, choice.value
        setting(key).apply(live, facts[key].default)


@pytest.mark.parametrize(
    ("family_of_all", "key", "value", "words"),
    [
        ("mamba", "attention", "sdpa", "no attention layers"),
        ("mamba", "kv_cache", "static", "state of fixed size"),
        ("rwkv", "kv_cache", "static", "nothing to reserve"),
        ("gpt_neo", "kv_cache", "static", "other results"),
        ("llama", "kv_cache", "offloaded", "no other place"),
        ("mistral", "kv_cache", "sliding", "windows of their own"),
        ("mistral", "kv_cache", "quantized", "tokens of a window"),
        ("mamba", "kv_cache", "quantized", "state of fixed size"),
        ("falcon_h1", "kv_cache", "sliding", "more than keys and values"),
        ("bloom", "kv_cache", "sliding", "fails on this model"),
        ("bloom", "attention", "sdpa", "brings its own attention"),
        ("gpt_oss", "attention", "flex", "attention sinks"),
        ("gpt_oss", "attention", "sdpa", "does not support"),
    ],
)
def test_what_is_impossible_is_refused_for_the_true_reason(
    family_of_all: str, key: str, value: str, words: str
) -> None:
    fact = probed(family_of_all)[key]
    assert words in next(choice.reason for choice in fact.choices if choice.value == value)


@pytest.mark.parametrize("family_of_all", ["mamba", "jamba"])
def test_models_that_drop_their_state_between_chunks_take_whole_prompts_only(family_of_all: str) -> None:
    fact = probed(family_of_all)["prefill_chunk"]
    assert (fact.default, fact.maximum) == (0, 0)
    assert "prefilled whole" in fact.reason


def test_what_loses_nothing_is_told_apart_choice_by_choice() -> None:
    facts = probed("llama")
    assert facts["kv_cache"].lossless
    assert not facts["kv_window"].lossless
    assert facts["compile"].lossless
    assert facts["grad_mode"].lossless


@pytest.mark.parametrize("key", [one.key for one in ALL])
def test_nonsense_is_refused_by_every_setting_and_changes_nothing(key: str) -> None:
    live = small_live("llama")
    before = current_values(live)
    with pytest.raises(SettingRefused) as refusal:
        setting(key).apply(live, "nonsense")
    assert is_sentence(str(refusal.value))
    assert current_values(live) == before


@pytest.mark.parametrize(
    ("family_of_all", "layers"), [("llama", 2), ("gemma3", 6), ("falcon_h1", 9), ("gpt2", 2)]
)
def test_a_trial_of_a_deep_model_runs_its_first_layers_and_puts_all_back(
    family_of_all: str, layers: int
) -> None:
    kinds = (
        {"layer_types": ["sliding_attention"] * 5 + ["full_attention"] * 4}
        if family_of_all == "gemma3"
        else {}
    )
    depth = {"n_layer": 9} if family_of_all == "gpt2" else {"num_hidden_layers": 9}
    live = small_live(model=build(family_of_all, **depth, **kinds))
    ran: list[int] = []
    for block in live.anatomy.blocks:
        block.module.register_forward_hook(lambda *_, index=block.index: ran.append(index))
    modules = list(live.model.modules())
    with first_layers(live):
        ran.clear()
        run_trial(live, (2,))
    assert ran == list(range(layers))
    assert list(live.model.modules()) == modules
    ran.clear()
    run_trial(live, (2,))
    assert ran == list(range(9))


def test_flash_attention_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = {c.value: c.reason for c in probed("llama")["attention"].choices}["flash_attention_2"]
    assert is_sentence(reason)
    assert "flash-attn" in reason
    with pytest.raises(SettingRefused, match="flash-attn"):
        setting("attention").apply(small_live("llama"), "flash_attention_2")


def test_installed_flash_attention_is_tried_in_16_bit_when_it_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in attention.INSTALLED:
        monkeypatch.setitem(attention.INSTALLED, name, (lambda: True, "flash-attn"))
    live = small_live("llama")
    facts = setting("attention").probe(live)
    assert not next(c.reason for c in facts.choices if c.value == "flash_attention_2")
    settled, reasons = settle(
        {"attention": "flash_attention_2", "precision": "float32"},
        {"attention": "sdpa", "precision": "float32"},
        ["precision", "attention"],
        CONFLICTS,
    )
    assert settled["attention"] == "sdpa"
    assert "16 bit" in reasons["attention"]
    setting("precision").apply(live, "bfloat16")
    with pytest.raises(SettingRefused, match="It fails on this model"):  # it is not there, after all
        setting("attention").apply(live, "flash_attention_2")
    assert setting("attention").current(live) == "sdpa"
