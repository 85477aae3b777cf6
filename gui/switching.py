"""Settings: what is wished for on the switchboard goes to the engine; what became of it is shown and said."""

from collections.abc import Callable

from PySide6.QtCore import QObject, Slot

from engine.protocol import Configuration, ModelLoaded, SettingsChanged
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.telling import Telling


class Switching(QObject):
    """Connects the switchboard to the engine."""

    def __init__(self, window: MainWindow, engine: EngineThread, telling: Telling) -> None:
        super().__init__(window)
        self._window, self._engine, self._telling = window, engine, telling
        engine.model_loaded.connect(self._model_loaded)
        engine.settings_changed.connect(self._settings_changed)
        engine.settings_probed.connect(self._settings_probed)
        board = window.switchboard
        board.change_requested.connect(engine.change)
        board.alternation_requested.connect(engine.alternate)
        board.alternation_stopped.connect(engine.stop_alternating)
        board.training_requested.connect(engine.probe_training)
        board.sameness_requested.connect(engine.measure_sameness)
        window.actions_.on("alternate", lambda: self._about_last_change(board.alternate))
        window.actions_.on("compare", lambda: self._about_last_change(board.compare))

    def show_precision(self, effective: Configuration) -> None:
        """Show in which precision the model runs under these settings."""
        model = self._engine.trace.model
        if model is not None:
            precision = dict(effective).get("precision", model.dtype)
            self._window.heading.show_precision(model, str(precision))

    @Slot(object)
    def _model_loaded(self, loaded: ModelLoaded) -> None:
        self._window.switchboard.show_settings(loaded)
        self.show_precision(loaded.effective)

    @Slot(object)
    def _settings_changed(self, event: SettingsChanged) -> None:
        self._window.switchboard.show_change(event)
        self.show_precision(event.effective)
        if event.cause:
            told = ", ".join(f"{change.key} is {change.effective} now" for change in event.changes)
            self._telling.note(f"{told}, since {event.cause}. Choose a level yourself to keep it.")
        for change in event.changes:
            if change.reason:
                asked = f"{change.key} = {change.requested} was asked for, {change.effective} is in force"
                self._window.messages.show_message(
                    Kind.WARNING, f"{asked}: {change.reason}", about=f"setting {change.key}"
                )

    @Slot(object)
    def _settings_probed(self, loaded: ModelLoaded) -> None:
        self._window.switchboard.show_settings(loaded)
        self._window.switchboard.show_configuration(self._engine.trace.configuration)

    def _about_last_change(self, do: Callable[[str], None]) -> None:
        """Try something about the setting that was changed last."""
        key = self._window.switchboard.last_changed()
        if key is None:
            self._telling.note("There is nothing to compare yet: change a setting first.")
        else:
            do(key)
