"""The observer meter, in the status bar: what measuring and drawing cost right now. Every figure is measured."""

from collections.abc import Sequence

from PySide6.QtWidgets import QLabel, QStatusBar

from engine.protocol import EngineState, ObserverReport, PartCompared, RecordingReport
from engine.trace.alternation import SelfTest
from engine.trace.effects import Trust
from engine.trace.observer import (
    DISPLAY,
    InstrumentCost,
    as_part,
    beyond_budget,
    instrument_cost,
    marks_compared,
    part_compared,
)
from engine.trace.store import Trace
from engine.trace.warnings import MachineWarning
from gui import units
from gui.frame_meter import DisplayCost
from gui.panels.experiment import trust_text
from gui.panels.widgets import label, plain_tip, set_text

WARNING_SIGN = "⚠"
RECORDING_TIP = (
    "Processor time a step of the thread that writes the session down, since the report before. The engine does not"
    " wait for it."
)
PLACES = {"process": "own process", "thread": "this process", "replay": "recorded"}


class ObserverMeter:
    """Fills a status bar. Four times a second at most."""

    def __init__(self, bar: QStatusBar) -> None:
        self._instrument = self._part(bar, "instrument")
        self._display = self._part(bar, "display")
        self._recording = self._part(bar, "recording")
        self._engine = self._part(bar, "engine")
        self._memory = self._part(bar, "memory")
        self._warnings = self._part(bar, "warnings", role="warning")
        self._trust = Trust()
        bar.setSizeGripEnabled(False)

    def _part(self, bar: QStatusBar, name: str, role: str = "number") -> QLabel:
        made = label("", role)
        made.setAccessibleName(name)
        bar.addWidget(made)
        return made

    def show_costs(
        self, trace: Trace, report: ObserverReport | None, display: DisplayCost | None, doing: str = ""
    ) -> None:
        """Show what instrument and display cost. `doing`: how far the measurement of that is, while it goes on."""
        cost = instrument_cost(trace, report)
        found = marks_compared(trace)
        marks = as_part("marks", found.effect, 0, 0) if found else None
        drawing = part_compared(trace, DISPLAY)
        trusted = self._trust.of(trace) if marks or drawing else None
        beyond = beyond_budget(cost, trace.configuration)
        set_text(self._instrument, doing or instrument_text(cost, marks, bool(beyond)))
        recording = trace.recording[-1] if trace.recording else None
        self._instrument.setToolTip(instrument_tip(cost, marks, drawing, trusted, recording, beyond))
        set_text(self._recording, recording_text(recording))
        self._recording.setToolTip(RECORDING_TIP)
        set_text(self._display, display_text(display, drawing))
        self._display.setToolTip(display_tip(display, drawing, trusted))

    def show_warnings(self, warnings: Sequence[MachineWarning]) -> None:
        """Show what about the machine makes numbers doubtful now."""
        troubles = list(dict.fromkeys(str(warning.trouble) for warning in warnings))
        more = f" +{len(troubles) - 1}" if len(troubles) > 1 else ""
        set_text(self._warnings, f"{WARNING_SIGN} {troubles[0]}{more}" if troubles else "")
        tip = plain_tip("\n".join(f"{warning.sentence} {warning.remedy}" for warning in warnings))
        if self._warnings.toolTip() != tip:
            self._warnings.setToolTip(tip)

    def show_engine(self, trace: Trace, place: str, state: EngineState | None) -> None:
        """Show where the engine lives and what it holds."""
        threads = dict(trace.configuration).get("threads")
        where = PLACES[place]
        parts = [where if state is not None else "no engine"]
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
            f"process of the engine: {units.size(sample.process_bytes)} resident,"
            f" {units.size(sample.process_peak_bytes)} at most",
            f"weights: {units.size(sample.weight_bytes)}",
            f"KV cache: {units.size(sample.cache_bytes)}",
        ]
        if sample.device_allocated_bytes is not None:
            text = f"memory  {units.size(sample.process_bytes)} · device {units.size(sample.device_allocated_bytes)}"
            lines.append(f"device: {units.size(sample.device_allocated_bytes)} allocated")
            lines.append(f"device: {units.size(sample.device_reserved_bytes)} reserved")
            lines.append(f"device: {units.size(sample.device_peak_bytes)} at most")
        set_text(self._memory, text)
        self._memory.setToolTip("\n".join(lines))


