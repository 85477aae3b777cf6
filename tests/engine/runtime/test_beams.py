"""Beam search: the sequences of `generate()`, yielded as far as the beams agree, begun and ended at any time."""

from typing import Any

import pytest
import torch

from engine.runtime.live import Decoding, LiveModel, Loop
from tests.engine.runtime.decoding import FEW, PROMPT_IDS, Decoded, decode, ready, reference

PROMPT: list[int] = PROMPT_IDS[0].tolist()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def searched(live: LiveModel, beams: int, tokens: int = 24, **options: Any) -> Decoded:
    live.loop = Loop(beams=beams)
    return decode(live, tokens, **options)


@pytest.mark.parametrize("family", [*FEW, "mamba", "falcon_h1", "bloom"])
@pytest.mark.parametrize("beams", [2, 5])
def test_the_winner_is_that_of_generate(family: str, beams: int) -> None:
    live = ready(family)
    decoded = searched(live, beams)
    assert decoded.tokens == reference(live, 24, num_beams=beams)
    assert decoded.steps[-1].end_reason == "length"
    assert [step.batch for step in decoded.steps] == [1, *[beams] * 23]


def ends_of(live: LiveModel) -> set[int]:
    """Tokens that beams come upon, so that some of them end before the others."""
    decoded = searched(live, 4)
    live.loop = Loop()
    return set(decoded.tokens[4:24:7])


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"length_penalty": 0.0},
        {"length_penalty": 2.0},
        {"early_stopping": True},
        {"early_stopping": "never"},
    ],
)
def test_beams_that_end_are_weighed_as_generate_does(family: str, settings: dict[str, Any]) -> None:
    live = ready(family)
    ends = ends_of(live)
    for key, value in settings.items():
        setattr(live.model.generation_config, key, value)
    decoded = searched(live, 4, ends=ends)
    expected = reference(live, 24, num_beams=4, eos_token_id=sorted(ends), min_new_tokens=None)
    assert decoded.tokens == [id for id in expected if id != 0 or id in ends]
    assert decoded.steps[-1].end_reason in ("end token", "length")
    assert any(beam.finished for step in decoded.steps for beam in step.beams)


def test_the_repetition_penalty_counts_for_beams() -> None:
    live = ready("llama")
    live.decoding = Decoding(repetition_penalty=1.5)
    assert searched(live, 3).tokens == reference(live, 24, num_beams=3, repetition_penalty=1.5)


def test_what_is_yielded_is_never_taken_back_and_the_rest_is_told() -> None:
    live = ready("llama")
    decoded = searched(live, 4)
    yielded = 0
    for number, step in enumerate(decoded.steps[:-1], 1):
        yielded += len(step.tokens)
        assert {beam.tokens for beam in step.beams} == {number - yielded}
        assert len(step.beams) == 4
        assert [beam.score for beam in step.beams] == sorted(
            (beam.score for beam in step.beams), reverse=True
        )
        if number > yielded:
            assert len({beam.text for beam in step.beams}) > 1
    assert 0 < yielded < 24
    assert sum(len(step.tokens) for step in decoded.steps) == 24
    assert decoded.steps[-1].beams == ()


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_begun_in_the_middle_it_searches_from_there(family: str) -> None:
    live = ready(family)
    begun = decode(live, 30, {10: {"beams": 4}})
    before = reference(live, 10)
    assert begun.tokens == before + reference(live, 20, [*PROMPT, *before], num_beams=4)


@pytest.mark.parametrize("family", ["llama", "mistral", "falcon_h1"])
def test_ended_in_the_middle_the_best_beam_goes_on(family: str) -> None:
    live = ready(family)
    decoded = decode(live, 30, {5: {"beams": 4}, 15: {"beams": 1}})
    before = reference(live, 5)
    best = reference(live, 10, [*PROMPT, *before], num_beams=4)
    assert decoded.tokens[:15] == before + best
    live.loop = Loop()
    assert decoded.tokens[15:] == reference(live, 15, [*PROMPT, *before, *best])
    assert [step.batch for step in decoded.steps] == [1] * 6 + [4] * 9 + [1] * 15


def test_another_number_of_beams_goes_on_from_the_best() -> None:
    live = ready("llama")
    decoded = decode(live, 30, {0: {"beams": 3}, 10: {"beams": 6}, 20: {"beams": 2}})
    expected: list[int] = []
    for beams in (3, 6, 2):
        expected += reference(live, 10, [*PROMPT, *expected], num_beams=beams)
    assert decoded.tokens == expected


def test_the_kind_of_cache_and_the_chunks_of_a_prefill_make_no_difference() -> None:
    live = ready("gemma3")
    expected = reference(live, 24, num_beams=3)
    kinds = ["static", "dynamic", "none", "dynamic", "none", "static"]
    changes = {2 + 3 * place: {"kv_cache": kind} for place, kind in enumerate(kinds)}
    live.prefill_chunk = 9
    live.loop = Loop(beams=3)
    assert decode(live, 24, changes).tokens == expected


def test_stopped_in_the_middle_the_best_beam_is_not_lost() -> None:
    live = ready("llama")
    live.loop = Loop(beams=4)
    decoded = decode(live, 24)
    generation = type(decoded.generation)(live, PROMPT, decoded.generation._writing.limits)
    generation.context.cache = None
    live.cache_kind = "none"
    steps = iter(generation)
    yielded = [token for _ in range(7) for token in next(steps).tokens]
    best = reference(live, 7, num_beams=4)
    text = live.tokenizer.decode(best)
    assert "".join(token.text for token in yielded) + generation.tail() == text
