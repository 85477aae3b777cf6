"""An engine that says nothing for long in the middle of a generation: a long step, or a device that hangs."""

from engine.protocol import EngineState
from gui.engine_thread import EngineThread
from gui.panels.message_bar import Kind, MessageBar

ABOUT = "silence"
LEAST_NS = 20_000_000_000
TIMES = 20  # as long as the longest of the latest steps
LATEST = 16


class Silence:
    """Says that no step has ended for long, once, and takes it back when one does.

    Whoever waits for a token of a device waits in a driver, for as long as that takes: no engine can say so itself.
    """

    def __init__(self, engine: EngineThread, messages: MessageBar) -> None:
        self._engine, self._messages = engine, messages
        self._steps = 0
        self._since_ns: int | None = None
        self._is_said = False

    def look(self, now_ns: int) -> None:
        """Find out; call it some times a second."""
        engine, steps = self._engine, len(self._engine.trace.steps)
        is_making = engine.state is EngineState.RUNNING and engine.work(now_ns) is None
        if not is_making or steps != self._steps or self._since_ns is None:
            self._steps, self._since_ns = steps, now_ns if is_making else None
            self._take_back()
        elif now_ns - self._since_ns >= self._patience_ns():
            self._say(now_ns - self._since_ns)

    def _patience_ns(self) -> int:
        walls = self._engine.trace.steps.wall_ns[-LATEST:]
        return max(LEAST_NS, TIMES * int(walls.max())) if len(walls) else LEAST_NS

    def _say(self, silent_ns: int) -> None:
        if self._is_said:
            return
        self._is_said = True
        self._messages.show_message(
            Kind.WARNING,
            f"No step has ended for {silent_ns / 1e9:.0f} s: this one is long, or the device hangs. Wait, or restart"
            " the engine; what was measured is kept.",
            action=("Restart engine", self._engine.restart),
            about=ABOUT,
        )

    def _take_back(self) -> None:
        if self._is_said:
            self._is_said = False
            self._messages.withdraw(ABOUT)
