"""What tooltips say, as the rich text that Qt's tooltips take."""

from collections.abc import Sequence
from html import escape

from engine.trace.kernels import Capture
from engine.trace.ledger import Span
from engine.trace.phases import Role
from engine.trace.store import AnyMark, Trace
from gui import theme as themes
from gui import units
from gui.telemetry_view import sample_sentences
from gui.theme import Theme
from gui.view_texts import (
    clock_words,
    entry_lines,
    latency_sentence,
    ledger,
    mark_sentences,
    phase_label,
    step_sentence,
)

LONGEST_NAME = 120  # characters: names of kernels can fill a screen


def step_tip(trace: Trace, step: int, theme: Theme) -> str:
    """A step with its phases, their times and shares."""
    numbers = themes.fonts().numbers
    rows = "".join(
        f'<tr><td style="color:{theme.phases[e.phase]}">■</td>'
        f"<td>&nbsp;{escape(phase_label(e.phase))}&nbsp;&nbsp;</td>"
        f'<td align="right" style="font-family:\'{numbers}\'">{units.duration(e.ns)}</td>'
        f'<td align="right" style="font-family:\'{numbers}\';color:{theme.muted}">'
        f"&nbsp;&nbsp;{units.share(e.share)}</td></tr>"
        for e in reversed(ledger(trace, step))
    )
    clock = f'<span style="color:{theme.muted}">{clock_words(trace, step).removeprefix(" · ")}</span>'
    return f"{heading(step_sentence(trace, step))}<table cellspacing='0'>{rows}</table>{clock}"


def latency_tip(trace: Trace, step: int) -> str:
    """A step and its latency."""
    return heading(step_sentence(trace, step)) + escape(latency_sentence(trace, step))


def cell_tip(trace: Trace, step: int, layer: int, role: Role, theme: Theme) -> str:
    """A layer's times in a step; the one that the map shows first."""
    assert trace.model is not None
    numbers = themes.fonts().numbers
    times = dict(zip(Role, trace.steps.layers_ns[step, layer].tolist(), strict=True))
    rows = "".join(
        f'<tr><td style="color:{theme.text if r is role else theme.muted}">{r.name.lower()}&nbsp;&nbsp;</td>'
        f'<td align="right" style="font-family:\'{numbers}\'">{units.duration(ns)}</td></tr>'
        for r, ns in times.items()
    )
    name = f'<span style="color:{theme.muted}">{escape(trace.model.layer_names[layer])}</span>'
    head = heading(f"layer {layer} · {step_sentence(trace, step)}")
    return f"{head}{name}<table cellspacing='0'>{rows}</table>"


def span_tip(span: Span, wall_ns: int, how: str = "") -> str:
    """A span of the timeline with exact times. `how`: by which clock, where there are two."""
    layer = f"layer {span.name.layer} · " if span.name.layer >= 0 else ""
    lines = [
        escape(span.name.name),
        f"begin {units.microseconds(span.begin_ns)}",
        f"duration {units.microseconds(span.duration_ns)}",
        f"{units.share(span.duration_ns / wall_ns)} of the step",
        *filter(None, (how,)),
    ]
    return heading(layer + phase_label(span.name.phase)) + "<br>".join(lines)


def entry_tip(capture: Capture, entry: int) -> str:
    """An operation or a kernel of a captured step, with exact times."""
    name, *lines = entry_lines(capture, entry)
    shown = name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "…"
    share = capture.duration_ns[entry] / max(1, capture.wall_ns)
    return heading(shown) + "<br>".join(map(escape, [*lines, f"{units.share(float(share))} of the step"]))


def mark_tip(marks: Sequence[AnyMark], theme: Theme) -> str:
    """Marks at one place, in full."""
    lines = [escape(line) for mark in marks for line in mark_sentences(mark)]
    where = f'<span style="color:{theme.muted}">before step {marks[0].step}</span>'
    return "<br>".join([where, *lines])


def telemetry_tip(trace: Trace, step: int) -> str:
    """What the sensors said by the end of a step."""
    lines = sample_sentences(trace, step) or ["nothing was sampled yet"]
    return heading(step_sentence(trace, step)) + "<br>".join(escape(line) for line in lines)


def heading(text: str) -> str:
    """The first line of a tooltip; it is not broken."""
    return f'<p style="white-space:pre;margin:0 0 4px 0"><b>{escape(text)}</b></p>'
