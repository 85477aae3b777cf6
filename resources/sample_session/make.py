"""Records the sample session anew: `python -m resources.sample_session.make`, on a machine with nothing else to do.

The demo model runs on the CPU and is switched while it writes, as somebody at the window would do it; the file is
what the engine's own recorder writes down. A minute of it shows what quantization, a cache, speculation and another
attention kernel do to the time of a token.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

from engine.front import Front
from engine.protocol import (
    Calibrate,
    Calibrated,
    Change,
    Configuration,
    EngineStarted,
    EngineState,
    Event,
    Failed,
    Generate,
    GenerationEnded,
    Load,
    NoteTaken,
    Prompt,
    Shutdown,
    StateChanged,
    StepEnded,
)
from engine.sample_session import SAMPLE_FILE
from engine.telemetry.process import TelemetryProcess
from engine.trace.recording import Recorder
from engine.trace.recording.changing import DESCRIPTION, TITLE, change_metadata

MODEL = "demo"
#: Greedy, so small a model soon repeats itself.
SETTINGS: Configuration = (("decoding", "sample"), ("temperature", 0.7), ("seed", 1))
SAMPLE_TITLE = "Sample: the demo model is switched while it writes"


@dataclass(frozen=True, slots=True)
class Run:
    """One generation. `changes`: settings that come into force before a step of it, `notes`: what is said of a step."""

    prompt: str
    tokens: int
    changes: Mapping[int, Configuration] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)


RUNS = (
    Run(
        "def read_",
        240,
        {80: (("quantization", "int8"),), 160: (("quantization", "int4"),)},
        {82: "A quarter of the bytes to read, and fewer milliseconds a token", 162: "An eighth of them"},
    ),
    Run(
        "class Reader:\n",
        200,
        {0: (("quantization", "none"),), 80: (("kv_cache", "none"),), 104: (("kv_cache", "dynamic"),)},
        {82: "Without a cache every token computes the whole text again"},
    ),
    Run(
        "import os\nimport ",
        330,
        {70: (("speculation", "draft"),), 130: (("speculation", "off"),), 200: (("attention", "eager"),)},
        {72: "A small model proposes, this one checks: several tokens a step"},
    ),
)


class Session(Front):
    """Runs one generation after the other in one session."""

    def __init__(self, recorder: Recorder, telemetry: TelemetryProcess) -> None:
        super().__init__(recorder)
        self._telemetry = telemetry
        self._waiting = list(RUNS)
        self._is_ready = False
        self._run: Run | None = None
        self._first = 0  # the engine's number of the first step of the run

    def awaits(self, step: int) -> bool:
        """Whether a change comes before this step."""
        return self._run is not None and step - self._first in self._run.changes

    def take(self, event: Event) -> None:
        """Note the event, answer it, and note what sensors have said meanwhile."""
        super().take(event)
        for sample in self._telemetry.receive():
            super().take(sample)

    def answer(self, event: Event) -> None:
        """Measure the machine once the model is there, then run all there is to run."""
        match event:
            case EngineStarted():
                self._telemetry.watch(event.pid, event.devices)
            case StateChanged(state=EngineState.READY) if not self._is_ready:
                self._is_ready = True
                self.send(Calibrate())
            case Calibrated(origin="measured") | GenerationEnded():
                self._next()
            case StepEnded() if self._run is not None:
                self._between(self._run, event.index)
            case Failed():
                self.give_up(event.sentence)
            case _:
                pass

    def _next(self) -> None:
        if not self._waiting:
            self.send(Shutdown())
            return
        self._run, self._first = self._waiting.pop(0), len(self.trace.steps)
        self._change(self._run, 0)
        self.send(Generate(Prompt(self._run.prompt), self._run.tokens, stop_at_end_token=False))

    def _between(self, run: Run, index: int) -> None:
        if note := run.notes.get(index - self._first):
            self.take(NoteTaken(perf_counter_ns(), index, note))
        self._change(run, index - self._first + 1)

    def _change(self, run: Run, step: int) -> None:
        if settings := run.changes.get(step):
            self.send(Change(settings))


def record(path: Path) -> None:
    """Write the session into a file, replacing what is there. Raises SystemExit with a sentence where that fails."""
    recorder = Recorder(lambda loaded: path, overwrite=True, front="sample_session")
    telemetry = TelemetryProcess()
    telemetry.start()
    session = Session(recorder, telemetry)
    try:
        session.converse(Load(MODEL, "cpu", SETTINGS))
    finally:
        telemetry.stop()
        recorder.close()
    if problem := session.problem or recorder.problem:
        raise SystemExit(problem)
    engine = session.trace.engine
    processor = engine.processor if engine else "an unknown processor"
    steps = len(session.trace.steps)
    about = (
        f"{steps:,} steps of the demo model on a CPU ({processor}), recorded by resources.sample_session.make:"
        " quantization, no KV cache for some tokens, speculation, another attention kernel."
    )
    change_metadata(path, {TITLE: SAMPLE_TITLE, DESCRIPTION: about})
    print(f"{path}: {path.stat().st_size:,} bytes. {about}")


def main() -> None:
    """Record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=SAMPLE_FILE, metavar="FILE")
    record(parser.parse_args().to)


if __name__ == "__main__":
    main()
