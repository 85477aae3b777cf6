"""What was compiled or captured for a model follows its other settings, and steps that it did not fit."""

from collections.abc import Iterator

from engine.protocol import SettingChange
from engine.runtime.live import LiveModel
from engine.runtime.replaying import why_not_cache
from engine.runtime.settings import compilation, cuda_graphs

_AS_NOW = "As things are now, the step cannot be captured"


def has_missed(live: LiveModel) -> bool:
    """Whether a step has run that what was compiled or captured did not fit."""
    return any(step is not None and step.missed is not None for step in (live.compiled, live.replayed))


def made_for_missed(live: LiveModel) -> tuple[SettingChange, ...]:
    """Compile and capture for the steps that were missed: a change each, with a reason where it was switched off."""
    return tuple(_made_for_missed(live))


def _made_for_missed(live: LiveModel) -> Iterator[SettingChange]:
    if live.compiled is not None and live.compiled.missed is not None:
        mode = live.compiled.mode
        reason = compilation.compile_missed(live)
        yield SettingChange("compile", mode, compilation.OFF if reason else mode, reason)
    if live.replayed is not None and live.replayed.missed is not None:
        reason = cuda_graphs.captured_or_off(live, _AS_NOW)
        yield SettingChange("cuda_graphs", "on", "off" if reason else "on", reason)


def adapted(live: LiveModel) -> tuple[SettingChange, ...]:
    """Compile and capture anew after settings or modules of the model have changed; what had to be switched off for it.

    To be called between two steps; only what is not made yet takes time.
    """
    return tuple(_adapted(live))


def _adapted(live: LiveModel) -> Iterator[SettingChange]:
    if live.compiled is not None:
        mode = live.compiled.mode
        if reason := compilation.recompile(live):
            yield SettingChange("compile", mode, compilation.OFF, reason)
    if live.replayed is not None:
        live.replayed.forget()
        live.replayed.missed = None
        if live.context is None or why_not_cache(live.context.cache):
            return
        if reason := cuda_graphs.captured_or_off(live, _AS_NOW):
            yield SettingChange("cuda_graphs", "on", "off", reason)
