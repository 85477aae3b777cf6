"""The window's layout: nothing is cut off on a small screen, and it is there before what lies behind it."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QApplication, QLabel

from gui.arrangement import PLOT_SHARE
from gui.icons import icon
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.settings_store import SettingsStore
from gui.visibility import is_seen
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost, build, shown
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

LONG = "This machine was measured, and what was found is told in a sentence that takes several lines. " * 3
BEHIND = (
    "gui.conductor",
    "gui.panels.roofline",
    "gui.panels.cycle_model",
    "gui.panels.kernels",
    "engine.trace.export",
)


@pytest.fixture
def window(qapp: QApplication) -> Iterator[MainWindow]:
    host = ScriptedHost()
    showing = shown(build(host, Hosts()), qapp)
    conductor = next(showing)
    host.events += [synthetic.loaded(4), *synthetic.events(60, synthetic.Shape(layers=4))]
    conductor.frame()
    yield conductor.window
    next(showing, None)


def test_the_window_is_there_before_what_lies_behind_it_is_imported() -> None:
    script = f"import sys, gui.main_window; print(*sorted({set(BEHIND)!r} & set(sys.modules)))"
    imported = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert imported.stdout.strip() == ""


def test_what_comes_behind_changes_no_place(qapp: QApplication) -> None:
    window = MainWindow(SettingsStore.forgetful(), "dark")
    window.resize(1440, 900)
    window.show()
    window.arrangement.arrange()
    settle(qapp)
    before = {name: dock.geometry() for name, dock in window.docks.items() if is_seen(dock)}
    window.make_rest()
    settle(qapp)
    assert {name: dock.geometry() for name, dock in window.docks.items() if is_seen(dock)} == before
    window.close()
    window.deleteLater()
    settle(qapp)


@pytest.mark.parametrize("size", [(1280, 800), (1440, 900)])
@pytest.mark.parametrize("name", ["timeline", "roofline", "cycle_model", "telemetry"])
def test_charts_keep_the_height_they_need(
    window: MainWindow, qapp: QApplication, name: str, size: tuple[int, int]
) -> None:
    window.resize(*size)
    window.arrangement.arrange()
    window.arrangement.show(name)
    settle(qapp)
    window.messages.show_message(Kind.INFO, LONG)
    settle(qapp)
    charts = (window.strip, window.latency, window.layer_map)
    for chart, below in zip(charts, (*charts[1:], window.docks[name]), strict=True):
        assert chart.height() >= chart.minimumHeight()
        assert chart.mapTo(window, QPoint(0, chart.height())).y() <= below.mapTo(window, QPoint(0, 0)).y()
    assert (window.width(), window.height()) == size


@pytest.mark.parametrize("name", ["roofline", "cycle_model"])
def test_a_plot_that_comes_to_the_front_by_its_tab_gets_room_in_a_window_that_grew(
    window: MainWindow, qapp: QApplication, name: str
) -> None:
    low = window.docks["timeline"].height()
    window.resize(1920, 1080)
    settle(qapp)
    (bar,) = (bar for bar in window.arrangement.tab_bars() if bar.isVisible())
    titles = [bar.tabText(place) for place in range(bar.count())]
    bar.setCurrentIndex(titles.index("Telemetry"))
    settle(qapp)
    assert window.docks["telemetry"].height() < 1.5 * low, "this one is read at any height"
    bar.setCurrentIndex(titles.index(window.docks[name].windowTitle()))
    settle(qapp)
    assert is_seen(window.docks[name])
    assert window.docks[name].height() >= 0.9 * PLOT_SHARE * window.height()


def test_all_panels_fit_on_a_small_screen(window: MainWindow, qapp: QApplication) -> None:
    window.resize(1280, 800)
    for dock in window.docks.values():
        dock.show()
    window.arrangement.show_capture()
    settle(qapp)
    assert (window.width(), window.height()) == (1280, 800)


def test_the_button_that_pauses_looks_so_in_another_theme_too(window: MainWindow) -> None:
    run = window.actions_["run"]
    window.show_run_icon(True)
    window.set_theme("light")
    shown_then = run.icon().pixmap(20).toImage()
    assert shown_then == icon("pause", window.theme).pixmap(20).toImage()
    assert shown_then != icon("run", window.theme).pixmap(20).toImage()
    window.set_theme("dark")


def test_a_picture_shows_what_was_just_changed_in_the_room_that_it_takes(window: MainWindow) -> None:
    label = window.heading.findChildren(QLabel)[-1]
    label.setText("much longer than what stood here before")
    window.picture()
    assert label.width() >= label.fontMetrics().horizontalAdvance(label.text())
