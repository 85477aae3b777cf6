"""The program with `--replay`: windows of recordings, and no engine."""

import gc
import sys
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QApplication

from gui.faults import Faults
from gui.options import BAD_INPUT, Options
from gui.panels.message_bar import Kind
from gui.recording import shelf_of_user
from gui.replays import Replays
from gui.screenshot import Screenshot
from gui.showing import make_application, place, store_for

if TYPE_CHECKING:
    from gui.interruption import Interruption


def run_replay(options: Options, interruption: "Interruption") -> int:
    """Show a recording until it is closed, or draw it offscreen; returns the exit code."""
    assert options.replay is not None
    application = make_application(options)
    replays = Replays(store_for(options, "replay"), store_for(options), shelf_of_user())
    theme = options.theme or ("dark" if options.screenshot else None)
    replays.failed.connect(lambda sentence: _say(replays, sentence))
    replay = replays.open(options.replay, theme)
    if replay is None:
        return BAD_INPUT
    faults = Faults()
    faults.happened.connect(replay.conductor.show_fault)
    faults.interrupted.connect(replays.close_all)
    faults.install()
    if options.screenshot is not None:
        Screenshot(replay.conductor, options.screenshot)
    place(replay.window, options)
    replay.conductor.start()
    interruption.close = replays.close_all
    gc.enable()
    try:
        return interruption.code if interruption.asked else application.exec()
    finally:
        faults.uninstall()
        replays.close_all()
        application.processEvents()


def _say(replays: Replays, sentence: str) -> None:
    """In a window if one is left, else this is the end of the program."""
    if replays.replays:
        replays.replays[-1].window.messages.show_message(Kind.ERROR, sentence, about="replay")
        return
    print(sentence, file=sys.stderr)
    QApplication.exit(BAD_INPUT)
