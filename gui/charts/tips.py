"""What tooltips say, as the rich text that Qt's tooltips take."""

from collections.abc import Sequence
from html import escape

from engine.trace.store import Mark, Trace
from gui import theme as themes
from gui import units
from gui.theme import Theme
from gui.view_texts import change_sentences, latency_sentence, ledger, phase_label, step_sentence


def step_tip(trace: Trace, step: int, theme: Theme) -> str:
    """A step with its phases, their times and shares."""
    numbers = themes.fonts().numbers
    rows = "".join(
        f'<tr><td style="color:{theme.phases[e.phase]}">■</td><td>&nbsp;{escape(phase_label(e.phase))}&nbsp;&nbsp;</td>'
        f'<td align="right" style="font-family:\'{numbers}\'">{units.duration(e.ns)}</td>'
        f'<td align="right" style="font-family:\'{numbers}\';color:{theme.muted}">&nbsp;&nbsp;{units.share(e.share)}</td></tr>'
        for e in reversed(ledger(trace, step))
    )
    return f"{heading(step_sentence(trace, step))}<table cellspacing='0'>{rows}</table>"


def latency_tip(trace: Trace, step: int) -> str:
    """A step and its latency."""
    return heading(step_sentence(trace, step)) + escape(latency_sentence(trace, step))


def mark_tip(marks: Sequence[Mark], theme: Theme) -> str:
    """Marks at one place, in full."""
    lines = [escape(line) for mark in marks for line in change_sentences(mark.event)]
    where = f'<span style="color:{theme.muted}">before step {marks[0].step}</span>'
    return "<br>".join([where, *lines])


def heading(text: str) -> str:
    """The first line of a tooltip; it is not broken."""
    return f'<p style="white-space:pre;margin:0 0 4px 0"><b>{escape(text)}</b></p>'
