"""Reads prompt files on a thread of its own: a large one, or a slow disk, must not stop the window."""

from pathlib import Path
from threading import Thread

from PySide6.QtCore import QObject, QTimer, Signal

from engine.prompt_files import read_prompt_file

LOOK_EVERY_MS = 15


class PromptReader(QObject):
    """Reads one file at a time; of several only the last one counts. The signals come on the thread that asked."""

    read = Signal(str)  # the text
    failed = Signal(str)  # a sentence

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._reading: _Reading | None = None
        self._timer = QTimer(self, interval=LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)

    @property
    def is_busy(self) -> bool:
        """Whether a file is being read."""
        return self._reading is not None

    def start(self, path: Path) -> None:
        """Read a file; returns at once."""
        self._reading = _Reading(path)
        self._reading.start()
        self._timer.start()

    def _look(self) -> None:
        reading = self._reading
        if reading is None or reading.is_alive():
            return
        self._timer.stop()
        self._reading = None
        if reading.problem:
            self.failed.emit(reading.problem)
        else:
            self.read.emit(reading.text)


class _Reading(Thread):
    """A daemon: a pipe that nobody writes to must not keep the program from ending."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="prompt file", daemon=True)
        self._path = path
        self.text = ""
        self.problem = ""

    def run(self) -> None:
        try:
            self.text = read_prompt_file(self._path)
        except ValueError as error:
            self.problem = str(error)
