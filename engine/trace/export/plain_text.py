"""The texts of a session: each prompt with what the model wrote, or each input with what it said of it."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from engine.trace.export.excerpt import Excerpt
from engine.trace.export.progress import Tick
from engine.trace.generation_view import writes
from engine.trace.store import GenerationRecord
from engine.trace.wording import result_line


def write_text(excerpt: Excerpt, file: BinaryIO, tick: Tick) -> None:
    """Write the texts, UTF-8. Of a selection: the prompts whole, and what its steps yielded."""
    for place, generation in enumerate(excerpt.generations):
        for part in _parts(excerpt, generation):
            file.write(part.encode("utf-8", "backslashreplace"))
        tick((place + 1) / len(excerpt.generations))


def _parts(excerpt: Excerpt, generation: GenerationRecord) -> Iterator[str]:
    started, number = generation.started, generation.started.generation
    ended = generation.ended.reason if generation.ended else "not over"
    yield f"=== generation {number} · {_tokens(len(started.prompt_ids))} of prompt · {ended}\n"
    yield f"--- prompt\n{started.prompt}\n"
    if not writes(excerpt.trace):
        results = [r for e in excerpt.results if e.generation == number for r in e.results]
        yield "--- results\n" + "".join(f"{result_line(result)}\n" for result in results)
        yield "\n"
        return
    texts = _texts(excerpt, generation)
    for sequence, (count, text) in texts.items():
        which = f" of sequence {sequence}" if len(texts) > 1 else ""
        joined = excerpt.trace.join_of(generation, sequence)
        if joined is not None:
            yield f"--- prompt{which}, which joined\n{joined.prompt}\n"
        yield f"--- text{which} · {_tokens(count)}\n{text}\n"
    yield "\n"


def _texts(excerpt: Excerpt, generation: GenerationRecord) -> dict[int, tuple[int, str]]:
    """Of each sequence how many tokens the steps of the excerpt yielded, and their text."""
    tokens, own = excerpt.trace.tokens, excerpt.trace.token_indices(generation)
    rows = range(max(own.start, excerpt.tokens.start), min(own.stop, excerpt.tokens.stop))
    numbers = tokens.sequence[rows.start : rows.stop]
    found = {}
    for sequence in np.unique(numbers).tolist():
        places = rows.start + np.flatnonzero(numbers == sequence)
        found[sequence] = len(places), "".join(tokens.text[place] for place in places.tolist())
    if generation.ended and generation.end_step <= excerpt.rows.stop and 0 in found:
        count, text = found[0]
        found[0] = count, text + generation.ended.tail
    return found


def _tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"
