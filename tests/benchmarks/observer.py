"""What the window costs the model: no window, a window with the engine in its own process, and with it in this one.

Each turn is a whole generation from the same prompt, so that every arm sees the same contexts. All arms stay alive; the
ones that wait draw nothing. Values are gaps between arrivals of tokens.
"""

import argparse
import os
import time

import numpy as np

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtWidgets import QApplication

from engine.hosts import Host, open_host
from engine.protocol import EngineEnded, Event, Generate, GenerationEnded, Load, ModelLoaded, Prompt
from engine.trace.store import NO_LATENCY, Trace
from gui.conductor import Conductor
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.settings_store import SettingsStore
from tests.benchmarks.common import interleave, median_with_interval, report

SETTINGS = (("auto_detail", "off"),)  # all arms look equally deep
PROMPT = "The quick brown fox jumps over the lazy dog. " * 4


class NoWindow:
    """An engine process whose events are only kept."""

    def __init__(self, model: str) -> None:
        self.host = open_host("process")
        self.host.start()
        self.host.send(Load(model, settings=SETTINGS))
        (self.loaded,) = (event for event in self._until(ModelLoaded) if isinstance(event, ModelLoaded))

    def _until(self, kind: type[Event]) -> list[Event]:
        events: list[Event] = []
        while not any(isinstance(event, kind) for event in events):
            time.sleep(0.03)
            events += self.host.receive()
            if any(isinstance(event, EngineEnded) for event in events):
                raise RuntimeError("the engine ended")
        return events

    def gaps_ns(self, tokens: int) -> np.ndarray:
        """Gaps between the tokens of one generation."""
        self.host.send(Generate(Prompt(PROMPT), tokens, stop_at_end_token=False))
        trace = Trace(self.loaded)
        for event in self._all_events(tokens):
            trace.append(event)
        return decode_gaps(trace)

    def _all_events(self, tokens: int) -> list[Event]:
        if not hasattr(self, "_layouts"):
            self._layouts: list[Event] = []
        events = self._until(GenerationEnded)
        known = list(self._layouts)
        self._layouts += [event for event in events if type(event).__name__ == "LayoutDefined"]
        return [*known, *events]

    def close(self) -> None:
        """End the engine."""
        self.host.stop()


class WithWindow:
    """A window that draws at its own rate while its engine generates."""

    def __init__(self, model: str, place: str, application: QApplication) -> None:
        self.application = application
        host: Host = open_host(place)
        host.start()
        host.send(Load(model, settings=SETTINGS))
        store = SettingsStore.forgetful()
        self.window = MainWindow(store, "dark")
        self.engine = EngineThread(host)
        self.engine.adopt(Load(model, settings=SETTINGS))
        self.conductor = Conductor(self.window, self.engine, store)
        self.window.resize(1440, 900)
        self.window.show()
        self.window.arrangement.arrange()
        self.conductor.start()
        self._turn_until(lambda: self.engine.loaded is not None)
        self.conductor.stop()

    def _turn_until(self, done: "object") -> None:
        while not done():  # type: ignore[operator]
            self.application.processEvents()
            time.sleep(0.002)

    def gaps_ns(self, tokens: int) -> np.ndarray:
        """Gaps between the tokens of one generation, drawn as they come."""
        before = len(self.engine.trace.generations)
        self.conductor.start()
        self.engine.generate(Generate(Prompt(PROMPT), tokens, stop_at_end_token=False))
        generations = lambda: self.engine.trace.generations  # noqa: E731
        self._turn_until(lambda: len(generations()) > before and generations()[-1].ended is not None)
        self.conductor.stop()
        return decode_gaps(self.engine.trace, generations()[-1].first_step)

    def close(self) -> None:
        """End the engine and the window."""
        self.engine.shut_down()
        self.window.close()


def decode_gaps(trace: Trace, first: int = 0) -> np.ndarray:
    """Gaps of all decode steps from `first` on, without the first few after the prompt."""
    gaps = trace.steps.itl_ns[first:]
    return gaps[gaps != NO_LATENCY][8:]


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--model", default="llama-30m")
    options = parser.parse_args()
    application = QApplication.instance() or QApplication([])
    alone = NoWindow(options.model)
    process = WithWindow(options.model, "process", application)
    thread = WithWindow(options.model, "thread", application)
    gaps: dict[str, list[np.ndarray]] = {"baseline": [], "control": [], "own process": [], "this process": []}

    def turn(name: str, arm: NoWindow | WithWindow) -> float:
        taken = arm.gaps_ns(options.tokens)
        gaps[name].append(taken)
        return float(np.median(taken))

    sides = iter(("baseline", "control") * 10_000)
    values = interleave(
        lambda: turn(next(sides), alone),
        {
            "own process": lambda: turn("own process", process),
            "this process": lambda: turn("this process", thread),
        },
        options.rounds,
        warm_up=1,
    )
    for arm in (alone, process, thread):
        arm.close()
    baseline = np.asarray(values["baseline"])
    p99 = {name: float(np.percentile(np.concatenate(series[1:]), 99)) for name, series in gaps.items()}
    report(
        "observer",
        model=options.model,
        rounds=options.rounds,
        tokens=options.tokens,
        median_ms={name: round(float(np.median(series)) / 1e6, 3) for name, series in values.items()},
        against_no_window={
            name: median_with_interval(np.asarray(series) / baseline)
            for name, series in values.items()
            if name != "baseline"
        },
        p99_ratio={
            name: round(value / p99["baseline"], 3) for name, value in p99.items() if name != "baseline"
        },
    )


if __name__ == "__main__":
    main()
