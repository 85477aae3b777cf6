"""Speculation: who proposes tokens that the model then checks at once, how many, and which model drafts."""

import gc
import inspect
import warnings

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from engine.protocol import Choice, Family, SettingFacts, SettingValue
from engine.runtime.caches import new_cache
from engine.runtime.drafting import exit_layers
from engine.runtime.feeding import Feeding
from engine.runtime.live import Context, Draft, LiveModel, Loop
from engine.runtime.models.errors import LoadGivenUp, ModelError
from engine.runtime.models.loading import DTYPES, context_limit, load_model
from engine.runtime.rows import keep_past
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.loop import change_loop
from engine.runtime.settings.trial import agree, first_layers, first_sentence, trial_ids
from engine.runtime.settings.values import read_value
from engine.runtime.speculation import LONGEST
from engine.runtime.stacks import layer_stacks

_FAMILY = "speculation"
_CHOICES = (
    ("off", "Off", "One token a step."),
    (
        "lookup",
        "Prompt lookup",
        "Faster where the text repeats itself (code, summaries, lists): proposing costs next to nothing.",
    ),
    (
        "draft",
        "Draft model",
        "Faster where a much smaller model often says the same: a step then yields several tokens.",
    ),
    (
        "exit",
        "Early exit",
        "The model's own first half proposes: slower, unless the model was trained to exit early (LayerSkip).",
    ),
)
#: A trial: so many tokens, then so many more one by one; before the first of these some others came and went.
_BEFORE, _AFTER, _IN_VAIN = 8, 4, 3


class Speculation:
    """Who proposes."""

    key = "speculation"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Tried: several tokens at once, most of them taken back; what follows has to be as if they had never been."""
        reason = _why_not(live)
        return SettingFacts(
            key=self.key,
            family=_FAMILY,
            label="Speculation",
            kind="choice",
            default="off",
            choices=tuple(
                Choice(value, label, _why_no_exit(live) if value == "exit" and not reason else "", expected)
                for value, label, expected in _CHOICES
            ),
            expected="Checks several proposed tokens in one step: the text stays, each right proposal saves a step.",
            reason=reason,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """Who proposes now."""
        return live.loop.speculation

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next step. A draft model is loaded now, if it is not yet."""
        if value not in [choice[0] for choice in _CHOICES]:
            known = ", ".join(choice[0] for choice in _CHOICES)
            raise SettingRefused(f"There is no speculation '{value}': choose {known}.")
        if value == "draft":
            _load_draft(live, live.draft_name)
        change_loop(live, speculation=str(value))


class DraftLength:
    """How many tokens are proposed a step."""

    key = "draft_length"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Possible on every model."""
        return SettingFacts(
            key=self.key,
            family=_FAMILY,
            label="Draft length",
            kind="integer",
            default=Loop().draft_length,
            minimum=0,
            maximum=LONGEST,
            unit="tokens",
            expected="Longer drafts pay while most of them are right; 0 adapts: two more after a draft that was all"
            " right, else one less.",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The length; 0 where it adapts."""
        return live.loop.draft_length

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next step."""
        length, reason = read_value(self.probe(live), value)
        if length is None:
            raise SettingRefused(reason)
        change_loop(live, draft_length=length)


class DraftModel:
    """Which model drafts: anything that could be loaded, with the same tokenizer."""

    key = "draft_model"

    def probe(self, live: LiveModel) -> SettingFacts:
        """The demo model has a draft of its own; for others one has to be named. It is loaded when it is needed."""
        return SettingFacts(
            key=self.key,
            family=_FAMILY,
            label="Draft model",
            kind="text",
            default="demo-draft" if live.facts.name == "demo" else "",
            choices=(Choice("demo-draft", "demo-draft", expected="Was made to propose for the demo model."),),
            expected="A preset, a directory or a hub id: the smaller and the more alike, the better. It has to have the"
            " same tokens.",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """Its name; "" for none."""
        return live.draft_name

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Load it, if it is to propose now or is not the default; its name alone is only kept."""
        name = str(value).strip()
        default = self.probe(live).default
        if name and (name != default or live.loop.speculation == "draft"):
            _load_draft(live, name)
            if live.loop.speculation == "draft":
                _exchange(live)
        elif not name and live.loop.speculation == "draft":
            raise SettingRefused("The draft model proposes now: switch speculation off to be without one.")
        live.draft_name = name


def _exchange(live: LiveModel) -> None:
    """Let a generation that drafts do so with another model from now on."""
    change_loop(live, speculation="off")
    change_loop(live, speculation="draft")


def _load_draft(live: LiveModel, name: str) -> None:
    """Have the model of this name ready in `live.draft`. Raises SettingRefused, and leaves what was there."""
    if live.draft is not None and live.draft.name == name:
        return
    if not name:
        raise SettingRefused(
            "No draft model is named: set draft_model to a small model with the same tokenizer."
        )
    made = _made_draft(live, name)
    if isinstance(made, str):
        gc.collect()  # what was read in vain; the error that held it is gone by now
        raise SettingRefused(made)
    live.draft = made


