"""Sequences that join a running generation: each writes what it writes alone."""

from collections.abc import Mapping

import pytest
import torch

from engine.runtime.caches import new_cache
from engine.runtime.compiling import CompiledStep
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.joining import JoinRefused, why_never
from engine.runtime.live import Decoding, LiveModel, Loop
from engine.runtime.replaying import ReplayedStep
from engine.runtime.settings.conflicts import EQUAL, PROMPTS, UNEQUAL, why_excluded
from engine.runtime.settings.together import why_not_joined
from engine.trace.phases import StepKind
from tests.engine.runtime.decoding import FEW, ready, reference
from tests.engine.runtime.settings.small_live import setting
from tests.engine.runtime.settings.test_resolve import is_sentence

FIRST, SHORTER, LONGER = list(range(5, 25)), list(range(40, 47)), list(range(90, 130))
Joins = Mapping[int, tuple[list[int], int]]  # before which step: a prompt, and how many tokens it gets


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Joined:
    """A generation with sequences that join it, to its end."""

    def __init__(
        self, live: LiveModel, joins: Joins, tokens: int = 24, ends: frozenset[int] = frozenset()
    ) -> None:
        self.generation = Generation(live, FIRST, Limits(tokens, ends))
        context = self.generation.context
        context.cache = new_cache(live, live.cache_kind, context.capacity)
        self.steps: list[Stepped] = []
        iterator = iter(self.generation)
        waiting = dict(joins)
        while not self.steps or not self.steps[-1].end_reason:
            if len(self.steps) in waiting:
                prompt, count = waiting.pop(len(self.steps))
                self.generation.join(prompt, Limits(count, ends))
            self.steps.append(next(iterator))
        assert not waiting

    def of(self, sequence: int) -> list[int]:
        """The ids that a sequence got."""
        return [token.id for step in self.steps for token in step.tokens if token.sequence == sequence]


def can_join(live: LiveModel) -> str:
    return why_never(live) or why_not_joined(live)


@pytest.mark.parametrize("family", [*FEW, "opt", "bloom", "mpt", "gptj", "falcon"])
def test_each_sequence_writes_what_it_writes_alone(family: str) -> None:
    live = ready(family)
    assert can_join(live) == ""
    joined = Joined(live, {3: (SHORTER, 24), 5: (LONGER, 24), 20: ([7], 24)})
    for number, prompt in enumerate((FIRST, SHORTER, LONGER, [7])):
        assert joined.of(number) == reference(live, 24, prompt)


