"""What stands in for a step of the loop is fed as the loop feeds it: as many arguments, of the same kinds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest
import torch
from transformers import Cache

from engine.protocol import SettingValue
from engine.runtime.caches import new_cache
from engine.runtime.feeding import next_step
from engine.runtime.generation import Generation, Limits
from engine.runtime.live import LiveModel
from engine.runtime.sameness import _Runner
from engine.runtime.settings.trial import run_trial
from tests.engine.runtime import small_seq2seq
from tests.engine.runtime.decoding import PROMPT_IDS, ready
from tests.engine.runtime.live_models import byte_tokenizer
from tests.engine.runtime.settings.small_live import setting, small_live

Call = dict[str, Any]
SEQ2SEQ = ("t5_gated", "bart")


def made_ready(family: str) -> LiveModel:
    if family not in SEQ2SEQ:
        return ready(family)
    live = small_live(model=small_seq2seq.build(family))
    live.tokenizer = byte_tokenizer()
    return live


@contextmanager
def heard(live: LiveModel) -> Iterator[list[Call]]:
    """The calls of the model's forward."""
    calls: list[Call] = []
    model: Any = live.model
    own = model.forward

    @wraps(own)  # whoever feeds looks at what it takes
    def listening(*args: Any, **kwargs: Any) -> Any:
        assert not args
        calls.append(kwargs)
        return own(**kwargs)

    model.forward = listening
    try:
        yield calls
    finally:
        del model.forward


def shape(value: Any) -> Any:
    """What an argument is, but for the numbers in a tensor."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype, value.device
    return type(value) if isinstance(value, Cache) else repr(value)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("llama", {"kv_cache": "static", "batch": 3}),
        ("llama", {"kv_cache": "sliding", "kv_window": 8}),
        ("llama", {"beams": 2}),
        ("bamba", {}),
        ("gemma3", {"kv_cache": "static"}),
        ("mamba", {"batch": 2}),
        *((family, {}) for family in SEQ2SEQ),
    ],
)
def test_the_next_step_is_fed_what_it_was_said_to_be(
    family: str, settings: Mapping[str, SettingValue]
) -> None:
    live = made_ready(family)
    for key, value in settings.items():
        setting(key).apply(live, value)
    assert_foreseen(live, Generation(live, PROMPT_IDS[0].tolist(), Limits(12)))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_next_step_of_prompts_of_different_lengths_is_foreseen_with_their_padding(family: str) -> None:
    live = made_ready(family)
    ids = PROMPT_IDS[0].tolist()
    assert_foreseen(live, Generation(live, ids, Limits(12), [ids[:7], ids[3:]]))


def assert_foreseen(live: LiveModel, generation: Generation) -> None:
    """Every argument of the steps to come but the token: the same memory, or numbers that are equal."""
    context = generation.context
    context.cache = new_cache(live, live.cache_kind, context.capacity)
    steps = iter(generation)
    for _ in range(3):
        next(steps)
    for _ in range(3):
        foreseen = next_step(live, context)
        with heard(live) as calls:
            next(steps)
        (call,) = calls
        assert call.keys() == foreseen.keys()
        for name, value in call.items():
            assert shape(value) == shape(foreseen[name])
            if isinstance(value, Cache):
                assert value is foreseen[name]
            elif isinstance(value, torch.Tensor) and not name.endswith("input_ids"):
                assert value.equal(foreseen[name])
                assert value.stride() == foreseen[name].stride()  # compiled code is made for strides


@pytest.mark.parametrize("kind", ["dynamic", "static", "sliding", "none"])
@pytest.mark.parametrize("family", ["llama", "bamba", *SEQ2SEQ])
def test_trials_and_comparisons_feed_a_model_as_the_loop_does(family: str, kind: str) -> None:
    live = made_ready(family)
    if reason := next(c.reason for c in setting("kv_cache").probe(live).choices if c.value == kind):
        pytest.skip(reason)
    live.cache_kind, live.kv_window, live.prefill_chunk = kind, 8, 0
    prompt = PROMPT_IDS[0, :12].tolist()
    generation = Generation(live, prompt, Limits(4))
    generation.context.cache = new_cache(live, kind, generation.context.capacity)
    read = generation.context.ids.copy()  # an encoder–decoder's own begin with its start
    with heard(live) as looped:
        steps = list(generation)
    new = [token.id for step in steps for token in step.tokens]
    runner = _Runner(live, prompt, generation.context.capacity)
    with torch.inference_mode(), heard(live) as compared:
        for ids in (read, *([id] for id in new[:-1])):
            runner.feed(ids)
    assert [signature(call) for call in compared] == [signature(call) for call in looped]
    if kind == "none":
        return
    with heard(live) as tried:
        run_trial(live, [len(read), *[1] * (len(new) - 1)], kind, head=True)
    assert [signature(call) for call in tried] == [signature(call) for call in looped]


def signature(call: Call) -> Call:
    """A call without what is another's own: the cache, and how long what an encoder read was."""
    return {name: None if name == "encoder_outputs" else shape(value) for name, value in call.items()}