def _made_draft(live: LiveModel, name: str) -> Draft | str:
    """The model of this name as a draft; or why it cannot be one, with nothing of it left but cycles."""
    dtype = str(live.model.dtype).removeprefix("torch.")
    try:
        loaded = load_model(name, str(live.device), dtype if dtype in DTYPES else None, live.new_report())
    except ModelError as error:
        return error.sentence
    except LoadGivenUp:
        return f"Loading '{name}' was given up and its memory freed: switch again to load it, or name another model."
    if loaded.kind.family is not Family.DECODER:
        return f"The model '{name}' does not continue text, so it cannot draft: name a decoder."
    if loaded.tokenizer.get_vocab() != live.tokenizer.get_vocab():
        return f"The model '{name}' has another tokenizer, so its tokens mean other texts: name one with the same."
    if reason := _why_not_draft(loaded.model):
        return f"The model '{name}' cannot draft, since {reason}: name another one."
    return Draft(name, loaded.model, context_limit(loaded.model.config))


# ---------------------------------------------------------------- trials


def _why_not(live: LiveModel) -> str:
    """Why this model cannot check proposed tokens; "" when it can."""
    if live.facts.family is Family.ENCODER:
        return ""  # see `suited`
    if live.facts.family is Family.ENCODER_DECODER:
        return "An encoder–decoder's answers are not speculated on here: what it copies stands in the encoder's prompt."
    if live.cache_argument == "state":
        return "This model keeps a state that cannot go back, so tokens proposed in vain could not be taken out again."
    if not live.cache_argument:
        return ""
    with first_layers(live):
        return why_not_taken_back(live)


def _why_no_exit(live: LiveModel) -> str:
    """Why the first layers cannot propose; "" when they can."""
    stacks = list(layer_stacks(live))
    if len(stacks) != 1 or live.cache_argument != "past_key_values":
        return "This model's layers are not one list that could be left early."
    ((parent, name, layers),) = stacks
    count = exit_layers(live, layers)
    if count >= len(layers):
        return "This model has too few layers to leave it early."
    parent._modules[name] = torch.nn.ModuleList(list(layers)[:count])
    try:
        return why_not_taken_back(live, count)
    finally:
        parent._modules[name] = layers


def why_not_taken_back(live: LiveModel, layers: int | None = None) -> str:
    """Why tokens that were fed in vain leave a trace; "" when they leave none. `layers`: how many there are."""
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            straight, cache = _fed(live, layers, in_vain=False)
            if not cache.is_croppable:
                return "This model keeps a state that cannot go back: tokens fed in vain could not be taken out again."
            taken_back, _ = _fed(live, layers, in_vain=True)
    except Exception as error:  # whatever a model raises is the reason
        return f"Taking tokens back fails on this model: {first_sentence(error)}."
    if agree(live, straight, taken_back):
        return ""
    return "On this model tokens that were fed in vain change what follows, so the text would change."


def _fed(live: LiveModel, layers: int | None, in_vain: bool) -> tuple[torch.Tensor, Cache]:
    """Logits (_AFTER, vocabulary) of some ids fed one by one behind others, and the cache that was filled.

    `in_vain`: with the first of them come some others, which are taken back.
    """
    ids = trial_ids(live, _BEFORE + _AFTER)
    cache = new_cache(live, "dynamic", live.facts.context_limit)
    assert cache is not None
    cache.layers = cache.layers[:layers] if layers else cache.layers
    context = Context([], ids.shape[1] + _IN_VAIN, cache)
    feeding, logits = Feeding(live, context), []
    feeding.count(live.model(**feeding.arguments(ids[:, :_BEFORE], "dynamic")), ids[:, :_BEFORE], "dynamic")
    if in_vain:
        keep_past(cache)
    for place in range(_BEFORE, ids.shape[1]):
        others = ids[:, : _IN_VAIN if in_vain and place == _BEFORE else 0]
        fed = torch.cat((ids[:, place : place + 1], others), 1)
        output = live.model(**feeding.arguments(fed, "dynamic", fed.shape[1]))
        feeding.count(output, fed, "dynamic")
        logits.append(output.logits[0, -fed.shape[1]].float())
        if in_vain:
            cache.crop(-others.shape[1])
            context.cached -= others.shape[1]
    return torch.stack(logits), cache


def _why_not_draft(model: PreTrainedModel) -> str:
    """Why a model cannot propose; "" when it can. What it keeps has to be croppable; a wrong guess costs speed only."""
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return "it keeps no keys and values that could be taken back"
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    with torch.inference_mode():
        model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=model.device), past_key_values=cache)
    return "" if cache.is_croppable else "it keeps a state that cannot go back"
