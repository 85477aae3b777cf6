"""Pinning a reference: the actions for it, the question for a file, and what came of it, shown where it belongs."""

from pathlib import Path

from PySide6.QtCore import QObject, Slot
from PySide6.QtWidgets import QFileDialog

from engine.trace.reference import Reference
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.recording import shelf_of_user
from gui.reference import References

ABOUT = "reference"  # what messages are about


class Pinning(QObject):
    """Connects the window's reference to the actions, the charts and the measurements."""

    def __init__(self, window: MainWindow, engine: EngineThread) -> None:
        super().__init__(window)
        self._window, self._engine = window, engine
        self._directory: Path | None = None
        self.references = References(self)
        self.references.changed.connect(self._changed)
        self.references.failed.connect(self._failed)
        self.references.noticed.connect(self._noticed)
        actions = window.actions_
        actions["pin"].triggered.connect(self.pin)
        actions["pin_screen"].triggered.connect(self.pin_screen)
        actions["pin_session"].triggered.connect(self.choose_session)
        actions["unpin"].triggered.connect(self.references.unpin)
        actions["unpin"].setEnabled(False)

    def stop(self) -> None:
        """Make no more of what is under way."""
        self.references.stop()

    @Slot()
    def pin(self) -> None:
        """Pin all that was measured so far."""
        self.references.pin(self._engine.trace)

    @Slot()
    def pin_screen(self) -> None:
        """Pin the steps that the charts show."""
        navigation = self._window.navigation
        self.references.pin(self._engine.trace, range(int(navigation.first), int(-(-navigation.last // 1))))

    @Slot()
    def choose_session(self) -> None:
        """Ask for a recorded session, at first among those of the window."""
        place = self._directory or shelf_of_user().directory
        name, _ = QFileDialog.getOpenFileName(
            self._window,
            "Pin a recorded session as reference",
            str(place),
            "Sessions (*.cyclograph);;All files (*)",
        )
        if name:
            self._directory = Path(name).parent
            self.references.pin_file(Path(name))

    @Slot(object)
    def _changed(self, reference: Reference | None) -> None:
        self._window.messages.withdraw(ABOUT)
        self._window.actions_["unpin"].setEnabled(reference is not None)
        self._window.set_reference(reference)

    @Slot(str)
    def _failed(self, sentence: str) -> None:
        self._window.messages.show_message(Kind.ERROR, sentence, about=ABOUT)

    @Slot(str)
    def _noticed(self, sentence: str) -> None:
        self._window.messages.show_message(Kind.INFO, sentence, about=ABOUT)
