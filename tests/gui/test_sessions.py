"""The list of sessions in a window that records: found, opened, named, pinned, deleted, and kept within its room."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QFile, QSettings, Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.protocol import EngineStarted, EngineState, NoteTaken, StateChanged
from engine.trace.recording import read_metadata
from engine.trace.recording.changing import pin
from engine.trace.recording.recorder import metadata
from engine.trace.recording.session_file import SessionFile
from engine.trace.recording.shelf import Shelf
from gui import theme as themes
from gui.conductor import Conductor
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.session_rows import SIZE, STARTED
from gui.panels.sessions import SessionsDialog
from gui.recording import Recording
from gui.settings_store import SettingsStore
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost, shown

pytestmark = pytest.mark.qt_log_ignore(
    "This plugin does not support propagateSizeHints", r"This plugin does not support raise\(\)", extend=True
)

LAYERS = 3
GIB = 2**30


def kept(shelf: Shelf, name: str, steps: int, day: int, title: str = "", note: str = "") -> Path:
    """A session that is over, of a model with this name."""
    shelf.directory.mkdir(exist_ok=True)
    loaded = synthetic.loaded(LAYERS)
    loaded = replace(loaded, model=replace(loaded.model, name=name))
    told = metadata(loaded, "test") | {"title": title, "started_at": f"2026-01-{day:02}T10:00:00+00:00"}
    file = SessionFile(shelf.directory / f"{name}.cyclograph", told)
    file.write([loaded, *synthetic.events(steps, synthetic.Shape(layers=LAYERS))])
    file.write([NoteTaken(1, 2, note)] if note else [])
    file.note({"ended_at": "now"})
    file.close()
    return file.path


@pytest.fixture
def store(tmp_path: Path) -> SettingsStore:
    return SettingsStore(QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "sessions")


@pytest.fixture
def window(qapp: QApplication, store: SettingsStore, shelf: Shelf) -> Iterator[Conductor]:
    """A window with a scripted engine that records into the shelf."""
    made = MainWindow(store, "dark")
    engine = EngineThread(ScriptedHost(), Hosts(), parent=made)
    recording = Recording(engine, made.messages, store, shelf)
    showing = shown(Conductor(made, engine, store, recording=recording), qapp)
    yield next(showing)
    recording.stop()
    next(showing, None)


Open = Callable[[], SessionsDialog]


@pytest.fixture
def opened(window: Conductor, qtbot: QtBot) -> Open:
    """Opens the list, and waits until all is listed."""

    def open() -> SessionsDialog:
        window.window.actions_["sessions"].trigger()
        dialog = window.sessions.show()
        qtbot.waitUntil(lambda: dialog._is_complete, timeout=10_000)
        return dialog

    return open


def names(dialog: SessionsDialog) -> list[str]:
    return [row.cells[0] for row in dialog.table.shown_rows()]


def record(window: Conductor, qtbot: QtBot, steps: int = 30) -> Path:
    """Let the engine of the window do some steps; the file into which they go."""
    host = window.engine._home._host
    assert isinstance(host, ScriptedHost)
    started = EngineStarted(1, 3, 1, (), (), "a CPU", 2)
    events = synthetic.events(steps, synthetic.Shape(layers=LAYERS))
    host.events += [started, synthetic.loaded(LAYERS), *events, StateChanged(1, EngineState.READY)]
    window.frame()
    recorder = window.engine.recorder
    assert recorder is not None
    qtbot.waitUntil(lambda: recorder.steps_written == steps, timeout=10_000)
    assert recorder.path is not None
    return recorder.path


def test_an_empty_list_says_what_it_would_show(opened: Open, window: Conductor) -> None:
    dialog = opened()
    assert "Nothing has been recorded yet." in dialog.table._note.text()
    assert "Recording is off" not in dialog.table._note.text()
    assert not any(b.isEnabled() for b in (dialog.open_button, dialog.pin, dialog.delete, dialog.reveal))
    dialog.close()
    window.window.actions_["record"].trigger()
    dialog = opened()
    assert "Recording is off" in dialog.table._note.text()
    dialog.close()


def test_it_is_sorted_by_any_column_at_first_the_latest_on_top(opened: Open, shelf: Shelf) -> None:
    for place, (name, steps) in enumerate((("old", 40), ("middle", 4), ("new", 400)), start=1):
        kept(shelf, name, steps, place)
    dialog = opened()
    assert names(dialog) == ["new", "middle", "old"]
    dialog.table.sortByColumn(5, Qt.SortOrder.AscendingOrder)
    assert names(dialog) == ["middle", "old", "new"]  # by number: as texts 4 would come behind 400
    dialog.table.sortByColumn(SIZE, Qt.SortOrder.DescendingOrder)
    assert names(dialog)[0] == "new"
    dialog.table.sortByColumn(STARTED, Qt.SortOrder.AscendingOrder)
    assert names(dialog) == ["old", "middle", "new"]
    dialog.close()


def test_one_types_to_search_walks_with_the_arrows_and_opens_with_enter(
    opened: Open, shelf: Shelf, window: Conductor
) -> None:
    kept(shelf, "one", 5, 1, title="On battery")
    two = kept(shelf, "two", 5, 2, note="the fan, on battery")
    kept(shelf, "three", 5, 3)
    wished: list[Path] = []
    assert window._recording is not None
    window._recording.open_wished.connect(wished.append)
    dialog = opened()
    QTest.keyClicks(dialog.search, "Battery ON")
    assert names(dialog) == ["two", "On battery"]
    QTest.keyClick(dialog, Qt.Key.Key_Down)
    QTest.keyClick(dialog, Qt.Key.Key_Up)
    QTest.keyClicks(dialog.search, " nowhere")
    assert names(dialog) == []
    assert dialog.table._note.text() == "No session has “Battery ON nowhere” in it."
    dialog.search.setText("fan")
    QTest.keyClick(dialog.search, Qt.Key.Key_Return)
    assert wished == [two]
    assert not dialog.isVisible()


def test_title_and_description_are_typed_where_they_stand(opened: Open, shelf: Shelf, qtbot: QtBot) -> None:
    path = kept(shelf, "one", 5, 1)
    kept(shelf, "two", 5, 2, title="another")
    dialog = opened()
    dialog.table.choose(path)
    QTest.keyClick(dialog, Qt.Key.Key_F2)
    dialog.card.title.setText("<b>Named</b> 试")
    QTest.keyClick(dialog.card.title, Qt.Key.Key_Return)
    assert dialog.isVisible()  # Enter in the title opens nothing
    qtbot.waitUntil(lambda: "<b>Named</b> 试" in names(dialog), timeout=10_000)
    assert dialog.table.current_path == path
    dialog.card.description.setPlainText("x" * 3000)
    assert len(dialog.card.description.toPlainText()) == 2000
    dialog.card.description.setPlainText("two\nlines")
    dialog.table.choose_first()  # another one: what was typed belongs to the one before
    qtbot.waitUntil(lambda: read_metadata(path)["description"] == "two\nlines", timeout=10_000)
    assert read_metadata(path)["title"] == "<b>Named</b> 试"
    assert dialog.card.title.text() == "another"
    tip = dialog.table.model().index(1, 0).data(Qt.ItemDataRole.ToolTipRole)
    assert "<b>" not in tip
    dialog.close()


def test_what_is_typed_stays_while_the_list_is_read_again(
    opened: Open, shelf: Shelf, window: Conductor
) -> None:
    path = kept(shelf, "one", 5, 1, title="before")
    dialog = opened()
    dialog.table.choose(path)
    dialog.card.edit()
    dialog.card.title.setText("half")
    entries = [replace(dialog.table.current_row.entry, steps=7)]  # type: ignore[union-attr]
    dialog.show_entries(entries, True, None)
    assert dialog.card.title.text() == "half"
    dialog.close()
    window.keeper.stop()
    assert read_metadata(path)["title"] == "half"


def test_a_session_is_pinned_and_let_go_again(opened: Open, shelf: Shelf, qtbot: QtBot) -> None:
    path = kept(shelf, "one", 5, 1)
    dialog = opened()
    dialog.pin.click()
    qtbot.waitUntil(lambda: dialog.pin.text() == "Unpin", timeout=10_000)
    qtbot.waitUntil(lambda: read_metadata(path).get("pinned") == "yes", timeout=10_000)
    dialog.pin.click()
    qtbot.waitUntil(lambda: dialog.pin.text() == "Pin", timeout=10_000)
    dialog.close()


def test_the_one_that_is_recorded_is_named_but_neither_opened_nor_deleted(
    opened: Open, window: Conductor, qtbot: QtBot
) -> None:
    path = record(window, qtbot)
    dialog = opened()
    row = dialog.table.current_row
    assert row is not None
    assert (row.cells[-1], row.cells[5]) == ("recording", "30")
    assert not dialog.delete.isEnabled()
    assert not dialog.open_button.isEnabled()
    dialog.card.title.setText("live")
    dialog.card.commit()
    qtbot.waitUntil(lambda: read_metadata(path)["title"] == "live", timeout=10_000)
    qtbot.waitUntil(lambda: names(dialog) == ["live"], timeout=10_000)
    assert window.engine.recorder is not None
    assert not window.engine.recorder.problem
    dialog.close()


def test_deleting_says_what_came_of_it(
    opened: Open, shelf: Shelf, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kept(shelf, "one", 5, 1)
    monkeypatch.setattr(QFile, "moveToTrash", lambda _: False)
    dialog = opened()
    dialog.delete.click()
    qtbot.waitUntil(lambda: "There is no trash" in dialog.told.text(), timeout=10_000)
    assert path.exists()
    monkeypatch.setattr(QFile, "moveToTrash", lambda name: Path(name).unlink() is None)
    dialog.delete.click()
    qtbot.waitUntil(lambda: names(dialog) == [], timeout=10_000)
    assert dialog.told.text() == "“one” was moved to the trash."
    assert "Nothing has been recorded" in dialog.table._note.text()
    dialog.close()


def test_a_broken_file_is_listed_with_its_sentence(opened: Open, shelf: Shelf) -> None:
    shelf.directory.mkdir()
    (shelf.directory / "<i>bad.cyclograph").write_text("no session")
    dialog = opened()
    assert dialog.card.facts.text() == "'<i>bad.cyclograph' is no session of Cyclograph: choose another file."
    assert not dialog.open_button.isEnabled()
    assert not dialog.card.title.isEnabled()
    assert dialog.delete.isEnabled()
    dialog.close()


def test_a_smaller_room_says_first_what_it_costs(
    opened: Open, shelf: Shelf, store: SettingsStore, qtbot: QtBot
) -> None:
    entries = [kept(shelf, name, 5, day) for day, name in enumerate(("old", "pinned", "new"), start=1)]
    pin(entries[1], True)
    dialog = opened()
    room = dialog.room
    assert room.use.text().startswith("3 sessions, ")
    assert not room.apply.isEnabled()
    big = [replace(row.entry, size_bytes=GIB) for row in dialog.table.shown_rows()]
    room.show_use(big)
    room.most.setValue(1.0)
    room.apply.click()
    assert "deletes the 2 oldest sessions" in room.note.text()
    assert (store.session_bytes, shelf.most_bytes) == (None, 2 * GIB)
    room.most.setValue(4.0)  # another number: what was said before counts no more
    assert room.note.text() == ""
    room.apply.click()
    assert (store.session_bytes, shelf.most_bytes) == (4 * GIB, 4 * GIB)
    room.show_use(big)
    room.most.setValue(2.0)
    room.apply.click()
    assert room.apply.text() == "Set anyway"
    room.apply.click()
    assert shelf.most_bytes == 2 * GIB
    dialog.close()


def test_the_room_is_remembered(store: SettingsStore, shelf: Shelf, qapp: QApplication) -> None:
    store.session_bytes = 5 * GIB
    window = MainWindow(store, "dark")
    engine = EngineThread(ScriptedHost(), Hosts(), parent=window)
    recording = Recording(engine, window.messages, store, shelf, allowed=False)
    assert shelf.most_bytes == 5 * GIB
    recording.stop()
    engine.shut_down()
    window.close()
    window.deleteLater()


@pytest.mark.parametrize("stored", ["", "many", "-5", "12", "9" * 30])
def test_a_room_that_makes_no_sense_is_not_remembered(tmp_path: Path, stored: str) -> None:
    settings = QSettings(str(tmp_path / "a.ini"), QSettings.Format.IniFormat)
    settings.setValue("session_bytes", stored)
    assert SettingsStore(settings).session_bytes is None


def test_the_folder_is_opened_or_named(opened: Open, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(shelf, "one", 5, 1)
    asked: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: asked.append(url.toLocalFile()))
    dialog = opened()
    dialog.reveal.click()
    assert asked == [str(shelf.directory)]
    assert str(shelf.directory) in dialog.told.text()
    dialog.close()


def test_it_takes_other_colours_and_copies_what_it_shows(
    opened: Open, shelf: Shelf, window: Conductor
) -> None:
    path = kept(shelf, "one", 5, 1)
    dialog = opened()
    window.window.set_theme("light")
    item = dialog.table.model().index(0, 0)
    assert item.data(Qt.ItemDataRole.ForegroundRole).color().name() == themes.LIGHT.text
    assert dialog.table.current_path == path
    copies = dict(dialog.table.copies(None))
    assert copies["Copy its path"] == str(path)
    assert copies["Copy all sessions"].count("\n") == 1
    dialog.close()


def test_the_list_is_opened_once_and_its_key_is_free(opened: Open, window: Conductor) -> None:
    dialog = opened()
    assert window.sessions.show() is dialog
    dialog.close()
    again = opened()
    assert again is not dialog
    again.close()
    keys = [key.toString() for action in window.window.actions_.all() for key in action.shortcuts()]
    assert len(keys) == len(set(keys))
