"""The decode step as compiled code: made between two steps, never inside of one.

What is compiled is a step on a filled cache, as one graph, marks of the phases among its kernels: a step of one token,
and one that checks as many proposed tokens as the draft length says. (One graph and not one a region: what surrounds
each call of compiled code takes as long as several small kernels; on a host-bound model regions were slower than no
compilation at all.) Prefill and other steps of several tokens stay eager: they have a new shape each time, and their
matrix products leave little to gain.

While steps run, torch may use what is compiled but not compile (its stance is "eager_on_recompile"): a step that the
compiled code does not fit runs eagerly, is measured as that, and is remembered, so that `compile_missed` can compile
for it before the next. So the time of compiling is in no step.

Before each step torch asks whether what was compiled still holds: for a model of seven layers 1,900 questions, which
take a tenth of a step, most of them about modules and globals. These change by settings alone, and each of their
values has a version of its own here; what is left are the questions about what a step is called with, and its modes.
"""

import copy
import gc
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, EncoderDecoderCache

from engine.collecting import uncollected
from engine.runtime import graph_marks
from engine.user_directories import user_cache

if TYPE_CHECKING:
    from engine.runtime.live import LiveModel

#: Versions of a step (settings, kinds of cache) that are kept compiled, so that switching back costs nothing.
_VERSIONS = 64
#: The first compilation may find out that a length changes, and a second one is made for all lengths.
_TRIES = 4
#: Numbers in caches that change from step to step or between generations.
_CHANGING = r".*\.(max_cache_len|cumulative_length|cumulative_length_int)$"
#: What torch calls each mode: graphs of the device are recorded by "reduce-overhead" alone, so that marks stay alive.
_TORCH_MODES = {
    "default": "default",
    "reduce-overhead": "reduce-overhead",
    "max-autotune": "max-autotune-no-cudagraphs",
}


