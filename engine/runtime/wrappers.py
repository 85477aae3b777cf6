"""Wrappers that stamp where a function begins and ends: the hottest code of the instrument.

The functions of a modeling file and the attention interface of transformers are shared by all models of the
process: their wrappers stamp only inside of the probed model's forward, on the thread that runs it.
"""

from collections.abc import Callable
from functools import wraps
from threading import get_ident
from typing import Any

import torch
from torch import nn

from engine.runtime.clocks import StampRecorder
from engine.trace.ledger import END

Function = Callable[..., Any]


class Gate:
    """Whether the probed model runs, and on which thread: 0 for none."""

    def __init__(self) -> None:
        self.thread = 0

    def is_open(self) -> bool:
        """Whether what runs here is the probed model; what is being compiled here is another one."""
        return not torch.compiler.is_dynamo_compiling() and self.thread == get_ident()


class Course:
    """How far a pass through one stack of layers has come: an encoder–decoder has two."""

    def __init__(self) -> None:
        self.before_layers = True
        self.open = False  # whether a span before, around or after all layers is open (one at a time)
        self.last_calls_left = 0  # how often the module of the last layer is still to be called
        self.turns: list[Turns] = []

    def enter(self, last_calls: int) -> None:
        """A pass begins; whatever an interrupted one left behind is forgotten."""
        self.before_layers = True
        self.open = False
        self.last_calls_left = last_calls
        for turns in self.turns:
            turns.calls = 0


class Turns:
    """The span codes of a module that serves as several layers: one a call, anew with each forward pass."""

    def __init__(self, codes: list[int]) -> None:
        self._codes = codes
        self.calls = 0

    def next(self) -> int:
        """The code of the layer that runs now."""
        code = self._codes[self.calls % len(self._codes)]
        self.calls += 1
        return code


class Wrappers:
    """Makes the wrappers of one model: each takes a function and returns it with stamps around it."""

    def __init__(self, recorder: StampRecorder) -> None:
        self.recorder = recorder
        self.gate = Gate()

    def timed(self, function: Function, code: int | Turns) -> Function:
        """A span around each call."""
        if isinstance(code, Turns):
            return self._timed_in_turns(function, code)
        mark, stamp, now = self.recorder.codes.append, self.recorder.times.append, self.recorder.clock

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            mark(code)
            stamp(now())
            result = function(*args, **kwargs)
            mark(END)
            stamp(now())
            return result

        return timed

    def _timed_in_turns(self, function: Function, turns: Turns) -> Function:
        begin, end = self.recorder.begin, self.recorder.end

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin(turns.next())
            result = function(*args, **kwargs)
            end()
            return result

        return timed

    def beginning(self, function: Function, code: int | Turns) -> Function:
        """Begins a span, which another function ends."""
        begin = self.recorder.begin

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            begin(code.next() if isinstance(code, Turns) else code)
            return function(*args, **kwargs)

        return timed

    def ending(self, function: Function) -> Function:
        """Ends the span that another function began."""
        end = self.recorder.end

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            end()
            return result

        return timed

    def first_layer(self, function: Function, course: Course, stack: int | None) -> Function:
        """Before the first layer: end the span of what came before, begin the one of all layers."""
        begin, end = self.recorder.begin, self.recorder.end

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if course.before_layers:
                course.before_layers = False
                if course.open:
                    course.open = False
                    end()
                if stack is not None:
                    course.open = True
                    begin(stack)
            return function(*args, **kwargs)

        return timed

    def last_layer(self, function: Function, course: Course, after: int | None) -> Function:
        """After the last layer: end the span of all layers, begin the one of what comes after."""
        begin, end = self.recorder.begin, self.recorder.end

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            course.last_calls_left -= 1
            if course.last_calls_left == 0:
                if course.open:
                    course.open = False
                    end()
                if after is not None:
                    course.open = True
                    begin(after)
            return result

        return timed

    def guarded(self, function: Function, code: int) -> Function:
        """A shared function: stamps only inside of the probed model."""
        gate, timed = self.gate, self.timed(function, code)

        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return (timed if gate.is_open() else function)(*args, **kwargs)

        return guarded

    def interface(self, get_interface: Function, codes: dict[int, int | Turns]) -> Function:
        """`AttentionInterface.get_interface`, handing out timed functions inside of the probed model.

        `codes`: by id of the module, since the interface is not to keep a model alive.
        """
        gate = self.gate
        memory: dict[Function, Function] = {}

        @wraps(get_interface)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            function = get_interface(*args, **kwargs)
            if not gate.is_open():
                return function
            if function not in memory:
                memory[function] = self._timed_core(function, codes)
            return memory[function]

        return guarded

    def _timed_core(self, function: Function, codes: dict[int, int | Turns]) -> Function:
        begin, end = self.recorder.begin, self.recorder.end

        @wraps(function)
        def timed(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            code = codes.get(id(module))
            if code is None:  # attention outside of the layers that were found
                return function(module, *args, **kwargs)
            begin(code.next() if isinstance(code, Turns) else code)
            result = function(module, *args, **kwargs)
            end()
            return result

        return timed

    def whole(self, forward: Function, course: Course, before: int | None, last_calls: int) -> Function:
        """The forward that runs a stack: says that it runs; begins the first span, ends the last.

        An encoder's may run inside of its model's: its spans lie in the model's first one then.
        """
        gate, begin, end = self.gate, self.recorder.begin, self.recorder.end

        @wraps(forward)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                begin(before)
            course.enter(last_calls)
            course.open = before is not None
            outside, gate.thread = gate.thread, get_ident()
            try:
                result = forward(*args, **kwargs)
            finally:
                gate.thread = outside
            if course.open:
                end()
            return result

        vars(timed)["__probed__"] = True
        return timed
