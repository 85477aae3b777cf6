"""Pipelined read-back: the same tokens as without, a step later; what was launched in vain leaves no trace."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.protocol import (
    Alternate,
    Change,
    Command,
    Configuration,
    EngineState,
    Event,
    Failed,
    Family,
    Generate,
    GenerationEnded,
    Load,
    ModelLoaded,
    Pause,
    Prompt,
    Resume,
    SettingValue,
    Shutdown,
    SingleStep,
    StateChanged,
    StepEnded,
    Stop,
)
from engine.runtime import pipelining, read_back
from engine.runtime.caches import new_cache
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.live import Decoding, LiveModel, Loop
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.conflicts import CONFLICTS
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from tests.engine.runtime.decoding import FEW, PROMPT_IDS, Decoded, decode, ready, reference
from tests.engine.runtime.live_models import family_checkpoint, torch_kept
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_models import two_reaches
from tests.engine.runtime.test_session import Answer, end_with_generation, of, play

PIPELINED = Loop(read_back="pipelined")
SAMPLING = Decoding("sample", temperature=1.3, top_k=40, top_p=0.95, seed=3)


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    yield from torch_kept()


def counts(decoded: Decoded) -> list[int]:
    """Tokens of each step."""
    return [len(step.tokens) for step in decoded.steps]


def new_end(tokens: list[int], after: int) -> int:
    """Where a token stands that has not been there before."""
    return next(place for place in range(after, len(tokens)) if tokens[place] not in tokens[:place])


# ---------------------------------------------------------------- tokens


@pytest.mark.parametrize("family", [*FEW, "lfm2", "bloom", "deepseek_v3"])
def test_greedy_tokens_are_those_of_generate_and_each_is_read_a_step_later(family: str) -> None:
    live = ready(family)
    live.loop = PIPELINED
    decoded = decode(live)
    assert decoded.tokens == reference(live)
    assert counts(decoded) == [1, 0, *[1] * 37, 2]  # as many steps as synchronous ones
    assert [step.kind for step in decoded.steps] == [StepKind.PREFILL, *[StepKind.DECODE] * 39]
    assert {step.padding_tokens for step in decoded.steps} == {0}


@pytest.mark.parametrize("family", FEW)
def test_sampling_draws_the_same_tokens(family: str) -> None:
    live = ready(family)
    live.decoding = SAMPLING
    alone = decode(live).tokens
    live.loop = PIPELINED
    assert decode(live).tokens == alone


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decoding", [Decoding(), SAMPLING])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_switched_on_and_off_among_others_it_leaves_the_tokens(
    family: str, decoding: Decoding, seed: int
) -> None:
    live = ready(family)
    live.decoding = decoding
    expected = decode(live, 60).tokens
    draw = random.Random(seed)
    others: list[dict[str, SettingValue]] = [
        {"read_back": "synchronous"}, {"read_back": "synchronous", "kv_cache": "static"},
        {"read_back": "synchronous", "speculation": "lookup"}, {"attention": "eager"}, {"attention": "sdpa"},
        {"detail": "step"}, {"detail": "core"}, {"prefill_chunk": 3}, {"grad_mode": "no_grad"},
        {"grad_mode": "inference"},
    ]  # fmt: skip
    plain: dict[str, SettingValue] = {"speculation": "off", "kv_cache": "dynamic", "read_back": "pipelined"}
    changes = {}
    for step in sorted(draw.sample(range(40), 14)):
        wanted = plain | draw.choice([{}, *others])
        pipelined = wanted.pop("read_back")  # comes last, and goes first
        first = {"read_back": "synchronous"}
        changes[step] = first | wanted | ({"read_back": pipelined} if pipelined == "pipelined" else {})
    assert decode(live, 60, changes).tokens == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("length", range(1, 7))
def test_no_step_is_launched_behind_the_last_token_by_number(length: int) -> None:
    live = ready("llama")
    expected = decode(live).tokens
    for full in (False, True):
        limits = Limits(length)
        if full:
            live.facts = replace(live.facts, context_limit=PROMPT_IDS.shape[1] + length)
            limits = Limits(40)
        live.loop = PIPELINED
        steps, generation = run(live, limits)
        assert [token.id for step in steps for token in step.tokens] == expected[:length]
        assert len(steps) == length
        assert steps[-1].end_reason == ("context full" if full else "length")
        assert steps[-1].padding_tokens == 0
        assert generation.context.unread == 0


# ---------------------------------------------------------------- the surplus step


def run(
    live: LiveModel, limits: Limits, awaited: Callable[[int], bool] = lambda step: False
) -> tuple[list[Stepped], Generation]:
    """All steps of a generation; `awaited`: whether somebody waits for the end of a step of this number."""
    generation = Generation(live, PROMPT_IDS[0].tolist(), limits)
    context = generation.context
    context.cache = new_cache(live, live.cache_kind, context.capacity)
    steps: list[Stepped] = []
    context.awaited = lambda: awaited(len(steps))
    for step in generation:
        steps.append(step)
    return steps, generation


def assert_same_contents(one: Any, other: Any) -> None:
    """Two caches hold the same keys and values."""
    assert len(one.layers) == len(other.layers)
    for mine, theirs in zip(one.layers, other.layers, strict=True):
        assert type(mine) is type(theirs)
        if hasattr(mine, "conv_states"):
            assert mine.conv_states.keys() == theirs.conv_states.keys()
            assert all(mine.conv_states[key].equal(theirs.conv_states[key]) for key in mine.conv_states)
        else:
            assert mine.get_seq_length() == theirs.get_seq_length()
            assert mine.keys.equal(theirs.keys)
            assert mine.values.equal(theirs.values)


@pytest.mark.parametrize("after", [1, 2, 9, 25])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "lfm2"])
def test_the_step_behind_an_end_token_is_taken_back_and_told(family: str, after: int) -> None:
    live = ready(family)
    expected = decode(live).tokens
    end = new_end(expected, after)
    limits = Limits(40, frozenset({expected[end]}))
    plain, synchronous = run(live, limits)
    live.loop = PIPELINED
    steps, generation = run(live, limits)
    assert [token.id for step in steps for token in step.tokens] == expected[: end + 1]
    assert generation.tail() == synchronous.tail()
    assert "".join(t.text for s in steps for t in s.tokens) == "".join(
        t.text for s in plain for t in s.tokens
    )
    assert (len(plain), len(steps)) == (end + 1, end + 2)  # the surplus step was made, and is told
    assert [step.padding_tokens for step in steps] == [*[0] * (end + 1), 1]
    assert steps[-1].end_reason == "end token"
    mine, theirs = generation.context, synchronous.context
    assert mine.ids == theirs.ids
    assert (mine.cached, mine.unread, mine.length) == (theirs.cached, 0, theirs.length)
    assert_same_contents(mine.cache, theirs.cache)
    assert generation._writing.chosen is not None
    assert generation._writing.chosen.tolist() == expected[end : end + 1]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_windows_hold_no_more_than_a_window_where_nothing_was_taken_back(family: str) -> None:
    live = ready(family)
    plain, synchronous = run(live, Limits(40, frozenset({999})))
    live.loop = PIPELINED
    steps, generation = run(live, Limits(40, frozenset({999})), lambda step: step % 5 == 0)
    assert [t.id for s in steps for t in s.tokens] == [t.id for s in plain for t in s.tokens]
    assert_same_contents(generation.context.cache, synchronous.context.cache)
    live.context = generation.context
    setting("read_back").apply(live, "synchronous")
    assert not any(getattr(layer, "record_past", False) for layer in generation.context.cache.layers)  # type: ignore[union-attr]


def test_where_each_step_is_waited_for_none_is_surplus_and_none_late() -> None:
    live = ready("llama")
    expected = decode(live).tokens
    end = new_end(expected, 8)
    live.loop = PIPELINED
    steps, _ = run(live, Limits(40, frozenset({expected[end]})), lambda step: True)
    assert [[token.id for token in step.tokens] for step in steps] == [[id] for id in expected[: end + 1]]
    assert steps[-1].end_reason == "end token"
    assert {step.padding_tokens for step in steps} == {0}


def test_a_text_that_outgrows_a_short_reach_is_read_anew_with_all_of_its_tokens() -> None:
    live = ready("phi3", **two_reaches(36))
    live.loop = PIPELINED
    decoded = decode(live)
    assert decoded.tokens == reference(live)
    assert [step.kind for step in decoded.steps].count(StepKind.PREFILL) == 2
    assert counts(decoded)[15:19] == [1, 2, 1, 0]  # it waits, reads all anew, and runs ahead again


# ---------------------------------------------------------------- a device whose tokens are late


class LateDevice:
    """Stands in for CUDA: a copied token is on the host only once its event was waited for. Keeps a log."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.begun = 0

    def place(self) -> tuple[Any, Any]:
        host = LateToken(self)
        return host, host

    def forward(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def forward(**kwargs: Any) -> Any:
            self.log.append("launch")
            return own(**kwargs)

        return forward


class LateToken:
    """Room for a token on the host, and the event behind its copy."""

    def __init__(self, device: LateDevice) -> None:
        self._device = device
        self._number = 0
        self._copied: int | None = None
        self._recorded = False
        self._here: int | None = None

    def copy_(self, token: torch.Tensor, non_blocking: bool) -> None:
        assert non_blocking
        assert self._copied is None, "the token before was overwritten before it was read"
        self._device.begun += 1
        self._number, self._copied = self._device.begun, int(token)

    def record(self, stream: object) -> None:
        assert self._copied is not None, "the event has to be behind the copy"
        self._recorded = True

    def synchronize(self) -> None:
        assert self._recorded
        self._here, self._copied, self._recorded = self._copied, None, False
        self._device.log.append(f"read {self._number}")

    def __int__(self) -> int:
        assert self._here is not None, "the token is not on the host"
        return self._here


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> LateDevice:
    device = LateDevice()
    monkeypatch.setattr(read_back, "pinned_place", device.place)
    monkeypatch.setattr(pipelining, "copies_from", lambda _: read_back.Pinned())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    return device


def test_the_next_step_is_launched_before_a_late_token_is_read(device: LateDevice) -> None:
    live = ready("llama")
    expected = decode(live).tokens
    end = new_end(expected, 8)
    live.loop = PIPELINED
    live.model.forward = device.forward(live.model.forward)
    steps, _ = run(live, Limits(40, frozenset({expected[end]})), lambda step: step == 4)
    assert [token.id for step in steps for token in step.tokens] == expected[: end + 1]
    log = ["launch", "read 1", "launch", "launch", "read 2", "launch", "read 3"]
    log += ["launch", "read 4", "read 5", "launch"]  # the one that is waited for reads its own, too
    for number in range(6, end + 2):
        log += ["launch", f"read {number}"]
    assert device.log == log
    assert [len(step.tokens) for step in steps[:7]] == [1, 0, 1, 1, 2, 0, 1]


def test_a_token_that_is_here_at_once_needs_no_wait() -> None:
    arrival = read_back.Immediate().begin(torch.tensor([7]))
    assert arrival() == 7
    assert isinstance(read_back.copies_from(torch.device("cpu")), read_back.Immediate)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_tokens_are_copied_from_a_cuda_device_while_the_host_goes_on() -> None:
    copies = read_back.copies_from(torch.device("cuda"))
    waiting: list[read_back.Arrival] = []
    for number in range(20):
        waiting.append(copies.begin(torch.full((1,), number, device="cuda")))
        if number:
            assert waiting.pop(0)() == number - 1
    assert waiting.pop()() == 19


# ---------------------------------------------------------------- in a session


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


def session(
    llama: Path, answer: Answer, settings: Configuration = (("read_back", "pipelined"),), tokens: int = 24
) -> list[Event]:
    load = Load(str(llama), "cpu", (("precision", "float32"), *settings))
    events = play([load, Generate(Prompt("late"), tokens, stop_at_end_token=False)], answer)
    trace = Trace()
    trace.extend(events)
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()
    return events


def tokens_of(events: Sequence[Event]) -> list[int]:
    return [token.id for step in of(list(events), StepEnded) for token in step.tokens]


def test_a_generation_is_told_as_without_but_for_when_tokens_come(llama: Path) -> None:
    events = session(llama, end_with_generation)
    plain = session(llama, end_with_generation, ())
    assert dict(of(events, ModelLoaded)[0].effective)["read_back"] == "pipelined"
    assert tokens_of(events) == tokens_of(plain)
    assert [len(step.tokens) for step in of(events, StepEnded)] == [1, 0, *[1] * 21, 2]
    for told in ("context_length", "cache_bytes", "kind"):
        assert [getattr(step, told) for step in of(events, StepEnded)] == [
            getattr(step, told) for step in of(plain, StepEnded)
        ]


def test_a_pause_leaves_no_token_unread_and_single_steps_read_their_own(llama: Path) -> None:
    orders: list[Command] = [SingleStep(), SingleStep(), Resume()]

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, StepEnded) and event.index == 6:
            send(Pause())
        paused = isinstance(event, StateChanged) and event.state is EngineState.PAUSED
        stepped = isinstance(event, StepEnded) and event.index > 7
        if orders and (paused or stepped):
            send(orders.pop(0))

    events = session(llama, answer)
    pause = next(
        i for i, e in enumerate(events) if isinstance(e, StateChanged) and e.state is EngineState.PAUSED
    )
    assert len(tokens_of(events[:pause])) == len(of(events[:pause], StepEnded)) == 8
    assert [len(step.tokens) for step in of(events, StepEnded)][5:13] == [1, 1, 2, 1, 1, 0, 1, 1]
    assert tokens_of(events) == tokens_of(session(llama, end_with_generation, ()))


