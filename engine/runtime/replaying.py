"""The decode step as one launch: captured as a CUDA graph on a static cache, replayed for every token.

A replay runs no Python inside of the step, so nothing can be stamped on the host. Instead each mark records an event
that becomes a node of the graph (an "external" one). Every replay records the same events anew: they are read before
the next one, and placed on the host's clock backwards from the moment at which the last of them is known to be over.
"""

import weakref
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, EncoderDecoderCache
from transformers.cache_utils import StaticLayer

from engine.runtime import graph_marks
from engine.runtime.positions import next_positions

if TYPE_CHECKING:
    from engine.runtime.live import LiveModel

_WARM_UPS = 3  # libraries choose kernels and take workspace in the first calls, which a capture may not
NS_PER_MS = 1_000_000


class CudaCapture:
    """What a replayed step needs of the device: events that graphs keep, and a graph of a function."""

    def event(self) -> Any:
        """An event that is recorded now, on the stream or in the graph that is being captured."""
        event = torch.cuda.Event(enable_timing=True, external=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def end(self) -> Any:
        """An event behind everything that was launched, waited for."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        event.synchronize()
        return event

    def warm_up(self, function: Callable[[], Any]) -> None:
        """Call the function on a stream of its own, as capturing wants it."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)

    def graph(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """How to replay the function, and its output, which every replay overwrites."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = function()
        return graph.replay, output


#: What a captured graph reads anew at each step.
NEW_EACH_STEP = ("input_ids", "position_ids")


class ReplayedStep:
    """A model's forward that replays decode steps. Made by `put_in`, ended by `take_out`.

    `missed`: the arguments of a decode step for which there was no graph, or None.
    """

    def __init__(self, live: "LiveModel", device: CudaCapture | None = None) -> None:
        self.missed: dict[str, Any] | None = None
        self._live = live
        self._device = device or CudaCapture()
        self._plain: Callable[..., Any] = live.model.forward
        self._captured: _Captured | None = None
        self._capturing = False

    def put_in(self) -> None:
        """Give the model this forward. Take probes out before: they belong around it."""

        @wraps(self._plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if args or self._capturing or not self._is_decode_step(kwargs):
                return self._plain(*args, **kwargs)
            if self._captured is None or not self._captured.fits(kwargs, self._live.cache_argument):
                self.missed = kwargs
                return self._plain(**kwargs)
            return self._captured.replay(kwargs, self._live.recorder)

        self._live.model.forward = forward

    def take_out(self) -> None:
        """Give the model its own forward back. Take probes out before."""
        del self._live.model.forward
        self._captured = self.missed = None

    def forget(self) -> None:
        """Let the graph go: what it computes is not what the model computes any more."""
        self._captured = None

    def _is_decode_step(self, arguments: dict[str, Any]) -> bool:
        ids = arguments.get("input_ids")
        cache = arguments.get(self._live.cache_argument)
        return (
            ids is not None and ids.shape[1] == 1 and isinstance(cache, Cache) and why_not_cache(cache) == ""
        )

    def example(self) -> dict[str, Any]:
        """Arguments of the next decode step of the running generation, as the loop gives them."""
        live, context = self._live, self._live.context
        assert context is not None
        arguments: dict[str, Any] = {
            "input_ids": torch.ones((1, 1), dtype=torch.long, device=live.device),
            "use_cache": True,
            live.cache_argument: context.cache,
        }
        arguments |= next_positions(live, context.cached)
        return arguments | ({"logits_to_keep": 1} if live.keeps_logits else {})

    def capture_for(self, arguments: dict[str, Any]) -> None:
        """Capture a step on this cache. What warming up writes into it lies behind what counts, and is overwritten.

        It goes the way of a real step, through the probes: they count layers. Raises what the device raises where
        something in the step cannot be captured.
        """
        cache = arguments[self._live.cache_argument]
        fixed = arguments | {name: arguments[name].clone() for name in NEW_EACH_STEP if name in arguments}
        lengths = [layer.cumulative_length.clone() for layer in cache.layers]

        def restore() -> None:
            for layer, length in zip(cache.layers, lengths, strict=True):
                layer.cumulative_length.copy_(length)

        def function() -> Any:
            restore()  # each call finds the same room, however little is left
            return self._live.model(**fixed)

        self._capturing = True
        try:
            self._device.warm_up(function)
            restore()
            marks: list[tuple[int, Any]] = []
            with graph_marks.captured(lambda code: marks.append((code, self._device.event()))):
                replay, output = self._device.graph(lambda: self._live.model(**fixed))
        finally:
            self._capturing = False
            restore()
        self._captured = _Captured(self._device, fixed, weakref.ref(cache), replay, output, marks)
        self.missed = None


class _Captured:
    """A graph, and what it was captured with."""

    def __init__(
        self,
        device: CudaCapture,
        arguments: dict[str, Any],
        cache: "weakref.ref[Cache]",
        replay: Callable[[], None],
        output: Any,
        marks: Sequence[tuple[int, Any]],
    ) -> None:
        self._device = device
        self._arguments = arguments
        self._cache = cache
        self._replay = replay
        self._output = output
        self._codes = [code for code, _ in marks]
        self._events = [event for _, event in marks]

    def fits(self, arguments: dict[str, Any], cache_argument: str) -> bool:
        """Whether a step with these arguments is the captured one, but for the token and its place."""
        same_tokens = arguments["input_ids"].shape == self._arguments["input_ids"].shape
        return (
            self._cache() is arguments[cache_argument]
            and same_tokens
            and arguments.keys() == self._arguments.keys()
        )

    def replay(self, arguments: dict[str, Any], recorder: Any) -> Any:
        """Run the step; its marks are recorded as if they had been stamped."""
        for name in NEW_EACH_STEP:
            if name in arguments:
                self._arguments[name].copy_(arguments[name])
        launch_ns = recorder.clock()
        self._replay()
        end = self._device.end()
        end_ns = recorder.clock()
        before_end_ms = [event.elapsed_time(end) for event in self._events]
        recorder.codes.extend(self._codes)
        recorder.times.extend(placed(before_end_ms, launch_ns, end_ns))
        return self._output


def placed(before_end_ms: Sequence[float], launch_ns: int, end_ns: int) -> list[int]:
    """Times of events on the host's clock (ns), from how long before the end they were, in order and not before launch.

    (Two clocks never agree to the last digit: what would lie before the launch, or before its forerunner, is moved.)
    """
    times, last = [], launch_ns
    for before in before_end_ms:
        last = min(max(last, end_ns - round(before * NS_PER_MS)), end_ns)
        times.append(last)
    return times


def why_not_cache(cache: Any) -> str:
    """Why a step on this cache cannot be replayed; "" when it may be tried."""
    if isinstance(cache, EncoderDecoderCache):
        return "In an encoder–decoder the length of what was read is new with each prompt: nothing can be replayed."
    layers = getattr(cache, "layers", ())
    if not layers or not all(type(layer) is StaticLayer for layer in layers):
        return "A replayed step writes to the same memory each time, so every layer needs a static cache of all tokens."
    if not all(layer.is_initialized for layer in layers):
        return "The cache is empty: there is no step to capture yet."
    return ""
