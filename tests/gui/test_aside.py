"""What is done aside comes back on the thread that asked, in order; it can be dropped, and it is waited for."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest
from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot

from gui.aside import LOOK_EVERY_MS, Aside, Say


class Refused(Exception):
    pass


@pytest.fixture
def parent(qapp: QObject) -> QObject:
    return QObject()


@pytest.fixture
def aside(parent: QObject) -> Iterator[Aside]:
    made = Aside("a test", Refused, parent)
    yield made
    made.stop()


def done(aside: Aside, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not aside.is_busy, timeout=10_000)


def test_it_is_done_elsewhere_and_told_here(aside: Aside, qtbot: QtBot) -> None:
    threads: list[tuple[str, str]] = []

    def work(say: Say) -> None:
        here = threading.current_thread().name
        say(lambda: threads.append((here, threading.current_thread().name)))

    aside.do(work, pytest.fail)
    assert aside.is_busy
    done(aside, qtbot)
    assert threads == [("a test", threading.main_thread().name)]


def test_one_thing_after_the_other(aside: Aside, qtbot: QtBot) -> None:
    told: list[str] = []
    first_is_over = threading.Event()

    def first(say: Say) -> None:
        say(told.append, "began")
        first_is_over.wait(10)
        say(told.append, "ended")

    aside.do(first, pytest.fail)
    aside.do(lambda say: say(told.append, "second"), pytest.fail)
    qtbot.waitUntil(lambda: bool(told), timeout=10_000)
    qtbot.wait(2 * LOOK_EVERY_MS)
    assert told == ["began"]  # what is said on the way is told on the way
    first_is_over.set()
    done(aside, qtbot)
    assert told == ["began", "ended", "second"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Refused("Choose another."), "Choose another."),
        (OSError("disk full"), "It failed (OSError: disk full)."),
    ],
)
def test_what_went_wrong_is_a_sentence_and_the_next_thing_is_done(
    aside: Aside, qtbot: QtBot, error: Exception, sentence: str
) -> None:
    told: list[str] = []

    def fail(_: Say) -> None:
        raise error

    aside.do(fail, told.append, "It failed")
    aside.do(lambda say: say(told.append, "next"), pytest.fail)
    done(aside, qtbot)
    assert told == [sentence, "next"]


def test_a_fault_of_the_program_is_reported_too(
    aside: Aside, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    told: list[str] = []
    aside.do(lambda _: 1 // 0, told.append)
    done(aside, qtbot)
    assert told == ["That could not be done (ZeroDivisionError: integer division or modulo by zero)."]
    assert [fault.exc_type for fault in faults] == [ZeroDivisionError]


def test_what_is_dropped_is_not_heard_of_and_holds_nothing_up(aside: Aside, qtbot: QtBot) -> None:
    told: list[str] = []
    go_on = threading.Event()

    def stuck(say: Say) -> None:
        go_on.wait(10)
        say(told.append, "dropped")

    aside.do(stuck, told.append)
    aside.do(partial(_say, told, "waited"), told.append)
    aside.drop()
    assert not aside.is_busy
    aside.do(partial(_say, told, "latest"), told.append)
    done(aside, qtbot)
    go_on.set()
    qtbot.wait(2 * LOOK_EVERY_MS)
    assert told == ["latest"]


def test_whoever_hears_of_it_may_drop_the_rest(aside: Aside, qtbot: QtBot) -> None:
    told: list[str] = []

    def work(say: Say) -> None:
        say(aside.drop)
        say(told.append, "too late")

    aside.do(work, told.append)
    done(aside, qtbot)
    assert told == []


def test_at_the_end_all_is_done_and_nobody_is_told(aside: Aside, qtbot: QtBot) -> None:
    did: list[str] = []
    told: list[str] = []

    def work(name: str, say: Say) -> None:
        did.append(name)
        say(told.append, name)

    for name in "abc":
        aside.do(partial(work, name), told.append)
    aside.stop()
    assert did == ["a", "b", "c"]
    aside.do(partial(work, "later"), told.append)
    qtbot.wait(2 * LOOK_EVERY_MS)
    assert (did, told) == (["a", "b", "c"], [])


def _say(told: list[str], word: str, say: Say) -> None:
    say(told.append, word)
