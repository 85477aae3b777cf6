"""Keys that move about: in the charts, between steps, to the panels."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from gui.actions import ACTIONS
from gui.conductor import Conductor
from gui.shortcuts import ShortcutSheet
from gui.visibility import is_seen
from tests.gui.building import ScriptedHost
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import ready
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def test_a_click_on_a_word_a_bar_and_a_key_select_the_same_step(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host)
    window = conductor.window
    window.text._clicked(window.text._written.span_of(range(10, 11))[0])  # type: ignore[index]
    step = int(conductor.engine.trace.tokens.step[10])
    assert window.navigation.selected == step
    qtbot.keyClick(window, Qt.Key.Key_Period)
    assert window.navigation.selected == step + 1
    assert len(window.text.view.extraSelections()) == 1
    conductor.frame()
    assert window.timeline.step == step + 1
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert window.navigation.selected is None
    assert window.text.view.extraSelections() == []


def test_the_slowest_step_on_screen_is_found(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host, 200)
    conductor.window.actions_["slowest"].trigger()
    selected = conductor.window.navigation.selected
    steps = conductor.engine.trace.steps
    assert selected is not None
    assert steps.wall_ns[selected] == steps.wall_ns[4:].max()


def test_all_keys_are_on_the_sheet_and_no_key_means_two_things(
    conductor: Conductor, qapp: QApplication
) -> None:
    keys = [key for facts in ACTIONS for key in facts.keys]
    assert len(keys) == len(set(keys))
    conductor.window.actions_["shortcuts"].trigger()
    sheet = conductor.window.findChild(ShortcutSheet)
    assert sheet is not None
    assert sheet.sizeHint().width() <= 1280, "wider than a small screen"
    sheet.close()
    settle(qapp)


def test_plots_come_to_the_front_with_a_key_and_room(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host)
    window = conductor.window
    assert is_seen(window.timeline)
    assert not is_seen(window.roofline)
    for key, chart in ((Qt.Key.Key_G, window.roofline.chart), (Qt.Key.Key_Y, window.cycle_model.chart)):
        qtbot.keyClick(window, key)
        qtbot.waitUntil(lambda shown=chart: shown.height() > 200)  # type: ignore[misc]
        assert is_seen(chart)
        assert not is_seen(window.timeline)
    window.actions_["reset_layout"].trigger()
    qtbot.waitUntil(lambda: is_seen(window.timeline))
    assert not is_seen(window.cycle_model)
    assert [bar.isVisible() for bar in window.arrangement.tab_bars()].count(True) == 1, (
        "no tabs of another arrangement"
    )
