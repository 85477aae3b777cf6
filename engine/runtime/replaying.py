"""The decode step as one launch: captured as a CUDA graph on a static cache, replayed for every token.

A replay runs no Python inside of the step, so nothing can be stamped on the host. Instead each mark records an event
that becomes a node of the graph (an "external" one); the device's clock reads it like those that are recorded at stamps
(see `device_clock`). Every replay records the same events anew, so the step is captured twice, and the two graphs take
turns: the events of one are read while the other runs. On the host all marks of a replay were launched at once.

Where events cannot be captured (old drivers), or the device keeps no time, the step is captured without them: then it
is told that nothing inside of a replayed step is told apart.
"""

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from transformers import Cache, EncoderDecoderCache
from transformers.cache_utils import StaticLayer

from engine.runtime import graph_marks
from engine.runtime.clocks import StampRecorder
from engine.runtime.device_clock import DeviceRecorder
from engine.runtime.faults import is_lost
from engine.runtime.models.errors import first_line

if TYPE_CHECKING:
    from engine.runtime.live import LiveModel

_WARM_UPS = 3  # libraries choose kernels and take workspace in the first calls, which a capture may not
_TURNS = 2  # graphs of the same step


class CudaCapture:
    """What a replayed step needs of the device: events that graphs keep, and graphs of a function."""

    def __init__(self) -> None:
        self._pool: Any = None

    def event(self) -> Any:
        """An event that is recorded now, on the stream or in the graph that is being captured."""
        event = torch.cuda.Event(enable_timing=True, external=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def warm_up(self, function: Callable[[], Any]) -> None:
        """Call the function on a stream of its own, as capturing wants it. What is captured next has memory of its own:
        that of graphs that are gone cannot be asked for again.
        """
        self._pool = None
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)

    def graph(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """How to replay the function, and its output, which every replay overwrites: also those of the other graphs,
        which share its memory since only one of them runs at a time.
        """
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = function()
        self._pool = graph.pool()
        return graph.replay, output


#: What a captured graph reads anew at each step.
NEW_EACH_STEP = ("input_ids", "position_ids")


class ReplayedStep:
    """A model's forward that replays decode steps. Made by `put_in`, ended by `take_out`.

    `missed`: the arguments of a decode step for which there was no graph, or None. `blind`: why nothing inside of a
    replayed step is told apart, "" where it is (or nobody asked for it).
    """

    def __init__(self, live: "LiveModel", device: CudaCapture | None = None) -> None:
        self.missed: dict[str, Any] | None = None
        self.blind = ""
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

        def capture(with_marks: bool) -> _Graph:
            restore()
            return self._graph(lambda: self._live.model(**fixed), with_marks)

        self._capturing = True
        try:
            with self._live.recorder.muted():
                self._device.warm_up(function)
                graphs = self._graphs(capture)
        finally:
            self._capturing = False
            restore()
        self._captured = _Captured(graphs, fixed, weakref.ref(cache))
        self.missed = None

    def _graphs(self, capture: Callable[[bool], "_Graph"]) -> list["_Graph"]:
        """The step captured with its marks, as often as graphs take turns; without them, once, where that fails."""
        self.blind = ""
        if not isinstance(self._live.recorder, DeviceRecorder):
            self.blind = self._live.no_device_clock or "the device's clock is not read here"
            return [capture(False)]
        try:
            graphs = [capture(True)]
            if graphs[0].events:
                graphs += [capture(True) for _ in range(_TURNS - 1)]
            return graphs
        except (RuntimeError, TypeError) as error:
            if is_lost(error):
                raise
            graphs = [capture(False)]  # where this fails too, it was not the marks
            self.blind = f"its events cannot be captured ({first_line(error)})"
            return graphs

    def _graph(self, function: Callable[[], Any], with_marks: bool) -> "_Graph":
        marks: list[tuple[int, Any]] = []

        def take(code: int) -> None:
            if with_marks:
                marks.append((code, self._device.event()))

        with graph_marks.captured(take):
            replay, output = self._device.graph(function)
        return _Graph(replay, output, [code for code, _ in marks], [event for _, event in marks])


@dataclass(frozen=True)
class _Graph:
    """A captured step. `codes`, `events`: of its marks; every replay records the events anew."""

    replay: Callable[[], None]
    output: Any
    codes: list[int]
    events: list[Any]


class _Captured:
    """Graphs of one step that take turns, and what they were captured with."""

    def __init__(
        self, graphs: Sequence[_Graph], arguments: dict[str, Any], cache: "weakref.ref[Cache]"
    ) -> None:
        self.graphs = deque(graphs)
        self._arguments = arguments
        self._cache = cache

    def fits(self, arguments: dict[str, Any], cache_argument: str) -> bool:
        """Whether a step with these arguments is the captured one, but for the token and its place."""
        same_tokens = arguments["input_ids"].shape == self._arguments["input_ids"].shape
        return (
            self._cache() is arguments[cache_argument]
            and same_tokens
            and arguments.keys() == self._arguments.keys()
        )

    def replay(self, arguments: dict[str, Any], recorder: StampRecorder) -> Any:
        """Run the step; its marks are recorded as launched at once."""
        for name in NEW_EACH_STEP:
            if name in arguments:
                self._arguments[name].copy_(arguments[name])
        graph = self.graphs[0]
        self.graphs.rotate()
        if isinstance(recorder, DeviceRecorder):
            recorder.launched(graph.codes, graph.events, recorder.now())
        graph.replay()
        return graph.output


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
