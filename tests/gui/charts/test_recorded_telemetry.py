"""What sensors and captures say in a session that was recorded is drawn as it was live."""

from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from engine.trace.recording import read_trace
from engine.trace.store import Trace
from gui.charts.telemetry import TelemetryChart
from gui.navigation import Navigation
from gui.panels.kernels import KernelsPanel
from gui.telemetry_view import lanes
from tests.engine.trace import building
from tests.engine.trace.export import machine
from tests.engine.trace.export.sessions import STARTED
from tests.engine.trace.recording.sessions import written
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.fixture
def recorded(tmp_path: Path) -> Trace:
    events = [STARTED, building.loaded(), building.APART, building.WHOLE, *machine.events()]
    return read_trace(written(tmp_path / "a.cyclograph", events))


def test_the_chart_of_a_recorded_session_is_that_of_the_live_one(recorded: Trace, qapp: QApplication) -> None:
    pictures = []
    for trace in (machine.trace(), recorded):
        navigation = Navigation()
        chart = TelemetryChart(navigation)
        chart.resize(600, 240)
        chart.show()
        chart.set_trace(trace)
        navigation.trace_grew(len(trace.steps))
        assert chart.refresh()
        pictures.append(chart.grab().toImage())
        chart.close()
        chart.deleteLater()
    settle(qapp)
    assert [lane.title for lane in lanes(recorded)] == [
        "memory",
        "utilization",
        "power",
        "temperature",
        "clock",
    ]
    assert pictures[0] == pictures[1]


def test_the_kernels_of_a_recorded_capture_are_listed(recorded: Trace, qapp: QApplication) -> None:
    names = []
    for trace in (machine.trace(), recorded):
        navigation = Navigation()
        panel = KernelsPanel(navigation)
        panel.set_trace(trace)
        navigation.trace_grew(len(trace.steps))
        navigation.select(1)
        panel.refresh()
        model = panel.table.model()
        names.append([model.index(row, 0).data() for row in range(model.rowCount())])
        panel.deleteLater()
    settle(qapp)
    assert len(names[0]) >= len(machine.ENTRIES)
    assert names[0] == names[1]
