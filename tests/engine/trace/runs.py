"""Generations whose steps take times chosen by the test, one after the other, for what is laid over them."""

from collections.abc import Sequence

from engine.protocol import Event
from engine.trace.phases import StepKind
from tests.engine.trace.building import T0, started, step

CHUNK_NS = 50  # the wall time of a prefill step


def generation(
    walls_ns: Sequence[int],
    number: int = 0,
    *,
    chunks: int = 1,
    context: int = 0,
    configuration: int = 0,
    captured: Sequence[int] = (),
    begin_ns: int = T0,
) -> list[Event]:
    """A generation without its end: so many prefill steps, the last of which yields the first token, then a decode step
    of each wall time (ns), with the token at its end. `context`: of the first decode step; `captured`: which of these.
    """
    now = begin_ns
    events: list[Event] = [started(number, begin_ns)]
    for place, wall in enumerate([CHUNK_NS] * chunks + list(walls_ns)):
        end, decodes = now + wall, place >= chunks
        events.append(
            step(
                [end] if place >= chunks - 1 else [],
                stamps=(now,) * 7 + (end,),
                kind=StepKind.DECODE if decodes else StepKind.PREFILL,
                generation=number,
                configuration=configuration,
                context_length=context + place - chunks if decodes else 0,
                captured=place - chunks in captured,
            )
        )
        now = end
    return events
