"""The program: start the engine, then the window; end both cleanly, whatever happens in between."""

import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from engine.spawning import spawn_engine
from gui.display import display_problem, missing_qt
from gui.interruption import Interruption
from gui.options import PICTURE_TOKENS, Options, free_path, parse

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

    from engine.hosts import Host
    from engine.protocol import Generate, Prompt
    from gui.main_window import MainWindow
    from gui.settings_store import SettingsStore

NO_QT = 3
PICTURE = "cyclograph.png"
MOST_UNTIL_EXPOSED_S = 0.1  # on another desktop it never is


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: 0, 2 for bad input, 3 where Qt is missing, 130 after an early Ctrl-C."""
    options = parse(argv)
    interruption = Interruption()
    gc.disable()  # until all is there: collections would find nothing
    host = _start_engine(options) if options.replay is None else None
    try:
        if host is None:
            from gui.replay_app import run_replay

            return run_replay(_with_display(options), interruption)
        return _run(_with_display(options), host, interruption)
    except ImportError as error:
        print(missing_qt(error), file=sys.stderr)
        return NO_QT
    finally:
        if host is not None:
            host.stop()


def _start_engine(options: Options) -> "Host":
    """Start the engine and have it load: its process first of all, since importing torch takes longest."""
    spawned = spawn_engine() if options.place == "process" else None
    from engine.hosts import ProcessHost, open_host
    from engine.protocol import Load

    host = ProcessHost(spawned) if spawned else open_host(options.place)
    host.start()
    host.send(Load(options.model, options.device, options.settings))
    return host


def _with_display(options: Options) -> Options:
    """What can be done with the display there is: a picture where no window can be shown."""
    if options.screenshot is None:
        problem = display_problem()
        if not problem:
            return options
        picture = free_path(Path.cwd() / PICTURE)
        print(f"{problem} Drawing offscreen instead, to {picture}.", file=sys.stderr, flush=True)
        options = replace(options, screenshot=picture)
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    return options


def _run(options: Options, host: "Host", interruption: Interruption) -> int:
    """Show the window (or draw it offscreen) until it is closed."""
    from PySide6.QtCore import Qt

    from gui.main_window import MainWindow
    from gui.showing import make_application, place, store_for

    application = make_application(options)
    store = store_for(options)
    window = MainWindow(store, options.theme or ("dark" if options.screenshot else None))
    # A window may be closed while events are handled outside of exec(), where quit() would be lost: it is posted.
    window.closing.connect(application.quit, Qt.ConnectionType.QueuedConnection)
    place(window, options)
    _draw(application, window)
    return _conduct(application, window, store, options, host, interruption)


def _conduct(
    application: "QApplication",
    window: "MainWindow",
    store: "SettingsStore",
    options: Options,
    host: "Host",
    interruption: Interruption,
) -> int:
    """Connect the window that is on screen with its engine, until it is closed."""
    from PySide6.QtCore import Qt, QTimer

    from engine.protocol import Load
    from engine.telemetry.process import TelemetryProcess
    from gui.conductor import Conductor
    from gui.engine_thread import EngineThread
    from gui.faults import Faults
    from gui.recording import Recording, shelf_of_user
    from gui.replays import Replays
    from gui.showing import store_for

    engine = EngineThread(host)
    engine.adopt(Load(options.model, options.device, options.settings))
    telemetry = TelemetryProcess()
    recording, shelf = None, shelf_of_user()
    if options.screenshot is None:
        recording = Recording(engine, window.messages, store, shelf, options.record)
    replays = Replays(store_for(options, "replay"), store, shelf)
    replays.serve(window, recording)
    first = _first_generation(options, window, store.prompt)
    conductor = Conductor(window, engine, store, first, telemetry, recording)
    faults = Faults()
    faults.happened.connect(conductor.show_fault)
    faults.interrupted.connect(window.close)
    faults.install()
    if options.screenshot is not None:
        from gui.screenshot import Screenshot

        Screenshot(conductor, options.screenshot)
    interruption.close = window.close
    if interruption.asked:
        window.close()
    conductor.start()
    # Sensors are read from the first model on: until then its load needs every core.
    engine.model_loaded.connect(lambda _: telemetry.start(), Qt.ConnectionType.SingleShotConnection)
    if recording is not None:
        QTimer.singleShot(0, recording.offer_interrupted)
    gc.freeze()  # it lives as long as the process: no collection looks at it again
    gc.enable()
    try:
        if interruption.asked:
            return interruption.code
        return application.exec() if window.isVisible() else 0  # it may have been closed by now
    finally:
        replays.close_all()
        conductor.stop()
        faults.uninstall()
        telemetry.stop()
        engine.shut_down()
        if recording is not None:
            recording.stop()
        window.deleteLater()
        application.processEvents()


def _first_generation(options: Options, window: "MainWindow", remembered: "Prompt") -> "Generate":
    """What is generated as soon as the model is loaded: without a prompt of its own, what the panel shows then."""
    from engine.protocol import Prompt

    prompt = Prompt(options.prompt) if options.prompt is not None else remembered
    if prompt.text or prompt.turns:
        window.prompt.set_prompt(prompt)
    if options.screenshot is not None:
        window.prompt.set_limit(options.steps or PICTURE_TOKENS, False)
    elif options.steps is not None:
        window.prompt.set_limit(options.steps, True)
    shown = window.prompt.command(options.paused and options.screenshot is None)
    return replace(shown, prompt=Prompt(options.prompt or ""))


def _draw(application: "QApplication", window: "MainWindow") -> None:
    """Have the window drawn before anything else is done: a display exposes it a moment after it is shown."""
    handle, end = window.windowHandle(), monotonic() + MOST_UNTIL_EXPOSED_S
    while not handle.isExposed() and monotonic() < end:
        application.processEvents()
        sleep(0.002)
    application.processEvents()


if __name__ == "__main__":
    sys.exit(main())
