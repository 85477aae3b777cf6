"""Cost of a frame: all charts of a 1440 × 900 window over 1k, 20k and 100k steps × 32 layers while steps arrive.

A frame is what the window's timer does each time: take in the new steps, refresh every chart, and let Qt paint what
changed. First the whole trace is on screen, then the following range of 512 steps.
Prints one JSON line; `medians_ms` and `p99_ms` are processor time of the GUI thread (other programs do not count) with
the whole trace on screen. A long trace may not outgrow its range in so few frames: what drawing everything anew costs
then, and in every frame of a zoom or pan, is `redraw_medians_ms`. `aa_spread` is how far the median of the same frames,
measured again, was off.
`reference`: frames with a reference of 20,000 steps over frames without, in short turns; `control`: without over
without.
Below the charts lies the step timeline, or what else `--front` names: then one line for each.
Run: python -m tests.benchmarks.frame [--frames 200] [--steps 1000,20000,100000] [--front timeline,roofline]
"""

import argparse
import os
import time
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from engine.protocol import Event, MemorySampled, StepEnded, TelemetrySampled
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
from gui.charts.telemetry import TelemetryChart
from gui.charts.token_strip import TokenStrip
from gui.navigation import Navigation
from gui.panels.cycle_model import CycleModelPanel
from gui.panels.roofline import RooflinePanel
from tests.benchmarks.common import interleave, ratios, report
from tests.gui import synthetic

REFERENCE_STEPS = 20_000
ROUNDS = 16  # of turns with and without a reference
STEPS_PER_FRAME = 2  # about 60 tokens a second at 30 frames
SLOWLY = 8  # frames: numbers are told, and sensors read, four times a second
FRONT: dict[str, type[Chart] | type[RooflinePanel] | type[CycleModelPanel]] = {
    "timeline": StepTimeline,
    "telemetry": TelemetryChart,
    "roofline": RooflinePanel,
    "cycle_model": CycleModelPanel,
}


class Scene:
    """A window with all charts over a trace that grows. `front`: what lies below them."""

    def __init__(self, app: QApplication, steps: int, frames: int, front: str) -> None:
        self._app = app
        self._frames = 0
        shape = synthetic.Shape(
            layers=32, generation_steps=6000, mark_every=max(100, steps // 8), floors=True
        )
        self._events = synthetic.events(steps + frames * STEPS_PER_FRAME + 100, shape)
        self.trace = Trace(synthetic.loaded(32, floors=True))
        self.navigation = Navigation()
        self._samples = front == "telemetry"
        self._front = FRONT[front](self.navigation)
        last = self._front if isinstance(self._front, Chart) else self._front.chart
        self.charts: list[Chart] = [
            *(kind(self.navigation) for kind in (PhaseLegend, TokenStrip, LatencyChart, LayerMap)),
            last,
        ]
        self.window = QWidget()
        layout = QVBoxLayout(self.window)
        for widget, stretch in zip((*self.charts[:-1], self._front), (0, 4, 3, 3, 5), strict=True):
            layout.addWidget(widget, stretch)
        for chart in self.charts:
            chart.set_theme(theme.DARK)
            chart.set_trace(self.trace)
        if isinstance(self._front, RooflinePanel):
            self._front.set_trace(self.trace)
        self.window.resize(1440, 900)
        self.window.show()
        self.grow(steps)

    def grow(self, steps: int) -> None:
        """Let some steps arrive, outside of any frame."""
        self._take_in(self._next_events(steps))

    def frame_ms(self, steps: int = 0) -> float:
        """One frame: take in new steps, refresh, paint. Inventing the steps is not timed."""
        events = self._next_events(steps)
        begin = time.thread_time_ns()
        self._frames += 1
        self._take_in(events)
        for chart in self.charts:
            chart.refresh()
        if self._frames % SLOWLY == 0 and isinstance(self._front, RooflinePanel | CycleModelPanel):
            self._front.refresh()
        self._app.processEvents()
        return (time.thread_time_ns() - begin) / 1e6

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
            if isinstance(events[-1], StepEnded):
                steps -= 1
                if self._samples and events[-1].index % (SLOWLY * STEPS_PER_FRAME) == 0:
                    events += self._sampled(events[-1])
        return events

    def _sampled(self, step: StepEnded) -> list[Event]:
        """What sensors say at the end of a step."""
        at_ns, wave = int.from_bytes(step.stamps[-8:], "little", signed=True), step.index % 97 / 97
        size = int(2**28 * (1 + wave))
        said = TelemetrySampled(
            at_ns, 1, 4, engine_cpu=1.0, others_cpu=wave, engine_bytes=size, clock_hz=2e9 + 1e9 * wave
        )
        return [said, MemorySampled(at_ns, size, size, size // 2)]

    def _take_in(self, events: list[Event]) -> None:
        self.trace.extend(events)
        self.navigation.trace_grew(len(self.trace.steps))

    def redraw_ms(self) -> float:
        """A frame in which everything is drawn anew, as after a zoom."""
        for chart in self.charts:
            chart.set_theme(theme.DARK)
        return self.frame_ms()


def measure(app: QApplication, steps: int, frames: int, front: str) -> dict[str, Any]:
    """Medians and 99th percentiles of one length, ms; `control` is the whole view once more (A/A)."""
    scene = Scene(app, steps, 3 * (frames + 5) + 3 * (ROUNDS + 2) * (frames // ROUNDS + 6), front)
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
    parser.add_argument("--front", default=",".join(FRONT), help=f"what lies in front: {', '.join(FRONT)}")
    arguments = parser.parse_args()
    app = QApplication([])
    theme.apply(app, theme.DARK)
    for front in arguments.front.split(","):
        lengths = [int(n) for n in arguments.steps.split(",")]
        tell(front, {n: measure(app, n, arguments.frames, front) for n in lengths})


def tell(front: str, found: dict[int, dict[str, Any]]) -> None:
    """Print one line: what was measured, by length."""

    def column(key: str) -> dict[str, float]:
        return {str(n): round(values[key], 3) for n, values in found.items()}

    report(
        "frame",
        front=front,
        window="1440x900",
        layers=32,
        medians_ms=column("median"),
        p99_ms=column("p99"),
        follow_medians_ms=column("follow"),
        follow_p99_ms=column("follow_p99"),
        redraw_medians_ms=column("redraw"),
        idle_medians_ms=column("idle"),
        reference={str(n): values["reference"] for n, values in found.items()},
        aa_spread={str(n): round(abs(v["control"] / v["median"] - 1), 4) for n, v in found.items()},
    )


if __name__ == "__main__":
    main()
