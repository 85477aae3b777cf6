"""Where the engine lives: its host, and how one engine follows another. Nothing of Qt is known here."""

import threading
from collections.abc import Callable

from engine.hosts import Host
from engine.protocol import Command, Event, Load


class EngineHome:
    """Has at most one host. `place`: where it lives, or lived last."""

    def __init__(self, host: Host, opener: Callable[[str], Host]) -> None:
        """`host` may have been started already. `opener`: makes another one, by its place."""
        self.place = host.place
        self._host: Host | None = host
        self._opener = opener
        self._closing: threading.Thread | None = None
        self._next: tuple[str, Load | None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is an engine."""
        return self._host is not None

    @property
    def is_awaited(self) -> bool:
        """Whether another engine was asked for and is not there yet."""
        return self._next is not None

    def send(self, command: Command) -> bool:
        """Tell it to the engine; whether there is one."""
        if self._host is None:
            return False
        self._host.send(command)
        return True

    def receive(self) -> list[Event]:
        """What it has said since the last call."""
        return self._host.receive() if self._host is not None else []

    def replace(self, place: str, load: Load | None) -> None:
        """End the engine, and have another one follow it there, with this load: see `open_next`."""
        self._next = (place, load)
        self._close()

    def leave_out_load(self) -> bool:
        """Have the next engine begin without a model; whether it was to load one."""
        if self._next is None or self._next[1] is None:
            return False
        self._next = (self._next[0], None)
        return True

    def is_due(self) -> bool:
        """Whether the next engine can be started, the one before being gone: two models would need twice the memory."""
        return self._next is not None and (self._closing is None or not self._closing.is_alive())

    def open_next(self) -> Load | None:
        """Start the engine that is due; returns what it is to load, which nobody has told it yet."""
        assert self._next is not None
        self._closing = None
        (self.place, load), self._next = self._next, None
        self._host = self._opener(self.place)
        self._host.start()
        return load

    def tidy_up(self) -> None:
        """The engine has ended: nothing is left of it."""
        host, self._host = self._host, None
        if host is not None:
            host.stop()

    def shut_down(self) -> None:
        """End the engine, wait for it, and have none follow."""
        self._next = None
        self.tidy_up()
        if self._closing is not None:
            self._closing.join()
            self._closing = None

    def _close(self) -> None:
        """End the host without keeping the window waiting: a process at once, a thread when it can."""
        host, self._host = self._host, None
        if host is None:
            return
        if host.place == "process":
            host.kill()
            return
        self._closing = threading.Thread(target=host.stop, name="engine-closing")
        self._closing.start()
