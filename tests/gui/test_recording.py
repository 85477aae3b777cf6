"""Sessions of the window are written down, shown again, and offered after a crash."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.protocol import (
    EngineEnded,
    EngineStarted,
    EngineState,
    Event,
    RecordingReport,
    StateChanged,
    TelemetrySampled,
)
from engine.trace.recording import read_session
from engine.trace.recording.shelf import Shelf
from gui.conductor import Conductor
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.recording import Recording
from gui.settings_store import SettingsStore
from tests.engine.trace.recording.sessions import assert_same
from tests.gui import replaying, synthetic
from tests.gui.building import Hosts, ScriptedHost, shown

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)

LAYERS = 3
ROOT = Path(__file__).resolve().parents[2]
STARTED = EngineStarted(1, 3, 1, (("torch", "0"),), (), "a CPU", 2)


@pytest.fixture
def store(tmp_path: Path) -> SettingsStore:
    return SettingsStore(QSettings(str(tmp_path / "window.ini"), QSettings.Format.IniFormat))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "sessions")


Window = tuple[Conductor, ScriptedHost, Recording]
Make = Callable[..., Window]


@pytest.fixture
def make(qapp: QApplication, store: SettingsStore, shelf: Shelf) -> Iterator[Make]:
    """Windows with scripted engines that record into the shelf."""
    made: list[tuple[Iterator[Conductor], Recording]] = []

    def build(allowed: bool = True) -> Window:
        host = ScriptedHost()
        window = MainWindow(store, "dark")
        engine = EngineThread(host, Hosts(), parent=window)
        recording = Recording(engine, window.messages, store, shelf, allowed)
        showing = shown(Conductor(window, engine, store, recording=recording), qapp)
        made.append((showing, recording))
        return next(showing), host, recording

    yield build
    for showing, recording in made:
        recording.stop()
        next(showing, None)


def session(steps: int = 60, model: str = "synthetic") -> list[Event]:
    loaded = synthetic.loaded(LAYERS)
    loaded = replace(loaded, model=replace(loaded.model, name=model))
    shape = synthetic.Shape(layers=LAYERS, mark_every=25)
    return [STARTED, loaded, *synthetic.events(steps, shape), StateChanged(1, EngineState.READY)]


def say(window: Window, events: list[Event]) -> None:
    conductor, host, _ = window
    host.events += events
    conductor.frame()
    while conductor.engine._waiting:
        conductor.frame()


def test_what_a_trace_is_told_is_written_down(make: Make, shelf: Shelf) -> None:
    window = make()
    conductor, _, recording = window
    say(window, session())
    conductor.engine.observe(TelemetrySampled(5, 1, 2, cpu=0.5))
    say(window, [EngineEnded(9, "The engine process was killed.", -9)])
    recording.stop()
    (path,) = shelf.sessions()
    recorded = read_session(path)
    assert recorded.notices == ()
    assert recorded.metadata["front"] == "window"
    assert_same(recorded.trace(), conductor.engine.trace)
    assert "killed" in shelf.directory.joinpath(f"{path.stem}.report.txt").read_text()


def test_each_model_has_a_session_and_a_cleared_trace_goes_on_in_its_own(make: Make, shelf: Shelf) -> None:
    window = make()
    events = session()
    say(window, events)
    window[0].engine.clear()
    say(window, list(synthetic.events(5, synthetic.Shape(layers=LAYERS)))[1:])
    say(window, session(8, "other"))
    window[2].stop()
    counts = {
        read_session(path).loaded.model.name: len(read_session(path).steps) for path in shelf.sessions()
    }
    assert counts == {"synthetic": 65, "other": 8}


def test_what_writing_costs_is_part_of_the_trace(make: Make, qtbot: QtBot) -> None:
    window = make()
    conductor = window[0]
    say(window, session())
    assert conductor.engine.recorder is not None
    qtbot.waitUntil(lambda: conductor.engine.recorder.steps_written == 60, timeout=10_000)
    qtbot.waitUntil(lambda: bool(conductor.engine.trace.recording), timeout=10_000)
    report = conductor.engine.trace.recording[0]
    assert isinstance(report, RecordingReport)
    assert 0 < report.steps <= 60
    assert 0 < report.ns_per_step < 1e8


def test_it_can_be_turned_off_and_on_again_in_the_middle_and_that_is_remembered(
    make: Make, shelf: Shelf, store: SettingsStore
) -> None:
    window = make()
    conductor, _, recording = window
    action = conductor.window.actions_["record"]
    assert action.isChecked()
    events = session(100)
    cut = next(place for place, event in enumerate(events) if getattr(event, "index", -1) == 60)
    say(window, events[:cut])
    action.trigger()
    assert (recording.is_on, store.record) == (False, False)
    (first,) = shelf.sessions()
    assert len(read_session(first).steps) == 60
    action.trigger()
    say(window, events[cut:])
    recording.stop()
    second = next(path for path in shelf.sessions() if path != first)
    again = read_session(second)
    assert again.notices == ()
    assert len(again.steps) == 40
    whole, rest = conductor.engine.trace, again.trace()
    assert (rest.steps.phases_ns == whole.steps.phases_ns[60:]).all()
    assert (rest.steps.configuration == whole.steps.configuration[60:]).all()
    assert rest.configurations == whole.configurations
    assert rest.generations[-1].started == whole.generations[-1].started


def test_what_was_turned_off_stays_off_and_no_record_rules_it_out(
    make: Make, shelf: Shelf, store: SettingsStore
) -> None:
    window = make(allowed=False)
    assert not window[0].window.actions_["record"].isChecked()
    say(window, session())
    store.record = False
    assert not make()[2].is_on
    assert shelf.sessions() == []


def test_trouble_is_said_once_and_the_session_goes_on(make: Make, shelf: Shelf, qtbot: QtBot) -> None:
    shelf.directory.write_text("in the way")
    window = make()
    conductor = window[0]
    say(window, session())
    qtbot.waitUntil(lambda: bool(conductor.engine.recorder.problem), timeout=10_000)
    say(window, list(synthetic.events(3, synthetic.Shape(layers=LAYERS)))[1:])
    window[2].look()
    window[2].look()
    (message,) = [m for m in conductor.window.messages.messages() if m.about == "recording"]
    assert message.kind is Kind.WARNING
    assert "Sessions cannot be kept in" in message.sentence
    assert len(conductor.engine.trace.steps) == 63


def test_an_interrupted_session_is_offered_once_and_opens_as_it_was(
    make: Make, shelf: Shelf, qapp: QApplication, qtbot: QtBot
) -> None:
    shelf.directory.mkdir()
    path = killed(shelf.directory / "2026-01-01 toy.cyclograph")
    conductor, host, recording = window = make()
    replays = replaying.keeper(shelf.directory)
    replays.serve(conductor.window, recording)
    say(window, session())
    recording.offer_interrupted()
    (message,) = conductor.window.messages.messages()
    assert message.kind is Kind.INFO
    assert "The session with toy" in message.sentence
    assert "35 steps" in message.sentence
    assert "Last step that was written down" in message.details
    message.action_button.click()
    (replay,) = replays.replays
    qtbot.waitUntil(lambda: replaying.is_open(replay), timeout=replaying.PATIENCE_MS)
    assert_same(replay.engine.trace, read_session(path).trace())
    assert replay.window.windowTitle().startswith("Recording of toy")
    assert (host.ended, len(conductor.engine.trace.steps)) == ("", 60)  # the live window goes on
    recording.offer_interrupted()
    replaying.closed(replays, qapp)
    assert not conductor.window.messages.messages()


def killed(path: Path) -> Path:
    """A session whose program was killed while it was written."""
    code = (
        "import os, sys; from pathlib import Path;"
        "from engine.trace.recording.session_file import SessionFile;"
        "from tests.engine.trace.recording.sessions import rich;"
        "file = SessionFile(Path(sys.argv[1]), {'model': 'toy'}); file.write(rich()); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=False)
    return path


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_the_program_killed_with_its_engine_leaves_the_session_whole(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "QT_QPA_PLATFORM": "offscreen",
        "XDG_DATA_HOME": str(tmp_path),
    }
    command = [
        sys.executable,
        "-m",
        "gui",
        "--prompt",
        "The night train",
        "--steps",
        "100000",
        "--set",
        "threads=1",
    ]
    window = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    shelf = Shelf(tmp_path / "cyclograph" / "sessions")
    deadline = time.monotonic() + 120
    try:
        while not any(path.stat().st_size for path in shelf.directory.glob("*-wal")):
            assert time.monotonic() < deadline, "nothing was recorded"
            time.sleep(0.05)
        time.sleep(1.5)
    finally:
        engines = psutil.Process(window.pid).children(recursive=True)
        window.send_signal(signal.SIGKILL)
        for engine in engines:
            engine.kill()
        window.wait()
        psutil.wait_procs(engines, timeout=10)
    (found,) = shelf.interrupted()
    assert found.steps > 5
    recorded = read_session(found.path)
    assert recorded.notices == ()
    assert recorded.metadata["front"] == "window"
    trace = recorded.trace()
    assert len(trace.steps) == found.steps
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()
    assert trace.engine is not None
    assert found.report is not None
    assert "versions: " in found.report.read_text()
