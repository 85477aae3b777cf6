"""The model picker, from the window to the load."""

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.protocol import (
    CatalogueEntry,
    CatalogueListed,
    EngineState,
    ListModels,
    Load,
    LoadCancelled,
    LookedUp,
    LookUp,
    StateChanged,
)
from gui.conductor import Conductor
from gui.panels.model_picker import ModelPicker
from gui.settings_store import SettingsStore
from tests.gui.building import Hosts, ScriptedHost, build
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import loaded, ready, say
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def test_another_model_is_picked_while_one_loads(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot, qapp: QApplication
) -> None:
    say(conductor, host, StateChanged(0, EngineState.LOADING))
    conductor.window.actions_["pick"].trigger()
    conductor.window.actions_["pick"].trigger()
    (picker,) = conductor.window.findChildren(ModelPicker)
    picker.search.setText("org/other")
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    settle(qapp)
    assert [command for command in host.sent if isinstance(command, Load)] == [Load("org/other", "auto")]
    loading, empty = StateChanged(0, EngineState.LOADING), StateChanged(0, EngineState.EMPTY)
    say(conductor, host, LoadCancelled(0, "preset"), empty, loading)
    assert conductor.window.progress.text == "loading org/other"
    assert conductor.window.messages.messages() == [], "the first one is over, and nobody misses it"
    say(conductor, host, loaded(), StateChanged(0, EngineState.READY))
    assert not conductor.window.progress.isVisible()


def test_a_directory_is_remembered_by_its_whole_path(
    qapp: QApplication, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SettingsStore.of_file(tmp_path / "a.ini")
    conductor = build(hosts("process"), hosts, store, load=Load("./mine"))
    ready(conductor, hosts.opened[0], 0)
    assert store.recent_models == [str(tmp_path / "mine")]
    conductor.window.deleteLater()
    settle(qapp)


def test_the_picker_lists_searches_and_says_what_does_not_fit(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot, qapp: QApplication
) -> None:
    ready(conductor, host)
    conductor.window.actions_["pick"].trigger()
    assert host.sent[-1] == ListModels()
    picker = conductor.window.findChild(ModelPicker)
    assert picker is not None
    entries = (
        CatalogueEntry("llama-30m", "preset", "Llama", 32_000_000, 128_000_000, 8192),
        CatalogueEntry(
            "llama-8b", "preset", "Llama", 8_000_000_000, 16_000_000_000, 8192, "", "needs 16 GiB"
        ),
    )
    say(conductor, host, CatalogueListed(0, entries))
    picker.search.setText("8b")
    assert picker.choice == "", "what does not fit is not loaded"
    assert "needs 16 GiB" in picker.hint
    picker.search.setText("30m")
    assert picker.choice == "llama-30m"
    picker.search.setText("some/hub-id")
    picker._ask()
    question = host.sent[-1]
    assert isinstance(question, LookUp)
    found = CatalogueEntry("some/hub-id", "hub", "Llama", 7, 28, 8192)
    say(conductor, host, LookedUp(0, question.request, found))
    assert picker.table.current_row is not None
    assert picker.table.current_row.verdict == "fits"
    assert picker.choice == "some/hub-id"
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert host.sent[-1] == Load("some/hub-id", "auto")
    settle(qapp)
