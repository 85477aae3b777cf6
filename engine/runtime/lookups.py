"""Looks models up beside a session, whatever that does: nobody who waits for the hub keeps a step or a load waiting."""

from collections.abc import Callable
from threading import Thread
from time import perf_counter_ns
from typing import Any

from engine.protocol import CatalogueEntry, Emit, LookedUp, LookUp


class Outdated(Exception):
    """Another question was asked meanwhile, or the session ends."""


class Lookups:
    """Answers LookUp, on threads of its own; of several questions only the last one. `loaded`: gives the loaded model.

    `emit` has to take events from any thread.
    """

    def __init__(self, emit: Emit, loaded: Callable[[], Any]) -> None:
        self._emit = emit
        self._loaded = loaded
        self._last: LookUp | None = None

    def ask(self, question: LookUp) -> None:
        """Find the answer, unless another question comes before it is found. Returns at once."""
        self._last = question
        Thread(target=self._answer, args=(question,), name="look up", daemon=True).start()

    def close(self) -> None:
        """Answer nothing any more."""
        self._last = None

    def _answer(self, question: LookUp) -> None:
        def look() -> None:
            if self._last is not question:
                raise Outdated

        try:
            entry, problem = self._found(question.model, look)
            look()
        except Outdated:
            return
        self._emit(LookedUp(perf_counter_ns(), question.request, entry, problem))

    def _found(self, model: str, look: Callable[[], None]) -> tuple[CatalogueEntry, str]:
        from engine.runtime.models.errors import HubUnavailable
        from engine.runtime.models.fitting import Room
        from engine.runtime.models.lookup import look_up

        try:
            return look_up(model, Room.now(self._loaded()), look), ""
        except HubUnavailable as error:
            return CatalogueEntry(model, "hub", "", 0, 0, 0), error.sentence
