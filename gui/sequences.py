"""The sequences that were decoded together, and what each of them is made of: branches share what came before."""

import numpy as np

from engine.trace.store import GenerationRecord, Trace


def sequence_numbers(trace: Trace, begin: int = 0) -> list[int]:
    """The sequences that have tokens from row `begin` on, in order."""
    numbers: list[int] = np.unique(trace.tokens.sequence[begin:]).tolist()
    return numbers


def lineage(trace: Trace, generation: GenerationRecord, sequence: int) -> list[tuple[int, int]]:
    """Of which sequences a sequence's text is: (row of `tokens` from which on, sequence), in order.

    One that joined is all its own. One that branched off begins with what the sequence that led then had written.
    Before it is there, and in a generation that never has it, it is the first one.
    """
    rows = trace.token_indices(generation)
    if trace.join_of(generation, sequence) is not None:
        return [(rows.start, sequence)]
    numbers = trace.tokens.sequence[rows.start : rows.stop]
    found: list[tuple[int, int]] = []
    while sequence:
        own = np.flatnonzero(numbers == sequence)
        if not len(own):
            break
        first = trace.tokens_of(int(trace.tokens.step[rows.start + own[0]])).start
        found.append((first, sequence))
        leader = int(trace.tokens.sequence[first])
        if leader == sequence:
            break
        sequence = leader
    return [(rows.start, 0), *found[::-1]]
