"""A replay draws what the live run drew: a real model runs in the real window and is written down; its recording, in a
window of its own, has the same trace, and everything drawn of it is the same, to the last number and pixel.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.hosts import open_host
from engine.protocol import EngineState, Generate, Load, Prompt
from engine.trace.phases import Role
from engine.trace.recording.shelf import Shelf
from engine.trace.store import Trace
from gui.charts.picture import image_of
from gui.conductor import Conductor
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.navigation import LatencyAxis
from gui.recording import Recording
from gui.replay import Replay
from gui.replays import Replays
from gui.settings_store import SettingsStore
from gui.theme import DARK
from gui.view_state import (
    ArrivalSeries,
    configuration_numbers,
    map_ceiling_ns,
    map_columns,
    strip_columns,
)
from tests.engine.trace.recording.sessions import assert_same
from tests.gui import replaying
from tests.gui.building import shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)

PATIENCE_MS = 90_000
LOAD = Load("tiny", "cpu", (("threads", 1),))
SIZE = QSize(900, 300)


@pytest.fixture
def live(qapp: QApplication, tmp_path: Path) -> Iterator[tuple[Conductor, Recording]]:
    host = open_host("process")
    host.start()
    host.send(LOAD)
    store = SettingsStore.forgetful()
    window = MainWindow(store, "dark")
    window.resize(1440, 900)
    engine = EngineThread(host, open_host, parent=window)
    engine.adopt(LOAD)
    recording = Recording(engine, window.messages, store, Shelf(tmp_path / "sessions"))
    made = Conductor(
        window, engine, store, Generate(Prompt("The night train"), 90, False), recording=recording
    )
    for conductor in shown(made, qapp):
        yield conductor, recording
        recording.stop()


@pytest.fixture
def replays(tmp_path: Path, qapp: QApplication) -> Iterator[Replays]:
    made = replaying.keeper(tmp_path)
    yield made
    replaying.closed(made, qapp)


def run_and_switch(conductor: Conductor, qtbot: QtBot) -> None:
    """Two generations, and settings that change in the middle of them."""
    engine = conductor.engine
    for count, change in enumerate([(("attention", "eager"),), (("kv_cache", "none"),)], 1):
        begun = (count - 1) * 90
        qtbot.waitUntil(lambda begun=begun: len(engine.trace.steps) > begun + 20, timeout=PATIENCE_MS)
        engine.change(change)
        qtbot.waitUntil(
            lambda count=count: sum(g.ended is not None for g in engine.trace.generations) == count,
            timeout=PATIENCE_MS,
        )
        if count == 1:
            engine.generate(Generate(Prompt("def "), 90, False))
    qtbot.waitUntil(lambda: engine.state is EngineState.READY, timeout=PATIENCE_MS)


def drawn(trace: Trace) -> dict[str, object]:
    """All that charts draw from, for the whole of a trace at two scales."""
    numbers = configuration_numbers(trace)
    series = ArrivalSeries()
    series.update(trace, numbers)
    count = len(trace.steps)
    columns = {}
    for size in (1, 4):
        buckets = range(-(-count // size))
        columns[f"strip {size}"] = strip_columns(trace, size, buckets)
        columns[f"latency {size}"] = series.columns(trace, numbers, size, buckets)
        for role in Role:
            columns[f"map {role} {size}"] = map_columns(trace, role, size, buckets)
    ceilings = {role: map_ceiling_ns(trace, role, slice(0, count)) for role in Role}
    spans = [trace.spans(step) for step in range(count)]
    return {"columns": columns, "ceilings": ceilings, "spans": spans, "marks": trace.marks}


def test_a_replay_draws_what_the_live_run_drew(
    live: tuple[Conductor, Recording], replays: Replays, qtbot: QtBot
) -> None:
    conductor, recording = live
    run_and_switch(conductor, qtbot)
    conductor.stop()
    qtbot.waitUntil(lambda: recording.path is not None, timeout=PATIENCE_MS)  # written by a thread, soon
    path = recording.path
    assert path is not None
    conductor.engine.shut_down()  # what it says from here on would be in the live window alone
    recording.stop()
    replays.show(path)
    (replay,) = replays.replays
    qtbot.waitUntil(lambda: replaying.is_open(replay), timeout=PATIENCE_MS)
    replay.conductor.stop()
    assert_same(replay.engine.trace, conductor.engine.trace)
    compare_windows(replay, conductor)
    replay.engine.set_speed(20.0)  # played from the beginning, event by event, it comes to the same
    replay.conductor.running.run_or_pause()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    replay.conductor.frame()
    assert replay.engine.state is EngineState.RUNNING
    while replay.engine.state is EngineState.RUNNING:
        assert time.monotonic() < deadline
        replay.conductor.frame()
    assert_same(replay.engine.trace, conductor.engine.trace)
    compare_windows(replay, conductor)


def show_all_of_it(window: MainWindow, trace: Trace, step: int) -> None:
    """As frames do, but for the report on what frames cost, which would become part of the live trace."""
    window.set_trace(trace)
    window.navigation.trace_grew(len(trace.steps))
    window.navigation.show_all()
    window.navigation.select(step)
    for chart in window.charts:
        chart.refresh()
    while window.text.refresh():
        pass
    window.measurements.refresh()
    window.switchboard.refresh_effects()


def compare_windows(replay: Replay, conductor: Conductor) -> None:
    """Both windows show the same, everything of it and one step."""
    one, other = replay.window, conductor.window
    assert_same(drawn(replay.engine.trace), drawn(conductor.engine.trace))
    step = len(conductor.engine.trace.steps) // 2
    for each in (replay, conductor):
        show_all_of_it(each.window, each.engine.trace, step)
    for axis in LatencyAxis:
        for chart, same in zip(one.charts, other.charts, strict=True):
            one.navigation.set_latency_axis(axis)
            other.navigation.set_latency_axis(axis)
            assert image_of(chart, SIZE, DARK) == image_of(same, SIZE, DARK), (chart.accessible_name, axis)
    assert one.text.view.toPlainText() == other.text.view.toPlainText()
    assert one.text.view.document().toHtml() == other.text.view.document().toHtml()  # the tints, too
    assert_same(one.measurements.measured, other.measurements.measured)
    values = [{key: row.cells for key, row in each.switchboard.rows.items()} for each in (one, other)]
    assert values[0] == values[1]
