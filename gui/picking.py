"""The model picker, as a window opens it."""

from PySide6.QtCore import QObject, Qt, Slot

from engine.protocol import CatalogueListed, LookedUp, ModelLoaded
from gui.engine_thread import EngineThread
from gui.loading import Loading
from gui.main_window import MainWindow
from gui.panels.model_picker import ModelPicker
from gui.panels.model_rows import as_remembered
from gui.settings_store import SettingsStore


class Picking(QObject):
    """Opens the picker, answers what it asks, and loads what is chosen. Models that were loaded are remembered."""

    def __init__(
        self, window: MainWindow, engine: EngineThread, loading: Loading, store: SettingsStore
    ) -> None:
        super().__init__(window)
        self._window, self._engine, self._loading, self._store = window, engine, loading, store
        self.picker: ModelPicker | None = None  # while it is open
        engine.catalogue.connect(self._catalogue)
        engine.looked_up.connect(self._looked_up)
        engine.model_loaded.connect(self._model_loaded)
        window.model.pick_requested.connect(self.pick_model)
        window.actions_.on("pick", self.pick_model)

    @Slot()
    def pick_model(self) -> None:
        """Open the model picker."""
        if self.picker is not None:
            return
        engine, window = self._engine, self._window
        devices = engine.started.devices if engine.started else ()
        picker = ModelPicker(devices, self._store.recent_models, window.theme, window)
        picker.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        picker.chosen.connect(self._loading.load)
        picker.look_up_requested.connect(engine.look_up)
        picker.finished.connect(self._gone)
        window.theme_changed.connect(picker.set_theme)
        self.picker = picker
        if engine.listed is not None:
            picker.show_catalogue(engine.listed)
        if engine.state is not None:
            engine.list_models()
        picker.open()

    @Slot()
    def _gone(self) -> None:
        self.picker = None

    @Slot(object)
    def _catalogue(self, listed: CatalogueListed) -> None:
        if self.picker is not None:
            self.picker.show_catalogue(listed)

    @Slot(object)
    def _looked_up(self, answer: LookedUp) -> None:
        if self.picker is not None:
            self.picker.show_answer(answer)

    @Slot(object)
    def _model_loaded(self, _: ModelLoaded) -> None:
        self._store.remember_model(as_remembered(self._engine.wanted_model))