@pytest.mark.parametrize("command", [Stop(), Generate(Prompt("another"), 3, stop_at_end_token=False)])
def test_a_generation_that_is_ended_early_shows_all_that_was_chosen(llama: Path, command: Command) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index == 6:
            send(command)
        if isinstance(event, GenerationEnded) and (event.reason == "length" or isinstance(command, Stop)):
            send(Shutdown())

    events = session(llama, answer)
    first = events[: events.index(of(events, GenerationEnded)[0])]
    assert len(tokens_of(first)) == len(of(first, StepEnded)) == 8


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ((("read_back", "synchronous"),), [1] * 15 + [1]),
        ((("attention", "eager"), ("detail", "core")), [0, *[1] * 14, 2]),
        ((("precision", "float32"), ("prefill_chunk", 2)), [0, *[1] * 14, 2]),
    ],
)
def test_a_switch_finds_no_token_on_its_way(llama: Path, changes: Configuration, after: list[int]) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, StepEnded) and event.index == 6:
            send(Change(changes))

    events = session(llama, answer)
    assert tokens_of(events) == tokens_of(session(llama, end_with_generation, ()))
    assert [len(step.tokens) for step in of(events, StepEnded)] == [1, 0, 1, 1, 1, 1, 1, 2, *after]


@pytest.mark.parametrize("turns", [Alternate("attention", "eager"), Alternate("precision", "bfloat16")])
def test_no_token_of_one_value_is_read_in_the_turn_of_the_other(llama: Path, turns: Alternate) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, StepEnded) and event.index == 3:
            send(turns)

    events = session(llama, answer, tokens=40)
    assert not of(events, Failed)
    steps = of(events, StepEnded)
    boundaries = [i for i in range(1, len(steps)) if steps[i - 1].configuration != steps[i].configuration]
    assert len(boundaries) > 2
    for place in boundaries:
        assert sum(len(step.tokens) for step in steps[:place]) == place


