"""All strategies of the loop in one generation, switched in any order: nothing is lost, doubled or miscounted."""

import random
from collections import defaultdict
from collections.abc import Iterator

import pytest

from engine.protocol import SettingValue
from engine.runtime.caches import new_cache
from engine.runtime.generation import Generation, Limits
from engine.runtime.live import Decoding, Loop
from engine.runtime.settings.base import SettingRefused
from tests.engine.runtime.decoding import PROMPT_IDS, Decoded, decode, ready, reference
from tests.engine.runtime.live_models import torch_kept
from tests.engine.runtime.settings.small_live import setting

#: Each is what others exclude, all at once.
PLAIN: dict[str, SettingValue] = {"speculation": "off", "beams": 1, "batch": 1, "read_back": "synchronous"}
LOSSLESS: list[dict[str, SettingValue]] = [
    {},
    {"speculation": "lookup"},
    {"speculation": "draft", "draft_length": 2},
    {"speculation": "draft", "draft_length": 0},
    {"speculation": "exit", "draft_length": 3},
    {"batch": 2},
    {"batch": 5},
    {"read_back": "pipelined"},
]
ELSEWHERE: list[dict[str, SettingValue]] = [
    {"attention": "eager"},
    {"attention": "sdpa"},
    {"detail": "core"},
    {"detail": "step"},
    {"prefill_chunk": 5},
]


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    yield from torch_kept()


def monkey(
    seed: int, choices: list[dict[str, SettingValue]], tokens: int
) -> dict[int, dict[str, SettingValue]]:
    """Changes every few steps; what a choice does not name goes back to plain first."""
    draw = random.Random(seed)
    changes, step = {}, 0
    while step < tokens // 3:  # a speculating generation has fewer steps than tokens
        changes[step] = PLAIN | draw.choice(choices) | draw.choice([{}, *ELSEWHERE])
        step += draw.randint(1, 4)
    return changes


def ordered(changes: dict[int, dict[str, SettingValue]]) -> dict[int, dict[str, SettingValue]]:
    """As a change of several settings is carried out: what goes back to its default goes first."""
    return {
        step: dict(sorted(wanted.items(), key=lambda item: PLAIN.get(item[0]) != item[1]))
        for step, wanted in changes.items()
    }


def assert_whole(decoded: Decoded, tokens: int) -> None:
    """The leading sequence was yielded token for token as it is in the context, and as long as was asked for."""
    strand = decoded.generation._writing.strand
    yielded = decoded.by_sequence
    own = strand.ids[PROMPT_IDS.shape[1] :]
    assert len(own) == tokens
    assert own[-len(yielded[strand.number]) :] == yielded[strand.number]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
def test_lossless_strategies_in_any_order_keep_the_greedy_tokens(family: str, seed: int) -> None:
    depth = {"layer_types": ["sliding_attention", "full_attention"] * 2} if family == "gemma3" else {}
    live = ready(family, num_hidden_layers=4, **depth)
    expected = reference(live, 60)
    decoded = decode(live, 60, ordered(monkey(seed, LOSSLESS, 60)))
    assert decoded.tokens == expected
    assert_whole(decoded, 60)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decoding", [Decoding(), Decoding(repetition_penalty=1.3)])
def test_with_beams_among_them_nothing_is_lost(decoding: Decoding, seed: int) -> None:
    live = ready("mistral", num_hidden_layers=4)
    live.decoding = decoding
    beams: list[dict[str, SettingValue]] = [{"beams": 2}, {"beams": 4}]
    assert_whole(decode(live, 60, ordered(monkey(seed, LOSSLESS + 2 * beams, 60))), 60)


def test_what_is_refused_leaves_the_running_generation_as_it_was() -> None:
    live = ready("llama")
    live.draft, live.draft_name = None, ""
    live.decoding = Decoding("sample", temperature=1.4, seed=5)
    live.loop = Loop(batch=3)
    expected = decode(live, 20).by_sequence
    generation = Generation(live, PROMPT_IDS[0].tolist(), Limits(20))
    generation.context.cache = new_cache(live, "dynamic", 64)
    steps, yielded = iter(generation), defaultdict(list)
    for number in range(20):
        if number == 7:
            with pytest.raises(SettingRefused, match="set draft_model"):
                setting("speculation").apply(live, "draft")
        for token in next(steps).tokens:
            yielded[token.sequence].append(token.id)
    assert yielded == expected
