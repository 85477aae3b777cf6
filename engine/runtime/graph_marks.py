"""Stamps from inside of compiled code and of captured graphs.

On an accelerator a stamp also records an event (see `device_clock`), so what compiled code launched is told apart there
as well as what eager code did.

Reading the host's clock would break a compiled graph in two. An operator of our own does not: it says that it changes
the tensor that it is given, so that the compiler keeps it between what makes that tensor and what uses it, and what
it does is stamp. Eager code of the same model (a prefill) keeps the cheaper wrappers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn

from engine.runtime.clocks import StampRecorder
from engine.runtime.wrappers import Course, Function, Turns, Wrappers
from engine.trace.ledger import END

_LIBRARY: Any = torch.library.Library("cyclograph", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("mark(Tensor(a!) place, int code) -> ()")


class _Target:
    """Where the operator stamps: it is of the process, so the model that is about to run says so."""

    recorder: StampRecorder | None = None
    capture: Callable[[int], None] | None = None


@contextmanager
def captured(take: Callable[[int], None]) -> Iterator[None]:
    """Inside, marks are not stamped, but taken with their code: a graph of the device is being captured."""
    _Target.capture = take
    try:
        yield
    finally:
        _Target.capture = None


def _is_in_graph() -> bool:
    return torch.compiler.is_dynamo_compiling() or _Target.capture is not None


def stamp_into(recorder: StampRecorder) -> None:
    """From now on compiled code stamps this recorder."""
    _Target.recorder = recorder


def _mark(place: torch.Tensor, code: int) -> None:
    recorder = _Target.recorder
    if _Target.capture is not None:
        _Target.capture(code)
    elif recorder is not None:
        recorder.codes.append(code)
        recorder.times.append(recorder.clock())


def _mark_on_cuda(place: torch.Tensor, code: int) -> None:
    """On a device whose work may be captured by others (torch's own graphs): a replay of theirs would not stamp."""
    if _Target.capture is not None or not torch.cuda.is_current_stream_capturing():
        _mark(place, code)


_LIBRARY.impl("mark", _mark, "CompositeExplicitAutograd")
_LIBRARY.impl("mark", _mark_on_cuda, "CUDA")
torch.library.register_fake("cyclograph::mark", lambda place, code: None, lib=_LIBRARY)


def _tensor(values: Any) -> torch.Tensor | None:
    """The first tensor among some values, which may lie in tuples and dictionaries."""
    for value in values:
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, tuple | list):
            found = _tensor(value)
            if found is not None:
                return found
    return None


class GraphWrappers(Wrappers):
    """Wrappers that stamp in eager code as all do, and by the operator where they are being compiled."""

    def timed(self, function: Function, code: int | Turns) -> Function:
        """A span around each call."""
        return _both(function, super().timed(function, code), _beginnings(code), _one_end)

    def beginning(self, function: Function, code: int | Turns) -> Function:
        """Begins a span, which another function ends."""
        return _both(function, super().beginning(function, code), _beginnings(code), _nothing)

    def ending(self, function: Function) -> Function:
        """Ends the span that another function began."""
        return _both(function, super().ending(function), _nothing, _one_end)

    def first_layer(self, function: Function, course: Course, stack: int | None) -> Function:
        """Before the first layer: end the span of what came before, begin the one of all layers."""

        def before() -> list[int]:
            codes: list[int] = []
            if course.before_layers:
                course.before_layers = False
                if course.open:
                    codes.append(END)
                course.open = stack is not None
                if stack is not None:
                    codes.append(stack)
            return codes

        return _both(function, super().first_layer(function, course, stack), before, _nothing)

    def last_layer(self, function: Function, course: Course, after: int | None) -> Function:
        """After the last layer: end the span of all layers, begin the one of what comes after."""

        def behind() -> list[int]:
            codes: list[int] = []
            course.last_calls_left -= 1
            if course.last_calls_left == 0:
                if course.open:
                    codes.append(END)
                course.open = after is not None
                if after is not None:
                    codes.append(after)
            return codes

        return _both(function, super().last_layer(function, course, after), _nothing, behind)

    def guarded(self, function: Function, code: int) -> Function:
        """A shared function: what is compiled here is the probed model."""
        return _both(function, super().guarded(function, code), lambda: [code], _one_end)

    def interface(self, get_interface: Function, codes: dict[int, int | Turns]) -> Function:
        """`AttentionInterface.get_interface`, handing out timed functions inside of the probed model."""
        eager = super().interface(get_interface, codes)

        @wraps(get_interface)
        def both(*args: Any, **kwargs: Any) -> Any:
            if not _is_in_graph():
                return eager(*args, **kwargs)
            function = get_interface(*args, **kwargs)

            def timed(module: nn.Module, *inner: Any, **named: Any) -> Any:
                code = codes.get(id(module))
                if code is None:
                    return function(module, *inner, **named)
                place = _tensor(inner)
                begun = code.next() if isinstance(code, Turns) else code
                torch.ops.cyclograph.mark(place, begun)
                result = function(module, *inner, **named)
                torch.ops.cyclograph.mark(_tensor(result), END)
                return result

            return timed

        return both


def _nothing() -> list[int]:
    return []


def _one_end() -> list[int]:
    return [END]


def _beginnings(code: int | Turns) -> Callable[[], list[int]]:
    return lambda: [code.next() if isinstance(code, Turns) else code]


def _both(
    function: Function, eager: Function, before: Callable[[], list[int]], behind: Callable[[], list[int]]
) -> Function:
    """The eager wrapper, and the function between marks where it is compiled: codes that `before` and `behind` tell."""

    @wraps(function)
    def both(*args: Any, **kwargs: Any) -> Any:
        if not _is_in_graph():
            return eager(*args, **kwargs)
        place = _tensor((*args, *kwargs.values()))
        if place is None:  # nothing to hold a mark in its place: the time stays in the span around
            return function(*args, **kwargs)
        for code in before():
            torch.ops.cyclograph.mark(place, code)
        result = function(*args, **kwargs)
        made = _tensor((result,))
        for code in behind():
            torch.ops.cyclograph.mark(place if made is None else made, code)
        return result

    return both
