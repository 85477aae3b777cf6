"""Whether decode steps run as compiled code (torch.compile): one graph a step, the phases marked inside of it.

Where that cannot be, the regions between the marks are compiled each for itself; which way was gone, and why, is told.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any

import torch
from transformers import Cache

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.caches import new_cache
from engine.runtime.compiling import CompiledStep, is_filled
from engine.runtime.faults import is_lost
from engine.runtime.feeding import Feeding, next_step
from engine.runtime.live import Context, LiveModel
from engine.runtime.probing import without_probes
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import first_sentence, made_or_undone
from engine.trace.calibration import SECOND_NS
from engine.trace.phases import Detail

OFF = "off"
#: Tokens of a prompt that is only there to fill a throwaway cache, and all that the cache has room for.
_FEW, _ROOM = 3, 24
_LABELS = {
    OFF: "Off (eager)",
    "default": "Compiled",
    "reduce-overhead": "Compiled, CUDA graphs",
    "max-autotune": "Compiled, autotuned",
}
_PRICE = (
    "Such a call takes as long as several small operations: a model that waits for launches is slower for it."
)
_EXPECTED = {
    OFF: "Each operation is launched by Python, one by one.",
    "default": "Takes away what Python costs: up to half of a step of a tiny model, a tenth of one that reads weights.",
    "reduce-overhead": "Also replays the whole step as one launch; nothing inside of it can be told apart then.",
    "max-autotune": "Also times several kernels for each matrix product: compiling takes much longer.",
}


class NeitherWay(Exception):
    """A step can be compiled neither as one graph nor region by region. The message says why, without a full stop."""


class Compile:
    """How decode steps are compiled, and steps that check drafts of a fixed length.

    Prefill stays eager: it has a new shape each time and is bound by its products.
    """

    key = "compile"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Whether there is a compiler; whether the model can be compiled is found out when it is."""
        reason = why_not(live)
        return SettingFacts(
            key=self.key,
            family="execution",
            label="Compilation",
            kind="choice",
            default=OFF,
            choices=tuple(
                Choice(
                    mode, label, "" if mode == OFF else reason or _why_not_mode(live, mode), _EXPECTED[mode]
                )
                for mode, label in _LABELS.items()
            ),
            expected="Fuses the small operations of a decode step; the switch waits for the compiler, up to minutes."
            + _how(live),
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The mode in force."""
        return OFF if live.compiled is None else live.compiled.mode

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Compile now, on a copy of the running generation's cache, or give the model its own forward back."""
        mode, before = str(value), str(self.current(live))
        if mode not in _LABELS:
            raise SettingRefused(f"There is no compilation '{mode}': choose {', '.join(_LABELS)}.")
        if mode != OFF and (reason := why_not(live) or _why_not_mode(live, mode)):
            raise SettingRefused(reason)
        exchange(live, mode)
        if mode == OFF:
            return
        if reason := _compiled_or(live, before, "This model's step cannot be compiled here"):
            raise SettingRefused(reason)


def exchange(live: LiveModel, mode: str) -> None:
    """Give the model the forward of a mode, not compiled yet; "off" is its own."""
    with without_probes(live):
        if live.compiled is not None:
            if live.compiled.said:
                live.untried.add(Compile.key)  # how it was compiled is no fact any more
            live.compiled.take_out()
            live.compiled = None
        if mode != OFF:
            step = live.compilations.setdefault(mode, CompiledStep(live, mode))
            step.put_in()
            live.compiled = step


def compile_now(live: LiveModel) -> None:
    """Compile what the next steps need, as settings and modules are now. Raises what the compiler raises."""
    step = live.compiled
    assert step is not None
    live.tell("compiling the decode step")
    begin_ns = perf_counter_ns()
    if not step.fits:
        with without_probes(live):
            step.follow()
    with live.forward_mode():
        for arguments in [step.missed] if step.missed is not None else _coming(live, step):
            _compile_for(live, step, arguments)
    how = step.told()
    if how != step.said:
        step.said = how
        live.untried.add(Compile.key)  # the facts of this setting are others now
        took_s = (perf_counter_ns() - begin_ns) / SECOND_NS
        live.notice(f"{how or 'Compiled as one graph.'} Compiling took {took_s:.1f} s.", Compile.key)


def _compile_for(live: LiveModel, step: CompiledStep, arguments: dict[str, Any]) -> None:
    """Compile a step as one graph or, where that cannot be, region by region. Raises what the compiler raises."""
    if step.is_by_region(arguments):
        step.compile_for(arguments)
        return
    try:
        step.compile_for(arguments)
        return
    except Exception as error:  # whatever the compiler raises
        no_reason = is_lost(error) or isinstance(error, torch.OutOfMemoryError | MemoryError)
        if no_reason or step.mode == "reduce-overhead":  # which is of one graph
            raise
        first, why = error, said(error)
    live.tell(f"compiling region by region ({why})")
    with without_probes(live):
        step.go_by_region(arguments, why)
    try:
        step.compile_for(arguments)
    except Exception as error:
        step.go_as_one(arguments)
        if is_lost(error) or said(error) == why:
            raise
        sentence = f"{why}; nor can its regions ({said(error)})"
        if live.detail is not Detail.STEP:
            sentence += "; only at detail 'step', with nothing inside of it told apart, may it still be"
        raise NeitherWay(sentence) from first


def _how(live: LiveModel) -> str:
    """In which way steps are compiled now, where that is not the usual one."""
    how = "" if live.compiled is None else live.compiled.told()
    return f" {how} {_PRICE}" if how else ""


def _coming(live: LiveModel, step: CompiledStep) -> Iterator[dict[str, Any]]:
    """The calls of each kind of step that may come next and is compiled for."""
    context = _filled_context(live)
    for tokens in step.lengths():
        if context.cached + tokens <= context.capacity:
            yield next_step(live, context, tokens)


def _filled_context(live: LiveModel) -> Context:
    """The running generation's, or one of a few tokens whose cache is filled for this."""
    running = live.context
    if running is not None and isinstance(running.cache, Cache) and is_filled(running.cache):
        return running
    context = Context([], _ROOM, new_cache(live, live.cache_kind, _ROOM))
    prompt = torch.arange(1, _FEW + 1, device=live.device).unsqueeze(0)
    if live.anatomy.encoder is not None:
        context.encoded = live.anatomy.encoder(input_ids=prompt)
    feeding = Feeding(live, context)
    feeding.count(live.model(**feeding.arguments(prompt, live.cache_kind)), prompt, live.cache_kind)
    return context


def recompile(live: LiveModel) -> str:
    """Compile again after settings or modules of the model have changed; only what is not compiled yet takes time.

    To be called between two steps. Returns why compilation had to be switched off, or "".
    """
    if live.compiled is None:
        return ""
    live.compiled.missed = None  # what it was called with belongs to how things were
    return compile_missed(live)


def compile_missed(live: LiveModel) -> str:
    """Compile for the step that the compiled code did not fit. Returns why that had to be switched off, or ""."""
    return _compiled_or(live, OFF, "As things are now, the step cannot be compiled")


def _compiled_or(live: LiveModel, instead: str, what: str) -> str:
    """Compile; where that fails, the other mode is in force, and why: a sentence that begins with `what`."""
    return made_or_undone(lambda: compile_now(live), lambda: exchange(live, instead), what, said)


def said(error: BaseException) -> str:
    """What a compiler's error says: torch puts the reason of some below a headline."""
    if isinstance(error, NeitherWay):
        return str(error)
    has_headline = str(error).startswith("backend=") or "when running FX node" in str(error)
    return first_sentence(error.__cause__ if has_headline and error.__cause__ else error)


def why_not(live: LiveModel) -> str:
    """Why nothing can be compiled for this model here; "" when it may be tried."""
    if live.cache_argument in ("", "state"):
        return "Only decode steps on a KV cache are compiled, and this model has none."
    if live.facts.placement:
        return "The layers are split over several devices: load the model on one device to compile it."
    if live.device.type == "cpu" and not _compiler():
        return "There is no C++ compiler, which torch needs to compile for the CPU: install g++ or clang."
    return ""


def _why_not_mode(live: LiveModel, mode: str) -> str:
    if mode == "reduce-overhead" and live.device.type != "cuda":
        return "CUDA graphs are recorded on a CUDA device; elsewhere this is the same as plain compilation."
    return ""


def _compiler() -> str | None:
    """A C++ compiler, as torch looks for one."""
    names = ("cl",) if sys.platform == "win32" else ("g++", "clang++", "c++")
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), *names)))), None)
