"""The decode step as compiled code: made between two steps, never inside of one.

What is compiled is a step on a filled cache, as one graph, marks of the phases among its kernels: a step of one token,
and one that checks as many proposed tokens as the draft length says. Where that cannot be done, or marks get lost on
the way, its regions are compiled each for itself (see `regions`), the stamps between them. (One graph comes first: what
surrounds each call of compiled code takes as long as several small kernels; on a host-bound model regions were slower
than no compilation at all.) Prefill and other steps of several tokens stay eager: they have a new shape each time, and
their matrix products leave little to gain.

A step that the compiled code does not fit runs eagerly, is measured as that, and is remembered, so that it can be
compiled for before the next. So the time of compiling is in no step.
"""

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, EncoderDecoderCache

from engine.runtime import graph_marks
from engine.runtime.compiled_code import compiled, compiling, graphs
from engine.runtime.regions import Regions
from engine.trace.phases import Detail

if TYPE_CHECKING:
    from engine.runtime.live import LiveModel

#: The first compilation may find out that a length changes, and a second one is made for all lengths.
_TRIES = 4
_CORE = " Attention runs uncompiled at this level of detail, so that its core is told apart."


class MarksLost(Exception):
    """Compiled code does not stamp as eager code does. The message says so, for people."""


class CompiledStep:
    """A model's forward in two forms, compiled for steps that write, and as it was.

    `put_in` begins it, `take_out` ends it.

    `missed`: the arguments of the last decode step that the compiled code did not fit, or None. `said`: what people
    were told of how it is compiled.
    """

    def __init__(self, live: "LiveModel", mode: str) -> None:
        self.mode = mode
        self.missed: dict[str, Any] | None = None
        self.said = ""
        self._live = live
        self._ran_eagerly: list[bool] = []
        self._filled: weakref.ref[Cache] | None = None
        self._plain: Callable[..., Any] = live.model.forward
        self._compiled: dict[tuple[object, ...], Callable[..., Any]] = {}
        self._regions = Regions(mode)
        self._by_region: dict[tuple[object, ...], str] = {}  # versions, each with why
        self._is_aside = False
        self._may_compile = False

    def _version(self, tokens: int) -> tuple[object, ...]:
        """What is compiled for: the model as it is now, and steps of so many tokens.

        A function that has seen two numbers of tokens would be compiled for any, which is slower for one.
        """
        live = self._live
        return (live.attention, tokens, live.weights.plan, live.detail, live.grad_mode)

    def _one_graph(self, version: tuple[object, ...]) -> Callable[..., Any]:
        if version not in self._compiled:
            name = f"decode_step_{len(self._compiled)}"
            self._compiled[version] = compiled(self._plain, name, self.mode, self._ran_eagerly)
        return self._compiled[version]

    def put_in(self) -> None:
        """Give the model this forward. Take probes out before: they belong around it."""

        @wraps(self._plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            tokens = 0 if args else self._tokens(kwargs)
            if not tokens:
                return self._plain(*args, **kwargs)
            if self._live.loop.speculation != "off":
                _make_contiguous(kwargs[self._live.cache_argument])
            output, fitted = self._run(self._version(tokens), _of_this_mode(kwargs))
            if not fitted:
                self.missed = kwargs
            return output

        self._live.model.forward = forward
        self.follow()
        torch.compiler.set_stance("eager_on_recompile")

    def _run(self, version: tuple[object, ...], arguments: dict[str, Any]) -> tuple[Any, bool]:
        """The output of a step, and whether all of it ran as compiled code that could."""
        if version in self._by_region:
            with self._regions.in_force(version, self._live.detail, self._may_compile) as ran_eagerly:
                return self._plain(**arguments), not ran_eagerly
        graph_marks.stamp_into(self._live.recorder)
        self._ran_eagerly.clear()
        return self._one_graph(version)(**arguments), not self._ran_eagerly

    def take_out(self) -> None:
        """Give the model its own forward back. Take probes out before."""
        self._regions.take_out()
        del self._live.model.forward
        self._filled = self.missed = None
        self.said = ""
        torch.compiler.set_stance("default")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside, the model runs as it was: with some of its layers it is none that was compiled."""
        was_aside, self._is_aside = self._is_aside, True
        try:
            yield
        finally:
            self._is_aside = was_aside

    def _tokens(self, arguments: dict[str, Any]) -> int:
        """How many tokens a step has that is compiled for; 0 for any other."""
        cache = arguments.get(self._live.cache_argument)
        tokens = _count(arguments)
        if not tokens or self._is_aside or not isinstance(cache, Cache):
            return 0
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

    # ------------------------------------------------------------ compiling

    def compile_for(self, arguments: dict[str, Any]) -> int:
        """Compile what a step with these arguments needs, on a copy of its cache. Returns how many graphs that made.

        It goes the way of a real step, through the probes: what they count belongs to what is compiled. Raises whatever
        the compiler raises; MarksLost where compiled code does not stamp what eager code does.
        """
        before = graphs()
        with self.aside():
            expected = self._codes(arguments)
        with compiling(), self._compiles():
            for _ in range(_TRIES):
                made = graphs()
                codes = self._codes(arguments)
                if graphs() == made:
                    break
        if codes != expected:
            raise MarksLost("compiled code does not stamp where its phases begin and end")
        if self.is_by_region(arguments) and (
            error := self._regions.why_none(self._version(_count(arguments)))
        ):
            raise error
        self.missed = None
        return graphs() - before

    def _codes(self, arguments: dict[str, Any]) -> list[int]:
        """What a step on a copy of the cache stamps."""
        recorder = self._live.recorder
        place = recorder.place()
        self._live.model(**self._throwaway(arguments))
        codes = recorder.codes[place:].tolist()
        recorder.forget(place)
        return codes

    @contextmanager
    def _compiles(self) -> Iterator[None]:
        self._may_compile = True
        try:
            yield
        finally:
            self._may_compile = False

    def _throwaway(self, arguments: dict[str, Any]) -> dict[str, Any]:
        from engine.runtime.rows import keep_past

        name = self._live.cache_argument
        cache = copy.deepcopy(arguments[name])
        if self._live.loop.speculation != "off":
            keep_past(cache)
            _make_contiguous(cache)
        _mark_growing(cache)
        return arguments | {name: cache}

    # ------------------------------------------------------------ by region

    def is_by_region(self, arguments: dict[str, Any]) -> bool:
        """Whether a step with these arguments runs region by region."""
        return self._version(_count(arguments)) in self._by_region

    def go_by_region(self, arguments: dict[str, Any], why: str) -> None:
        """From now on steps like the one with these arguments run region by region. Take probes out before.

        `why` they cannot be one graph.
        """
        self._by_region[self._version(_count(arguments))] = why
        self.follow()

    def go_as_one(self, arguments: dict[str, Any]) -> None:
        """Undo `go_by_region`."""
        self._by_region.pop(self._version(_count(arguments)), None)

    @property
    def _goes_by_region(self) -> bool:
        """Whether a step of some length does, as things are now."""
        return any(self._version(tokens) in self._by_region for tokens in self.lengths())

    @property
    def fits(self) -> bool:
        """Whether regions are in place, at the model's parts as they are now, exactly where steps go by region."""
        return self._regions.fit(self._live.anatomy if self._goes_by_region else None)

    def follow(self) -> None:
        """Make it fit. Take probes out before."""
        self._regions.take_out()
        if self._goes_by_region:
            self._regions.put_in(self._live.anatomy)

    def told(self) -> str:
        """How steps are compiled as things are now, in sentences; "" where they are one graph, as usual."""
        for version in map(self._version, self.lengths()):
            if version in self._by_region:
                regions, why = self._regions.told(version), self._by_region[version]
                core = self._live.detail is Detail.CORE
                return (
                    f"Compiled region by region ({regions}), since it cannot be one graph: {why}."
                    + _CORE * core
                )
        return ""


def _count(arguments: dict[str, Any]) -> int:
    """How many tokens a step has; 0 where it is not given them by their ids."""
    ids = arguments.get("decoder_input_ids", arguments.get("input_ids"))
    return 0 if ids is None else int(ids.shape[1])


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
