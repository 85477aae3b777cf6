"""What tooltips say, as the rich text that Qt's tooltips take."""

from collections.abc import Sequence
from html import escape

from engine.protocol import Calibrated, Configuration
from engine.trace.against import reference_lines
from engine.trace.kernels import Capture
from engine.trace.ledger import Span
from engine.trace.phases import Role
from engine.trace.reference import Reference
from engine.trace.store import AnyMark, NoteMark, Trace
from gui import theme as themes
from gui import units
from gui.floor_texts import HEADINGS, calibration_name, floor_sentence, part_label, part_remark, part_rows
from gui.roofline_view import Place, Roof
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


def floor_tip(trace: Trace, step: int) -> str:
    """A step against its floor."""
    return heading(step_sentence(trace, step)) + escape(floor_sentence(trace, step))


def fit_tip(trace: Trace, step: int, off: float) -> str:
    """A step against the fit of its configuration: `off` is measured / fit − 1, NaN without a fit."""
    words = "" if off != off else f"{abs(off):.1%} {'above' if off >= 0 else 'below'} the fit"
    lines = (words, floor_sentence(trace, step))
    return heading(step_sentence(trace, step)) + "<br>".join(map(escape, filter(None, lines)))


def parts_tip(trace: Trace, step: int) -> str:
    """A step and each of its parts against their floors, with the calibration that they stand on."""
    rows = part_rows(trace, step)
    told = trace.calibrations.get(int(trace.steps.calibration[step]))
    lines = [
        escape(line) for line in (part_remark(trace, step), calibration_name(told) if told else "") if line
    ]
    return f"{heading(step_sentence(trace, step))}{_table(rows)}{'<br>'.join(lines)}" if rows else ""


def _table(rows: Sequence[Sequence[str]]) -> str:
    numbers = themes.fonts().numbers
    head = "".join(
        f'<td align="{_side(i)}">{escape(name)}&nbsp;&nbsp;</td>' for i, name in enumerate(HEADINGS)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td align="{_side(i)}" style="font-family:\'{numbers}\'">{escape(text)}&nbsp;&nbsp;</td>'
            for i, text in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table cellspacing='0'><tr>{head}</tr>{body}</table>"


def _side(column: int) -> str:
    return "left" if column == 0 else "right"


def place_tip(trace: Trace, step: int, place: Place) -> str:
    """A step or a part of it: what it achieved, of what is possible at its intensity."""
    name = part_label(place.part) if place.part is not None else step_sentence(trace, step)
    lines = [f"{units.number(place.intensity)} FLOP/byte, {units.per_second(place.rate, 'FLOP')} achieved"]
    if place.roof:
        possible = units.per_second(place.roof, "FLOP")
        lines.append(f"{units.share(place.rate / place.roof)} of the {possible} that are possible there")
    told = trace.calibrations.get(int(trace.steps.calibration[step]))
    lines += [calibration_name(told)] if told else []
    where = f" of step {step:,}" if place.part is not None else ""
    return heading(name + where) + "<br>".join(map(escape, lines))


def roof_tip(roof: Roof, told: Calibrated) -> str:
    """A level of memory."""
    rate = units.per_second(roof.bytes_per_s, "B")
    of = "beyond all caches" if roof.is_memory else f"of a working set of {units.size(roof.working_set)}"
    lines = [f"bandwidth {of}", "what the shown step moves comes from here" if roof.in_use else ""]
    return heading(rate) + "<br>".join(map(escape, filter(None, (*lines, calibration_name(told)))))


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
    floor = escape(floor_sentence(trace, step))
    told = f"{clock}<br>{floor}" if floor else clock
    return f"{heading(step_sentence(trace, step))}<table cellspacing='0'>{rows}</table>{told}"


def latency_tip(trace: Trace, step: int) -> str:
    """A step and its latency."""
    lines = (latency_sentence(trace, step), floor_sentence(trace, step))
    return heading(step_sentence(trace, step)) + "<br>".join(map(escape, filter(None, lines)))


def beside_tip(reference: Reference | None, ns: float | None, theme: Theme, what: str = "") -> str:
    """What a reference had at the same place of its generation, as a line below another tip; "" for nothing."""
    if reference is None or ns is None:
        return ""
    told = f"{reference.name}: {what}{units.duration(ns)} at the same place"
    return f'<p style="color:{theme.muted};margin:4px 0 0 0">{escape(told)}</p>'


def reference_tip(reference: Reference, now: Configuration, theme: Theme) -> str:
    """What a reference is, and under which other settings than `now` it was measured."""
    lines = "<br>".join(map(escape, reference_lines(reference, now)))
    return heading(reference.name) + f'<span style="color:{theme.muted}">{lines}</span>'


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
    if all(isinstance(mark, NoteMark) for mark in marks):
        return "<br>".join(lines)  # which say the step
    where = f'<span style="color:{theme.muted}">before step {marks[0].step}</span>'
    return "<br>".join([where, *lines])


def telemetry_tip(trace: Trace, step: int) -> str:
    """What the sensors said by the end of a step."""
    lines = sample_sentences(trace, step) or ["nothing was sampled yet"]
    return heading(step_sentence(trace, step)) + "<br>".join(escape(line) for line in lines)


def heading(text: str) -> str:
    """The first line of a tooltip; it is not broken."""
    return f'<p style="white-space:pre;margin:0 0 4px 0"><b>{escape(text)}</b></p>'
