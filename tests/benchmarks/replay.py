"""A long recording in its window: the time to the first picture of all of it, and of a frame while it is scrubbed.

"first_picture_s" is from the wish to open it to the frame that has painted all steps, in a program that has a window
already; "window_s" of it goes into building the window, during which the file is being read. A scrubbed frame stands
elsewhere, refreshes what is shown and paints it.
Run: python -m tests.benchmarks.replay [--steps 100000] [--rounds 5]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtCore import QEvent, QEventLoop
from PySide6.QtWidgets import QApplication

from engine.protocol import Event
from engine.trace.recording.session_file import SessionFile
from engine.trace.recording.shelf import Shelf
from gui.replay import Replay
from gui.replays import Replays
from gui.screenshot import hush_offscreen
from gui.settings_store import SettingsStore
from tests.benchmarks.common import report
from tests.gui import synthetic

LAYERS = 32
TOGETHER = 4096  # events a transaction
SCRUBBED = 40  # frames a round
PATIENCE_S = 60.0


def main() -> None:
    """Print one JSON line for each length of a recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", default="1000,20000,100000")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    hush_offscreen()
    application = QApplication([])
    with tempfile.TemporaryDirectory() as directory:
        for steps in map(int, options.steps.split(",")):
            path = Path(directory) / f"{steps}.cyclograph"
            write_long(path, synthetic.Shape(layers=LAYERS, mark_every=500), steps)
            measure(application, path, steps, options.rounds)


def write_long(path: Path, shape: synthetic.Shape, steps: int) -> None:
    """A session of many steps."""
    file = SessionFile(path, {})
    events: Iterator[Event] = chain([synthetic.loaded(shape.layers)], synthetic.events(steps, shape))
    while batch := list(islice(events, TOGETHER)):
        file.write(batch)
    file.close()


def measure(application: QApplication, path: Path, steps: int, rounds: int) -> None:
    """Open the recording several times, and scrub each time."""
    pictures: list[float] = []
    windows: list[float] = []
    scrubbed: list[float] = []
    for turn in range(rounds + 1):
        replays = Replays(SettingsStore.forgetful(), SettingsStore.forgetful(), Shelf(path.parent))
        begin = time.perf_counter()
        replay = replays.open(path, "dark")
        assert replay is not None
        replay.window.resize(1440, 900)
        replay.window.show()
        built = time.perf_counter()
        wait_for_all(application, replay, steps)
        painted = time.perf_counter()
        if turn:  # the first time everything is made that windows share
            pictures.append(painted - begin)
            windows.append(built - begin)
            scrubbed += scrub(application, replay, steps, turn)
        replays.close_all()
        application.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        application.processEvents()
    report(
        "replay",
        steps=steps,
        rounds=rounds,
        first_picture_s={"median": round(statistics.median(pictures), 3), "best": round(min(pictures), 3)},
        window_s=round(statistics.median(windows), 3),
        scrub_ms={
            "median": round(statistics.median(scrubbed), 1),
            "p99": round(float(np.percentile(scrubbed, 99)), 1),
        },
    )


def wait_for_all(application: QApplication, replay: Replay, steps: int) -> None:
    """The window at work, as in the program, until it has painted all steps."""
    deadline = time.perf_counter() + PATIENCE_S
    replay.conductor.start()
    while replay.window.navigation.count < steps:
        assert time.perf_counter() < deadline, "it was never read"
        application.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
    application.processEvents()
    replay.conductor.stop()


def scrub(application: QApplication, replay: Replay, steps: int, seed: int) -> list[float]:
    """Stand at places anywhere in it, one a frame; returns how long each frame took, ms."""
    took = []
    for step in np.random.default_rng(seed).integers(0, steps, SCRUBBED).tolist():
        begin = time.perf_counter()
        replay.engine.seek(step)
        replay.conductor.frame()
        application.processEvents()
        took.append((time.perf_counter() - begin) * 1e3)
    return took


if __name__ == "__main__":
    main()
