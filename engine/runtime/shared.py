"""Wrapping what all models of the process share: functions of modeling files, the attention interface of transformers.

A wrapper may outlive the model that it was made for, so each is taken out when that model goes, if nobody did before;
and models come and go in any order, so what is there is always the original in the wrappers that are left.
"""

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

Make = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Place:
    """An attribute that is wrapped, what it was, and its wrappers with how each was made, the innermost first."""

    def __init__(self, holder: Any, name: str) -> None:
        self._holder, self._name = holder, name
        self._own = name in vars(holder)
        self._before = vars(holder).get(name)
        self._function: Callable[..., Any] = getattr(holder, name)
        self.wrappers: list[tuple[Make, Callable[..., Any]]] = []

    def add(self, make: Make) -> None:
        """Wrap what is there."""
        wrapper = make(self.wrappers[-1][1] if self.wrappers else self._function)
        self.wrappers.append((make, wrapper))
        setattr(self._holder, self._name, wrapper)

    def take_out(self, make: Make) -> None:
        """Without this wrapper; those around it are made anew. Without any, everything is exactly as it was."""
        at = next(at for at, (each, _) in enumerate(self.wrappers) if each is make)
        outer = [each for each, _ in self.wrappers[at + 1 :]]
        del self.wrappers[at:]
        if self.wrappers:
            setattr(self._holder, self._name, self.wrappers[-1][1])
        elif self._own:
            setattr(self._holder, self._name, self._before)
        else:
            delattr(self._holder, self._name)
        for each in outer:
            self.add(each)


_places: dict[tuple[int, str], _Place] = {}


def wrap_shared(model: nn.Module, holder: Any, name: str, make: Make) -> Callable[[], Any]:
    """Replace attribute `name` of `holder` by `make(what was there)` as long as the model lives.

    `make` must not hold the model, nor its modules. What is returned takes the wrapper out earlier; a second call does
    nothing.
    """
    key = (id(holder), name)
    if key not in _places:
        _places[key] = _Place(holder, name)
    _places[key].add(make)
    undo = weakref.finalize(model, _take_out, key, make)
    undo.atexit = False
    return undo


def _take_out(key: tuple[int, str], make: Make) -> None:
    place = _places[key]
    place.take_out(make)
    if not place.wrappers:
        del _places[key]
