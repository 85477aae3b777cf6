"""Whether decode steps are captured as a CUDA graph and replayed: one launch a token instead of hundreds."""

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.feeding import next_step
from engine.runtime.live import LiveModel
from engine.runtime.probing import without_probes
from engine.runtime.replaying import ReplayedStep, why_not_cache
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.kv_cache import why_not as why_no_cache
from engine.runtime.settings.trial import made_or_undone
from engine.trace.phases import Detail

_VALUES = ("off", "on")


class CudaGraphs:
    """Replay of decode steps. Prefill stays as it is."""

    key = "cuda_graphs"

    def probe(self, live: LiveModel) -> SettingFacts:
        """By device and family; whether a step can be captured is found out when it is."""
        reason = why_not(live)
        return SettingFacts(
            key=self.key,
            family="execution",
            label="CUDA graphs",
            kind="choice",
            default="off",
            choices=(
                Choice("off", "Off", "", "Python launches each kernel of each step."),
                Choice("on", "On", reason, "One launch a step: wins where the device waits for Python."),
            ),
            expected="Takes launch time out of a decode step. It is captured twice: the clock of one graph is read"
            " while the other runs.",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """Whether steps are replayed."""
        return "off" if live.replayed is None else "on"

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Capture a step on the running generation's cache, or on that of the next one as soon as it is filled."""
        if value not in _VALUES:
            raise SettingRefused(f"CUDA graphs are on or off, not '{value}'.")
        if value == "on" and (reason := why_not(live)):
            raise SettingRefused(reason)
        exchange(live, value == "on")
        if live.replayed is None or live.context is None or why_not_cache(live.context.cache):
            return
        if reason := captured_or_off(live, "This model's step cannot be captured"):
            raise SettingRefused(reason)


def exchange(live: LiveModel, on: bool) -> None:
    """Give the model the forward that replays, nothing captured yet, or its own."""
    with without_probes(live):
        if live.replayed is not None:
            live.replayed.take_out()
            live.replayed = None
        if on:
            step = ReplayedStep(live)
            step.put_in()
            live.replayed = step


def capture_now(live: LiveModel) -> None:
    """Capture the step that missed a graph, or the next of the running generation. Raises what the device raises."""
    step = live.replayed
    assert step is not None
    assert live.context is not None
    live.tell("capturing the decode step")
    with live.forward_mode():
        step.capture_for(step.missed or next_step(live, live.context))
    if step.blind and live.detail is not Detail.STEP:
        live.notice(f"Nothing inside of a replayed step is told apart: {step.blind}.", "cuda_graphs")


def captured_or_off(live: LiveModel, what: str) -> str:
    """Capture; where that fails, nothing is replayed any more, and why: a sentence that begins with `what`."""
    return made_or_undone(lambda: capture_now(live), lambda: exchange(live, False), what)


def why_not(live: LiveModel) -> str:
    """Why steps cannot be replayed for this model here; "" when it may be tried."""
    if live.device.type != "cuda":
        return "CUDA graphs need a CUDA device: nothing is launched from afar on this one."
    if live.facts.placement:
        return "The layers are split over several devices: load the model on one device to capture its step."
    if live.anatomy.encoder is not None:
        return "In an encoder–decoder the length of what was read is new with each prompt: nothing can be replayed."
    return why_no_cache(live, "static")
