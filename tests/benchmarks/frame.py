"""Cost of a frame: all charts of a 1440 × 900 window over 1k, 20k and 100k steps × 32 layers while steps arrive.

A frame is what the window's timer does each time: take in the new steps, refresh every chart, and let Qt paint what
changed. First the whole trace is on screen, then the following range of 512 steps.
Prints one JSON line; `medians_ms` and `p99_ms` are GUI-thread times with the whole trace on screen. A long trace
may not outgrow its range in so few frames: what drawing everything anew costs then, and in every frame of a zoom or
pan, is `redraw_medians_ms`. `aa_spread` is how far the median of the same frames, measured again, was off.
`reference`: frames with a reference of 20,000 steps over frames without, in short turns; `control`: without over
without.
Run: python -m tests.benchmarks.frame [--frames 200] [--steps 1000,20000,100000]
"""

import argparse
import json
import os
import time
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from engine.protocol import Event, StepEnded
from engine.trace.export import excerpt_of
from engine.trace.reference import Reference, reference_of
from engine.trace.store import Trace
from gui import theme
from gui.charts.chart import Chart
from gui.charts.latency import LatencyChart
from gui.charts.layer_map import LayerMap
from gui.charts.legend import PhaseLegend
from gui.charts.referenced_plot import ReferencedPlot
from gui.charts.step_timeline import StepTimeline
from gui.charts.token_strip import TokenStrip
from gui.navigation import Navigation
from tests.benchmarks.common import interleave, machine, ratios
from tests.gui import synthetic

REFERENCE_STEPS = 20_000
ROUNDS = 16  # of turns with and without a reference
STEPS_PER_FRAME = 2  # about 60 tokens a second at 30 frames


class Scene:
    """A window with all charts over a trace that grows."""

    def __init__(self, app: QApplication, steps: int, frames: int) -> None:
        self._app = app
        shape = synthetic.Shape(
            layers=32, generation_steps=6000, mark_every=max(100, steps // 8), floors=True
        )
        self._events = synthetic.events(steps + frames * STEPS_PER_FRAME + 100, shape)
        self.trace = Trace(synthetic.loaded(32, floors=True))
        self.navigation = Navigation()
        self.charts: list[Chart] = [
            kind(self.navigation) for kind in (PhaseLegend, TokenStrip, LatencyChart, LayerMap, StepTimeline)
        ]
        self.window = QWidget()
        layout = QVBoxLayout(self.window)
        for chart, stretch in zip(self.charts, (0, 4, 3, 3, 3), strict=True):
            chart.set_theme(theme.DARK)
            chart.set_trace(self.trace)
            layout.addWidget(chart, stretch)
        self.window.resize(1440, 900)
        self.window.show()
        self.grow(steps)

    def grow(self, steps: int) -> None:
        """Let some steps arrive, outside of any frame."""
        self._take_in(self._next_events(steps))

    def frame_ms(self, steps: int = 0) -> float:
        """One frame: take in new steps, refresh, paint. Inventing the steps is not timed."""
        events = self._next_events(steps)
        begin = time.perf_counter_ns()
        self._take_in(events)
        for chart in self.charts:
            chart.refresh()
        self._app.processEvents()
        return (time.perf_counter_ns() - begin) / 1e6

    def frames_ms(self, frames: int) -> list[float]:
        """Several frames while steps arrive, after a few that warm up."""
        return [self.frame_ms(STEPS_PER_FRAME) for _ in range(frames + 5)][5:]

    def set_reference(self, reference: Reference | None) -> None:
        """Lay a reference under the charts that can have one."""
        for chart in self.charts:
            if isinstance(chart, ReferencedPlot | PhaseLegend):
                chart.set_reference(reference)

    def _next_events(self, steps: int) -> list[Event]:
        events: list[Event] = []
        while steps:
            events.append(next(self._events))
            steps -= isinstance(events[-1], StepEnded)
        return events

    def _take_in(self, events: list[Event]) -> None:
        self.trace.extend(events)
        self.navigation.trace_grew(len(self.trace.steps))

    def redraw_ms(self) -> float:
        """A frame in which everything is drawn anew, as after a zoom."""
        for chart in self.charts:
            chart.set_theme(theme.DARK)
        return self.frame_ms()


def measure(app: QApplication, steps: int, frames: int) -> dict[str, Any]:
    """Medians and 99th percentiles of one length, ms; `control` is the whole view once more (A/A)."""
    scene = Scene(app, steps, 3 * (frames + 5) + 3 * (ROUNDS + 2) * (frames // ROUNDS + 6))
    scene.navigation.show_all()
    whole = scene.frames_ms(frames)
    control = scene.frames_ms(frames)
    redraw = [scene.redraw_ms() for _ in range(20)]
    reference = with_reference(scene, frames)
    scene.navigation.zoom(512 / scene.navigation.span, 0)
    follow = scene.frames_ms(frames)
    idle = [scene.frame_ms() for _ in range(20)]
    scene.window.close()
    scene.window.deleteLater()
    return {
        "reference": reference,
        "median": float(np.median(whole)),
        "p99": float(np.percentile(whole, 99)),
        "control": float(np.median(control)),
        "follow": float(np.median(follow)),
        "follow_p99": float(np.percentile(follow, 99)),
        "redraw": float(np.median(redraw)),
        "idle": float(np.median(idle)),
    }


def with_reference(scene: Scene, frames: int) -> dict[str, dict[str, float]]:
    """What a reference makes of a frame, and of drawing everything anew: medians of short turns over those without."""
    shape = synthetic.Shape(layers=1, generation_steps=REFERENCE_STEPS, seed=9)
    reference = reference_of(excerpt_of(synthetic.trace(REFERENCE_STEPS, shape)), "a reference")
    turn = frames // ROUNDS

    def growing(laid: Reference | None) -> float:
        scene.set_reference(laid)
        return float(np.median(scene.frames_ms(turn)))

    def redrawn(laid: Reference | None) -> float:
        scene.set_reference(laid)
        return float(np.median([scene.redraw_ms() for _ in range(3)]))

    found = {
        "frame": interleave(lambda: growing(None), {"reference": lambda: growing(reference)}, ROUNDS),
        "redraw": interleave(lambda: redrawn(None), {"reference": lambda: redrawn(reference)}, ROUNDS),
    }
    scene.set_reference(None)
    return {f"{name}_{arm}": ratio for name, values in found.items() for arm, ratio in ratios(values).items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--steps", default="1000,20000,100000")
    arguments = parser.parse_args()
    app = QApplication([])
    theme.apply(app, theme.DARK)
    found = {n: measure(app, n, arguments.frames) for n in map(int, arguments.steps.split(","))}

    def column(key: str) -> dict[str, float]:
        return {str(n): round(values[key], 3) for n, values in found.items()}

    result = {
        "benchmark": "frame",
        "machine": machine(),
        "window": "1440x900",
        "layers": 32,
        "medians_ms": column("median"),
        "p99_ms": column("p99"),
        "follow_medians_ms": column("follow"),
        "follow_p99_ms": column("follow_p99"),
        "redraw_medians_ms": column("redraw"),
        "idle_medians_ms": column("idle"),
        "reference": {str(n): values["reference"] for n, values in found.items()},
        "aa_spread": {str(n): round(abs(v["control"] / v["median"] - 1), 4) for n, v in found.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
