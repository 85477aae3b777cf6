"""Capturing a step in depth: asked for, shown, and saved where the user says."""

from pathlib import Path

from PySide6.QtCore import QObject, Slot
from PySide6.QtWidgets import QFileDialog

from engine.protocol import EngineState
from engine.trace.chrome_trace import write_chrome_trace
from engine.trace.export import ExportRefused
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.options import free_path
from gui.panels.message_bar import Kind
from gui.running import Running
from gui.telling import Offer, Telling


class Capturing(QObject):
    """Connects the actions that capture, and the table of kernels, to the engine."""

    def __init__(self, window: MainWindow, engine: EngineThread, telling: Telling, running: Running) -> None:
        super().__init__(window)
        self._window, self._engine, self._telling, self._running = window, engine, telling, running
        telling.offer("capture", self._next_step)
        engine.state_changed.connect(self._state_changed)
        engine.kernels_captured.connect(self._kernels_captured)
        window.kernels.export_requested.connect(self.save_capture)
        window.actions_.on("capture", self.capture)
        window.actions_.on("save_capture", self.save_capture)
        self._state_changed(engine.state)

    def capture(self) -> None:
        """Look into the selected step again; without one into the next, or into the newest once all is over."""
        engine, selected = self._engine, self._window.navigation.selected
        self._window.messages.withdraw("capture")
        if selected is None and engine.state is EngineState.READY:
            if not len(engine.trace.steps):
                self._running.generate(True)
            else:
                selected = self._window.navigation.shown_step
        engine.capture_step(selected)

    def _next_step(self) -> Offer | None:
        """Where a step cannot be captured again, another one is to come."""
        return ("Capture the next step", self._engine.capture_step) if self._engine.is_generating else None

    @Slot(object)
    def _state_changed(self, state: EngineState | None) -> None:
        ready = state is EngineState.READY or self._engine.is_generating
        self._window.actions_["capture"].setEnabled(ready)

    @Slot(int)
    def _kernels_captured(self, row: int) -> None:
        self._window.messages.withdraw("capture")
        self._window.navigation.trace_grew(len(self._engine.trace.steps))
        self._window.navigation.select(row)
        self._window.arrangement.show_capture()
        self._window.kernels.refresh()

    @Slot()
    def save_capture(self) -> None:
        """Write the capture of the step that is shown where the user says; a file that is there only if he says so."""
        row = self._window.kernels.row
        capture = self._engine.trace.capture(row) if row is not None else None
        if capture is None:
            self._telling.note(
                "There is nothing to save: the step that is shown was not captured. Press K to do so."
            )
            return
        suggested = str(free_path(Path.cwd() / f"step-{row}.trace.json"))
        name, _ = QFileDialog.getSaveFileName(
            self._window, "Save the capture", suggested, "Chrome traces (*.json)"
        )
        if not name:
            return
        try:
            write_chrome_trace(capture, Path(name), replace=True)  # the dialog has asked
        except ExportRefused as refusal:
            self._window.messages.show_message(Kind.ERROR, str(refusal), about="save capture")
            return
        where = f"The capture is in {name}; open it with ui.perfetto.dev or chrome://tracing."
        self._window.messages.show_message(Kind.INFO, where, about="save capture")
