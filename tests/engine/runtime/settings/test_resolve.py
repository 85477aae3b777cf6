"""From requested to effective: nothing raises, everything refused has a sentence, the rest is applied."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol import SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.settings import ALL
from engine.runtime.settings.resolve import apply_changes, apply_defaults, current_values, resolve
from tests.engine.runtime.settings.small_live import begin, small_live

KEYS = [
    "precision",
    "matmul_precision",
    "quantization",
    "mlp_pruning",
    "head_pruning",
    "layer_skipping",
    "sparsity",
    "attention",
    "kv_cache",
    "kv_window",
    "threads",
    "prefill_chunk",
    "grad_mode",
    "compile",
    "cuda_graphs",
    "read_back",
    "decoding",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
    "top_p_method",
    "sampling_place",
    "beams",
    "draft_model",
    "speculation",
    "draft_length",
    "batch",
    "detail",
    "auto_detail",
]


@pytest.fixture(scope="module")
def live() -> LiveModel:
    torch.set_num_threads(1)
    return small_live("llama")


@pytest.fixture(scope="module")
def facts(live: LiveModel) -> list[SettingFacts]:
    return [setting.probe(live) for setting in ALL]


def values_to_try(fact: SettingFacts) -> list[SettingValue]:
    if fact.kind == "choice":
        return [*(choice.value for choice in fact.choices), "nonsense"]
    return [fact.minimum, fact.maximum, fact.default, fact.minimum - 1, fact.maximum + 1, "x", "1"]


def is_sentence(text: str) -> bool:
    return len(text) > 10 and text[0].isupper() and text[-1] in ".?" and "\n" not in text


def test_the_keys_are_the_known_ones(facts: list[SettingFacts]) -> None:
    assert [fact.key for fact in facts] == KEYS
    assert all(fact.label and is_sentence(fact.expected) for fact in facts)
    assert all(choice.label and is_sentence(choice.expected) for fact in facts for choice in fact.choices)


def test_every_pair_resolves_and_again_to_the_same(facts: list[SettingFacts]) -> None:
    for one, other in combinations(facts, 2):
        for value in values_to_try(one):
            for other_value in values_to_try(other):
                first = resolve({one.key: value, other.key: other_value}, facts)
                assert all(is_sentence(reason) for reason in first.reasons.values())
                again = resolve(first.effective, facts, first.effective)
                assert again.effective == first.effective
                assert not again.reasons


@given(
    requested=st.dictionaries(
        st.one_of(st.sampled_from(KEYS), st.text(max_size=8)),
        st.one_of(st.text(max_size=12), st.integers(), st.floats(), st.booleans()),
    )
)
def test_nothing_that_can_be_sent_raises(requested: dict[str, SettingValue]) -> None:
    facts = [
        SettingFacts("threads", "execution", "CPU threads", "integer", 1, minimum=1, maximum=8),
        SettingFacts("top_p", "decoding", "Top-p", "number", 1.0, minimum=0, maximum=1),
        SettingFacts("detail", "measurement", "Detail", "choice", "layer"),
    ]
    resolution = resolve(requested, facts)
    assert set(resolution.effective) == {"threads", "top_p", "detail"}
    assert set(resolution.reasons) <= set(requested)
    assert 1 <= int(resolution.effective["threads"]) <= 8


@pytest.mark.parametrize(
    ("key", "typed", "meant"),
    [
        ("top_k", "8", 8),
        ("top_k", 8.0, 8),
        ("temperature", "0.7", 0.7),
        ("temperature", 2, 2.0),
        ("seed", " 12 ", 12),
        ("attention", "EAGER", "eager"),
        ("kv_cache", "Static", "static"),
    ],
)
def test_what_was_typed_is_read(
    facts: list[SettingFacts], key: str, typed: SettingValue, meant: SettingValue
) -> None:
    resolution = resolve({key: typed}, facts)
    assert resolution.effective[key] == meant
    assert type(resolution.effective[key]) is type(meant)
    assert not resolution.reasons


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("temperature", 0, "give a number from 0.01 to 10"),
        ("temperature", "warm", "takes a number, not 'warm'"),
        ("temperature", True, "takes a number"),
        ("temperature", float("nan"), "takes a number"),
        ("top_k", 2.5, "whole number"),
        ("top_k", 10**400, "give a number"),
        ("attention", "sdpa:cudnn", "No viable backend"),
        ("kv_cache", "paged", "choose none, dynamic, static"),
        ("precison", "float16", "did you mean 'precision'"),
        ("warp_drive_9", 1, "There is no setting 'warp_drive_9'"),
    ],
)
def test_what_is_refused_says_why_and_keeps_the_value(
    facts: list[SettingFacts], key: str, value: SettingValue, words: str
) -> None:
    current = {fact.key: fact.default for fact in facts} | {"temperature": 0.5}
    resolution = resolve({key: value}, facts, current)
    assert words in resolution.reasons[key]
    assert is_sentence(resolution.reasons[key])
    assert resolution.effective == current


def test_a_setting_impossible_as_a_whole_may_keep_its_value() -> None:
    fact = SettingFacts(
        "prefill_chunk", "execution", "Prefill chunk", "integer", 0, reason="Whole prompts only."
    )
    assert resolve({"prefill_chunk": 0}, [fact]).reasons == {}
    assert resolve({"prefill_chunk": "0"}, [fact]).reasons == {}
    assert resolve({"prefill_chunk": 4}, [fact]).reasons == {"prefill_chunk": "Whole prompts only."}


def test_changes_are_applied_and_refusals_reported(live: LiveModel, facts: list[SettingFacts]) -> None:
    begin(live)
    changes = apply_changes(
        live, {"kv_cache": "static", "top_k": "40", "attention": "sdpa:cudnn", "colour": "red"}, facts
    )
    told = {change.key: (change.requested, change.effective, bool(change.reason)) for change in changes}
    assert told == {
        "kv_cache": ("static", "static", False),
        "top_k": ("40", 40, False),
        "attention": ("sdpa:cudnn", "sdpa", True),
        "colour": ("red", "", True),
    }
    assert live.cache_kind == "static"
    assert live.decoding.top_k == 40


def test_an_error_while_applying_becomes_a_reason_and_the_value_stays(
    live: LiveModel, facts: list[SettingFacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no memory left. Tried to allocate 9 GB")

    apply_changes(live, {"kv_cache": "dynamic"}, facts)
    begin(live)
    monkeypatch.setattr("engine.runtime.settings.kv_cache.convert", exhausted)
    (change,) = apply_changes(live, {"kv_cache": "static"}, facts)
    assert change.effective == "dynamic" == live.cache_kind
    assert "too little memory" in change.reason


def test_every_choice_offered_can_be_applied_and_read_back(
    live: LiveModel, facts: list[SettingFacts]
) -> None:
    threads = torch.get_num_threads()
    begin(live)
    for fact in facts:
        if fact.key == "compile":
            continue  # takes long: see test_compilation
        possible = [c.value for c in fact.choices if not c.reason] or [fact.minimum, fact.maximum]
        if fact.kind == "text" or fact.reason:
            possible = []  # the choices of a text are suggestions
        if fact.key == "speculation":
            possible.remove("draft")  # no draft model is named
        for value in (*possible, fact.default):  # another setting's choice may exclude the last one
            (change,) = apply_changes(live, {fact.key: value}, facts)
            assert (change.effective, change.reason) == (value, "")
            assert current_values(live)[fact.key] == value
        apply_changes(live, {fact.key: fact.default}, facts)
    apply_defaults(live, facts)
    assert current_values(live) == {fact.key: fact.default for fact in facts}
    torch.set_num_threads(threads)
