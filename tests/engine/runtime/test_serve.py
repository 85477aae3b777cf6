"""What the engine process says on its way out: batched, whole, in order, and never in the way of a step."""

import io
import os
import pickle
import threading

from engine.hosts import read_frame
from engine.protocol import EngineState, Event, StateChanged, StepEnded, Token
from engine.runtime.serve import Outbox
from engine.trace.phases import StepKind


def step(index: int) -> StepEnded:
    return StepEnded(index, 0, StepKind.DECODE, 0, 0, b"\0" * 16, 0, index, 0, (Token(1, "a", index),))


def frames(stream: io.BufferedReader) -> list[list[Event]]:
    read = []
    while (frame := read_frame(stream)) is not None:
        read.append(pickle.loads(frame))
    return read


def test_steps_gather_and_all_events_arrive_in_order() -> None:
    reading, writing = os.pipe()
    outbox = Outbox(os.fdopen(writing, "wb"))
    state = StateChanged(0, EngineState.RUNNING)
    sent: list[Event] = [state, *map(step, range(5)), *map(step, range(5, 8)), state]
    for event in sent:
        outbox.emit(event)
        if event == step(4):
            outbox.flush()
    outbox.close()
    outbox._stream.close()
    with os.fdopen(reading, "rb") as stream:
        batches = frames(stream)
    assert [event for batch in batches for event in batch] == sent
    assert [len(batch) for batch in batches] == [1, 5, 4]


def test_a_front_end_that_does_not_read_stops_no_step() -> None:
    reading, writing = os.pipe()
    outbox = Outbox(os.fdopen(writing, "wb"))
    many = 4_000  # far more than a pipe holds
    for index in range(many):
        outbox.emit(step(index))
        outbox.flush()
    received: list[Event] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as stream:
            received.extend(event for batch in frames(stream) for event in batch)

    reader = threading.Thread(target=read, name="reader")
    reader.start()
    outbox.close()
    outbox._stream.close()
    reader.join()
    assert [event.index for event in received if isinstance(event, StepEnded)] == list(range(many))


def test_a_front_end_that_is_gone_ends_the_writing_quietly() -> None:
    reading, writing = os.pipe()
    outbox = Outbox(os.fdopen(writing, "wb", buffering=0))
    os.close(reading)
    outbox.emit(step(0))
    outbox.close()
    outbox._stream.close()
    assert not outbox._writer.is_alive()
