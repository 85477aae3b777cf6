"""What is said in sentences: what failed, what the engine notices, what was done by itself."""

from collections.abc import Callable

from PySide6.QtCore import QObject, Slot

from engine.protocol import EngineEnded, Failed, ModelLoaded, Noticed
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind

Offer = tuple[str, Callable[[], None]]  # the words on a button, and what it does


class Telling(QObject):
    """Shows sentences of the engine, and those that other rooms have to say, as messages of the window."""

    def __init__(self, window: MainWindow, engine: EngineThread) -> None:
        super().__init__(window)
        self._engine, self._messages = engine, window.messages
        self._offers: dict[str, Callable[[], Offer | None]] = {}
        engine.failed.connect(self._failed)
        engine.engine_ended.connect(self._engine_ended)
        engine.model_loaded.connect(self._model_loaded)
        engine.noted.connect(self.note)
        engine.noticed.connect(self._noticed)
        window.prompt.failed.connect(self._prompt_failed)

    def offer(self, command: str, again: Callable[[], Offer | None]) -> None:
        """What can be done when a command failed; asked then."""
        self._offers[command] = again

    @Slot(str)
    def note(self, sentence: str) -> None:
        """Say what was done, or why it was not."""
        self._messages.show_message(Kind.INFO, sentence, about="note")

    @Slot(str, str)
    def show_fault(self, sentence: str, details: str) -> None:
        """Something failed that nobody foresaw."""
        self._messages.show_message(Kind.ERROR, sentence, details)

    @Slot(object)
    def _failed(self, failed: Failed) -> None:
        again = self._offers.get(failed.command, lambda: None)()
        about = failed.command or "failed"
        self._messages.show_message(Kind.ERROR, failed.sentence, failed.details, again, about=about)

    @Slot(object)
    def _engine_ended(self, event: EngineEnded) -> None:
        again = ("Restart engine", self._engine.restart)
        self._messages.show_message(Kind.ERROR, event.sentence, event.report, again, about="engine")

    @Slot(object)
    def _model_loaded(self, _: ModelLoaded) -> None:
        self._messages.withdraw("load")
        self._messages.withdraw("engine")

    @Slot(object)
    def _noticed(self, notice: Noticed) -> None:
        self._messages.show_message(Kind.INFO, notice.sentence, about=notice.about)

    @Slot(str)
    def _prompt_failed(self, sentence: str) -> None:
        self._messages.show_message(Kind.ERROR, sentence, about="prompt")
