"""Which steps stand for a configuration when two are compared, and how much work each of them was.

Only steps of one kind are comparable. Where tokens are written those are the decode steps, whatever else there is (a
prefill, an encoder's one pass); where a model only reads, its encode steps.
"""

import numpy as np

from engine.trace.generation_view import writes
from engine.trace.ledger import Int64
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, Trace

DECODE = KINDS.index(StepKind.DECODE)
ENCODE = KINDS.index(StepKind.ENCODE)


def comparable_rows(trace: Trace, begin: int, end: int) -> Int64:
    """The rows of `Steps`, begin ≤ row < end, whose wall times may be set against each other."""
    kind = DECODE if writes(trace) else ENCODE
    return begin + np.flatnonzero(trace.steps.kind[begin:end] == kind)


def work_of(trace: Trace, rows: Int64 | slice) -> Int64:
    """What a step's wall time grows with, for each row: tokens of context, or positions of its batch with padding."""
    steps = trace.steps
    if writes(trace):
        context: Int64 = steps.context_length[rows]
        return context
    positions: Int64 = steps.prompt_tokens[rows].astype(np.int64) + steps.padding_tokens[rows]
    return positions
