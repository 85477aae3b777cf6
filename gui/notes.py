"""Notes on steps: written in a window, kept in the trace and in the session file, of a recording, too."""

from time import perf_counter_ns

from PySide6.QtCore import QObject, QPoint, Slot

from engine.protocol import NoteTaken
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.panels.note_field import NoteField
from gui.session_keeper import SessionKeeper

ABOUT = "notes"  # what messages are about


class Notes(QObject):
    """Lets a step be written on, and keeps what was written."""

    def __init__(self, window: MainWindow, engine: EngineThread, keeper: SessionKeeper) -> None:
        """`keeper`: of the sessions into which notes on a recording are written."""
        super().__init__(window)
        self._window, self._engine, self._keeper = window, engine, keeper
        centre = window.centralWidget()
        assert centre is not None
        self._centre = centre
        self.field = NoteField(centre)
        self.field.written.connect(self._written)
        engine.trace_replaced.connect(self._trace_replaced)
        keeper.note_failed.connect(self._failed)
        for chart in window.charts[1:]:
            chart.addAction(window.actions_["note"])
        window.actions_.on("note", self.write)

    @Slot()
    def write(self) -> None:
        """Open the field for the selected step, or the newest."""
        step = self._window.navigation.shown_step
        if step is None:
            self._say(Kind.INFO, "There is no step to write a note on yet: run a prompt.")
            return
        self._window.messages.withdraw(ABOUT)
        self.field.begin(step, self._engine.trace.note_on(step), self._place_of(step))

    def _place_of(self, step: int) -> QPoint:
        """Beside the step, under the marks of the topmost chart that is shown, in the coordinates of the field."""
        window, centre = self._window, self._centre
        for chart in (window.strip, window.latency, window.layer_map):
            if chart.isVisible():
                plot = chart.plot_rect()
                return chart.mapTo(centre, QPoint(int(chart.scale().x(step)), plot.top() + 6))
        return QPoint(centre.width() // 2, 48)

    @Slot(int, str)
    def _written(self, step: int, text: str) -> None:
        engine = self._engine
        if step >= len(engine.trace.steps):
            return
        note = NoteTaken(perf_counter_ns(), step + engine.trace.first_index, text)
        path = engine.take_note(note)
        if path is None:
            return
        if self._keeper.shelf.holds(path):
            self._keeper.add_note(path, note)
        else:
            self._say(
                Kind.WARNING,
                f"The note is shown, but not kept: {path} does not lie among your sessions"
                f" ({self._keeper.shelf.directory}); copy it there first.",
            )

    @Slot(object)
    def _trace_replaced(self, _: object) -> None:
        """The step that is being written on is gone."""
        self.field.give_up()

    @Slot(str)
    def _failed(self, sentence: str) -> None:
        self._say(Kind.WARNING, sentence)

    def _say(self, kind: Kind, sentence: str) -> None:
        self._window.messages.show_message(kind, sentence, about=ABOUT)
