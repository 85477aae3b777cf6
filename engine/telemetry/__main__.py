"""The process that reads sensors: what to read comes in, samples go out. A front end starts it; it ends with that."""

import os
import pickle
import queue
import signal
import sys
import threading
from time import monotonic
from typing import IO

from engine.hosts import read_frame, write_frame
from engine.telemetry.sensors import Sensors, Watch

NICENESS = 5  # whatever is measured goes first


def main() -> None:
    """Sample until the front end closes its end of the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the front end
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    orders: queue.SimpleQueue[Watch | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(sys.stdin.buffer, orders), name="orders", daemon=True)
    reader.start()
    sensors = Sensors()
    try:
        _work(sensors, orders)
    except BrokenPipeError:
        os._exit(0)  # the front end is gone, and flushing what is left would fail again
    finally:
        sensors.close()


def _work(sensors: Sensors, orders: "queue.SimpleQueue[Watch | None]") -> None:
    watch = orders.get()
    due_s = monotonic()
    while watch is not None:
        try:
            wait_s = None if watch.every_s is None else max(0.0, due_s - monotonic())
            order = orders.get(timeout=wait_s)
        except queue.Empty:
            write_frame(sys.stdout.buffer, pickle.dumps(sensors.sample(watch)))
            assert watch.every_s is not None
            due_s = max(due_s + watch.every_s, monotonic())  # a late sample is not made up for
        else:
            watch, due_s = order, monotonic()


def _read(stream: IO[bytes], orders: "queue.SimpleQueue[Watch | None]") -> None:
    while (frame := read_frame(stream)) is not None:
        orders.put(pickle.loads(frame))
    orders.put(None)


if __name__ == "__main__":
    main()
