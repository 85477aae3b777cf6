"""The one reference of the window: pinned from a trace or a file, off the thread that draws."""

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot

from engine.trace.export import excerpt_of
from engine.trace.store import Trace
from gui import reference as module
from gui.aside import LOOK_EVERY_MS
from gui.reference import References, live_name
from tests.engine.trace.building import APART, WHOLE, ended, loaded
from tests.engine.trace.recording.sessions import STARTED, written
from tests.engine.trace.runs import generation
from tests.gui import synthetic


@pytest.fixture
def parent(qapp: QObject) -> QObject:
    return QObject()


@pytest.fixture
def references(parent: QObject) -> Iterator[References]:
    made = References(parent)
    yield made
    made.stop()


def recorded(path: Path, *walls: int) -> Path:
    events = [*generation(walls), ended()] if walls else []
    return written(path, [STARTED, loaded(), APART, WHOLE, *events])


def test_what_was_measured_so_far_is_pinned(references: References, qtbot: QtBot) -> None:
    trace = synthetic.trace(50, synthetic.Shape(layers=2))
    with qtbot.waitSignal(references.changed):
        references.pin(trace)
        trace.extend(list(synthetic.events(20, synthetic.Shape(layers=2))))
    assert references.reference is not None
    assert references.reference.steps == "all 50 steps"
    assert references.reference.name.startswith("synthetic, ")


def test_a_stretch_can_be_pinned(references: References, qtbot: QtBot) -> None:
    with qtbot.waitSignal(references.changed):
        references.pin(synthetic.trace(50, synthetic.Shape(layers=2)), range(-3, 20))
    assert references.reference is not None
    assert references.reference.steps == "steps 0 to 19 of 50"
    assert "steps 0–19" in references.reference.name


def test_a_name_says_the_model_the_steps_and_when() -> None:
    trace, at = synthetic.trace(2000, synthetic.Shape(layers=1)), datetime(2026, 11, 29, 9, 5)
    assert live_name(excerpt_of(trace), at) == "synthetic, 09:05"
    assert live_name(excerpt_of(trace, 1000, 1500), at) == "synthetic, steps 1,000–1,500, 09:05"


@pytest.mark.parametrize("rows", [None, range(100, 200)])
def test_where_there_is_nothing_a_sentence_says_so(
    references: References, qtbot: QtBot, rows: range | None
) -> None:
    trace = Trace() if rows is None else synthetic.trace(5, synthetic.Shape(layers=1))
    with qtbot.waitSignal(references.failed) as failed:
        references.pin(trace, rows)
    assert failed.args == ["There are no steps to pin as a reference: run a prompt first."]


def test_a_session_is_read_on_a_thread_of_its_own(
    references: References, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers, read = [], module.read_session
    monkeypatch.setattr(
        module, "read_session", lambda path: readers.append(threading.current_thread()) or read(path)
    )
    with qtbot.waitSignal(references.changed):
        references.pin_file(recorded(tmp_path / "mine.cyclograph", 10, 20, 30))
    assert references.reference is not None
    assert references.reference.name == "mine"
    assert references.reference.steps == "all 4 steps"
    assert references.reference.processor == "a CPU"
    assert readers != [threading.main_thread()]


@pytest.mark.parametrize("damage", ["text", "absent", "empty"])
def test_a_broken_file_is_told_and_what_was_pinned_stays(
    references: References, qtbot: QtBot, tmp_path: Path, damage: str
) -> None:
    with qtbot.waitSignal(references.changed):
        references.pin_file(recorded(tmp_path / "good.cyclograph", 10, 20))
    before, path = references.reference, tmp_path / "bad.cyclograph"
    if damage == "text":
        path.write_text("no session")
    elif damage == "empty":
        recorded(path)
    with qtbot.waitSignal(references.failed) as failed:
        references.pin_file(path)
    assert "bad.cyclograph" in failed.args[0]
    assert references.reference is before


def test_the_latest_wish_counts(references: References, qtbot: QtBot, tmp_path: Path) -> None:
    first, second = recorded(tmp_path / "first.cyclograph", 10), recorded(tmp_path / "second.cyclograph", 20)
    with qtbot.waitSignal(references.changed):
        references.pin_file(first)
        references.pin_file(second)
    assert references.reference is not None
    assert references.reference.name == "second"
    references.pin_file(first)
    references.unpin()
    qtbot.wait(3 * LOOK_EVERY_MS)
    assert references.reference is None


def test_what_nobody_foresaw_has_a_sentence_too(
    references: References, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no such luck")

    monkeypatch.setattr(module, "reference_of", fail)
    with qtbot.waitSignal(references.failed) as failed:
        references.pin_file(recorded(tmp_path / "mine.cyclograph", 10))
    assert failed.args == ["'mine.cyclograph' could not be pinned (OSError: no such luck)."]


def test_nobody_is_told_of_what_is_given_up(references: References, qtbot: QtBot, tmp_path: Path) -> None:
    references.pin_file(recorded(tmp_path / "mine.cyclograph", 10))
    references.stop()
    qtbot.wait(3 * LOOK_EVERY_MS)
    assert references.reference is None
