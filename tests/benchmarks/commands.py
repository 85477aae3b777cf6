"""How soon a command takes effect: from being sent by the front end until the engine says that it does.

A command comes at a random moment, so it waits for the end of the step under way. Pauses, runs and switches take turns
in one generation of the demo model, in an engine process; both clocks are the machine's own. Told beside it: how long
the median step took, which a command may wait for.
"""

import argparse
import random
import time
from time import perf_counter_ns

import numpy as np

from engine.hosts import Host, open_host
from engine.protocol import (
    Change,
    Command,
    EngineEnded,
    EngineState,
    Event,
    Generate,
    Load,
    ModelLoaded,
    Pause,
    Prompt,
    Resume,
    SettingsChanged,
    StateChanged,
    StepEnded,
    Stop,
)
from engine.trace import ledger
from tests.benchmarks.common import report

MOST_WAITED_S = 0.05  # between two commands: several steps
PROMPT = "The quick brown fox jumps over the lazy dog."


class Listener:
    """Talks with an engine process, and notes how long its steps take."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.walls_ns: list[int] = []

    def until(self, is_it: type[Event], state: EngineState | None = None) -> int:
        """When (`perf_counter_ns`) the engine said so, in the event itself."""
        while True:
            for event in self.host.receive():
                if isinstance(event, StepEnded):
                    self.walls_ns.append(ledger.wall_ns(event.stamps))
                if isinstance(event, EngineEnded):
                    raise RuntimeError(f"the engine ended: {event.sentence}")
                if isinstance(event, is_it) and (state is None or getattr(event, "state", None) is state):
                    at_ns: int = getattr(event, "at_ns", 0)
                    return at_ns + int(getattr(event, "switch_ns", 0))
            time.sleep(0.001)

    def takes_ns(self, command: Command, is_it: type[Event], state: EngineState | None = None) -> int:
        """From sending a command, at some moment, until it is in force."""
        time.sleep(random.random() * MOST_WAITED_S)
        begin_ns = perf_counter_ns()
        self.host.send(command)
        return self.until(is_it, state) - begin_ns


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--model", default="demo")
    options = parser.parse_args()
    random.seed(0)
    host = open_host("process")
    host.start()
    try:
        measure(Listener(host), options.model, options.rounds)
    finally:
        host.stop()


def measure(listener: Listener, model: str, rounds: int) -> None:
    """Let commands take turns, and say how long each kind took."""
    listener.host.send(Load(model, settings=(("auto_detail", "off"),)))
    listener.until(ModelLoaded)
    taken: dict[str, list[int]] = {"pause": [], "switch": [], "stop": []}
    for _ in range(rounds):
        listener.host.send(Generate(Prompt(PROMPT), 900, stop_at_end_token=False))
        listener.until(StateChanged, EngineState.RUNNING)
        for detail in ("phase", "layer"):
            change = Change((("detail", detail),))
            taken["switch"].append(listener.takes_ns(change, SettingsChanged))
        taken["pause"].append(listener.takes_ns(Pause(), StateChanged, EngineState.PAUSED))
        listener.host.send(Resume())
        listener.until(StateChanged, EngineState.RUNNING)
        taken["stop"].append(listener.takes_ns(Stop(), StateChanged, EngineState.READY))
    step_ms = float(np.median(listener.walls_ns)) / 1e6
    report(
        "commands",
        model=model,
        rounds=rounds,
        step_ms=round(step_ms, 2),
        **{
            name: {
                "median_ms": round(float(np.median(values)) / 1e6, 2),
                "p99_ms": round(float(np.percentile(values, 99)) / 1e6, 2),
            }
            for name, values in taken.items()
        },
    )


if __name__ == "__main__":
    main()
