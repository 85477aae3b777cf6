"""What front ends without a window share: events come in and are folded into a trace, and are answered by commands."""

import queue

from engine.protocol import Command, Event, ModelLoaded, Shutdown
from engine.trace.store import Trace


class Front:
    """Talks with an engine in this process, on the thread that runs it. `problem` says what went wrong, if anything."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.problem = ""
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()

    def converse(self, command: Command) -> None:
        """Begin with a command, and return when the engine has been shut down."""
        from engine.runtime.session import run_session

        self.send(command)
        run_session(self._commands, self.take, place="thread")

    def send(self, command: Command) -> None:
        """Between two steps: the command comes before the next."""
        self._commands.put(command)

    def take(self, event: Event) -> None:
        """Called between two steps: note the event, and answer it."""
        if isinstance(event, ModelLoaded):
            self.trace = Trace(event, self.trace.engine)
        self.trace.append(event)
        self.answer(event)

    def answer(self, event: Event) -> None:
        """What to do about an event, which is in the trace already."""
        raise NotImplementedError

    def give_up(self, sentence: str) -> None:
        """End; of several problems the first is told."""
        self.problem = self.problem or sentence
        self.send(Shutdown())
