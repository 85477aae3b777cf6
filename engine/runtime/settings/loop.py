"""Changing `live.loop`, which says how the loop goes from step to step: as a whole, with a running generation along."""

from dataclasses import replace
from typing import Any

from engine.runtime.live import LiveModel


def change_loop(live: LiveModel, **changed: Any) -> None:
    """Put values of Loop into force between two steps. Leaves everything as it was when it raises."""
    before = live.loop
    live.loop = replace(before, **changed)
    if live.context is None or live.context.follow is None:
        return
    try:
        live.context.follow()
    except Exception:
        live.loop = before
        raise
