"""What every way to show a window begins with: the application, and the window's place on the screen."""

import sys

from PySide6.QtWidgets import QApplication

from gui.main_window import MainWindow
from gui.options import PICTURE_SIZE, Options
from gui.settings_store import SettingsStore


def make_application(options: Options) -> QApplication:
    """The application, before any window."""
    if options.screenshot is not None:
        from gui.screenshot import hush_offscreen

        hush_offscreen()
    application = QApplication([sys.argv[0]])
    application.setApplicationName("Cyclograph")
    application.setDesktopFileName("cyclograph")
    return application


def store_for(options: Options, name: str = "window") -> SettingsStore:
    """What a kind of window remembers; nothing for a picture."""
    return SettingsStore.of_user(name) if options.screenshot is None else SettingsStore.forgetful()


def place(window: MainWindow, options: Options) -> None:
    """Show a window in the size that was asked for."""
    size = options.size or (PICTURE_SIZE if options.screenshot else None)
    if size:
        window.resize(*size)
    window.show()
    if size:
        window.arrangement.arrange()
