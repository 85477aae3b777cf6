"""Which sequences there are, and what each of them is made of."""

from engine.protocol import Event, LayoutDefined, StepEnded, Token
from engine.trace.store import Trace
from gui.sequences import lineage, sequence_numbers
from tests.engine.trace.building import APART, MS, T0, joined, loaded, started, step


def tokens_step(index: int, *sequences: int, generation: int = 0) -> StepEnded:
    """A step that yields a token of each of these sequences."""
    made = step([T0 + index * MS] * len(sequences), generation=generation)
    tokens = tuple(Token(index, f" {number}", T0 + index * MS, number) for number in sequences)
    return StepEnded(index, generation, made.kind, 0, made.layout, made.stamps, 0, 0, 0, tokens)


def trace_of(*events: Event) -> Trace:
    trace = Trace(loaded())
    layout: LayoutDefined = APART
    trace.extend([layout, *events])
    return trace


def test_sequences_that_begin_together_are_their_own() -> None:
    trace = trace_of(started(), tokens_step(0, 0, 1, 2), tokens_step(1, 0, 2))
    assert sequence_numbers(trace) == [0, 1, 2]
    assert sequence_numbers(trace, 3) == [0, 2]
    assert lineage(trace, trace.generations[0], 0) == [(0, 0)]
    assert lineage(trace, trace.generations[0], 2)[-1] == (0, 2)


def test_a_branch_begins_with_what_the_one_that_led_had_written() -> None:
    trace = trace_of(
        started(),
        tokens_step(0, 0),
        tokens_step(1, 0, 1),  # rows 1, 2: 1 branches off from 0
        tokens_step(2, 1),  # row 3: 0 has ended
        tokens_step(3, 1, 2),  # rows 4, 5: 2 branches off from 1
    )
    assert lineage(trace, trace.generations[0], 1) == [(0, 0), (1, 1)]
    assert lineage(trace, trace.generations[0], 2) == [(0, 0), (1, 1), (4, 2)]


def test_a_generation_without_the_sequence_shows_its_first() -> None:
    trace = trace_of(started(), tokens_step(0, 0, 1), started(1), tokens_step(1, 0, generation=1))
    assert lineage(trace, trace.generations[1], 1) == [(2, 0)]
    empty = trace_of(started())
    assert sequence_numbers(empty) == []
    assert lineage(empty, empty.generations[0], 3) == [(0, 0)]


def test_a_sequence_that_joined_is_all_its_own() -> None:
    trace = trace_of(started(), tokens_step(0, 0), joined(1), tokens_step(1, 1), tokens_step(2, 0, 1))
    assert lineage(trace, trace.generations[0], 1) == [(0, 1)]
