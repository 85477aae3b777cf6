"""The probes of a live model: put in for how it runs now, and taken out while something else gets at its modules."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.runtime.live import LiveModel
from engine.runtime.probes import install
from engine.trace.phases import Detail


def put_in(live: LiveModel, detail: Detail) -> None:
    """Have the model measured at this level of detail, by marks that fit whether it is compiled or captured."""
    take_out(live)
    compiled = live.compiled is not None or live.replayed is not None
    live.probes = install(live.model, live.anatomy, live.recorder, detail, compiled=compiled)
    live.detail = detail


def take_out(live: LiveModel) -> bool:
    """Take the probes out of the model, if there are any. Returns whether there were."""
    if live.probes is None:
        return False
    live.probes.remove()
    live.probes = None
    return True


@contextmanager
def without_probes(live: LiveModel) -> Iterator[None]:
    """Inside, modules and their forward are free to be exchanged; probes are around them again afterwards."""
    were_there = take_out(live)
    try:
        yield
    finally:
        if were_there:
            put_in(live, live.detail)