def test_several_prompts_are_not_continued_so(llama: Path) -> None:
    load = Load(str(llama), "cpu", (("read_back", "pipelined"),))
    events = play([load, Generate(Prompt("one\ntwo"), 4, lines=True)], end_with_generation)
    (failed,) = of(events, Failed)
    assert "read_back to synchronous" in failed.sentence


# ---------------------------------------------------------------- where it does not fit


@pytest.mark.parametrize(
    ("family", "words"),
    [("rwkv", "cannot go back"), ("mamba", "cannot go back"), ("jamba", "cannot go back")],
)
def test_models_whose_state_cannot_go_back_refuse_it(family: str, words: str) -> None:
    facts = setting("read_back").probe(small_live(family))
    assert (facts.choices[0].reason, facts.reason) == ("", "")
    assert words in facts.choices[1].reason
    assert is_sentence(facts.choices[1].reason)


def test_what_needs_ids_on_the_host_refuses_it() -> None:
    live = small_live("llama")
    assert {choice.reason for choice in setting("read_back").probe(live).choices} == {""}
    for changed, words in (
        ({"facts": replace(live.facts, family=Family.ENCODER_DECODER)}, "rules"),
        ({"cache_argument": ""}, "KV cache"),
        ({"device": torch.device("meta")}, "CUDA devices only"),
        ({"facts": replace(live.facts, placement=(("cuda:0", 1), ("cpu", 1)))}, "one device"),
    ):
        other = replace(live, **changed)  # type: ignore[arg-type]
        with pytest.raises(SettingRefused, match=words) as refused:
            setting("read_back").apply(other, "pipelined")
        assert is_sentence(str(refused.value))
        setting("read_back").apply(other, "synchronous")


def test_each_conflict_says_how_to_have_it() -> None:
    others = {conflict.other for conflict in CONFLICTS if conflict.key == "read_back"}
    assert others == {
        *("speculation", "beams", "batch", "kv_cache", "cuda_graphs"),
        *("repetition_penalty", "sampling_place", "top_p_method"),
    }
    for conflict in CONFLICTS:
        if conflict.key == "read_back":
            assert f"set {conflict.other} to" in conflict.reason
            assert "read_back to synchronous" in conflict.reason


def test_a_token_on_its_way_is_nobodys_to_switch_over() -> None:
    live = ready("llama")
    live.loop = PIPELINED
    generation = Generation(live, PROMPT_IDS[0].tolist(), Limits(10))
    generation.context.cache = new_cache(live, "dynamic", 64)
    generation.context.awaited = lambda: False
    steps = iter(generation)
    next(steps), next(steps)
    assert (generation.context.unread, generation.context.pending) == (1, 1)
    with pytest.raises(AssertionError, match="on its way"):
        setting("read_back").apply(live, "synchronous")
    assert live.loop == PIPELINED
