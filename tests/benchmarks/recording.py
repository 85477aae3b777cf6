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
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time, thread_time

import numpy as np

from engine.protocol import DeviceSample, Event, MemorySampled, StepEnded, TelemetrySampled
from engine.trace.device_ledger import NO_TIME
from engine.trace.recording import Recorder, read_session
from engine.trace.recording.session_file import SessionFile
from engine.trace.store import Trace
from tests.benchmarks.common import interleave, ratios, report
from tests.gui import synthetic

TOGETHER = 4096


def main() -> None:
    """Print one JSON line for writing, one for opening each kind of session, and one for folding events."""
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
    """How long a long session takes until there is a trace to draw, and how long its fold takes, event by event.

    "plain": steps and marks alone; "sampled": with samples of the machine, 4 a second; "device": with a device's times.
    """
    kinds = {"plain": (steps, _plain), "sampled": (steps, _sampled), "device": (steps // 5, _on_device)}
    files = {name: _long(directory / f"{name}.cyclograph", shape, *kind) for name, kind in kinds.items()}
    walls: dict[str, dict[str, list[float]]] = {
        name: {"read": [], "trace": [], "all": [], "processor": []} for name in files
    }
    for _ in range(rounds):
        for name, path in files.items():
            for part, took in _opened(path, kinds[name][0]).items():
                walls[name][part].append(took)
    for name, path in files.items():
        report(
            "opening",
            session=name,
            steps=kinds[name][0],
            bytes=path.stat().st_size,
            seconds={
                part: {"median": round(statistics.median(s), 3), "best": round(min(s), 3)}
                for part, s in walls[name].items()
            },
        )
    session = read_session(files["plain"])
    few = list(session.events(min(steps, 2000)))
    folded = Trace(session.loaded)
    begin = perf_counter()
    folded.extend(few[1:])
    report(
        "folding",
        session="plain",
        steps=len(folded.steps),
        us_per_step=round((perf_counter() - begin) / len(folded.steps) * 1e6),
    )


def _opened(path: Path, steps: int) -> dict[str, float]:
    """Seconds of the parts of opening a session with so many steps."""
    begin, begun = perf_counter(), process_time()
    session = read_session(path)
    middle = perf_counter()
    trace = session.trace()
    end = perf_counter()
    assert len(trace.steps) == steps
    return {
        "read": middle - begin,
        "trace": end - middle,
        "all": end - begin,
        "processor": process_time() - begun,
    }


def _long(path: Path, shape: synthetic.Shape, steps: int, told: Callable[[StepEnded], list[Event]]) -> Path:
    """A session file of so many steps, each told of by these events."""
    file = SessionFile(path, {})
    batch: list[Event] = [synthetic.loaded(shape.layers)]
    for event in synthetic.events(steps, shape):
        batch += told(event) if isinstance(event, StepEnded) else [event]
        if len(batch) >= TOGETHER:
            file.write(batch)
            batch = []
    file.write(batch)
    file.close()
    return path


def _plain(step: StepEnded) -> list[Event]:
    return [step]


def _sampled(step: StepEnded) -> list[Event]:
    """With a sample of the machine every 60 steps of 4 ms."""
    if step.index % 60:
        return [step]
    at_ns = int(np.frombuffer(step.stamps, np.int64)[-1])
    device = DeviceSample("cuda:0", 1 << 33, 1 << 36, 0.9, 350.0, 1e5 + step.index, 60.0, 1.9e9, 2.6e9, ())
    sample = TelemetrySampled(at_ns, 500_000, 8, cpu=0.3, energy_j=1.0 * step.index, devices=(device,))
    return [step, MemorySampled(at_ns, 1 << 30, 1 << 29, step.cache_bytes), sample]


def _on_device(step: StepEnded) -> list[Event]:
    """Run by a device in nine tenths of the time, right behind the host."""
    host = np.frombuffer(step.stamps, np.int64)
    times = np.minimum(host[0] + 5_000 + (host - host[0]) * 9 // 10, host[-1])
    times[[0, -1]] = NO_TIME
    return [replace(step, device_stamps=times.tobytes())]


if __name__ == "__main__":
    main()
