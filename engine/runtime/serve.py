"""The engine process: a session between standard input (commands) and standard output (events)."""

import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import IO

from engine.hosts import DeviceLost, batch, read_frame, write_frame
from engine.protocol import DEVICE_LOST, BeamsRanked, Command, Event, Shutdown, StepEnded

GATHER_NS = 30_000_000  # once a frame of the window: what is told sooner is not seen sooner


class Outbox:
    """Collects events of steps until it is told to send them, and sends all others at once. Any thread may emit.

    Pickling happens on the engine's thread, between steps, where it is timed; writing waits on a thread of its own,
    so that a front end that does not read never stops a step.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._events: list[Event] = []
        self._frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write, name="events", daemon=True)
        self._writer.start()

    def emit(self, event: Event) -> None:
        """Take an event; whoever tells steps tells several, and flushes behind them."""
        with self._lock:
            self._events.append(event)
            if not isinstance(event, StepEnded | BeamsRanked):
                self._send()

    def flush(self) -> None:
        """Send what has gathered."""
        with self._lock:
            self._send()

    def _send(self) -> None:
        if self._events:
            self._frames.put(batch(self._events))
            self._events.clear()

    def close(self) -> None:
        """Send the rest and wait until it is written."""
        self.flush()
        self._frames.put(None)
        self._writer.join()

    def _write(self) -> None:
        while (frame := self._frames.get()) is not None:
            try:
                write_frame(self._stream, frame)
            except OSError:  # the front end is gone; standard input says so as well, and ends the session
                return


def serve() -> None:
    """Run the engine process until its front end shuts it down or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the front end, which then shuts this down
    events = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(
        sys.stderr.fileno(), sys.stdout.fileno()
    )  # whatever a library prints must not end up among events
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    reader = threading.Thread(
        target=_read_commands, args=(sys.stdin.buffer, commands.put), name="commands", daemon=True
    )
    reader.start()
    outbox = Outbox(events)
    from engine.runtime.session import run_session

    try:
        run_session(commands, outbox.emit, outbox.flush, place="process", gather_ns=GATHER_NS)
    except DeviceLost as lost:
        print(lost, file=sys.stderr, flush=True)
        outbox.close()
        os._exit(DEVICE_LOST)  # taking down what is left of a device that failed may hang, or abort
    outbox.close()


def _read_commands(stream: IO[bytes], put: Callable[[Command], None]) -> None:
    while (frame := read_frame(stream)) is not None:
        put(pickle.loads(frame))
    put(Shutdown())


if __name__ == "__main__":
    serve()
