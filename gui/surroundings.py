"""The machine around the engine: its sensors are read while somebody looks or steps are made, which they belong to; and
what is wrong with it is said.
"""

from collections.abc import Callable
from time import perf_counter_ns

from PySide6.QtCore import QObject, Signal, Slot

from engine.protocol import (
    DisplayReport,
    EngineEnded,
    EngineStarted,
    EngineState,
    TelemetrySampled,
)
from engine.telemetry.process import Telemetry
from engine.trace.warnings import MachineWarning, Trouble
from gui.engine_thread import EngineThread
from gui.frame_meter import DisplayCost
from gui.panels.message_bar import Kind, MessageBar

#: Stays until somebody does something about it: said in a sentence. The others come and go, and are signs in the
#: status bar and on the trace.
SAID = (Trouble.SHARED, Trouble.BATTERY, Trouble.DEBUGGER)
REPORT_EVERY_NS = 2_000_000_000


class Surroundings(QObject):
    """Feeds samples of the machine to the trace. `looked_at`: whether the window can be seen."""

    ended = Signal()  # sensors are not read any more

    def __init__(
        self,
        engine: EngineThread,
        messages: MessageBar,
        telemetry: Telemetry | None,
        looked_at: Callable[[], bool],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._messages = messages
        self._telemetry = telemetry
        self._looked_at = looked_at
        self._said: set[tuple[Trouble, str]] = set()
        self._steps = 0
        self._next_report_ns = 0
        engine.engine_started.connect(self._engine_started)
        engine.engine_ended.connect(self._engine_ended)
        engine.state_changed.connect(self._state_changed)

    @Slot(object)
    def _engine_started(self, event: EngineStarted) -> None:
        if self._telemetry is not None:
            self._telemetry.watch(event.pid, event.devices)

    @Slot(object)
    def _engine_ended(self, _: EngineEnded) -> None:
        if self._telemetry is not None:
            self._telemetry.watch(None)

    @Slot(object)
    def _state_changed(self, state: EngineState | None) -> None:
        if state is None and self._telemetry is not None:
            self._telemetry.watch(None)

    def frame(self) -> None:
        """Take what was sampled since the last frame."""
        if self._telemetry is None:
            return
        for event in self._telemetry.receive():
            self._engine.observe(event)
            if isinstance(event, TelemetrySampled):
                for note in event.notes:
                    self._messages.show_message(Kind.INFO, note, about="sensors")
            elif event.sentence:
                self._messages.show_message(Kind.WARNING, event.sentence, about="sensors")
                self.ended.emit()

    def look(self, display: DisplayCost | None) -> tuple[MachineWarning, ...]:
        """Called a few times a second: what is wrong now. `display`: goes into the trace while steps are made."""
        if self._telemetry is not None:
            self._telemetry.look(self._looked_at() or self._engine.state is EngineState.RUNNING)
        self._report(display)
        warnings = self._engine.trace.warnings_in_force
        said = SAID if self._engine.is_live else ()  # of a recording nothing can be done about it any more
        now = {warning.name for warning in warnings if warning.trouble in said}
        for warning in warnings:
            if warning.name in now - self._said:
                sentence = f"{warning.sentence} {warning.remedy}"
                self._messages.show_message(Kind.WARNING, sentence, about=_about(warning.name))
        for name in self._said - now:
            self._messages.withdraw(_about(name))
        self._said = now
        return warnings

    def _report(self, display: DisplayCost | None) -> None:
        steps, now_ns = len(self._engine.trace.steps), perf_counter_ns()
        if display is None or steps == self._steps or now_ns < self._next_report_ns:
            return
        self._steps, self._next_report_ns = steps, now_ns + REPORT_EVERY_NS
        self._engine.observe(
            DisplayReport(now_ns, display.frame_ns, display.frames_per_second, display.core_share)
        )


def _about(name: tuple[Trouble, str]) -> str:
    return f"machine {name[0]} {name[1]}"
