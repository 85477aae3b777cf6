"""How the work is done: how many CPU threads take part, and how a long prompt is cut into prefill steps."""

import os

import psutil
import torch

from engine.protocol import SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import agree, first_layers, first_sentence, run_trial
from engine.runtime.settings.values import read_value

DEFAULT_CHUNK = 512


class Threads:
    """CPU threads inside of one operation. Must be set on the thread that runs the model."""

    key = "threads"

    def probe(self, live: LiveModel) -> SettingFacts:
        """One thread up to all that this process may use; by default one core is left to the window."""
        return SettingFacts(
            key=self.key,
            family="execution",
            label="CPU threads",
            kind="integer",
            default=default_threads(),
            minimum=1,
            maximum=max(usable_processors(), torch.get_num_threads()),
            unit="threads",
            expected="More threads shorten prefill; decoding stops gaining once memory is the limit,"
            " and with all cores busy the window disturbs the measurement.",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """Threads that torch uses now."""
        return torch.get_num_threads()

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Takes effect at once."""
        count, reason = read_value(self.probe(live), value)
        if count is None:
            raise SettingRefused(reason)
        torch.set_num_threads(int(count))


def default_threads() -> int:
    """One thread less than there are physical cores: the window has a core of its own then."""
    usable = usable_processors()
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable) - 1)


def usable_processors() -> int:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class PrefillChunk:
    """Prompt tokens of one prefill step; 0 is the whole prompt at once."""

    key = "prefill_chunk"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Tried on eight tokens, at once and in two chunks: some models drop their state between chunks."""
        reason = _why_whole(live)
        return SettingFacts(
            key=self.key,
            family="execution",
            label="Prefill chunk",
            kind="integer",
            default=0 if reason else DEFAULT_CHUNK,
            minimum=0,
            maximum=0 if reason else max(live.facts.context_limit, DEFAULT_CHUNK),
            increment=64,
            unit="tokens",
            expected="Smaller chunks answer pause and stop sooner in a long prompt, and take longer in all;"
            " 0 takes the whole prompt in one step.",
            reason=reason,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """Tokens a chunk; 0 for the whole prompt."""
        return live.prefill_chunk

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next prefill step. Whether the model takes chunks was probed when it was loaded."""
        size, _ = read_value(SettingFacts(self.key, "", "Prefill chunk", "integer", 0, maximum=2**31), value)
        if size is None:
            raise SettingRefused(
                f"A prefill chunk has at least one token, or 0 for the whole prompt, not '{value}'."
            )
        live.prefill_chunk = int(size)


def _why_whole(live: LiveModel) -> str:
    """Why a prompt has to be prefilled in one piece on this model; "" when it may be cut."""
    if live.anatomy.encoder is not None:
        return "An encoder reads the prompt in one piece: every token of it attends to all the others."
    if not live.cache_argument:
        return "Without a cache to keep the chunks before, the prompt has to be prefilled whole."
    try:
        with first_layers(live):
            if agree(live, run_trial(live, (8,)), run_trial(live, (4, 4))[-1:]):
                return ""
    except Exception as error:  # whatever a model raises is the reason
        return f"A prompt has to be prefilled whole, since a second chunk fails: {first_sentence(error)}."
    return (
        "On this model a prompt has to be prefilled whole: its layers drop their state between chunks of more"
        " than one token, which would change the text."
    )
