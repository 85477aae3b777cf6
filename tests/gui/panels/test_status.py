"""The observer meter fits into the window of a laptop, whatever it has to say."""

import pytest
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow

from engine.protocol import (
    EngineState,
    MemorySampled,
    ObserverReport,
    PartCompared,
    RecordingReport,
    SettingsChanged,
)
from engine.trace.alternation import SelfTest
from engine.trace.observer import InstrumentCost
from engine.trace.warnings import MachineWarning, Trouble
from gui import theme
from gui.frame_meter import DisplayCost
from gui.panels.status import ObserverMeter, display_text, display_tip, instrument_text, instrument_tip
from tests.gui import synthetic
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.mark.parametrize("troubles", [[Trouble.BUSY], [Trouble.THROTTLED, Trouble.BUSY]])
def test_nothing_is_cut_off_on_a_laptop(qapp: QApplication, troubles: list[Trouble]) -> None:
    theme.apply(qapp, theme.DARK)
    window = QMainWindow()
    meter = ObserverMeter(window.statusBar())
    window.resize(1280, 200)
    window.show()
    trace = synthetic.trace(40)
    giant = 123 * 2**30
    trace.append(SettingsChanged(0, 40, (), 1, 1, (("threads", 128),)))
    trace.append(MemorySampled(0, giant, giant, giant, giant, giant))
    trace.append(PartCompared(0, 40, "display", 1.234, 1.111, 1.345, 128))
    trace.append(RecordingReport(0, 40, 123_000.0))
    meter.show_costs(trace, ObserverReport(0, 300, 150.0, 9_000.0), DisplayCost(12_300_000.0, 30.0, 1.004))
    meter.show_engine(trace, "process", EngineState.RUNNING)
    meter.show_warnings([MachineWarning(trouble, "It is bad.", "Mend it.") for trouble in troubles])
    settle(qapp)
    parts = window.statusBar().findChildren(QLabel)
    first_words = [part.text().split()[0] for part in parts]
    assert first_words == ["instrument", "display", "writing", "own", "memory", "⚠"]
    assert "120 µs" in parts[2].text()
    assert "128 threads" in parts[3].text()
    assert "device 123 GiB" in parts[4].text()
    for part in parts:
        assert part.width() >= part.sizeHint().width(), part.text()
    assert parts[-1].geometry().right() <= window.width()
    assert parts[-1].toolTip().count("It is bad. Mend it.") == len(troubles)
    window.close()
    window.deleteLater()
    settle(qapp)


def test_what_drawing_costs_is_short() -> None:
    assert display_text(None) == "display  –"
    assert display_text(DisplayCost(None, 0.0, 0.004)) == "display  at rest · 0.40 % of a core"
    assert (
        display_text(DisplayCost(7_500_000.0, 22.0, 0.209)) == "display  7.5 ms · 22 fps · 20.9 % of a core"
    )


def test_the_cost_of_the_instrument_is_told_in_full() -> None:
    cost = InstrumentCost(0.0042, 40, 150.0, 36_000.0, 10_000_000.0)
    assert "Press I" in instrument_tip(cost)
    marks = PartCompared(0, 9, "marks", 1.004, 0.998, 1.01, 64)
    drawing = PartCompared(0, 9, "display", None, None, None, 12)
    tip = instrument_tip(cost, marks, drawing, SelfTest(40, 39, 0.012), RecordingReport(0, 100, 25_000.0))
    assert "40 marks a step × 150 ns" in tip
    assert "1.004× the time (95 % interval 0.998× to 1.010×, 64 pairs)" in tip
    assert "differences below 1.2% cannot be told" in tip
    assert "25.0 µs of another thread's time" in tip
    assert "too few turns" in display_tip(None, drawing)
    assert instrument_text(cost, marks) == "instrument  0.42 % · A/B 1.004×"
    assert instrument_text(cost) == "instrument  0.42 % of a step"
    assert instrument_text(cost, None, True) == "instrument  0.42 % ⚠"
    assert "more than it may" in instrument_tip(cost, beyond="That is more than it may.")
    assert display_text(DisplayCost(7_500_000.0, 22.0, 0.2), marks) == "display  7.5 ms · A/B 1.004×"
