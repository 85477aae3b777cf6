"""What every scenario runs on: a model on the device, its trace, its events as JSON lines, and findings to report."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch

from engine.protocol import Configuration, Event, Generate, Load, ModelLoaded, Noticed, Prompt
from engine.report import JsonReport
from engine.runtime.caches import new_cache
from engine.runtime.calibration import CalibrationRefused
from engine.runtime.generation import Generation, Limits
from engine.runtime.starting import start
from engine.runtime.workbench import Workbench
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, Trace

PROMPT = "The quick brown fox jumps over the lazy dog. " * 4
DECODE = KINDS.index(StepKind.DECODE)


@dataclass(frozen=True)
class Setup:
    """Where and with what to run. `is_rehearsal`: on the CPU, to see that the scenarios run; nothing is judged then."""

    device: str
    small: str = "llama-30m"
    large: str = "llama-3.1-8b"
    tokens: int = 128
    rounds: int = 16
    out: Path = Path("build/gpu")

    @property
    def is_rehearsal(self) -> bool:
        return self.device == "cpu"


@dataclass(frozen=True)
class Finding:
    """One measured thing. `is_met`: whether it is as expected; None where nothing is expected."""

    name: str
    value: str
    expected: str = ""
    is_met: bool | None = None


@dataclass
class Outcome:
    """What a scenario found. `problem`: why it could not be run to its end, "" where it was. `judges`: a rehearsal does
    not.
    """

    scenario: str
    findings: list[Finding] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    problem: str = ""
    judges: bool = True

    def found(self, name: str, value: str, expected: str = "", is_met: bool | None = None) -> None:
        """Add a finding."""
        judged = None if is_met is None or not self.judges else bool(is_met)
        self.findings.append(Finding(name, value, expected, judged))

    @property
    def is_good(self) -> bool:
        return not self.problem and all(finding.is_met is not False for finding in self.findings)


class Rig:
    """A workbench on the device. Its events go into `trace`, and as JSON lines into a file of the scenario."""

    def __init__(self, setup: Setup, model: str, name: str, settings: Configuration = ()) -> None:
        self.setup = setup
        setup.out.mkdir(parents=True, exist_ok=True)
        self.path = setup.out / f"{name}.jsonl"
        self._file = self.path.open("w", encoding="utf-8")
        self._report = JsonReport(self._file)
        self.trace = Trace()
        self.notices: list[str] = []
        self.bench = Workbench(
            Load(model, setup.device, settings),
            "process",
            self._take,
            lambda: None,
            is_awaited=lambda: False,
        )

    def _take(self, event: Event) -> None:
        if isinstance(event, ModelLoaded):
            self.trace = Trace(event)
        elif isinstance(event, Noticed):
            self.notices.append(event.sentence)
        self.trace.append(event)
        self._report.event(event, self.trace)

    def close(self) -> None:
        """Write the summary, and let go of the model."""
        if len(self.trace.steps):
            self._report.summary(self.trace)
        self._file.close()
        self.bench.close()

    def change(self, **settings: Any) -> None:
        """Switch settings. Raises RuntimeError with the reason where one is refused."""
        before = len(self.trace.marks)
        self.bench.change(tuple(settings.items()))
        self.bench.settle()
        for mark in self.trace.marks[before:]:
            for change in mark.event.changes:
                if change.reason:
                    raise RuntimeError(f"{change.key}={change.requested} was refused: {change.reason}")

    def generate(self, tokens: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Generate; the rows of the trace that are its decode steps, without the first few (which warm up)."""
        first = len(self.trace.steps)
        run = start(self.bench, Generate(Prompt(PROMPT), tokens, stop_at_end_token=False), perf_counter_ns())
        ended = ""
        while not ended:
            ended = run.step(held=False)
        run.end(ended)
        rows = first + np.flatnonzero(self.trace.steps.kind[first:] == DECODE)
        return rows[min(8, len(rows) // 2) :]

    def calibrate(self) -> None:
        """Measure what this machine reaches, for the floors of the steps to come; what cannot be is noted."""
        try:
            self.bench.floors.calibrate(lambda: False)
        except CalibrationRefused as refusal:
            self.notices.append(str(refusal))

    def ids(self) -> list[int]:
        """The prompt."""
        ids: list[int] = self.bench.live.tokenizer(PROMPT)["input_ids"]
        return ids

    def loop(self, tokens: int) -> None:
        """The loop alone, without events."""
        generation = Generation(self.bench.live, self.ids(), Limits(tokens))
        generation.context.cache = new_cache(
            self.bench.live, self.bench.live.cache_kind, generation.context.capacity
        )
        for _ in generation:
            pass


@contextlib.contextmanager
def rig(setup: Setup, model: str, name: str, outcome: Outcome, **settings: Any) -> Iterator[Rig]:
    """A rig for a scenario; afterwards its model is gone and its trace named."""
    made = Rig(setup, model, name, tuple(settings.items()))
    try:
        yield made
    finally:
        made.close()
        outcome.traces.append(made.path.name)


def seconds_a_token(work: Callable[[int], object], tokens: int, short: int = 16) -> float:
    """Time of one more token: a long run less a short one, both up to the last token on the host."""
    begin = perf_counter_ns()
    work(short)
    middle = perf_counter_ns()
    work(short + tokens)
    return (perf_counter_ns() - middle - (middle - begin)) / 1e9 / tokens


@contextlib.contextmanager
def counted_synchronizations(setup: Setup) -> Iterator[list[str]]:
    """The places at which something inside synchronized with the device, as torch warns of them (CUDA only)."""
    found: list[str] = []
    if setup.is_rehearsal or not setup.device.startswith("cuda"):
        yield found
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found += [f"{w.filename}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)]


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms"


def percent(share: float) -> str:
    return f"{share:.1%}"
