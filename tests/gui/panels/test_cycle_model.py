"""The panel of the cycle model: its terms, the formula, and whether it holds; all of it can be copied."""

from collections.abc import Iterator

import pytest
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from engine.trace.store import Trace
from gui.cycle_view import FORMULA, TOO_FEW_DECODED
from gui.navigation import Navigation
from gui.panels.cycle_model import CycleModelPanel
from tests.gui import synthetic
from tests.gui.conftest import on_screen

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.fixture
def panel(qapp: QApplication) -> Iterator[CycleModelPanel]:
    made = CycleModelPanel(Navigation())
    made.resize(800, 400)
    yield from on_screen(made, qapp)


def show(panel: CycleModelPanel, trace: Trace) -> None:
    panel.chart.set_trace(trace)
    panel.chart._navigation.trace_grew(len(trace.steps))
    panel.chart.refresh()
    panel.refresh()


def test_terms_formula_and_verdict_are_shown_and_copied(panel: CycleModelPanel) -> None:
    show(panel, synthetic.trace(200, synthetic.Shape(layers=8, floors=True, chunks=1)))
    rows = panel._table.texts()
    assert [row[0] for row in rows] == [
        *("term", "T_layer", "T_attention", "V", "T_sample", "in none", "T of a token", "its floor")
    ]
    assert panel._formula.text().startswith(FORMULA)
    assert "measured" in panel._words.text()
    assert "reading the cache" in panel._table.cells[1, 2].toolTip()
    panel.copy.click()
    copied = QGuiApplication.clipboard().text()
    assert "\t".join(rows[1]) in copied
    assert FORMULA in copied


def test_too_few_steps_are_told(panel: CycleModelPanel) -> None:
    show(panel, synthetic.trace(8, synthetic.Shape(layers=2)))
    assert panel._words.text() == TOO_FEW_DECODED
    assert panel._table.texts() == []
    assert panel.copy.isHidden()
    assert panel._formula.isHidden()
    assert not panel.refresh(), "nothing is new"