@pytest.mark.parametrize("kind", ["static", "none", "dynamic"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_whatever_the_cache_and_its_switches_afterwards(family: str, kind: str) -> None:
    live = ready(family)
    expected = [reference(live, 24, prompt) for prompt in (FIRST, LONGER)]
    setting("kv_cache").apply(live, kind)
    assert can_join(live) == ""
    joined = Joined(live, {4: (LONGER, 24)})
    assert [joined.of(0), joined.of(1)] == expected


def test_a_join_is_prefill_steps_of_one_row_while_the_others_wait() -> None:
    live = ready("llama")
    live.prefill_chunk = 16
    joined = Joined(live, {4: (LONGER, 10)}, 12)
    kinds = [(step.kind, step.batch, step.prompt_tokens) for step in joined.steps]
    prefill, decode = StepKind.PREFILL, StepKind.DECODE
    assert kinds[:7] == [
        *[(prefill, 1, 16), (prefill, 1, 4), (decode, 1, 0), (decode, 1, 0)],
        *[(prefill, 1, 16), (prefill, 1, 16), (prefill, 1, 8)],
    ]
    assert {step.batch for step in joined.steps[7:16]} == {2}
    assert [token.sequence for token in joined.steps[6].tokens] == [1]
    assert not any(step.padding_tokens for step in joined.steps)
    assert joined.of(1) == reference(live, 10, LONGER)


def test_a_prompt_that_comes_in_the_middle_of_another_waits_for_it() -> None:
    live = ready("llama")
    live.prefill_chunk = 6
    joined = Joined(live, {1: (SHORTER, 10), 2: ([7], 10)}, 10)
    assert [step.prompt_tokens for step in joined.steps[:7]] == [6, 6, 6, 2, 6, 1, 1]
    for number, prompt in enumerate((FIRST, SHORTER, [7])):
        assert joined.of(number) == reference(live, 10, prompt)


@pytest.mark.parametrize("kind", ["dynamic", "static", "none"])
def test_one_joins_after_others_have_left_and_their_columns_are_cut(kind: str) -> None:
    live = ready("mistral")
    live.cache_kind = kind
    joined = Joined(live, {2: (SHORTER, 40), 20: (LONGER, 9), 40: ([7], 30)}, 12)
    for number, (prompt, count) in enumerate(((FIRST, 12), (SHORTER, 40), (LONGER, 9), ([7], 30))):
        assert joined.of(number) == reference(live, count, prompt)
    assert joined.generation.context.padding == (
        len(SHORTER) + 37 - 2,
    )  # beside the 37 tokens that the other had


def test_a_sequence_that_ends_with_its_first_token_takes_no_row() -> None:
    live = ready("llama")
    joined = Joined(live, {4: (SHORTER, 1)}, 12)
    assert joined.of(0) == reference(live, 12, FIRST)
    assert joined.of(1) == reference(live, 1, SHORTER)
    assert {step.batch for step in joined.steps} == {1}


def test_sampled_sequences_draw_by_numbers_of_their_own() -> None:
    live = ready("llama")
    live.decoding = Decoding("sample", temperature=1.4, top_k=50, seed=11)
    alone = Joined(live, {}).of(0)
    joined = Joined(live, {4: (FIRST, 24)})
    assert joined.of(0) == alone
    assert joined.of(1) != alone


def test_one_joins_a_batch_of_branches_and_more_branch_off_no_more() -> None:
    live = ready("llama")
    live.loop = Loop(batch=3)
    joined = Joined(live, {4: (SHORTER, 24)})
    for number in range(3):
        assert joined.of(number) == reference(live, 24, FIRST)
    assert joined.of(3) == reference(live, 24, SHORTER)


@pytest.mark.parametrize("family", ["mamba", "mamba2", "falcon_h1", "lfm2", "rwkv"])
def test_states_cannot_be_filled_up(family: str) -> None:
    reason = can_join(ready(family))
    assert is_sentence(reason)
    assert "state" in reason


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("beams", 2, "beams"),
        ("speculation", "lookup", "speculation"),
        ("read_back", "pipelined", "read_back"),
        ("kv_cache", "quantized", "scale"),
        ("kv_cache", "sliding", "sliding"),
    ],
)
def test_what_cannot_be_together_is_refused_and_changes_nothing(key: str, value: str, words: str) -> None:
    live = ready("llama")
    generation = Generation(live, FIRST, Limits(12))
    generation.context.cache = new_cache(live, "dynamic", generation.context.capacity)
    steps = iter(generation)
    for _ in range(3):
        next(steps)
    setting(key).apply(live, value)
    with pytest.raises(JoinRefused) as refused:
        generation.join(SHORTER, Limits(5))
    assert is_sentence(str(refused.value))
    assert words in str(refused.value)
    assert generation.context.beside is None
    assert generation.newcomer is None


def test_a_captured_step_has_no_padding_to_leave_out() -> None:
    live = ready("llama")
    live.replayed = ReplayedStep(live)
    assert "cuda_graphs" in why_never(live)
    excluded = why_excluded({"cuda_graphs": "on", PROMPTS: UNEQUAL})
    assert is_sentence(excluded)
    assert why_excluded({"cuda_graphs": "on", PROMPTS: EQUAL}) == ""


def test_a_compiled_step_is_of_so_many_rows() -> None:
    live = ready("llama")
    live.compiled = CompiledStep(live, "default")
    assert is_sentence(why_never(live))
    assert "compile to off" in why_never(live)


def test_what_the_context_has_no_room_for_is_refused() -> None:
    live = ready("llama")  # a context of 256
    generation = Generation(live, FIRST, Limits(230))
    generation.context.cache = new_cache(live, "dynamic", generation.context.capacity)
    steps = iter(generation)
    next(steps)
    with pytest.raises(JoinRefused, match="filled up"):
        generation.join(LONGER, Limits(5))
    for _ in range(200):
        next(steps)
    newcomer = generation.join(SHORTER, Limits(100))
    assert newcomer.strand.limits.max_new_tokens == 1 + 256 - generation.context.length
    rest = list(steps)
    own = [token.id for step in rest for token in step.tokens if token.sequence == 1]
    assert own == reference(live, len(own), SHORTER)
    assert len(own) == newcomer.strand.limits.max_new_tokens


def test_a_full_context_takes_nobody() -> None:
    live = ready("llama")
    generation = Generation(live, FIRST, Limits(236))
    generation.context.cache = new_cache(live, "dynamic", generation.context.capacity)
    steps = iter(generation)
    for _ in range(235):
        next(steps)
    generation.join([7], Limits(1))
    generation.context.ids.append(3)
    with pytest.raises(JoinRefused, match="full"):
        generation.join([7], Limits(5))
