"""Writing sessions down, and opening them: steps a second, bytes a step, processor time a step.

Each turn writes the same steps of a model of 32 layers into a new file. "file": a session file, 4,096 steps a
transaction. "recorder": through the recorder's queue and its thread, until all is in the file. The baseline writes the
stamps alone into a plain file and lets the disk have them: what the disk can do. Then a long session is opened.
"""

import argparse
import itertools
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time, thread_time

from engine.protocol import Event, StepEnded
from engine.trace.recording import Recorder, read_session
from engine.trace.recording.session_file import SessionFile
from engine.trace.store import Trace
from tests.benchmarks.common import interleave, ratios, report
from tests.gui import synthetic

TOGETHER = 4096


def main() -> None:
    """Print one JSON line for writing, and one for opening."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=60_000, help="that are written, a turn")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--opened", type=int, default=100_000, help="steps of the session that is opened")
    parser.add_argument(
        "--directory", type=Path, help="on the disk to measure (default: that of temporary files)"
    )
    options = parser.parse_args()
    shape = synthetic.Shape(layers=options.layers, mark_every=500)
    events: list[Event] = [synthetic.loaded(options.layers), *synthetic.events(options.steps, shape)]
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        measure_writing(Path(directory), events, options.steps, options.rounds)
        measure_opening(Path(directory), shape, options.opened, options.rounds)


def measure_writing(directory: Path, events: list[Event], steps: int, rounds: int) -> None:
    """Steps a second of each way, medians over rounds."""
    numbers = itertools.count()
    processor: dict[str, list[float]] = {"file": [], "recorder": []}
    sizes: dict[str, int] = {}

    def new() -> Path:
        return directory / f"{next(numbers)}.cyclograph"

    def timed(name: str, write: Callable[[Path], None]) -> float:
        path = new()
        begin = perf_counter()
        write(path)
        took = perf_counter() - begin
        sizes[name] = path.stat().st_size
        path.unlink()
        return took

    def plain(path: Path) -> None:
        with path.open("wb") as file:
            for event in events:
                if isinstance(event, StepEnded):
                    file.write(event.stamps)
            file.flush()
            os.fsync(file.fileno())

    def session_file(path: Path) -> None:
        begin = thread_time()
        file = SessionFile(path, {})
        for place in range(0, len(events), TOGETHER):
            file.write(events[place : place + TOGETHER])
        file.close()
        processor["file"].append((thread_time() - begin) / steps)

    def recorder(path: Path) -> None:
        made = Recorder(lambda loaded: path)
        for event in events:
            made.take(event)
        made.close()
        assert not made.problem, made.problem
        processor["recorder"].append(made.cost()[1] / 1e9)

    arms = {"file": lambda: timed("file", session_file), "recorder": lambda: timed("recorder", recorder)}
    values = interleave(lambda: timed("plain", plain), arms, rounds)
    report(
        "recording",
        steps=steps,
        rounds=rounds,
        steps_per_s={name: round(steps / statistics.median(series)) for name, series in values.items()},
        processor_us_per_step={name: round(statistics.median(s) * 1e6, 2) for name, s in processor.items()},
        bytes_per_step={name: round(size / steps) for name, size in sizes.items()},
        against_plain_file=ratios(values),
    )


def measure_opening(directory: Path, shape: synthetic.Shape, steps: int, rounds: int) -> None:
    """How long a long session takes until there is a trace to draw, and how long its fold takes, event by event."""
    path = directory / "long.cyclograph"
    file = SessionFile(path, {})
    batch: list[Event] = [synthetic.loaded(shape.layers)]
    for event in synthetic.events(steps, shape):
        batch.append(event)
        if len(batch) == TOGETHER:
            file.write(batch)
            batch = []
    file.write(batch)
    file.close()
    walls: dict[str, list[float]] = {"read": [], "trace": [], "all": []}
    processor: list[float] = []
    for _ in range(rounds):
        begin, begun = perf_counter(), process_time()
        session = read_session(path)
        middle = perf_counter()
        trace = session.trace()
        end = perf_counter()
        processor.append(process_time() - begun)
        walls["read"].append(middle - begin)
        walls["trace"].append(end - middle)
        walls["all"].append(end - begin)
        assert len(trace.steps) == steps
    count = min(steps, 2000)
    few = list(session.events(count))
    folded = Trace(session.loaded)
    begin = perf_counter()
    folded.extend(few[1:])
    fold_s = (perf_counter() - begin) / count * steps
    report(
        "opening",
        steps=steps,
        bytes=path.stat().st_size,
        wall_s={
            name: {"median": round(statistics.median(s), 3), "best": round(min(s), 3)}
            for name, s in walls.items()
        },
        processor_s={"median": round(statistics.median(processor), 3), "best": round(min(processor), 3)},
        event_by_event_s=round(fold_s, 1),
    )


if __name__ == "__main__":
    main()
