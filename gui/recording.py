"""Sessions are written down while that is wanted; what goes wrong with it is said; what a crash has left is offered."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from time import perf_counter_ns

from PySide6.QtCore import QObject, Signal, Slot

from engine.protocol import RecordingReport
from engine.trace.recording import Recorder, preface
from engine.trace.recording.shelf import Interrupted, Shelf
from engine.user_directories import user_sessions
from gui.engine_thread import EngineThread
from gui.panels.message_bar import Kind, MessageBar
from gui.settings_store import SettingsStore

REPORT_EVERY_NS = 2_000_000_000
ABOUT, ABOUT_CRASH = "recording", "interrupted"  # what messages are about


def shelf_of_user() -> Shelf:
    """Where this user's sessions are kept."""
    return Shelf(user_sessions())


class Recording(QObject):
    """Has a recorder while sessions are to be written down. `open_wished`: the file of a session to show."""

    open_wished = Signal(object)  # Path

    def __init__(
        self,
        engine: EngineThread,
        messages: MessageBar,
        store: SettingsStore,
        shelf: Shelf,
        allowed: bool = True,
    ) -> None:
        """`allowed`: False where it was ruled out for this run, whatever the user has chosen before."""
        super().__init__(engine)
        self._engine, self._messages, self._store = engine, messages, store
        self.shelf = shelf
        shelf.most_bytes = store.session_bytes or shelf.most_bytes
        self._next_report_ns = 0
        if allowed and store.record:
            self._start()

    @property
    def is_on(self) -> bool:
        """Whether what is measured is written down."""
        return self._engine.recorder is not None

    @property
    def path(self) -> Path | None:
        """The file of the session that goes on, if it has one."""
        return self._engine.recorder.path if self._engine.recorder is not None else None

    @Slot(bool)
    def set_on(self, on: bool) -> None:
        """Write sessions down from now on, or no longer; it is remembered."""
        self._store.record = on
        if on == self.is_on:
            return
        if not on:
            self.stop()
            return
        recorder = self._start()
        engine = self._engine
        if engine.loaded is not None:
            for event in preface(engine.trace, engine.loaded):
                recorder.take(event)

    def _start(self) -> Recorder:
        recorder = Recorder(self.shelf.place, keep_room=self.shelf.keep_room, front="window")
        self._engine.recorder = recorder
        return recorder

    def stop(self) -> None:
        """Write what waits, and end the session's file."""
        recorder, self._engine.recorder = self._engine.recorder, None
        if recorder is not None:
            recorder.close()

    def look(self) -> None:
        """Called a few times a second: say what is new, and what writing costs."""
        recorder, now_ns = self._engine.recorder, perf_counter_ns()
        if recorder is None:
            return
        while recorder.news:
            self._messages.show_message(Kind.WARNING, recorder.news.popleft(), about=ABOUT)
        if now_ns < self._next_report_ns:
            return
        self._next_report_ns = now_ns + REPORT_EVERY_NS
        steps, ns = recorder.cost()
        if steps:
            self._engine.observe(RecordingReport(now_ns, steps, ns))

    def offer_interrupted(self) -> None:
        """Put right what a crash has left, and offer the latest of it."""
        found = self.shelf.interrupted()
        if not found:
            return
        latest = found[0]
        report = latest.report.read_text(encoding="utf-8") if latest.report is not None else ""
        act: Callable[[], None] = lambda: self.open_wished.emit(latest.path)  # noqa: E731
        self._messages.show_message(
            Kind.INFO, interruption_text(found), report, action=("Open", act), about=ABOUT_CRASH
        )


def interruption_text(found: list[Interrupted]) -> str:
    """What a crash has left, as a sentence: the latest session, and how many others."""
    latest = found[0]
    at = datetime.fromisoformat(latest.started_at).astimezone() if latest.started_at else None
    when = f" of {at:%Y-%m-%d %H:%M}" if at else ""
    others = f" ({len(found) - 1:,} more like it are kept, too)" if len(found) > 1 else ""
    return (
        f"The session with {latest.model}{when} was interrupted; its {latest.steps:,} steps and {latest.tokens:,}"
        f" tokens are there{others}."
    )
