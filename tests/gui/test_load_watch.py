"""Patience with a load that nobody wants: counted by a clock that tests wind."""

from dataclasses import dataclass

import pytest

from engine.protocol import Load
from gui.load_watch import PATIENCE_NS, LoadWatch


@dataclass
class Clock:
    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> LoadWatch:
    return LoadWatch(clock)


def test_there_is_nothing_to_cancel_without_a_load(watch: LoadWatch) -> None:
    assert not watch.cancel()
    assert not watch.is_cancelled


def test_a_wanted_load_may_take_as_long_as_it_needs(watch: LoadWatch, clock: Clock) -> None:
    watch.sent(Load("a"))
    clock.now_ns = 100 * PATIENCE_NS
    assert not watch.is_overdue(True)


def test_a_cancelled_load_is_overdue_once(watch: LoadWatch, clock: Clock) -> None:
    watch.sent(Load("a"))
    assert watch.cancel()
    assert not watch.is_overdue(True)
    clock.now_ns = PATIENCE_NS - 1
    assert not watch.is_overdue(True)
    clock.now_ns = PATIENCE_NS
    assert watch.is_overdue(True)
    assert not watch.is_overdue(True), "said once"


def test_an_engine_that_still_starts_is_not_to_blame(watch: LoadWatch, clock: Clock) -> None:
    watch.sent(Load("a"))
    watch.cancel()
    assert not watch.is_overdue(False)
    clock.now_ns = 10 * PATIENCE_NS
    assert not watch.is_overdue(True), "it begins to load only now"
    clock.now_ns += PATIENCE_NS
    assert watch.is_overdue(True)


def test_the_first_of_two_loads_is_unwanted(watch: LoadWatch, clock: Clock) -> None:
    watch.sent(Load("a"))
    watch.sent(Load("b"))
    watch.is_overdue(True)
    clock.now_ns = PATIENCE_NS
    assert watch.is_overdue(True)
    watch.answered()
    assert watch.is_under_way
    clock.now_ns = 9 * PATIENCE_NS
    assert not watch.is_overdue(True), "the second one is wanted"
    watch.answered()
    assert not watch.is_under_way


def test_another_load_after_a_cancel_is_wanted(watch: LoadWatch) -> None:
    watch.sent(Load("a"))
    watch.cancel()
    watch.sent(Load("b"))
    assert not watch.is_cancelled
    watch.answered()
    assert watch.is_under_way
    assert not watch.is_cancelled


def test_an_answer_ends_a_cancel(watch: LoadWatch) -> None:
    watch.sent(Load("a"))
    watch.cancel()
    watch.answered()
    assert not watch.is_cancelled
    watch.answered()  # one too many is no harm
    watch.sent(Load("b"))
    assert watch.is_under_way
    watch.forget()
    assert not watch.is_under_way
