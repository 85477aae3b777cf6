"""Measurements beside those of a reference: the cells by their metrics, and what may be believed."""

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication

from engine.trace.export import excerpt_of
from engine.trace.reference import Reference, reference_of
from engine.trace.store import Trace
from gui.panels.measurements import HEADLINES, ROWS, MeasurementsPanel
from gui.theme import DARK
from tests.engine.trace.building import ended, trace_of
from tests.engine.trace.runs import generation
from tests.engine.trace.test_against import walls
from tests.gui import readers, synthetic
from tests.gui.conftest import on_screen

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.fixture
def panel(qapp: QApplication) -> Iterator[MeasurementsPanel]:
    made = MeasurementsPanel(DARK)
    made.resize(320, 600)
    yield from on_screen(made, qapp)


def reference(trace: Trace, name: str = "then") -> Reference:
    return reference_of(excerpt_of(trace), name)


def lines(panel: MeasurementsPanel) -> dict[str, list[str]]:
    """What the table shows, by the names of its metrics."""
    return {name: cells for name, *cells in panel._beside._table.texts()[1:]}


def test_each_metric_stands_beside_that_of_the_reference(panel: MeasurementsPanel) -> None:
    panel.set_trace(trace_of(*generation([20_000_000] * 30), ended()))
    panel.set_reference(reference(trace_of(*generation([10_000_000] * 20))))
    found = lines(panel)
    assert len(found) == len(HEADLINES["decoder"]) + len(ROWS["decoder"])
    assert found["ITL median"] == ["20.0 ms", "10.0 ms", "2.00×"]
    assert found["decode"] == ["50.0 tok/s", "100 tok/s", "0.50×"]
    assert found["end to end"] == ["600 ms", "–", "–"], "the reference has not ended"
    assert panel._beside._table.texts()[0] == ["", "this", "reference", "ratio"]
    assert panel._beside.isVisible()
    assert not panel._alone.isVisible()


def test_without_a_reference_all_is_as_before(panel: MeasurementsPanel) -> None:
    panel.set_trace(trace_of(*generation([20] * 30)))
    assert not panel._beside.isVisible()
    panel.set_reference(reference(trace_of(*generation([10] * 20))))
    panel.set_reference(None)
    assert panel._alone.isVisible()
    assert not panel._beside.isVisible()


def test_cells_say_what_they_stand_on(panel: MeasurementsPanel) -> None:
    panel.set_trace(trace_of(*generation([20_000_000] * 30)))
    panel.set_reference(reference(trace_of(*generation([10_000_000] * 20))))
    table = panel._beside._table
    place = [key for key, cell in table.cells.items() if cell.property("metric") == "itl_p50"]
    assert [column for _, column in place] == [0, 1, 2, 3]
    tip = table.cells[place[0]].toolTip()
    assert "stands on 30 samples" in tip
    assert "reference: 10.0 ms, which stands on 20" in tip


def test_the_time_of_a_step_has_an_interval_and_a_verdict_on_the_runs(panel: MeasurementsPanel) -> None:
    then = reference(trace_of(*generation(walls(200))))
    panel.set_trace(trace_of(*generation(walls(30))))
    panel.set_reference(then)
    assert panel._beside._verdict.text() == "step time: too few steps at the same context yet"
    panel.set_trace(trace_of(*generation(walls(200, 2_000, seed=2))))
    ratio, verdict = panel._beside._verdict.text().split("\n")
    assert ratio.startswith(("step time 1.99", "step time 2.0"))
    assert " to " in ratio
    assert verdict == "slower, in these two runs"
    assert "cannot tell why they differ" in panel._beside._verdict.toolTip()


def test_the_scope_is_what_is_compared(panel: MeasurementsPanel) -> None:
    slow, fast = generation(walls(150, 5_000)), generation(walls(150), 1)
    panel.set_trace(trace_of(*slow, ended(), *fast, ended(1)))
    panel.set_reference(reference(trace_of(*generation(walls(150)))))
    assert panel._beside._verdict.text().startswith(("step time 0.9", "step time 1.0"))
    panel._choose_scope(1)
    assert panel._beside._verdict.text().startswith(("step time 4.9", "step time 5.0"))


def test_it_stays_when_the_trace_becomes_another_one(panel: MeasurementsPanel) -> None:
    panel.set_trace(trace_of(*generation([20_000_000] * 30)))
    panel.set_reference(reference(trace_of(*generation([10_000_000] * 20))))
    panel.set_trace(Trace(synthetic.loaded(2)))
    assert lines(panel)["ITL median"] == ["–", "10.0 ms", "–"]


def test_another_kind_of_model_shares_what_both_have(panel: MeasurementsPanel) -> None:
    panel.set_trace(readers.trace())
    panel.set_reference(reference(trace_of(*generation([10_000_000] * 20))))
    found = lines(panel)
    assert found["throughput"][1:] == ["–", "–"]
    assert found["steps"] == ["2", "21", "0.10×"]
    assert panel._beside._verdict.text() == "step time: too few steps at the same context yet"


def test_a_name_from_a_file_is_no_markup(panel: MeasurementsPanel) -> None:
    panel.set_trace(trace_of(*generation([20] * 30)))
    panel.set_reference(reference(trace_of(*generation([10] * 20)), "<b>bold</b>"))
    assert panel._beside._name.text() == "REFERENCE: <b>bold</b>"
    assert panel._beside._name.textFormat() == Qt.TextFormat.PlainText
    assert "&lt;b&gt;bold&lt;/b&gt;" in panel._beside._name.toolTip()


def test_all_is_copied_with_the_reference(panel: MeasurementsPanel) -> None:
    panel.set_trace(trace_of(*generation([20_000_000] * 30)))
    panel.set_reference(reference(trace_of(*generation([10_000_000] * 20))))
    ((_, text),) = panel.copies(None)
    rows = [line.split("\t") for line in text.splitlines()]
    assert rows[0] == ["metric", "value", "unit", "n", "reference", "n of reference", "ratio"]
    (median,) = [row for row in rows if row[0] == "inter-token latency, median"]
    assert median[1:] == ["20000000", "ns", "30", "10000000", "20", "2.0"]
