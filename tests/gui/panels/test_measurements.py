"""The measurements: what is shown suits the kind of model, and every number explains itself."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from PySide6.QtWidgets import QApplication

from engine.protocol import Calibrated, Family, StepEnded, TelemetrySampled
from engine.trace.metrics import METRICS
from engine.trace.store import Trace
from gui.panels.measurements import HEADLINES, NAMES, ROWS, MeasurementsPanel
from gui.theme import DARK
from tests.gui import readers, synthetic
from tests.gui.conftest import on_screen

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


@pytest.fixture
def panel(qapp: QApplication) -> Iterator[MeasurementsPanel]:
    made = MeasurementsPanel(DARK)
    yield from on_screen(made, qapp)


def shown(panel: MeasurementsPanel) -> dict[str, str]:
    return {name.text(): value.text() for name, value in panel._cells if name.isVisible()}


@pytest.mark.parametrize("family", Family)
def test_only_numbers_that_such_a_model_can_have_are_shown(family: Family) -> None:
    for key in (*HEADLINES[family], *ROWS[family]):
        assert family in METRICS[key].families
        assert NAMES[key]


def test_a_model_that_only_reads_is_measured_by_the_sequence(panel: MeasurementsPanel) -> None:
    panel.set_trace(readers.trace())
    names = [headline._name.text() for headline in panel._headlines]
    assert names == ["throughput", "sequence median", "padding"]
    assert panel._headlines[0]._number.text() == "188"  # 3 sequences in 16 ms
    assert panel._headlines[0]._unit.text() == "seq/s"
    assert shown(panel)["sequences"] == "3"
    assert "wall_s / B_s" in panel._headlines[1].toolTip()
    assert "ITL p95" not in shown(panel)


def test_energy_is_shown_where_something_counts_it(panel: MeasurementsPanel) -> None:
    trace = synthetic.trace(800, synthetic.Shape(layers=2))
    panel.set_trace(trace)
    assert "energy" not in shown(panel)
    begin_ns = int(trace.steps.begin_ns[0])
    for place in range(8):
        trace.append(TelemetrySampled(begin_ns + place * 250_000_000, 1, 2, energy_j=10.0 * place))
    panel.set_trace(trace)
    assert shown(panel)["power"] == "40.0 W"
    assert shown(panel)["energy"].endswith("mJ/tok")


def test_another_kind_of_model_has_other_numbers(panel: MeasurementsPanel) -> None:
    panel.set_trace(readers.trace())
    panel.set_trace(synthetic.trace(30, synthetic.Shape(layers=2)))
    assert {"ITL p95", "prefill"} <= set(shown(panel))
    loaded = synthetic.loaded(2)
    panel.set_trace(Trace(replace(loaded, model=replace(loaded.model, family=Family.ENCODER_DECODER))))
    assert "encode" in shown(panel)
    assert "prefill" not in shown(panel)


def test_a_share_of_the_floor_that_is_missing_says_why(panel: MeasurementsPanel) -> None:
    floored = synthetic.Shape(layers=2, floors=True)
    trace = Trace(synthetic.loaded(2, floors=True))
    told = [event for event in synthetic.events(30, floored) if not isinstance(event, Calibrated)]
    trace.extend([replace(e, floor_ns=0, calibration=-1) if isinstance(e, StepEnded) else e for e in told])
    panel.set_trace(trace)
    tips = {name.text(): name.toolTip() for name, _ in panel._cells if name.isVisible()}
    assert tips[NAMES["floor_share"]].endswith("\nThis machine was not measured before it.")
    panel.set_trace(synthetic.trace(30, floored))
    tips = {name.text(): name.toolTip() for name, _ in panel._cells if name.isVisible()}
    assert "\ncalibration 0: cpu, 1 thread" in tips[NAMES["floor_share"]]
