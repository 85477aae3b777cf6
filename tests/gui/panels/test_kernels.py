"""The table of a captured step: the longest names first, how our clocks compare, and all of it to be copied."""

from collections.abc import Iterator

import pytest
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from engine.trace.store import Trace
from gui.navigation import Navigation
from gui.panels.kernels import LEAST_NAME, NOTHING, KernelsPanel
from gui.view_texts import short_name
from tests.gui import synthetic
from tests.gui.conftest import on_screen, settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.fixture
def trace() -> Trace:
    return synthetic.trace(40, synthetic.Shape(layers=2, chunks=1))


@pytest.fixture
def panel(qapp: QApplication, trace: Trace) -> Iterator[KernelsPanel]:
    navigation = Navigation()
    made = KernelsPanel(navigation)
    made.show()
    made.set_trace(trace)
    navigation.trace_grew(40)
    navigation.select(12)
    yield from on_screen(made, qapp)


def cells(panel: KernelsPanel) -> list[list[str]]:
    items = panel._items
    return [[items.item(i, k).text() for k in range(items.columnCount())] for i in range(items.rowCount())]


def test_without_a_capture_it_says_how_to_make_one(panel: KernelsPanel) -> None:
    panel.refresh()
    assert panel._heading.text() == NOTHING
    assert not panel.table.isVisible()
    assert not panel.export_button.isVisible()


def test_it_lists_kernels_and_operations_and_compares(panel: KernelsPanel, trace: Trace) -> None:
    trace.append(synthetic.capture(trace, 12, device=True))
    assert panel.refresh()
    assert panel._heading.text().startswith("step 12 · ")
    rows = cells(panel)
    assert [row[0] for row in rows][1:] in (["aten::linear", "aten::mm"], ["aten::mm", "aten::linear"])
    assert rows[0][-1] == "device"
    assert rows[0][2] == "100.0 %"
    assert "say when work was launched" in panel._words.text()
    trace.append(synthetic.capture(trace, 12))
    assert panel.refresh()
    assert "attention" in panel._words.text()
    assert "by our clocks" in panel._words.text()
    assert "Compiled code shows as a region." in panel._words.text()
    assert "±2.00 µs" in panel._heading.toolTip()
    assert not panel.refresh()


def test_another_step_shows_its_own(panel: KernelsPanel, trace: Trace) -> None:
    trace.append(synthetic.capture(trace, 12))
    panel.refresh()
    panel._navigation.select(13)
    assert panel.refresh()
    assert panel._heading.text() == NOTHING
    panel._navigation.select(12)
    panel.refresh()
    assert len(cells(panel)) == 2


def test_the_table_is_copied_whole_or_in_part(panel: KernelsPanel, trace: Trace) -> None:
    trace.append(synthetic.capture(trace, 12))
    panel.refresh()
    panel.copy_button.click()
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0].split("\t") == ["name", "own time", "share", "count", "mostly in", "where"]
    assert [line.split("\t") for line in lines[1:]] == cells(panel)
    panel.table.setCurrentIndex(panel._items.index(1, 0))
    panel.table.actions()[0].trigger()
    assert QGuiApplication.clipboard().text().splitlines()[1].split("\t") == cells(panel)[1]


def test_long_names_have_short_ones() -> None:
    assert short_name("aten::linear") == "linear"
    assert short_name("void at::native::(anonymous namespace)::gemm<float, 4>(int, at::Tensor)") == "gemm"
    assert short_name("sgemm_128x64") == "sgemm_128x64"


def test_names_take_the_room_that_figures_leave(
    panel: KernelsPanel, trace: Trace, qapp: QApplication
) -> None:
    trace.append(synthetic.capture(trace, 12))
    panel.refresh()
    table, header = panel.table, panel.table.header()
    for width in (700, 520):
        panel.resize(width, 300)
        settle(qapp)
        assert header.length() == table.viewport().width()
        assert not table.horizontalScrollBar().isVisible()
    panel.resize(250, 300)
    settle(qapp)
    assert header.sectionSize(0) == LEAST_NAME
    assert table.horizontalScrollBar().isVisible()
