"""A batch: sequences that branch off from one, each of which goes on and ends by itself."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.protocol import Generate, Prompt, SettingChange, SettingsChanged
from engine.runtime.caches import new_cache
from engine.runtime.generation import Generation, Limits
from engine.runtime.live import Decoding, Loop
from engine.runtime.prompts import PromptRefused
from engine.runtime.settings.together import why_not_padded
from engine.runtime.starting import start
from engine.trace.phases import StepKind
from tests.engine.runtime.decoding import FEW, decode, ready, reference
from tests.engine.runtime.live_models import Bench, family_checkpoint
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_models import FAMILIES

SAMPLED = Decoding("sample", temperature=1.4, top_k=50, seed=11)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("family", [*FEW, "mamba", "falcon_h1", "lfm2"])
def test_greedy_sequences_of_one_prompt_are_all_the_same(family: str) -> None:
    live = ready(family)
    live.loop = Loop(batch=3)
    decoded = decode(live, 24)
    assert decoded.by_sequence == dict.fromkeys(range(3), reference(live, 24))
    assert [step.batch for step in decoded.steps] == [1, *[3] * 23]
    assert all([token.sequence for token in step.tokens] == [0, 1, 2] for step in decoded.steps)


@pytest.mark.parametrize("family", ["llama", "mistral", "falcon_h1"])
def test_sampled_sequences_go_different_ways_and_the_first_as_if_it_were_alone(family: str) -> None:
    live = ready(family)
    live.decoding = SAMPLED
    alone = decode(live, 24).tokens
    live.loop = Loop(batch=4)
    together = decode(live, 24).by_sequence
    assert together[0] == alone
    assert len({tuple(ids) for ids in together.values()}) == 4
    assert decode(live, 24).by_sequence == together


def test_a_batch_begun_in_the_middle_shares_what_was_before() -> None:
    live = ready("llama")
    live.decoding = SAMPLED
    alone = decode(live, 30).tokens
    decoded = decode(live, 30, {10: {"batch": 3}, 20: {"batch": 1}})
    assert decoded.tokens == alone
    assert [len(ids) for ids in decoded.by_sequence.values()] == [30, 10, 10]
    assert [step.batch for step in decoded.steps] == [1] * 11 + [3] * 9 + [1] * 10


def test_fewer_keep_the_first_ones_and_more_branch_off_under_new_numbers() -> None:
    live = ready("llama")
    live.decoding = SAMPLED
    alone = decode(live, 30).tokens
    decoded = decode(live, 30, {0: {"batch": 4}, 10: {"batch": 2}, 20: {"batch": 3}})
    lengths = {number: len(ids) for number, ids in decoded.by_sequence.items()}
    assert lengths == {0: 30, 1: 30, 2: 10, 3: 10, 4: 10}
    assert decoded.tokens == alone


def test_a_sequence_that_ends_leaves_and_later_steps_are_smaller() -> None:
    live = ready("llama")
    live.decoding = SAMPLED
    live.loop = Loop(batch=4)
    whole = decode(live, 30).by_sequence
    end = whole[0][6]  # the first one leaves, and perhaps others
    decoded = decode(live, 30, ends={end})
    for number, ids in decoded.by_sequence.items():
        until = whole[number].index(end) + 1 if end in whole[number] else 30
        assert ids == whole[number][:until]
    lengths = sorted((len(ids) for ids in decoded.by_sequence.values()), reverse=True)
    assert lengths[0] > lengths[-1]
    for number, step in enumerate(decoded.steps):
        assert len(step.tokens) == sum(length > number for length in lengths)
        assert step.batch == len(step.tokens) or number == 0
    assert len(decoded.steps) == lengths[0]
    cache = decoded.generation.context.cache
    assert cache is not None
    assert {layer.keys.shape[0] for layer in cache.layers} == {decoded.steps[-1].batch}  # type: ignore[union-attr]


def test_a_batch_given_up_goes_on_with_whoever_is_first_now() -> None:
    live = ready("llama")
    live.decoding = SAMPLED
    live.loop = Loop(batch=3)
    whole = decode(live, 30).by_sequence
    place = next(
        i for i in range(30) if whole[0][i] not in whole[1] + whole[2] and whole[0][i] not in whole[0][:i]
    )
    live.loop = Loop(batch=3)
    decoded = decode(live, 30, {place + 1: {"batch": 1}}, ends={whole[0][place]})
    assert decoded.by_sequence[0] == whole[0][: place + 1]
    assert decoded.by_sequence[1] == whole[1]
    assert decoded.steps[-1].batch == 1
    assert {token.sequence for step in decoded.steps[place + 1 :] for token in step.tokens} == {1}


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_the_kind_of_cache_and_the_chunks_of_a_prefill_make_no_difference(family: str) -> None:
    live = ready(family)
    live.decoding = SAMPLED
    live.loop = Loop(batch=3)
    expected = decode(live, 30).by_sequence
    kinds = ["static", "none", "dynamic", "static", "dynamic", "none", "static"]
    changes = {2 + 3 * place: {"kv_cache": kind} for place, kind in enumerate(kinds)}
    live.prefill_chunk = 7
    decoded = decode(live, 30, changes)
    assert decoded.by_sequence == expected
    again = [step for step in decoded.steps if step.kind is StepKind.PREFILL and step.batch == 3]
    assert again  # without its cache the whole batch was read anew
    assert all(step.prompt_tokens % 3 == 0 for step in again)


def test_penalties_are_each_sequences_own() -> None:
    live = ready("llama")
    live.decoding = Decoding("sample", temperature=1.2, repetition_penalty=1.6, seed=2)
    alone = decode(live, 24).tokens
    live.loop = Loop(batch=3)
    assert decode(live, 24).tokens == alone


def test_a_model_that_mixes_up_its_rows_refuses_to_have_several() -> None:
    for key in ("batch", "beams"):
        facts = setting(key).probe(small_live("rwkv"))
        assert is_sentence(facts.reason)
        assert "other results" in facts.reason


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "rwkv"])
def test_every_other_family_takes_them(family: str) -> None:
    assert setting("batch").probe(small_live(family)).reason == ""


LINES = [list(range(5, 25)), list(range(40, 47)), list(range(90, 103)), [7]]


@pytest.mark.parametrize("family", [*FEW, "falcon_h1", "bloom", "opt", "gptj"])
def test_prompts_of_different_lengths_go_on_as_each_would_alone(family: str) -> None:
    live = ready(family)
    assert why_not_padded(live) == ""
    generation = Generation(live, LINES[0], Limits(24), LINES[1:])
    generation.context.cache = new_cache(live, "dynamic", generation.context.capacity)
    steps = list(generation)
    for number, line in enumerate(LINES):
        own = [token.id for step in steps for token in step.tokens if token.sequence == number]
        assert own == reference(live, 24, line)
    assert (steps[0].batch, steps[0].prompt_tokens, steps[0].padding_tokens) == (4, 41, 80 - 41)
    assert {step.padding_tokens for step in steps[1:]} == {0}


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_several_prompts_survive_chunks_switches_of_the_cache_and_the_longest_leaving(family: str) -> None:
    live = ready(family)
    expected = [reference(live, 24, line) for line in LINES]
    live.prefill_chunk = 6
    end = expected[0][4]
    generation = Generation(live, LINES[0], Limits(24, frozenset({end})), LINES[1:])
    generation.context.cache = new_cache(live, "dynamic", generation.context.capacity)
    iterator, own = iter(generation), [[] for _ in LINES]  # type: ignore[var-annotated]
    kinds = dict(
        zip(range(6, 24, 3), ["static", "none", "dynamic", "static", "none", "dynamic"], strict=True)
    )
    padding = number = 0
    while any(not ids or (ids[-1] != end and len(ids) < 24) for ids in own):
        if number in kinds:
            setting("kv_cache").apply(live, kinds[number])
        step = next(iterator)
        padding += step.padding_tokens if number < 4 else 0
        for token in step.tokens:
            own[token.sequence].append(token.id)
        number += 1
    assert padding == 80 - 41
    for ids, whole in zip(own, expected, strict=True):
        assert ids == whole[: whole.index(end) + 1 if end in whole else 24]
    with pytest.raises(ValueError, match="several prompts"):
        setting("beams").apply(live, 2)
    assert live.loop == Loop()


@pytest.mark.parametrize("family", ["rwkv", "mamba"])
def test_a_model_that_sees_padding_refuses_prompts_of_different_lengths(family: str) -> None:
    assert is_sentence(why_not_padded(ready(family)))


def test_a_sliding_window_and_prompts_of_different_lengths_exclude_each_other(tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("llama", tmp_path))
    several = Generate(Prompt("The night train\nleft"), 6, stop_at_end_token=False, lines=True)

    def switched(kind: str) -> SettingChange:
        bench.workbench.change((("kv_cache", kind),))
        event = bench.trace.marks[-1].event
        assert isinstance(event, SettingsChanged)
        return event.changes[0]

    run = start(bench.workbench, several, 0)
    for held in (False, True):  # before the prompts are read, and afterwards
        refused = switched("sliding")
        assert refused.effective == "dynamic"
        assert is_sentence(refused.reason)
        assert "equally many tokens" in refused.reason
        run.step(held)
    run.end("stopped")
    assert not switched("sliding").reason
    with pytest.raises(PromptRefused, match="equally many tokens"):
        start(bench.workbench, several, 0)
    run = start(bench.workbench, replace(several, prompt=Prompt("left\nover")), 0)
    run.step(False)
    assert not switched("dynamic").reason
    assert not switched("sliding").reason
    run.end("stopped")
    bench.close()