def instrument_text(
    cost: InstrumentCost | None, marks: PartCompared | None = None, is_beyond: bool = False
) -> str:
    """What measuring costs, in short. `is_beyond`: that is more than it may."""
    if cost is None:
        return f"instrument  {units.ABSENT}"
    turns = f" · A/B {units.fine_ratio(marks.ratio)}" if marks and marks.ratio is not None else ""
    sign = f" {WARNING_SIGN}" if is_beyond else ""
    return f"instrument  {units.share(cost.share)}{turns}{sign or ('' if turns else ' of a step')}"


def instrument_tip(
    cost: InstrumentCost | None,
    marks: PartCompared | None = None,
    drawing: PartCompared | None = None,
    trusted: SelfTest | None = None,
    recording: RecordingReport | None = None,
    beyond: str = "",
) -> str:
    """What measuring costs, in full. `beyond`: a sentence where that is more than it may."""
    if cost is None:
        return "What measuring costs is known once steps have been measured."
    lines = [
        f"{cost.marks} marks a step × {cost.mark_ns:.0f} ns (tried out when the model was loaded)"
        f" + {units.duration(cost.emit_ns)} for handing a step over (processor time, at every step)"
        f" = {units.duration(cost.share * cost.step_ns)} of a median decode step of {units.duration(cost.step_ns)}."
    ]
    if beyond:
        lines.append(beyond)
    if recording is not None:
        lines.append(
            f"Writing a step down takes {units.duration(recording.ns_per_step)} of another thread's time."
        )
    if marks is None and drawing is None:
        lines.append("Press I to let marks and drawing take turns with none.")
    else:
        lines += [turns_text("Steps with marks", "without", marks), trust_text(trusted)]
    return "\n".join(lines)


def recording_text(recording: RecordingReport | None) -> str:
    """What writing a session down costs, in short; nothing while none is."""
    return f"writing  {units.duration(recording.ns_per_step, 2)}" if recording is not None else ""


def turns_text(what: str, other: str, found: PartCompared | None) -> str:
    """What taking turns showed of a part of the instrument."""
    if found is None or found.ratio is None:
        return f"{what} against steps {other}: too few turns for a number yet."
    return (
        f"{what} against steps {other}, in turns: {units.fine_ratio(found.ratio)} the time"
        f" (95 % interval {units.fine_ratio(found.low)} to {units.fine_ratio(found.high)}, {found.pairs} pairs)."
    )


def display_text(cost: DisplayCost | None, drawing: PartCompared | None = None) -> str:
    """What drawing costs, in short."""
    if cost is None:
        return f"display  {units.ABSENT}"
    share = f"{units.share(cost.core_share)} of a core"
    if cost.frame_ns is None:
        return f"display  at rest · {share}"
    frame = units.duration(cost.frame_ns, 2)
    if drawing is not None and drawing.ratio is not None:
        return f"display  {frame} · A/B {units.fine_ratio(drawing.ratio)}"
    return f"display  {frame} · {cost.frames_per_second:.0f} fps · {share}"


def display_tip(
    cost: DisplayCost | None, drawing: PartCompared | None = None, trusted: SelfTest | None = None
) -> str:
    """What drawing costs, in full."""
    lines = [
        "Processor time of the thread that draws: median for a frame that drew, frames that drew, share of one"
        " core. Over the last two seconds, painting included. When nothing changes nothing is drawn."
    ]
    if cost is not None:
        lines.append(
            f"Now {cost.frames_per_second:.0f} frames a second and {units.share(cost.core_share)} of a core."
        )
    if drawing is not None:
        lines += [
            turns_text("Steps while the window draws", "while it is still", drawing),
            trust_text(trusted),
        ]
    return "\n".join(lines)
