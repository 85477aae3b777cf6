"""The observer meter fits into the window of a laptop, whatever it has to say."""

import pytest
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow

from engine.protocol import EngineState, MemorySampled, ObserverReport, PartCompared, SettingsChanged
from engine.trace.warnings import MachineWarning, Trouble
from gui import theme
from gui.frame_meter import DisplayCost
from gui.panels.status import ObserverMeter, display_text
from tests.gui import synthetic
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.mark.parametrize("troubles", [[Trouble.BUSY], [Trouble.THROTTLED, Trouble.BUSY]])
def test_nothing_is_cut_off_on_a_laptop(qapp: QApplication, troubles: list[Trouble]) -> None:
    theme.apply(qapp, theme.DARK)
    window = QMainWindow()
    meter = ObserverMeter(window.statusBar())
    window.resize(1366, 200)
    window.show()
    trace = synthetic.trace(40)
    giant = 123 * 2**30
    trace.append(SettingsChanged(0, 40, (), 1, 1, (("threads", 128),)))
    trace.append(MemorySampled(0, giant, giant, giant, giant, giant))
    trace.append(PartCompared(0, 40, "display", 1.234, 1.111, 1.345, 128))
    meter.show_costs(trace, ObserverReport(0, 300, 150.0, 9_000.0), DisplayCost(12_300_000.0, 30.0, 1.004))
    meter.show_engine(trace, "process", EngineState.RUNNING)
    meter.show_warnings([MachineWarning(trouble, "It is bad.", "Mend it.") for trouble in troubles])
    settle(qapp)
    parts = window.statusBar().findChildren(QLabel)
    assert [part.text().split()[0] for part in parts] == ["instrument", "display", "engine", "memory", "⚠"]
    assert "128 threads" in parts[2].text()
    assert "device 123 GiB" in parts[3].text()
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
