"""What front ends without a window share: events come in and are folded into a trace, and are answered by commands."""

import queue

from engine.hosts import DeviceLost
from engine.protocol import Command, Event, ModelLoaded, Shutdown
from engine.trace.recording import Recorder
from engine.trace.store import Trace


class Front:
    """Talks with an engine in this process, on the thread that runs it. `problem` says what went wrong, if anything.

    `is_lost`: the engine ended since the device failed for good: nothing in this process can use it any more.
    `recorder`: writes down what is said, if there is one.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.trace = Trace()
        self.recorder = recorder
        self.problem = ""
        self.is_lost = False
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()

    def converse(self, command: Command) -> None:
        """Begin with a command, and return when the engine has been shut down."""
        from engine.runtime.session import run_session

        self.send(command)
        try:
            run_session(self._commands, self.take, place="thread", awaits=self.awaits)
        except DeviceLost as lost:
            self.is_lost = True
            self.problem = self.problem or f"{lost} Run the command again: a new process can use it."

    def send(self, command: Command) -> None:
        """Between two steps: the command comes before the next."""
        self._commands.put(command)

    def take(self, event: Event) -> None:
        """Called between two steps: note the event, and answer it."""
        if isinstance(event, ModelLoaded):
            self.trace = Trace(event, self.trace.engine)
        try:
            self.trace.append(event)
        except (KeyError, ValueError) as error:
            self.give_up(f"A message of the engine made no sense ({error}): run the command again.")
            return
        if self.recorder is not None:
            self.recorder.take(event)
        self.answer(event)

    def awaits(self, step: int) -> bool:
        """Whether there is something to say before this step, once the one before it has been told."""
        return False

    def answer(self, event: Event) -> None:
        """What to do about an event, which is in the trace already."""
        raise NotImplementedError

    def give_up(self, sentence: str) -> None:
        """End; of several problems the first is told."""
        self.problem = self.problem or sentence
        self.send(Shutdown())
