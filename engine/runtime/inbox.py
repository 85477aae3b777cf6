"""The commands that wait for a session, looked at without taking them."""

import queue
from collections import deque
from collections.abc import Callable

from engine.protocol import CancelLoad, Command, CountTokens, Load, LookUp, Shutdown


class Inbox:
    """What a front end has sent and the session has not taken yet, in order.

    Of questions for the length of a prompt only the last counts: whoever types asks faster than needs an answer.
    `look_up`: takes a question that needs the session for nothing, as soon as it is seen.
    """

    def __init__(self, commands: "queue.SimpleQueue[Command]", look_up: Callable[[LookUp], None]) -> None:
        self._commands = commands
        self._look_up = look_up
        self._ahead: deque[Command] = deque()
        self._question: CountTokens | None = None

    def get(self, timeout: float | None = None) -> Command:
        """The next command, waited for. Raises queue.Empty after `timeout` seconds."""
        if self._ahead:
            return self._ahead.popleft()
        return self._commands.get(timeout=timeout)

    @property
    def has_orders(self) -> bool:
        """Whether something waits that is not a question."""
        self._look()
        return bool(self._ahead)

    @property
    def gives_up_load(self) -> bool:
        """Whether something waits that ends a load. (What was to be done with the model comes before the end.)"""
        self._look()
        if not self._ahead:
            return False
        return isinstance(self._ahead[0], Shutdown) or any(
            isinstance(command, Load | CancelLoad) for command in self._ahead
        )

    def ask(self, question: CountTokens) -> None:
        """Keep a question that was taken for when there is time to answer it."""
        self._question = question

    def question(self) -> CountTokens | None:
        """The last question that waits, once."""
        question, self._question = self._question, None
        return question

    def _look(self) -> None:
        while not self._commands.empty():
            command = self._commands.get()
            if isinstance(command, CountTokens):
                self._question = command
            elif isinstance(command, LookUp):
                self._look_up(command)
            else:
                self._ahead.append(command)
