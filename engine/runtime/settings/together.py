"""What is decoded together: beams of a search, or sequences of a batch."""

from dataclasses import dataclass

from engine.protocol import Family, SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.loop import change_loop
from engine.runtime.settings.values import read_value


@dataclass
class Together:
    """A number of `Loop`, under its own name: rows of the cache that every step computes."""

    key: str
    family: str
    label: str
    maximum: int
    unit: str
    expected: str
    lossless: bool

    def probe(self, live: LiveModel) -> SettingFacts:
        """Possible on every model that writes: a cache is reordered row by row, whatever it holds."""
        return SettingFacts(
            key=self.key,
            family=self.family,
            label=self.label,
            kind="integer",
            default=1,
            minimum=1,
            maximum=self.maximum,
            unit=self.unit,
            expected=self.expected,
            lossless=self.lossless,
            reason=_WRITES_NOTHING if live.facts.family is Family.ENCODER else "",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """How many."""
        value: SettingValue = getattr(live.loop, self.key)
        return value

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """More branch off with the next token; of fewer, the best beam or the first sequences stay."""
        count, reason = read_value(self.probe(live), value)
        if count is None:
            raise SettingRefused(reason)
        change_loop(live, **{self.key: count})


_WRITES_NOTHING = "This model chooses no tokens, so there is nothing to decode."

BEAMS = Together(
    "beams", "decoding", "Beams", 16, "beams",
    "Finds likelier texts than greedy; every step computes all beams, and a token shows once they agree on it.",
    lossless=False,
)  # fmt: skip
BATCH = Together(
    "batch", "batch", "Sequences together", 64, "sequences",
    "More tokens a second in all, as weights are read once a step for every sequence; each step takes longer.",
    lossless=True,
)  # fmt: skip