class CompiledStep:
    """A model's forward in two forms, compiled for steps that write, and as it was.

    `put_in` begins it, `take_out` ends it.

    `missed`: the arguments of the last decode step that the compiled code did not fit, or None.
    """

    def __init__(self, live: "LiveModel", mode: str) -> None:
        self.mode = mode
        self.missed: dict[str, Any] | None = None
        self._live = live
        self._ran_eagerly: list[bool] = []
        self._filled: weakref.ref[Cache] | None = None
        self._plain: Callable[..., Any] = live.model.forward
        self._compiled: dict[tuple[object, ...], Callable[..., Any]] = {}
        self._is_aside = False

    def _version(self, tokens: int) -> Callable[..., Any]:
        """The compiled function for what the model is now, and for steps of so many tokens.

        A function that has seen two numbers of tokens would be compiled for any, which is slower for one.
        """
        live = self._live
        key = (live.attention, tokens, live.weights.plan, live.detail, live.grad_mode)
        if key not in self._compiled:
            self._compiled[key] = torch.compile(
                self._told(f"decode_step_{len(self._compiled)}"),
                fullgraph=True,
                options={
                    **torch._inductor.list_mode_options(_TORCH_MODES[self.mode]),
                    "guard_filter_fn": _of_the_call,
                },
            )
        return self._compiled[key]

    def _told(self, name: str) -> Callable[..., Any]:
        """The plain forward that says when it was not compiled. What is compiled is kept by code: each has its own."""
        plain, ran_eagerly = self._plain, self._ran_eagerly

        def decode_step(**kwargs: Any) -> Any:
            if not torch.compiler.is_dynamo_compiling():
                ran_eagerly.append(True)
            return plain(**kwargs)

        code = decode_step.__code__.replace(co_name=name)
        return FunctionType(code, globals(), name, None, decode_step.__closure__)

    def put_in(self) -> None:
        """Give the model this forward. Take probes out before: they belong around it."""

        @wraps(self._plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            tokens = 0 if args else self._tokens(kwargs)
            if not tokens:
                return self._plain(*args, **kwargs)
            graph_marks.stamp_into(self._live.recorder)
            self._ran_eagerly.clear()
            if self._live.loop.speculation != "off":
                _make_contiguous(kwargs[self._live.cache_argument])
            output = self._version(tokens)(**_of_this_mode(kwargs))
            if self._ran_eagerly:
                self.missed = kwargs
            return output

        self._live.model.forward = forward
        torch.compiler.set_stance("eager_on_recompile")

    def take_out(self) -> None:
        """Give the model its own forward back. Take probes out before."""
        del self._live.model.forward
        self._filled = self.missed = None
        torch.compiler.set_stance("default")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, the model runs as it was: with some of its layers it is none that was compiled."""
        self._is_aside = True
        try:
            yield
        finally:
            self._is_aside = False

    def _tokens(self, arguments: dict[str, Any]) -> int:
        """How many tokens a step has that is compiled for; 0 for any other."""
        ids = arguments.get("decoder_input_ids", arguments.get("input_ids"))
        cache = arguments.get(self._live.cache_argument)
        if ids is None or self._is_aside or not isinstance(cache, Cache):
            return 0
        tokens: int = ids.shape[1]
        # the end of a prompt may be as long as a draft, but its logits are not asked for
        if tokens not in self.lengths() or arguments.get("logits_to_keep", tokens) != tokens:
            return 0
        if self._filled is None or self._filled() is not cache:
            if not is_filled(cache):
                return 0
            self._filled = weakref.ref(cache)
        return tokens

    def lengths(self) -> tuple[int, ...]:
        """The numbers of tokens of steps that are compiled for."""
        loop = self._live.loop
        checks = loop.speculation != "off" and loop.draft_length > 0
        return (1, 1 + loop.draft_length) if checks else (1,)

    def compile_for(self, arguments: dict[str, Any]) -> int:
        """Compile what a step with these arguments needs, on a copy of its cache. Returns how many graphs that made.

        It goes the way of a real step, through the probes: what they count belongs to what is compiled. Raises whatever
        the compiler raises.
        """
        before = _graphs()
        with _compiling():
            for _ in range(_TRIES):
                made = _graphs()
                self._live.model(**self._throwaway(arguments))
                if _graphs() == made:
                    break
        self.missed = None
        return _graphs() - before

    def _throwaway(self, arguments: dict[str, Any]) -> dict[str, Any]:
        from engine.runtime.rows import keep_past

        name = self._live.cache_argument
        cache = copy.deepcopy(arguments[name])
        if self._live.loop.speculation != "off":
            keep_past(cache)
            _make_contiguous(cache)
        _mark_growing(cache)
        return arguments | {name: cache}


def _of_the_call(questions: Sequence[Any]) -> list[bool]:
    """Which of torch's questions (GuardFilterEntry) are asked before each step: not those of modules and globals."""
    return [not (each.is_global or each.orig_guard.source.is_unspecialized_nn_module()) for each in questions]


def _of_this_mode(arguments: dict[str, Any]) -> dict[str, Any]:
    """The token as a tensor of the autograd mode in force: the first one after a switch was chosen in the other."""
    name = "input_ids" if arguments.get("input_ids") is not None else "decoder_input_ids"
    if arguments[name].is_inference() == torch.is_inference_mode_enabled():
        return arguments
    return arguments | {name: arguments[name].clone()}


def is_filled(cache: Cache) -> bool:
    """Whether every layer holds something."""
    if isinstance(cache, EncoderDecoderCache):
        return is_filled(cache.self_attention_cache) and is_filled(cache.cross_attention_cache)
    return bool(cache.layers) and all(getattr(layer, "is_initialized", True) for layer in cache.layers)


def _make_contiguous(cache: Cache) -> None:
    """Lay out keys and values anew where tokens were taken out behind them: compiled code is made for strides.

    (Views of all kinds would ask for a version each, and an early exit leaves some in half of the layers. The step
    copies what is cached anyway, to add to it.)
    """
    for layer in cache.layers:
        for name in ("keys", "values"):
            kept = vars(layer).get(name)
            if isinstance(kept, torch.Tensor) and not kept.is_contiguous():
                setattr(layer, name, kept.contiguous())


def _mark_growing(cache: Cache) -> None:
    """Say that the lengths of keys and values change: one graph for all of them."""
    if isinstance(cache, EncoderDecoderCache):
        _mark_growing(cache.self_attention_cache)
        _mark_growing(cache.cross_attention_cache)
        return
    for layer in cache.layers:
        kept = vars(layer)
        packed = [kept[name][0] for name in ("_quantized_keys", "_quantized_values") if kept.get(name)]
        for tensor in (kept.get("keys"), kept.get("values"), *packed):
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 4:
                torch._dynamo.maybe_mark_dynamic(tensor, 2)


def _graphs() -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@contextmanager
def _compiling() -> "Iterator[None]":
    """Inside, torch may compile; what it makes is kept on this user's disk for the next time.

    Models that are gone are collected before, and none in the middle: taking out what was wrapped for one (`shared`)
    would change functions that are being compiled.
    """
    from torch._dynamo import config as dynamo

    settings: Any = torch.compiler.config

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory()))
    gc.collect()
    with (
        uncollected(),
        torch.compiler.set_stance("default"),
        dynamo.patch(recompile_limit=_VERSIONS),
        settings.patch(dynamic_sources=_CHANGING),
    ):
        yield


def cache_directory() -> Path:
    """Where compiled code is kept for the next time."""
    return user_cache() / "inductor"
