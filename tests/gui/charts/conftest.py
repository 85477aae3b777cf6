"""Fixtures of all tests of charts: charts in a window, what they share, and the tips that they show."""

import pytest
from PySide6.QtWidgets import QWidget

from engine.trace.store import Trace
from gui.charts import chart as chart_module
from gui.charts.chart import Chart
from gui.navigation import Navigation
from tests.gui.charts.looking import Make, Tips


@pytest.fixture
def navigation() -> Navigation:
    return Navigation()


@pytest.fixture
def make(qtbot: object, navigation: Navigation) -> Make:
    """Makes a chart in a window."""
    window = QWidget()
    qtbot.addWidget(window)  # type: ignore[attr-defined]
    window.resize(800, 300)

    def build(kind: type[Chart], trace: Trace | None = None, **options: object) -> Chart:
        chart = kind(navigation, window, **options)  # type: ignore[arg-type]
        chart.setGeometry(0, 0, 800, 260)
        window.show()
        chart.show()
        if trace is not None:
            chart.set_trace(trace)
            navigation.trace_grew(len(trace.steps))
        return chart

    return build


@pytest.fixture
def tips(monkeypatch: pytest.MonkeyPatch) -> Tips:
    shown = Tips()
    monkeypatch.setattr(chart_module, "QToolTip", shown)
    return shown
