"""The observer meter, in the status bar: what measuring and drawing cost right now. Every figure is measured."""

from dataclasses import dataclass

import numpy as np
from PySide6.QtWidgets import QLabel, QStatusBar

from engine.protocol import EngineState, ObserverReport
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, Trace
from gui import units
from gui.frame_meter import DisplayCost
from gui.panels.widgets import label, set_text

RECENT = 64
DECODE = KINDS.index(StepKind.DECODE)


@dataclass(frozen=True, slots=True)
class InstrumentCost:
    """What measuring costs a step: its marks at the cost of one, and handing it over, as a share of the median step."""

    share: float
    marks: int
    mark_ns: float
    emit_ns: float
    step_ns: float


def instrument_cost(trace: Trace, report: ObserverReport | None) -> InstrumentCost | None:
    """From the engine's report and the latest decode steps (at most 64); None before there are any."""
    if report is None:
        return None
    recent = slice(-4 * RECENT, None)
    rows = np.flatnonzero((trace.steps.kind[recent] == DECODE) & ~trace.steps.captured[recent])[-RECENT:]
    if not len(rows):
        return None
    step_ns = float(np.median(trace.steps.wall_ns[-4 * RECENT :][rows]))
    spent = report.marks_per_step * report.mark_cost_ns + report.emit_ns_per_step
    return InstrumentCost(
        spent / step_ns, report.marks_per_step, report.mark_cost_ns, report.emit_ns_per_step, step_ns
    )


class ObserverMeter:
    """Fills a status bar. Four times a second at most."""

    def __init__(self, bar: QStatusBar) -> None:
        self._instrument = self._part(bar, "instrument")
        self._display = self._part(bar, "display")
        self._engine = self._part(bar, "engine")
        self._memory = self._part(bar, "memory")
        bar.setSizeGripEnabled(False)

    def _part(self, bar: QStatusBar, name: str) -> QLabel:
        made = label("", "number")
        made.setContentsMargins(8, 2, 8, 2)
        made.setAccessibleName(name)
        bar.addWidget(made)
        return made

    def show_costs(self, trace: Trace, report: ObserverReport | None, display: DisplayCost | None) -> None:
        """Show what instrument and display cost."""
        cost = instrument_cost(trace, report)
        set_text(self._instrument, instrument_text(cost))
        self._instrument.setToolTip(instrument_tip(cost))
        set_text(self._display, display_text(display))
        self._display.setToolTip(
            "Processor time of the thread that draws: median for a frame that drew, frames that drew, share of one"
            " core. Over the last two seconds, painting included. When nothing changes nothing is drawn."
        )

    def show_engine(self, trace: Trace, place: str, state: EngineState | None) -> None:
        """Show where the engine lives and what it holds."""
        threads = dict(trace.configuration).get("threads")
        where = {"process": "own process", "thread": "this process"}[place]
        parts = [f"engine  {where}" if state is not None else "engine  not running"]
        if state is not None and threads is not None:
            parts.append(f"{threads} thread{'s' if threads != 1 else ''}")
        set_text(self._engine, " · ".join(parts))
        self._engine.setToolTip(
            "An engine in a process of its own is not slowed down by the window; one in this process shares Python's"
            " interpreter lock with it. The setting is on the switchboard."
        )
        self._show_memory(trace)

    def _show_memory(self, trace: Trace) -> None:
        sample = trace.memory[-1] if trace.memory else None
        if sample is None:
            set_text(self._memory, "")
            return
        text = f"memory  {units.size(sample.process_bytes)} · cache {units.size(sample.cache_bytes)}"
        lines = [
            f"process of the engine: {units.size(sample.process_bytes)} resident",
            f"weights: {units.size(sample.weight_bytes)}",
            f"KV cache: {units.size(sample.cache_bytes)}",
        ]
        if sample.device_allocated_bytes is not None:
            text += f" · device {units.size(sample.device_allocated_bytes)}"
            lines.append(f"device: {units.size(sample.device_allocated_bytes)} allocated")
            lines.append(f"device: {units.size(sample.device_reserved_bytes)} reserved")
        set_text(self._memory, text)
        self._memory.setToolTip("\n".join(lines))


def instrument_text(cost: InstrumentCost | None) -> str:
    """What measuring costs, in short."""
    if cost is None:
        return f"instrument  {units.ABSENT}"
    return f"instrument  {units.share(cost.share)} of a step"


def instrument_tip(cost: InstrumentCost | None) -> str:
    """What measuring costs, in full."""
    if cost is None:
        return "What measuring costs is known once steps have been measured."
    return (
        f"{cost.marks} marks a step × {cost.mark_ns:.0f} ns (tried out when the model was loaded)"
        f" + {units.duration(cost.emit_ns)} for handing a step over (processor time, at every step)"
        f" = {units.duration(cost.share * cost.step_ns)} of a median decode step of {units.duration(cost.step_ns)}."
    )


def display_text(cost: DisplayCost | None) -> str:
    """What drawing costs, in short."""
    if cost is None:
        return f"display  {units.ABSENT}"
    share = f"{units.share(cost.core_share)} of a core"
    if cost.frame_ns is None:
        return f"display  at rest · {share}"
    return f"display  {units.duration(cost.frame_ns, 2)} · {cost.frames_per_second:.0f} fps · {share}"
