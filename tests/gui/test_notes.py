"""Notes on steps: written over the charts, seen on all of them, kept in the session file, of a recording, too."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.protocol import LONGEST_NOTE, EngineStarted, EngineState, NoteTaken, StateChanged
from engine.trace.recording import read_session, read_trace
from engine.trace.recording.session_file import SessionFile
from engine.trace.recording.shelf import Shelf
from gui.conductor import Conductor
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.note_field import NoteField
from gui.recording import Recording
from gui.settings_store import SettingsStore
from gui.view_texts import mark_sentences
from tests.gui import replaying, synthetic
from tests.gui.building import Hosts, ScriptedHost, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)

LAYERS = 3
STEPS = 60


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "sessions")


@pytest.fixture
def window(qapp: QApplication, shelf: Shelf) -> Iterator[Conductor]:
    """A window with a scripted engine that has done some steps, all of them recorded."""
    store = SettingsStore.forgetful()
    made = MainWindow(store, "dark")
    made.resize(1440, 900)
    host = ScriptedHost()
    engine = EngineThread(host, Hosts(), parent=made)
    recording = Recording(engine, made.messages, store, shelf)
    showing = shown(Conductor(made, engine, store, recording=recording), qapp)
    conductor = next(showing)
    started = EngineStarted(1, 3, 1, (), (), "a CPU", 2)
    events = synthetic.events(STEPS, synthetic.Shape(layers=LAYERS))
    host.events += [started, synthetic.loaded(LAYERS), *events, StateChanged(1, EngineState.READY)]
    conductor.frame()
    made.activateWindow()
    QTest.qWaitForWindowActive(made)
    yield conductor
    recording.stop()
    next(showing, None)


def field_of(window: Conductor) -> NoteField:
    return window.notes.field


def write(window: Conductor, step: int | None, text: str) -> None:
    """As a user does: select the step, press the key, type, Enter."""
    window.window.navigation.select(step)
    window.window.actions_["note"].trigger()
    field = field_of(window)
    field.text.selectAll()
    QTest.keyClick(field.text, Qt.Key.Key_Delete)
    QTest.keyClicks(field.text, text)
    QTest.keyClick(field.text, Qt.Key.Key_Return)


def notes(window: Conductor) -> list[tuple[int, str]]:
    return [(note.step, note.event.text) for note in window.engine.trace.notes]


def test_a_note_is_typed_over_the_step_and_stands_on_all_charts(window: Conductor) -> None:
    write(window, 20, "<b>slow</b> n f space")  # letters that are keys of the window, too
    assert notes(window) == [(20, "<b>slow</b> n f space")]
    assert not field_of(window).isVisible()
    assert window.window.navigation.follow
    window.frame()
    strip = window.window.strip
    for chart in (strip, window.window.latency, window.window.layer_map):
        assert 20 in chart._marks
    tip = strip._mark_tip(QPoint(int(strip.scale().x(20)) + 1, strip.plot_rect().top() + 3))
    assert "note on step 20: “&lt;b&gt;slow&lt;/b&gt; n f space”" in tip
    assert mark_sentences(window.engine.trace.notes[0]) == ["note on step 20: “<b>slow</b> n f space”"]


def test_a_chart_is_drawn_again_when_a_note_is_written_changed_or_removed(window: Conductor) -> None:
    strip = window.window.strip
    window.frame()
    pictures = [strip.grab().toImage()]
    for text in ("here", "there", ""):
        write(window, 20, text)
        window.window.navigation.select(None)
        window.frame()
        pictures.append(strip.grab().toImage())
    assert pictures[0] == pictures[3]
    assert pictures[0] != pictures[1] != pictures[2]


def test_without_a_selection_it_is_of_the_newest_step_also_when_others_come_meanwhile(
    window: Conductor,
) -> None:
    window.window.actions_["note"].trigger()
    host = window.engine._home._host
    assert isinstance(host, ScriptedHost)
    host.events += list(synthetic.events(5, synthetic.Shape(layers=LAYERS)))[1:]
    window.frame()
    field = field_of(window)
    QTest.keyClicks(field.text, "newest")
    field.keep()
    assert notes(window)[0][0] == STEPS - 1


def test_it_is_changed_removed_and_given_up(window: Conductor) -> None:
    write(window, 20, "first")
    write(window, 30, "second")
    write(window, 20, "changed")
    assert notes(window) == [(20, "changed"), (30, "second")]
    window.window.navigation.select(20)
    window.window.actions_["note"].trigger()
    field = field_of(window)
    assert (field.text.text(), field.remove.isVisible()) == ("changed", True)
    QTest.keyClicks(field.text, "never kept")
    QTest.keyClick(field.text, Qt.Key.Key_Escape)
    assert notes(window) == [(20, "changed"), (30, "second")]
    assert window.window.navigation.selected == 20  # Esc was of the field
    window.window.actions_["note"].trigger()
    field.remove.click()
    assert notes(window) == [(30, "second")]
    write(window, 30, "")
    assert notes(window) == []
    window.window.navigation.select(31)
    window.window.actions_["note"].trigger()
    assert not field.remove.isVisible()
    field.give_up()


def test_what_is_typed_is_kept_when_one_goes_on_elsewhere(window: Conductor) -> None:
    window.window.navigation.select(20)
    window.window.actions_["note"].trigger()
    field = field_of(window)
    QTest.keyClicks(field.text, "kept")
    window.window.prompt.focus_text()
    assert notes(window) == [(20, "kept")]
    assert not field.isVisible()


def test_a_note_has_a_limit_and_no_lines(window: Conductor) -> None:
    window.window.navigation.select(20)
    window.window.actions_["note"].trigger()
    field = field_of(window)
    field.text.setText("x" * 1000)
    field.keep()
    assert len(notes(window)[0][1]) == LONGEST_NOTE


def test_where_there_is_no_step_it_says_so(window: Conductor) -> None:
    window.running.clear()
    window.frame()
    window.window.actions_["note"].trigger()
    (message,) = window.window.messages.messages()
    assert message.sentence == "There is no step to write a note on yet: run a prompt."
    assert not field_of(window).isVisible()


def test_a_trace_that_goes_takes_what_is_being_typed_along(window: Conductor) -> None:
    window.window.navigation.select(20)
    window.window.actions_["note"].trigger()
    QTest.keyClicks(field_of(window).text, "of the one before")
    window.running.clear()
    assert not field_of(window).isVisible()
    assert notes(window) == []


def test_the_field_lies_within_the_window_wherever_the_step_is(window: Conductor) -> None:
    for step in (0, 30, STEPS - 1):
        window.window.navigation.select(step)
        window.window.actions_["note"].trigger()
        field = field_of(window)
        assert field.parentWidget().rect().contains(field.geometry())
        field.give_up()
    for chart in (window.window.strip, window.window.latency, window.window.layer_map):
        chart.hide()
    window.window.actions_["note"].trigger()
    assert field_of(window).parentWidget().rect().contains(field_of(window).geometry())
    field_of(window).give_up()


def test_it_is_in_the_menu_of_every_chart_over_steps(window: Conductor) -> None:
    for chart in (
        window.window.strip,
        window.window.latency,
        window.window.layer_map,
        window.window.timeline,
    ):
        assert window.window.actions_["note"] in chart.actions()


def test_notes_are_in_the_file_also_after_the_trace_was_cleared(window: Conductor, shelf: Shelf) -> None:
    write(window, 20, "first")
    write(window, 20, "changed")
    window.running.clear()
    window.frame()
    host = window.engine._home._host
    assert isinstance(host, ScriptedHost)
    later = list(synthetic.events(STEPS + 10, synthetic.Shape(layers=LAYERS)))
    host.events += [event for event in later if getattr(event, "index", -1) >= STEPS]
    window.frame()
    write(window, 4, "of the second trace")
    assert window._recording is not None
    window._recording.stop()
    (path,) = shelf.sessions()
    recorded = read_session(path)
    assert recorded.notices == ()
    found = [(note.step, note.event.text) for note in recorded.trace().notes]
    assert found == [(20, "changed"), (STEPS + 4, "of the second trace")]


Recorded = Callable[[Path], Path]


@pytest.fixture
def recorded() -> Recorded:
    """Writes a session that is over."""

    def make(path: Path) -> Path:
        path.parent.mkdir(exist_ok=True)
        file = SessionFile(path, {})
        events = synthetic.events(STEPS, synthetic.Shape(layers=LAYERS))
        file.write([synthetic.loaded(LAYERS), *events, NoteTaken(1, 5, "was there")])
        file.note({"ended_at": "now"})
        file.close()
        return path

    return make


@pytest.fixture
def opened(shelf: Shelf, qapp: QApplication, qtbot: QtBot) -> Iterator[Callable[[Path], Conductor]]:
    """Opens a recording in a window of its own."""
    replays = replaying.keeper(shelf.directory)

    def open(path: Path) -> Conductor:
        replays.show(path)
        replay = replays.replays[-1]
        qtbot.waitUntil(lambda: replaying.is_open(replay), timeout=replaying.PATIENCE_MS)
        replay.conductor.frame()
        return replay.conductor

    yield open
    replaying.closed(replays, qapp)


def test_a_recording_on_the_shelf_takes_notes_into_its_file(
    opened: Callable[[Path], Conductor], shelf: Shelf, recorded: Recorded, qtbot: QtBot
) -> None:
    path = recorded(shelf.directory / "a.cyclograph")
    window = opened(path)
    assert notes(window) == [(5, "was there")]
    write(window, 5, "changed")
    write(window, 30, "new")
    write(window, 40, "gone")
    write(window, 40, "")
    assert notes(window) == [(5, "changed"), (30, "new")]
    window.keeper.stop()
    assert [(note.step, note.event.text) for note in read_trace(path).notes] == [(5, "changed"), (30, "new")]
    assert not window.window.messages.messages()


def test_a_recording_elsewhere_shows_notes_and_says_that_they_are_not_kept(
    opened: Callable[[Path], Conductor], tmp_path: Path, recorded: Recorded
) -> None:
    path = recorded(tmp_path / "elsewhere" / "a.cyclograph")
    raw = path.read_bytes()
    window = opened(path)
    write(window, 30, "new")
    assert notes(window) == [(5, "was there"), (30, "new")]
    (message,) = window.window.messages.messages()
    assert "is shown, but not kept" in message.sentence
    window.keeper.stop()
    assert path.read_bytes() == raw


def test_a_note_that_could_not_be_written_is_said(
    opened: Callable[[Path], Conductor], shelf: Shelf, recorded: Recorded, qtbot: QtBot
) -> None:
    path = recorded(shelf.directory / "a.cyclograph")
    window = opened(path)
    path.unlink()
    write(window, 30, "new")
    qtbot.waitUntil(lambda: bool(window.window.messages.messages()), timeout=10_000)
    assert "There is no file" in window.window.messages.messages()[0].sentence
