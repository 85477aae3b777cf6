"""Speculation: the same tokens in fewer steps, whoever proposes, however sampled, and switched at any time."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LogitsProcessorList, PreTrainedModel

from engine.protocol import Event, Load, ModelLoaded, Progress
from engine.runtime.caches import new_cache
from engine.runtime.generation import Generation, Limits
from engine.runtime.live import Decoding, Draft, Loop
from engine.runtime.models.errors import LoadGivenUp
from engine.runtime.models.progress import TELL_EVERY_NS, LoadReport
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.resolve import apply_changes
from engine.runtime.speculation import LONGEST
from engine.runtime.workbench import Workbench
from engine.trace.ledger import END
from engine.trace.phases import Phase, StepKind
from tests.engine.runtime.decoding import FEW, PROMPT_IDS, decode, ready, reference
from tests.engine.runtime.live_models import Bench, byte_tokenizer, save_checkpoint
from tests.engine.runtime.models.test_giving_up import is_free_soon, tensor_bytes
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_models import build, two_reaches

DEEP = {"num_hidden_layers": 4}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("family", [*FEW, "lfm2"])
def test_proposals_that_are_checked_leave_the_tokens_of_generate(family: str) -> None:
    live = ready(family)
    expected = reference(live)
    plain = decode(live)
    assert plain.tokens == expected
    for kind in ("lookup", "draft"):
        live.loop = Loop(speculation=kind)
        decoded = decode(live)
        assert decoded.tokens == expected
        verified = [step for step in decoded.steps if step.kind is StepKind.VERIFY]
        assert all(len(step.tokens) == step.accepted + 1 for step in verified)
        assert all(0 < step.drafted <= 4 and step.accepted <= step.drafted for step in verified)
        assert not any(step.drafted for step in decoded.steps if step.kind is not StepKind.VERIFY)
    assert sum(step.accepted for step in decoded.steps) > 0  # the draft was right sometimes, and not always
    assert sum(step.accepted for step in decoded.steps) < sum(step.drafted for step in decoded.steps)
    assert len(decoded.steps) < len(plain.steps)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_an_early_exit_proposes_and_leaves_the_cache_as_it_was(family: str) -> None:
    live = ready(family, **DEEP)
    expected = reference(live)
    live.loop = Loop(speculation="exit", draft_length=3)
    decoded = decode(live)
    assert decoded.tokens == expected
    assert sum(step.drafted for step in decoded.steps) > 0
    assert len(live.anatomy.blocks) == 4


def test_assisted_generation_of_transformers_says_the_same() -> None:
    live = ready("llama")
    assert live.draft is not None
    live.loop = Loop(speculation="draft")
    assert decode(live).tokens == reference(live, assistant_model=live.draft.model)


@pytest.mark.parametrize("family", [*FEW, "lfm2"])
def test_switched_at_any_time_it_leaves_the_tokens(family: str) -> None:
    live = ready(family)
    expected = reference(live, 60)
    changes = {
        2: {"speculation": "lookup"},
        9: {"speculation": "off"},
        12: {"speculation": "draft"},
        14: {"draft_length": 1},
        16: {"speculation": "lookup", "draft_length": 7},
        19: {"kv_cache": "none"},
        21: {"kv_cache": "dynamic"},
        24: {"speculation": "off"},
        26: {"speculation": "draft", "draft_length": 0},
    }
    assert decode(live, 60, changes).tokens == expected


@pytest.mark.parametrize("family", ["mistral", "gemma3"])
def test_windows_hold_no_more_than_a_window_once_speculation_is_off(family: str) -> None:
    live = ready(family)
    decoded = decode(live, 60, {1: {"speculation": "draft"}, 10: {"speculation": "off"}})
    cache = decoded.generation.context.cache
    assert cache is not None
    lengths = [layer.keys.shape[-2] for layer in cache.layers if layer.is_sliding]  # type: ignore[union-attr]
    assert lengths
    assert set(lengths) == {15}
    assert not any(getattr(layer, "record_past", False) for layer in cache.layers)


def test_without_a_cache_proposals_are_checked_with_the_whole_sequence() -> None:
    live = ready("llama")
    expected = reference(live, 24)
    live.cache_kind = "none"
    live.loop = Loop(speculation="draft")
    decoded = decode(live, 24)
    assert decoded.tokens == expected
    assert sum(step.accepted for step in decoded.steps) > 0


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding("sample", temperature=1.3, seed=3),
        Decoding("sample", temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=4),
        Decoding("greedy", repetition_penalty=1.3),
    ],
)
@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_sampling_draws_the_very_tokens_that_it_draws_without(kind: str, decoding: Decoding) -> None:
    live = ready("llama")
    live.decoding = decoding
    alone = decode(live)
    live.loop = Loop(speculation=kind)
    together = decode(live)
    assert together.tokens == alone.tokens
    assert kind == "lookup" or sum(step.accepted for step in together.steps) > 0


@pytest.mark.parametrize("kind", ["draft", "exit"])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding("greedy", repetition_penalty=1.5),
        Decoding("sample", temperature=1e-3, repetition_penalty=1.5, top_k=5, top_p=0.9),
    ],
)
def test_what_the_model_would_find_is_what_it_proposes_whatever_rules_it_follows(
    kind: str, decoding: Decoding
) -> None:
    live = ready("llama", **DEEP)
    assert live.draft is not None
    live.draft = replace(live.draft, model=live.model)
    for layer in live.model.model.layers[2:]:  # which then change nothing: the first ones say what all say
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    unruled = decode(live).tokens
    live.decoding = decoding
    expected = decode(live).tokens
    assert expected != unruled
    live.loop = Loop(speculation=kind, draft_length=3)
    decoded = decode(live)
    assert decoded.tokens == expected
    assert sum(step.accepted for step in decoded.steps) == sum(step.drafted for step in decoded.steps) > 0


def reaching(reach: int) -> PreTrainedModel:
    """A model of two reaches."""
    return build("phi3", num_hidden_layers=4, **two_reaches(reach))


@pytest.mark.parametrize("reach", [20, 21, 22, 36, 37, 38])
@pytest.mark.parametrize("length", [3, 7])
def test_a_short_reach_is_outgrown_with_the_same_tokens(reach: int, length: int) -> None:
    live = small_live(model=reaching(reach))
    live.tokenizer = byte_tokenizer()
    expected = reference(live)
    assert decode(live).tokens == expected
    for kind, draft in (
        ("lookup", None),
        ("exit", None),
        ("draft", reaching(reach)),
        ("draft", reaching(30)),
    ):
        live.draft = Draft("other", draft, 256) if draft is not None else None
        live.loop = Loop(speculation=kind, draft_length=length)
        decoded = decode(live)
        assert decoded.tokens == expected
        assert [step.kind for step in decoded.steps].count(StepKind.PREFILL) == 2
        live.cache_kind = "none" if kind != "exit" else "dynamic"
        assert decode(live).tokens == expected
        live.cache_kind = "dynamic"
        if draft is not None and draft.config.rope_parameters == live.model.config.rope_parameters:
            assert sum(step.accepted for step in decoded.steps) == sum(s.drafted for s in decoded.steps) > 20


def test_nothing_follows_an_end_token_or_exceeds_the_length() -> None:
    live = ready("llama")
    assert live.draft is not None
    live.draft = replace(live.draft, model=build("llama"))  # always right
    expected = decode(live).tokens
    live.loop = Loop(speculation="draft", draft_length=5)
    end = next(place for place in range(8, 40) if expected[place] not in expected[:place])
    decoded = decode(live, ends={expected[end]})
    assert decoded.tokens == expected[: end + 1]
    assert decoded.steps[-1].end_reason == "end token"
    for length in range(1, 9):
        decoded = decode(live, length)
        assert decoded.tokens == expected[:length]
        assert decoded.steps[-1].end_reason == "length"


def test_an_adaptive_length_grows_while_all_is_right_and_shrinks_otherwise() -> None:
    live = ready("llama")
    assert live.draft is not None
    live.loop = Loop(speculation="draft", draft_length=0)
    live.draft = replace(live.draft, model=build("llama"))
    assert [step.drafted for step in decode(live, 90).steps if step.drafted][:8] == [
        4,
        6,
        8,
        10,
        12,
        14,
        LONGEST,
        11,
    ]

    class Wrong:
        def propose(self, ids: Sequence[int], count: int, rules: LogitsProcessorList) -> list[int]:
            return [0] * count

    generation = Generation(live, PROMPT_IDS[0].tolist(), Limits(10))
    generation.context.cache = new_cache(live, "dynamic", 64)
    generation._strategy._drafter = Wrong()  # type: ignore[attr-defined]
    next(iter(generation))
    drafted = [step.drafted for step in generation]
    assert drafted == [4, 3, 2, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("kind", ["draft", "exit"])
def test_proposing_is_one_span_whatever_runs_in_it(kind: str) -> None:
    live = ready("llama", **DEEP)
    setting("detail").apply(live, "core")
    live.loop = Loop(speculation=kind)
    verified = [step for step in decode(live).steps if step.drafted]
    assert verified
    for step in verified:
        codes = list(memoryview(step.codes).cast("H"))
        names = live.recorder.names
        assert names[codes[0] - 1].phase is Phase.DRAFT
        assert codes[1] == END
        assert Phase.ATTENTION_CORE in {names[code - 1].phase for code in codes if code}


def test_a_draft_whose_context_is_too_short_proposes_nothing() -> None:
    live = ready("llama")
    assert live.draft is not None
    expected = decode(live).tokens
    live.draft = Draft("short", live.draft.model, 32)
    live.loop = Loop(speculation="draft")
    decoded = decode(live)
    assert decoded.tokens == expected
    assert decoded.steps[2].drafted > 0
    assert decoded.steps[-1].drafted == 0


# ---------------------------------------------------------------- the settings


@pytest.mark.parametrize("family", ["mamba", "mamba2", "rwkv", "falcon_h1", "qwen3_next", "jamba"])
def test_models_whose_state_cannot_go_back_refuse_speculation(family: str) -> None:
    facts = setting("speculation").probe(small_live(family))
    assert is_sentence(facts.reason)
    assert "cannot go back" in facts.reason


@pytest.mark.parametrize("family", [*FEW, "lfm2", "bloom", "gpt_neo", "opt", "deepseek_v3", "gpt_oss"])
def test_models_with_caches_that_can_be_cropped_offer_it(family: str) -> None:
    facts = setting("speculation").probe(small_live(family))
    assert facts.reason == ""
    assert [c.value for c in facts.choices if not c.reason][:3] == ["off", "lookup", "draft"]


def test_an_early_exit_needs_more_layers_than_there_are_kinds() -> None:
    for family, layers, words in (
        ("llama", 2, "too few layers"),
        ("gemma3", 2, "too few layers"),
        ("llama", 4, ""),
    ):
        live = small_live(model=build(family, num_hidden_layers=layers))
        reason = setting("speculation").probe(live).choices[-1].reason
        assert (words in reason) if words else (reason == "")


def test_what_excludes_speculation_says_what_to_do() -> None:
    live = ready("llama")
    facts = [setting(key).probe(live) for key in ("kv_cache", "beams", "draft_model", "speculation", "batch")]
    (change,) = apply_changes(live, {"speculation": "lookup"}, facts)
    assert (change.effective, change.reason) == ("lookup", "")
    for key, value in {"kv_cache": "static", "beams": 4, "batch": 2}.items():
        (change,) = apply_changes(live, {key: value}, facts)
        assert change.effective != value
        assert "speculation to off" in change.reason
    changes = apply_changes(live, {"speculation": "off", "batch": 2}, facts)
    assert [change.reason for change in changes] == ["", ""]


def test_a_draft_needs_a_name_and_the_same_tokens() -> None:
    live = ready("llama")
    live.draft, live.draft_name = None, ""
    with pytest.raises(SettingRefused, match="set draft_model"):
        setting("speculation").apply(live, "draft")
    for name, words in {
        "demo-draft": "another tokenizer",
        "no-such/model at all": "no-such",
        "/nowhere": "no directory",
    }.items():
        with pytest.raises(SettingRefused, match=words) as refusal:
            setting("draft_model").apply(live, name)
        assert str(refusal.value).endswith(".")
    assert (live.draft, live.draft_name, live.loop) == (None, "", Loop())


def test_loading_a_draft_says_how_far_it_is_and_can_be_given_up_in_mid_generation(tmp_path: Path) -> None:
    bench = Bench(save_checkpoint(build("llama"), tmp_path / "large"))
    small = str(save_checkpoint(build("llama"), tmp_path / "small"))
    live, heard, weights_when_given_up = bench.workbench.live, list[Progress](), list[int]()

    def new_report(impatient: bool) -> LoadReport:
        def is_given_up() -> bool:
            given_up = impatient and bool(heard) and heard[-1].activity == "reading weights"
            if given_up:
                weights_when_given_up.append(tensor_bytes())
            return given_up

        return LoadReport(heard.append, is_given_up, itertools.count(0, TELL_EVERY_NS).__next__)

    expected = bench.reference(tokens=12)
    run = bench.start(tokens=12)
    run.step(False)
    before = tensor_bytes()
    live.new_report = lambda: new_report(impatient=True)
    bench.workbench.change((("draft_model", small), ("speculation", "draft")))
    changes = bench.trace.marks[-1].event.changes
    assert [change.effective for change in changes] == ["", "off"]
    assert all(is_sentence(change.reason) for change in changes)
    assert "was given up" in changes[0].reason
    assert live.draft is None
    assert weights_when_given_up
    assert is_free_soon(before)

    live.new_report = lambda: new_report(impatient=False)
    heard.clear()
    bench.workbench.change((("draft_model", small), ("speculation", "draft")))
    assert [change.reason for change in bench.trace.marks[-1].event.changes] == ["", ""]
    assert {progress.stage for progress in heard} == {"read weights"}
    assert max(progress.fraction or 0.0 for progress in heard) == 1.0
    assert tensor_bytes() > before
    while not run.step(False):
        pass
    assert bench.trace.tokens.id.tolist() == expected
    assert bench.trace.steps.accepted.sum() > 0
    bench.close()


def test_a_load_that_is_given_up_while_its_draft_is_read_is_given_up_whole(tmp_path: Path) -> None:
    large = save_checkpoint(build("llama"), tmp_path / "large")
    small = save_checkpoint(build("llama"), tmp_path / "small")
    events: list[Event] = []

    def is_given_up() -> bool:  # the draft is the second model that is read
        begun = [
            event for event in events if isinstance(event, Progress) and "the configuration" in event.activity
        ]
        return len(begun) == 2

    load = Load(str(large), "cpu", (("draft_model", str(small)), ("speculation", "draft")))
    with pytest.raises(LoadGivenUp):
        Workbench(load, "thread", events.append, lambda: None, is_given_up)
    assert not any(isinstance(event, ModelLoaded) for event in events)


def test_the_demo_model_has_a_draft_of_its_own() -> None:
    live = small_live("llama")
    assert setting("draft_model").probe(live).default == ""
    live.facts = replace(live.facts, name="demo")
    assert setting("draft_model").probe(live).default == "demo-draft"
