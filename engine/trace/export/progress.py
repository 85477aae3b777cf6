"""How far an export is: told as a fraction, by whoever writes, to whoever waits; who waits may give it up."""

from collections.abc import Callable, Iterator

from engine.trace.export.tables import Chunk

#: Called with a fraction from 0 to 1 now and then; raises ExportCancelled to end the export.
Tick = Callable[[float], None]


def counted(chunks: Iterator[Chunk], rows: int, tick: Tick) -> Iterator[Chunk]:
    """The same chunks of a table; `tick` hears how many of about `rows` rows have been taken."""
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(next(iter(chunk.values())))
        tick(min(1.0, done / max(1, rows)))
