"""The sample prompts, by task: read from `resources`, and cut to what the loaded model can do with them."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from engine.protocol import Family, ModelFacts, Prompt, Turn

VARIANTS: tuple[str, ...] = ("base", "chat", "answer", "read")
MASK = "[MASK]"  # how a sample spells a model's mask token
DEMO, DEMO_TASK = "demo", "Code"  # a model, and what it was trained on


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt for a task, in a language, with its variants: "base", "chat", "answer", "read"."""

    task: str
    language: str
    variants: dict[str, str]
    system: str = ""

    def suits(self, model: ModelFacts | None, chat: bool) -> bool:
        """Whether such a model can do something with it: masks are for models that fill them."""
        variant = variant_for(model, chat)
        if variant not in self.variants:
            return False
        fills = model is not None and model.task == "fill-mask"
        return variant != "read" or (MASK in self.variants[variant]) == fills

    def prompt_for(self, model: ModelFacts | None, chat: bool) -> Prompt:
        """The prompt for such a model. Raises KeyError where there is none."""
        variant = variant_for(model, chat)
        text = self.variants[variant]
        if variant != "chat":
            return Prompt(text.replace(MASK, mask_of(model)))
        system = (Turn("system", self.system),) if self.system else ()
        return Prompt(turns=(*system, Turn("user", text)))


@cache
def samples() -> tuple[Sample, ...]:
    """All samples, in their order."""
    source = (files("resources") / "prompts" / "tasks.toml").read_text(encoding="utf-8")
    return tuple(
        _sample(task["name"], entry) for task in tomllib.loads(source)["task"] for entry in task["prompt"]
    )


def _sample(task: str, entry: dict[str, str | int]) -> Sample:
    count = int(entry.get("repeat", 0))
    before = "".join(str(entry["repeated"]).format(n=n, left=2 * count - n) for n in range(1, count + 1))
    variants = {name: before + str(entry[name]) for name in VARIANTS if name in entry}
    return Sample(task, str(entry["language"]), variants, str(entry.get("system", "")))


def variant_for(model: ModelFacts | None, chat: bool) -> str:
    """Which variant suits a model (None: not known yet) and the mode of the prompt panel."""
    if model is not None and model.family is Family.ENCODER:
        return "read"
    if model is not None and model.family is Family.ENCODER_DECODER:
        return "answer"
    return "chat" if chat else "base"


def knows_turns(model: ModelFacts | None) -> bool:
    """Whether a model continues chats: its tokenizer has a template for them."""
    return model is not None and model.has_chat_template and model.family is Family.DECODER


def samples_for(model: ModelFacts | None, chat: bool) -> list[Sample]:
    """The samples that such a model can do something with, in that mode of the prompt panel."""
    return [sample for sample in samples() if sample.suits(model, chat)]


def first_sample(model: ModelFacts | None = None, chat: bool = False) -> Sample:
    """What is offered at first: what the demo model was trained on suits it best."""
    suited = samples_for(model, chat)
    task = DEMO_TASK if model is not None and model.name == DEMO else suited[0].task
    return next(sample for sample in suited if sample.task == task)


def mask_of(model: ModelFacts | None) -> str:
    """How a model spells the token that stands for a word to be found."""
    texts = [text for _, text in model.special_tokens] if model else []
    return next((text for text in texts if "mask" in text.lower()), MASK)
