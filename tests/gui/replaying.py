"""Recordings that are open, for tests."""

from pathlib import Path

from PySide6.QtWidgets import QApplication

from engine.protocol import EngineStarted, EngineState, Event
from engine.trace.recording.shelf import Shelf
from gui.replay import Replay
from gui.replays import Replays
from gui.settings_store import SettingsStore
from tests.engine.trace.recording.sessions import written
from tests.gui import synthetic
from tests.gui.conftest import settle

LAYERS = 3
STARTED = EngineStarted(1, 3, 1, (("torch", "0"),), (), "a CPU", 2)
PATIENCE_MS = 20_000


def session(steps: int = 60) -> list[Event]:
    """What an engine says that makes some steps, and changes settings every 25."""
    shape = synthetic.Shape(layers=LAYERS, mark_every=25)
    return [STARTED, synthetic.loaded(LAYERS), *synthetic.events(steps, shape)]


def recording(path: Path, steps: int = 60) -> Path:
    """A file with that."""
    return written(path, session(steps))


def keeper(directory: Path) -> Replays:
    """Of recordings, remembering nothing."""
    return Replays(SettingsStore.forgetful(), SettingsStore.forgetful(), Shelf(directory))


def is_open(replay: Replay) -> bool:
    """Whether it is read."""
    return (
        replay.engine.state in (EngineState.PAUSED, EngineState.RUNNING) and replay.engine.loaded is not None
    )


def closed(replays: Replays, application: QApplication) -> None:
    """For the end of a fixture."""
    replays.close_all()
    settle(application)
