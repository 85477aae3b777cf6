"""Which steps stand for a configuration when two are compared, and how much work each of them was.

Only steps that do the same are comparable. Where tokens are written those are the decode and verify steps, whatever
else there is (a prefill, an encoder's one pass); where a model only reads, its encode steps. A verify step yields
several tokens: it stands for each of them, and each took its share of the time. A step that was captured in depth
stands for nothing.
"""

import numpy as np

from engine.trace.generation_view import DECODE, VERIFY, growth, writes
from engine.trace.ledger import Int64
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, Trace

ENCODE = KINDS.index(StepKind.ENCODE)


def comparable_rows(trace: Trace, begin: int, end: int) -> Int64:
    """The rows of `Steps`, begin ≤ row < end, whose times may be set against each other, one for each token."""
    alike = comparable_steps(trace, begin, end)
    rows: Int64 = alike[~trace.steps.captured[alike]]
    if not writes(trace):
        return rows
    each: Int64 = np.repeat(rows, growth(trace, rows))
    return each


def comparable_steps(trace: Trace, begin: int, end: int) -> Int64:
    """The rows, begin ≤ row < end, of steps that do the same, whether their times mean anything or not."""
    kinds = trace.steps.kind[begin:end]
    if not writes(trace):
        alike = kinds == ENCODE
    else:
        alike = (kinds == DECODE) | (kinds == VERIFY)
    rows: Int64 = begin + np.flatnonzero(alike)
    return rows


def time_of(trace: Trace, rows: Int64) -> Int64:
    """Wall time (ns) of each of these rows: of a token of each sequence; where a model only reads, of a step."""
    wall: Int64 = trace.steps.wall_ns[rows]
    return wall // growth(trace, rows) if writes(trace) else wall


def work_of(trace: Trace, rows: Int64 | slice) -> Int64:
    """What a step's wall time grows with, for each row: tokens of context, or positions of its batch with padding."""
    steps = trace.steps
    if writes(trace):
        context: Int64 = steps.context_length[rows]
        return context
    positions: Int64 = steps.prompt_tokens[rows].astype(np.int64) + steps.padding_tokens[rows]
    return positions
