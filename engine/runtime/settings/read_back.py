"""Whether a token is waited for before the next step is launched."""

from engine.protocol import Choice, Family, SettingFacts, SettingValue
from engine.runtime.live import LiveModel, Loop
from engine.runtime.pipelining import PIPELINED
from engine.runtime.read_back import why_not_from
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.loop import change_loop
from engine.runtime.settings.speculation import why_not_taken_back
from engine.runtime.settings.trial import first_layers
from engine.runtime.settings.values import read_value

SYNCHRONOUS = Loop().read_back


class ReadBack:
    """How tokens come to the host."""

    key = "read_back"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Tried: a step beyond the end is taken back, and what follows has to be as if it had never been."""
        return self._facts(_why_not(live))

    def _facts(self, reason: str = "") -> SettingFacts:
        return SettingFacts(
            key=self.key,
            family="execution",
            label="Read-back",
            kind="choice",
            default=SYNCHRONOUS,
            choices=(
                Choice(
                    SYNCHRONOUS,
                    "Synchronous",
                    "",
                    "Each token is on the host before the next step is launched.",
                ),
                Choice(
                    PIPELINED,
                    "Pipelined",
                    reason,
                    "The next step is launched first, and each token read with it; behind an end token that one step"
                    " is surplus, and taken back.",
                ),
            ),
            expected="Pipelined hides the wait for each token behind the next step's launches on a device; on a CPU"
            " there is next to nothing to hide, so no gain is to be expected there, and tokens show a step later.",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """What is in force."""
        return live.loop.read_back

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next decode step."""
        wanted, reason = read_value(self._facts(), value)
        if wanted is None:
            raise SettingRefused(reason)
        if wanted == PIPELINED and (reason := _why_never(live)):
            raise SettingRefused(reason)
        change_loop(live, read_back=wanted)


def _why_not(live: LiveModel) -> str:
    """Why this model's next step cannot be launched before a token is on the host; "" when it can."""
    if reason := _why_never(live):
        return reason
    if live.facts.family is Family.ENCODER:
        return ""
    with first_layers(live):
        return why_not_taken_back(live)


def _why_never(live: LiveModel) -> str:
    """The same, by structure alone."""
    if live.facts.family is Family.ENCODER:
        return ""  # see `suited`
    if live.facts.family is Family.ENCODER_DECODER:
        return "The rules that an encoder–decoder's answers follow need every token on the host before the next one."
    if live.cache_argument == "state":
        return (
            "This model keeps a state that cannot go back, so a step beyond the end could not be taken back."
        )
    if not live.cache_argument:
        return "Without a KV cache a step is fed all of the text, which has to be on the host for that."
    if live.facts.placement:
        return "The layers are split over several devices: load the model on one device to change this."
    return why_not_from(live.device)
