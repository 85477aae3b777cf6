import numpy as np
import pytest

from engine.trace.export import ExportRefused, excerpt_of, parse_steps
from engine.trace.metrics import summary
from engine.trace.store import Trace
from tests.engine.trace import building
from tests.engine.trace.export import sessions


def test_a_whole_session_has_everything() -> None:
    trace = sessions.trace()
    excerpt = excerpt_of(trace)
    assert (excerpt.rows, excerpt.is_whole, excerpt.words) == (range(6), True, "all 6 steps")
    assert (excerpt.tokens, len(excerpt.generations), len(excerpt.all_marks)) == (range(7), 2, 2)
    assert excerpt.measured == summary(trace)


def test_a_selection_has_what_lies_in_it() -> None:
    excerpt = excerpt_of(sessions.trace(), 2, 4)
    assert (list(excerpt.rows), excerpt.is_whole, excerpt.words) == ([2, 3, 4], False, "steps 2 to 4 of 6")
    assert [g.started.generation for g in excerpt.generations] == [0]
    assert [mark.step for mark in excerpt.all_marks] == [2, 4]
    assert excerpt.memory == ()
    assert list(excerpt.tokens) == [2, 3, 4, 5]
    assert [mark.step for mark in excerpt_of(sessions.trace(), 0, 3).all_marks] == [2]


def test_a_generation_that_is_cut_has_no_latency_of_its_own() -> None:
    trace = sessions.trace()
    assert summary(trace, counted=range(6))["ttft"].count == summary(trace)["ttft"].count == 3
    cut = excerpt_of(trace, 1, 4).measured
    assert cut["ttft"].value is None
    assert cut["steps"].value == 4
    gaps = [int(gap) for gap in trace.steps.itl_ns if gap >= 0]
    assert cut["itl_max"].value is not None
    assert cut["itl_max"].value <= max(gaps)


def test_what_comes_later_does_not_change_an_excerpt() -> None:
    trace = sessions.trace()
    excerpt = excerpt_of(trace)
    before = excerpt.measured
    for _ in range(300):  # enough for every column to grow into new memory
        trace.append(building.step((building.T0 + 10**9,), generation=1, stamps=range(8)))
    assert excerpt.measured == before
    assert excerpt.rows == range(6)
    assert np.array_equal(trace.steps.wall_ns[:6], [sessions.WALL] * 6)


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [(6, None, "no step 6"), (3, 2, "from 3 to 2"), (99, 120, "no step 99"), (-1, 2, "from -1")],
)
def test_steps_that_are_not_there_are_refused(first: int, last: int | None, words: str) -> None:
    with pytest.raises(ExportRefused, match=words):
        excerpt_of(sessions.trace(), first, last)


def test_nothing_measured_is_said() -> None:
    with pytest.raises(ExportRefused, match="Nothing has been measured"):
        excerpt_of(Trace(building.loaded()))


@pytest.mark.parametrize(
    ("text", "meant"),
    [("2:5", (2, 5)), (":5", (0, 5)), ("2:", (2, None)), (":", (0, None)), (" 7:7 ", (7, 7))],
)
def test_ranges_are_read(text: str, meant: tuple[int, int | None]) -> None:
    assert parse_steps(text) == meant


@pytest.mark.parametrize("text", ["", "5", "a:b", "-1:3", "1:2:3", "1 : 2", "9" * 30 + ":"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ExportRefused, match="A:B"):
        parse_steps(text)
