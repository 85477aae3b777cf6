"""The wiring, with a scripted engine: who tells whom, and what the window shows of it."""

from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from engine.protocol import (
    EngineEnded,
    EngineState,
    Failed,
    Load,
    ModelLoaded,
    ObserverReport,
    StateChanged,
)
from gui.conductor import Conductor
from gui.settings_store import SettingsStore
from gui.visibility import is_seen
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost, build
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import loaded, ready, say
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def test_nothing_is_drawn_when_nothing_changed(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    conductor.frame()
    window = conductor.window
    assert not any(chart.refresh() for chart in window.charts)
    assert not window.text.refresh()
    assert not window.measurements.refresh()


def test_a_killed_engine_leaves_the_window_and_the_trace(
    conductor: Conductor, host: ScriptedHost, hosts: Hosts
) -> None:
    ready(conductor, host)
    say(conductor, host, EngineEnded(0, "The engine was killed.", -9, "the end"))
    (message,) = conductor.window.messages.messages()
    assert message.sentence == "The engine was killed."
    assert conductor.window.heading.text == "NO ENGINE"
    assert len(conductor.engine.trace.steps) == 60
    message.action_button.click()
    assert hosts.opened[1].sent == [Load("preset")]
    say(conductor, hosts.opened[1], loaded(), StateChanged(0, EngineState.READY))
    assert conductor.window.messages.messages() == []
    assert conductor.window.heading.text == "READY"


def test_failures_are_shown_not_asked(conductor: Conductor, host: ScriptedHost) -> None:
    for number in range(5):
        say(conductor, host, Failed(0, f"Problem {number}.", "details", "generate" if number < 2 else ""))
    sentences = [m.sentence for m in conductor.window.messages.messages()]
    assert sentences[0] == "Problem 4."
    assert len(sentences) <= 3
    assert conductor.window.messages.dismiss_latest()


def test_every_number_explains_itself(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    for measured in ("ttft", "itl_p50", "stalls"):
        shown = conductor.window.measurements.measured[measured]
        assert shown.metric.formula in gui_explanation(conductor, measured)
    conductor.window.measurements._scope.buttons[1].click()
    assert conductor.window.measurements.measured["steps"].value == 60


def gui_explanation(conductor: Conductor, key: str) -> str:
    panel = conductor.window.measurements
    name = panel.measured[key].metric.name + "\n"
    return next(part.toolTip() for part in panel.findChildren(QWidget) if part.toolTip().startswith(name))


def test_the_status_bar_shows_what_measuring_costs(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    say(conductor, host, ObserverReport(0, 100, 60.0, 4000.0))
    meter = conductor.window.meter
    middle = sorted(conductor.engine.trace.steps.wall_ns[4:].tolist())[28]
    assert f"{100 * 10_000 / middle:.2g}"[:3] in meter._instrument.text()
    assert "100 marks" in meter._instrument.toolTip()
    assert "own process · 1 thread" in meter._engine.text()


def test_themes_switch_and_are_remembered(qapp: QApplication, hosts: Hosts, tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    conductor = build(hosts("process"), hosts, store)
    window = conductor.window
    ready(conductor, hosts.opened[0])
    window.show()
    assert window.theme.name == "dark"
    window.actions_["theme"].trigger()
    conductor.frame()
    assert window.theme.name == "light"
    assert store.theme == "light"
    window.docks["text"].hide()
    window.close()
    window.deleteLater()
    settle(qapp)
    again = build(hosts("process"), hosts, store).window
    assert again.docks["text"].isHidden()
    again.arrangement.reset()
    assert not again.docks["text"].isHidden()
    again.deleteLater()
    settle(qapp)


def test_a_picture_is_saved_beside_others(
    conductor: Conductor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        conductor.window.actions_["picture"].trigger()
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["cyclograph-2.png", "cyclograph.png"]


def test_what_lies_behind_a_tab_is_not_drawn(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    chart = conductor.window.cycle_model.chart
    qtbot.waitUntil(lambda: not is_seen(chart))
    assert not chart.refresh()
    assert chart.view.series == ()
    conductor.window.arrangement.show("cycle_model")
    qtbot.waitUntil(lambda: len(chart.view.series) == 1)


def test_the_numbers_of_the_floor_say_which_calibration_they_stand_on(
    conductor: Conductor, host: ScriptedHost
) -> None:
    shape = synthetic.Shape(layers=4, floors=True)
    say(conductor, host, ModelLoaded(0, synthetic.loaded(4, floors=True).model, (), 0, synthetic.BASE))
    say(conductor, host, *synthetic.events(60, shape))
    conductor.show_numbers()
    panel = conductor.window.measurements
    cells = {name.text(): value for name, value in panel._cells if not name.isHidden()}
    assert cells["of the floor"].text().endswith(" %")
    assert "calibration 0: cpu, 1 thread, measured 2025-11-2" in cells["MBU"].toolTip()
    assert "floor_s / wall_s" in cells["of the floor"].toolTip()
    assert cells["intensity"].text().endswith(" FLOP/B")
    assert "calibration 0" not in cells["intensity"].toolTip()
