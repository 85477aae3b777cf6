"""The panel of the roofline: what this machine achieves, the parts of the step, and how to measure again."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from engine.protocol import Calibrated
from engine.trace.store import Trace
from gui.navigation import Navigation
from gui.panels.roofline import AGAIN, MEASURE, MEASURING, NOT_YET, RooflinePanel
from tests.gui import synthetic
from tests.gui.conftest import on_screen

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

FLOORED = synthetic.Shape(layers=8, floors=True)


@pytest.fixture
def panel(qapp: QApplication) -> Iterator[RooflinePanel]:
    made = RooflinePanel(Navigation())
    made.resize(800, 400)
    yield from on_screen(made, qapp)


def show(panel: RooflinePanel, trace: Trace, selected: int | None = None) -> None:
    panel.chart.set_trace(trace)
    panel.set_trace(trace)
    panel._navigation.trace_grew(len(trace.steps))
    panel._navigation.select(selected)
    panel.refresh()


def test_without_a_calibration_it_asks_for_one(panel: RooflinePanel) -> None:
    asked = []
    panel.calibrate_requested.connect(lambda: asked.append(True))
    show(panel, Trace(synthetic.loaded(8)))
    assert panel._machine._setup.text() == NOT_YET
    assert panel.measure.text() == MEASURE
    assert panel.measure.property("role") == "primary"
    panel.measure.click()
    assert asked == [True]
    panel.show_measuring(True)
    assert panel.measure.text() == MEASURING
    assert not panel.measure.isEnabled()
    panel.show_measuring(False)
    assert panel.measure.text() == MEASURE


def test_a_calibration_is_told_with_date_threads_and_figures(panel: RooflinePanel) -> None:
    show(panel, synthetic.trace(60, FLOORED))
    machine = panel._machine
    assert machine._setup.text() == "cpu, 1 thread"
    assert "calibration 0, measured 2025-11-2" in machine._date.text()
    assert "repeated within 1.2 %" in machine._date.text()
    assert machine._doubts.isHidden()
    shown = [value.text() for _, value in machine._cells if not value.isHidden()]
    assert shown == ["10.0 GB/s", "40.0 GB/s", "100 GFLOP/s", "200 GFLOP/s"]
    assert "1.00 MiB: 40.0 GB/s" in machine._cells[1][1].toolTip()
    assert panel.measure.text() == AGAIN


def test_doubts_are_shown(panel: RooflinePanel) -> None:
    trace = Trace(synthetic.loaded(8))
    doubtful = replace(synthetic.CALIBRATION, spread=0.3)
    trace.append(Calibrated(0, 0, doubtful, "measured"))
    show(panel, trace)
    assert "measure again while the machine is idle" in panel._machine._doubts.text()
    assert not panel._machine._doubts.isHidden()


def test_the_shown_step_and_its_parts_stand_in_a_table_that_can_be_copied(panel: RooflinePanel) -> None:
    show(panel, synthetic.trace(60, FLOORED), selected=40)
    rows = panel._parts.texts()
    assert panel._title.text() == "STEP 40 AGAINST ITS FLOOR"
    assert [row[0] for row in rows] == ["part", "step", "attention", "MLP", "head", "rest"]
    panel.copy.click()
    copied = QGuiApplication.clipboard().text().splitlines()
    assert copied[0] == "part\ttime\tfloor\tshare\tFLOP/byte"
    assert copied[1:] == ["\t".join(row) for row in rows[1:]]
    assert panel._parts.cells[1, 3].accessibleName() == "step, share"
    assert "physical limit" in panel._parts.cells[1, 3].toolTip()


def test_nothing_is_computed_while_hidden_or_unchanged(panel: RooflinePanel) -> None:
    trace = synthetic.trace(60, FLOORED)
    show(panel, trace)
    assert not panel.refresh()
    panel.hide()
    panel._navigation.select(3)
    assert not panel.refresh()
    panel.show()
    assert panel.refresh()


def test_a_step_that_is_not_known_says_so(panel: RooflinePanel) -> None:
    show(panel, synthetic.trace(20, synthetic.Shape(layers=2)))
    assert panel._parts.texts() == []
    assert "not known" in panel._remark.text()
    assert panel.copy.isHidden()
