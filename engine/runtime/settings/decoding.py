"""How a token is chosen: greedy or sampling, and the numbers of sampling. They replace `live.decoding` as a
whole.

They begin with what the checkpoint's own generation configuration says, as `generate()` does. A change begins the
random numbers anew from the seed, so that a run with the same changes can be repeated.
"""

from dataclasses import dataclass, replace
from typing import Any

from transformers import GenerationConfig

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.live import Decoding, LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.values import read_value

UNSTATED_TOP_K = 50  # of transformers, where a configuration asks for sampling and says no more
_FAMILY = "decoding"
_STRATEGIES = (
    Choice("greedy", "Greedy", expected="Always the most likely token: the same text every time."),
    Choice(
        "sample",
        "Sampling",
        expected="Draws from the likely tokens: filters cost time on a large vocabulary.",
    ),
)


def own_decoding(configuration: GenerationConfig | None) -> Decoding:
    """How `generate()` would choose tokens by a checkpoint's own configuration; greedy where that says nothing."""
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    values: dict[str, Any] = {name: getattr(configuration, name, None) for name in names}
    stated = {name: value for name, value in values.items() if value is not None}
    if not getattr(configuration, "do_sample", None):
        return Decoding(**stated)
    return Decoding("sample", **({"top_k": UNSTATED_TOP_K} | stated))


class Strategy:
    """Greedy or sampling."""

    key = "decoding"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Both are possible on every model."""
        return SettingFacts(
            key=self.key,
            family=_FAMILY,
            label="Choice of token",
            kind="choice",
            default=live.own_decoding.strategy,
            choices=_STRATEGIES,
            expected="Sampling changes the text, and takes longer than taking the most likely token.",
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The strategy in force."""
        return live.decoding.strategy

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next token."""
        strategy, reason = read_value(self.probe(live), value)
        if strategy is None:
            raise SettingRefused(reason)
        live.decoding = replace(live.decoding, strategy=str(strategy))


@dataclass
class DecodingChoice:
    """One choice of `Decoding`, under its own name, which changes the time and not the tokens."""

    key: str
    label: str
    choices: tuple[Choice, ...]
    expected: str

    def probe(self, live: LiveModel) -> SettingFacts:
        """Possible on every model; what is computed on the host of a model that is there is no choice."""
        here = self.key == "sampling_place" and live.device.type == "cpu"
        return SettingFacts(
            key=self.key,
            family=_FAMILY,
            label=self.label,
            kind="choice",
            default=getattr(Decoding(), self.key),
            choices=self.choices,
            expected=self.expected,
            reason="The model is on the host: there is no other place to choose tokens." if here else "",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The choice in force."""
        value: SettingValue = getattr(live.decoding, self.key)
        return value

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next token."""
        choice, reason = read_value(self.probe(live), value)
        if choice is None:
            raise SettingRefused(reason)
        changed: dict[str, Any] = {self.key: choice}
        live.decoding = replace(live.decoding, **changed)


@dataclass
class DecodingNumber:
    """One number of `Decoding`, under its own name. `maximum` None: the size of the vocabulary."""

    key: str
    label: str
    kind: str
    minimum: float
    maximum: float | None
    increment: float
    expected: str

    def probe(self, live: LiveModel) -> SettingFacts:
        """Possible on every model, within its range."""
        return SettingFacts(
            key=self.key,
            family=_FAMILY,
            label=self.label,
            kind=self.kind,
            default=getattr(live.own_decoding, self.key),
            minimum=self.minimum,
            maximum=live.facts.vocabulary if self.maximum is None else self.maximum,
            increment=self.increment,
            expected=self.expected,
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The number in force."""
        value: SettingValue = getattr(live.decoding, self.key)
        return value

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next token."""
        number, reason = read_value(self.probe(live), value)
        if number is None:
            raise SettingRefused(reason)
        changed: dict[str, Any] = {self.key: number}
        live.decoding = replace(live.decoding, **changed)


NUMBERS = (
    DecodingNumber(
        "temperature", "Temperature", "number", 0.01, 10.0, 0.05,
        "With sampling only: below 1 prefers likely tokens, above 1 evens them out.",
    ),
    DecodingNumber(
        "top_k", "Top-k", "integer", 0, None, 1,
        "With sampling only: draws from the k most likely tokens; 0 is off.",
    ),
    DecodingNumber(
        "top_p", "Top-p", "number", 0.0, 1.0, 0.05,
        "With sampling only: draws from the fewest tokens that make up this share; 1 is off.",
    ),
    DecodingNumber(
        "min_p", "Min-p", "number", 0.0, 1.0, 0.01,
        "With sampling only: drops tokens less likely than this share of the likeliest; 0 is off.",
    ),
    DecodingNumber(
        "repetition_penalty", "Repetition penalty", "number", 0.1, 10.0, 0.05,
        "Above 1 makes tokens that occurred less likely, with greedy too; 1 is off.",
    ),
    DecodingNumber(
        "seed", "Seed", "integer", 0, 2**32 - 1, 1,
        "With sampling only: the same seed repeats the same text.",
    ),
)  # fmt: skip

TOP_P_METHOD = DecodingChoice(
    "top_p_method",
    "Top-p looks",
    (
        Choice("sort", "at all tokens", expected="Sorts the whole vocabulary for every token."),
        Choice(
            "first",
            "at the likeliest first",
            expected="Looks among the 256 likeliest tokens, and sorts all only where these are too few.",
        ),
    ),
    "With top-p only: sorting 151,936 tokens took 17.5 ms on a CPU, finding the likeliest few 0.75 ms; same tokens.",
)
SAMPLING_PLACE = DecodingChoice(
    "sampling_place",
    "Tokens chosen on",
    (
        Choice("device", "the device", expected="Only the token itself goes to the host."),
        Choice(
            "host",
            "the host",
            expected="The whole vocabulary's logits go to the host for every token: slower.",
        ),
    ),
    "Choosing on the device saves carrying a whole row of logits to the host at each step.",
)
