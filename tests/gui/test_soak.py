"""The live window for a minute (CYCLOGRAPH_SOAK_SECONDS for longer): memory and reference counts stay flat.

A model that is much faster than people's is generated with over and over, and its trace is cleared each time, so that
what stays is what leaks.
"""

import gc
import os
import sys
import time
from collections.abc import Callable

import psutil
import pytest
from PySide6.QtWidgets import QApplication

from engine.hosts import ProcessHost
from engine.protocol import EngineState, Generate, Load, Prompt
from tests.gui.building import build
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

SECONDS = float(os.environ.get("CYCLOGRAPH_SOAK_SECONDS", "60"))
WARM_UP = 0.4  # share of the time in which caches and pools may still grow
LATE = 0.7  # share of the time after which samples are held against those before it
GROWTH_BYTES = 24 * 2**20
GROWTH_COUNT = 10_000  # a leak in a binding loses that many every second; texts come and go, and are bounded
LOAD = Load("tiny", "cpu", (("threads", 1),))


@pytest.mark.timeout(SECONDS + 240)
def test_a_live_window_holds_memory_and_reference_counts_flat(qapp: QApplication) -> None:
    host = ProcessHost()
    host.start()
    host.send(LOAD)
    conductor = build(
        host, lambda place: ProcessHost(), load=LOAD, autorun=Generate(Prompt("warm"), 4, False)
    )
    conductor.window.resize(1440, 900)
    conductor.window.show()
    conductor.start()
    engine = conductor.engine
    turn(qapp, lambda: engine.state is EngineState.READY and bool(engine.trace.generations))
    begin, samples = time.monotonic(), []
    generations = 0
    while time.monotonic() < begin + SECONDS:
        engine.generate(Generate(Prompt("A long watch. "), 400, stop_at_end_token=False))
        generations += 1
        turn(qapp, lambda: bool(engine.trace.generations) and engine.trace.generations[-1].ended is not None)
        conductor.window.navigation.select(100)
        pause(qapp)
        engine.clear()
        pause(qapp)
        gc.collect()
        samples.append((time.monotonic() - begin, *_counts(host)))
    conductor.stop()
    engine.shut_down()
    conductor.window.close()
    conductor.window.deleteLater()
    settle(qapp)
    assert generations >= 8
    settled = next(sample for sample in samples if sample[0] >= WARM_UP * SECONDS)
    last = samples[-1]
    assert last[1] - settled[1] < GROWTH_BYTES, f"the window grew: {samples}"
    assert last[2] - settled[2] < GROWTH_BYTES, f"the engine grew: {samples}"
    early = [sample[3] for sample in samples if WARM_UP * SECONDS <= sample[0] < LATE * SECONDS]
    late = [sample[3] for sample in samples if sample[0] >= LATE * SECONDS]
    gained, lost = min(late) - max(early), min(early) - max(late)
    assert max(gained, lost) < GROWTH_COUNT, f"references to None or True leak: {samples}"


def turn(application: QApplication, done: Callable[[], bool]) -> None:
    """Keep the window alive until something holds (pytest-qt's own waiting keeps references, which count here)."""
    while not done():
        application.processEvents()
        time.sleep(0.002)


def pause(application: QApplication) -> None:
    """A frame or two."""
    end = time.monotonic() + 0.04
    turn(application, lambda: time.monotonic() > end)


def _counts(host: ProcessHost) -> tuple[int, int, int]:
    """Memory of the window and of the engine, and references to None and True."""
    engine = psutil.Process(host.pid).memory_info().rss
    return psutil.Process().memory_info().rss, engine, sys.getrefcount(None) + sys.getrefcount(True)
