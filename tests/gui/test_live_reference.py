"""A reference in the real window, under a real run of the engine in its own process."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.hosts import open_host
from engine.protocol import Generate, Load, Prompt
from engine.trace.recording import Recorder
from gui.conductor import Conductor
from tests.gui.building import build, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

PATIENCE_MS = 90_000  # importing torch on a busy machine
LOAD = Load("demo", "cpu", (("threads", 1),))
TOKENS = 160


@pytest.fixture
def conductor(qapp: QApplication) -> Iterator[Conductor]:
    host = open_host("process")
    host.start()
    host.send(LOAD)
    made = build(host, open_host, load=LOAD, autorun=Generate(Prompt("def "), TOKENS, False))
    yield from shown(made, qapp)


def test_a_run_is_laid_over_the_run_before_and_over_its_own_recording(
    conductor: Conductor, qtbot: QtBot, tmp_path: Path
) -> None:
    window, engine = conductor.window, conductor.engine
    path = tmp_path / "first.cyclograph"
    recorder = engine.recorder = Recorder(lambda loaded: path, front="window")

    def ended() -> bool:
        return any(generation.ended is not None for generation in engine.trace.generations)

    qtbot.waitUntil(ended, timeout=PATIENCE_MS)
    engine.recorder = None
    recorder.close()
    first = engine.trace
    with qtbot.waitSignal(conductor.pinning.references.changed):
        qtbot.keyClick(window, Qt.Key.Key_H)
    live = conductor.pinning.references.reference
    qtbot.keyClick(window, Qt.Key.Key_L)
    assert len(engine.trace.steps) == 0
    window.prompt.set_text("def ")
    window.prompt.set_limit(TOKENS, False)
    qtbot.keyClick(window, Qt.Key.Key_Space)
    qtbot.waitUntil(ended, timeout=PATIENCE_MS)
    conductor.frame()
    conductor.show_numbers()

    steps = len(engine.trace.steps)
    assert steps == len(first.steps)
    overlay = window.strip._overlay
    assert [overlay.at(step)[0] for step in range(steps)] == first.steps.wall_ns.tolist()
    columns = window.latency._overlay.latencies(window.latency.device_scale(), window.latency._device_plot())
    assert np.isfinite(columns.values).sum() == TOKENS - 1
    table = {name: cells for name, *cells in window.measurements._beside._table.texts()[1:]}
    assert table["tokens"] == [f"{TOKENS}", f"{TOKENS}", "1.00×"]
    assert table["ITL median"][2].endswith("×")
    assert "in these two runs" in window.measurements._beside._verdict.text()

    with qtbot.waitSignal(conductor.pinning.references.changed):
        conductor.pinning.references.pin_file(path)
    recorded = conductor.pinning.references.reference
    assert live is not None
    assert recorded is not None
    assert recorded.course is not None
    assert live.course is not None
    assert recorded.course.walls.value_ns.tolist() == live.course.walls.value_ns.tolist()
    assert recorded.measured["itl_p50"] == live.measured["itl_p50"]
    assert recorded.configurations == live.configurations
