"""A LiveModel of a small family for tests of settings, and the least loop that reads it: pending tokens in,
one out."""

import inspect
from collections.abc import Mapping

import torch
from transformers import PreTrainedModel

from engine.protocol import Family, ModelFacts, SettingValue
from engine.runtime.anatomy import find_anatomy
from engine.runtime.caches import new_cache
from engine.runtime.clocks import StampRecorder
from engine.runtime.feeding import Feeding
from engine.runtime.live import Context, LiveModel
from engine.runtime.sampling import Chooser
from engine.runtime.settings import ALL
from engine.runtime.settings.base import Setting
from engine.trace.phases import Phase
from tests.engine.runtime.small_models import FAMILIES, VOCABULARY, prompt_ids

PROMPT_LENGTH = 20  # longer than the windows of 16 tokens


def small_live(family: str = "llama", model: PreTrainedModel | None = None) -> LiveModel:
    """The family's seeded model, made ready for settings."""
    model = model or FAMILIES[family]()
    parameters = inspect.signature(model.forward).parameters
    names = ("past_key_values", "cache_params", "state")
    return LiveModel(
        model=model,
        tokenizer=None,
        facts=small_facts(model),
        device=torch.device("cpu"),
        anatomy=find_anatomy(model),
        recorder=StampRecorder(),
        cache_argument=next((name for name in names if name in parameters), ""),
        keeps_logits="logits_to_keep" in parameters,
        prefill_chunk=0,
    )


def small_facts(model: PreTrainedModel) -> ModelFacts:
    """Facts that settings read; the rest is empty."""
    return ModelFacts(
        name="small",
        architecture=type(model).__name__,
        parameters=model.num_parameters(),
        weight_bytes=0,
        dtype="float32",
        device="cpu",
        layer_names=(),
        hidden_size=0,
        vocabulary=VOCABULARY,
        context_limit=256,
        random_weights=True,
        tokenizer="",
        load_ns=0,
        family=Family.ENCODER_DECODER if model.config.is_encoder_decoder else Family.DECODER,
    )


def setting(key: str) -> Setting:
    """The setting with this key."""
    return next(setting for setting in ALL if setting.key == key)


def step(live: LiveModel, chooser: Chooser) -> int:
    """Feed what is pending and choose one token, which becomes pending."""
    with live.forward_mode():
        return _step(live, chooser)


def _step(live: LiveModel, chooser: Chooser) -> int:
    context = live.context
    assert context is not None
    feeding, logits = Feeding(live, context), None
    while context.cached < len(context.ids):
        end = context.cached + (live.prefill_chunk or len(context.ids))
        if live.cache_kind == "none":
            end = len(context.ids)
        fed = torch.tensor([context.ids[context.cached : end]])
        forward = live.recorder.define(Phase.FORWARD, name="forward")
        output = live.run(live.model, forward, feeding.arguments(fed, live.cache_kind))
        feeding.count(output, fed, live.cache_kind)
        logits = output.logits[:, -1]
        if live.cache_kind == "none":
            break
    assert logits is not None
    token = int(chooser.choose(logits, context.ids))
    context.ids.append(token)
    return token


def begin(live: LiveModel, capacity: int = PROMPT_LENGTH + 64, length: int = PROMPT_LENGTH) -> None:
    """Begin a generation with a fixed prompt."""
    live.context = Context(prompt_ids(length)[0].tolist(), capacity)
    live.context.cache = new_cache(live, live.cache_kind, capacity)


def generate(
    live: LiveModel, tokens: int, changes: Mapping[int, Mapping[str, SettingValue]] | None = None
) -> list[int]:
    """Greedy tokens, with settings applied before given ones (0 is the prefill)."""
    begin(live)
    chooser = Chooser(live.decoding, live.device)
    produced = []
    for index in range(tokens):
        for key, value in (changes or {}).get(index, {}).items():
            setting(key).apply(live, value)
        produced.append(step(live, chooser))
    return produced
