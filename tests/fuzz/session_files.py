"""Session files spoiled in many ways, each read as a stranger's: no crash, no hang, no flood, and only one sentence.

Each case runs in a process with others, since a crash must not end the count: `python -m tests.fuzz --cases 5000`.
"""

import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from engine.trace.against import Against
from engine.trace.export import FORMATS, TABLES, excerpt_of
from engine.trace.export.csv_table import write_csv
from engine.trace.metrics import summary
from engine.trace.recording import RecordingError, read_session
from engine.trace.reference import reference_of
from engine.trace.store import Trace
from tests.fuzz.mutations import mutate

EXPORT_EVERY = 4  # cases: it takes longer than all the rest


#: So many times the time of the file as it was may a spoiled one take.
MOST_TIMES = 6


@dataclass
class Figures:
    """What happened to so many cases. `slowest`: processor time, as a multiple of that of the file as it was."""

    cases: int = 0
    refused: int = 0
    repaired: int = 0
    read: int = 0
    slowest: float = 0.0
    slowest_seed: int = -1
    peak_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    sentences: Counter[str] = field(default_factory=Counter)


def run(original: Path, seeds: range, figures: Figures) -> None:
    """Spoil the file once for each seed, and read it."""
    with tempfile.TemporaryDirectory(prefix="cyclograph-fuzz-") as directory:
        path = Path(directory) / "session.cyclograph"
        whole_s = min(_seconds(original, True)[0] for _ in range(3))
        for seed in seeds:
            for each in Path(directory).iterdir():
                each.unlink()
            shutil.copyfile(original, path)
            how = mutate(seed, path)
            took_s, outcome = _seconds(path, seed % EXPORT_EVERY == 0)
            if isinstance(outcome, Exception):
                figures.failures.append(f"seed {seed} ({how}): {type(outcome).__name__}: {outcome}")
                outcome = "failed"
            _count(figures, seed, took_s / whole_s, outcome)
    figures.peak_bytes = peak_bytes()


def work(original: Path, seeds: range, sender: Connection) -> None:
    """The same in a process of its own; the figures are sent."""
    figures = Figures()
    run(original, seeds, figures)
    sender.send(figures)


def _seconds(path: Path, exports: bool) -> tuple[float, str | Exception]:
    """Processor time of a look, and what came of it."""
    begin = time.process_time()
    try:
        outcome = look(path, exports)
    except Exception as error:
        return time.process_time() - begin, error
    return time.process_time() - begin, outcome


def _count(figures: Figures, seed: int, times: float, outcome: str) -> None:
    figures.cases += 1
    if outcome == "read":
        figures.read += 1
    elif outcome == "repaired":
        figures.repaired += 1
    elif outcome != "failed":
        figures.refused += 1
        figures.sentences[outcome] += 1
    if times > figures.slowest:
        figures.slowest, figures.slowest_seed = times, seed


def look(path: Path, exports: bool) -> str:
    """Read a file, and do with it what a window does first, or export it; returns what came of it: of a refusal its
    sentence.
    """
    try:
        session = read_session(path)
    except RecordingError as error:
        sentence = str(error)
        if "\n" in sentence or not sentence.endswith(".") or len(sentence) > 600:
            raise AssertionError(f"no sentence: {sentence!r}") from error
        return sentence
    trace = session.trace()
    assert len(trace.steps) == len(session.steps)
    assert (trace.steps.phases_ns.sum(axis=1) == trace.steps.wall_ns).all()
    assert sum(1 for _ in session.events()) >= len(trace.steps)
    summary(trace)
    for generation in trace.generations:
        trace.text_of(generation)
    for step in range(0, len(trace.steps), 7):
        trace.spans(step)
        assert 0 <= trace.steps.configuration[step] < len(trace.configurations)
    if len(trace.steps):
        reference = reference_of(excerpt_of(trace), path.stem)
        assert reference.configurations
        Against(reference, trace).step_times(range(len(trace.steps)))
    if exports and len(trace.steps):
        export_all(trace)
    return "repaired" if session.notices else "read"


def export_all(trace: Trace) -> None:
    """Every format but Parquet, whose writer is not ours, into nothing."""
    excerpt = excerpt_of(trace)
    with open(os.devnull, "wb") as nothing:
        for each in FORMATS.values():
            if each.write is not None:
                each.write(excerpt, nothing, lambda _: None)
        for table in TABLES.values():
            write_csv(table, excerpt, nothing, lambda _: None)


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
