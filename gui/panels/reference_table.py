"""Measurements beside those of a reference: a line a metric, and what may be believed of the time of a step."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from engine.protocol import Configuration
from engine.trace.against import CAUSE, RUNS, Ratio, StepTimes
from engine.trace.reference import Reference
from engine.trace.wording import formatted
from gui import units
from gui.charts.tips import reference_tip
from gui.panels.number_table import NumberTable
from gui.panels.widgets import ElidedLabel, label, set_text
from gui.theme import Theme

LINE, FEWEST_LINES = 18, 6  # pixels; lines that are in sight however small the panel is
HEADINGS = ("", "this", "reference", "ratio")
MEANINGS = (
    "",
    "what was measured here",
    "the same of the reference",
    "this / reference; a dash where either has no value",
)


@dataclass(frozen=True, slots=True)
class Line:
    """A metric and its ratio. `explained`: what the number is, in lines of text."""

    key: str
    name: str
    ratio: Ratio
    explained: str


class ReferenceTable(QWidget):
    """Up to so many metrics beside those of a reference. Each cell has the property "metric", its key."""

    def __init__(self, most_lines: int) -> None:
        super().__init__()
        self._name = ElidedLabel("section")
        self._verdict = label("", "muted")
        self._verdict.setStyleSheet("font-size: 12px;")
        self._table = NumberTable("Measurements beside those of the reference", most_lines + 1, spacing=10)
        self._scroll = _Scroll(self._table)
        self._lines = 0
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self._name, self._verdict, self._scroll):
            layout.addWidget(part)

    def show_reference(self, reference: Reference, now: Configuration, theme: Theme) -> None:
        """Say which reference it is, and under which other settings than `now` it was measured."""
        set_text(self._name, f"REFERENCE: {reference.name}")
        tip = reference_tip(reference, now, theme)
        if self._name.toolTip() != tip:
            self._name.setToolTip(tip)

    def show_lines(self, lines: Sequence[Line], times: StepTimes) -> None:
        """Show metrics, and the verdict on the time of a step."""
        cells = [(line.name, *_cells(line.ratio)) for line in lines]
        self._table.show_rows([HEADINGS, *cells], MEANINGS)
        if len(cells) != self._lines:
            self._lines = len(cells)
            self._scroll.updateGeometry()
        for place, line in enumerate(lines, start=1):
            tip = f"{line.explained}\n{ratio_words(line.ratio)}"
            for column in range(len(HEADINGS)):
                cell = self._table.cells[place, column]
                cell.setProperty("metric", line.key)
                cell.setToolTip(tip)
        set_text(self._verdict, verdict_text(times))
        self._verdict.setToolTip(verdict_tip(times))


class _Scroll(QScrollArea):
    """As high as all lines, where there is room; a scroll area by itself keeps to the height that they had at first."""

    def __init__(self, table: QWidget) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(FEWEST_LINES * LINE)
        self._table = table
        self.setWidget(table)

    def sizeHint(self) -> QSize:
        """That of the lines."""
        return self._table.sizeHint()


def _cells(ratio: Ratio) -> tuple[str, str, str]:
    return formatted(ratio.measured), formatted(ratio.reference), units.ratio(ratio.ratio)


def ratio_words(ratio: Ratio) -> str:
    """What a ratio stands on."""
    if ratio.reference.value is None:
        return "the reference has no value for it"
    return f"reference: {formatted(ratio.reference)}, which stands on {ratio.reference.count:,}"


def verdict_text(times: StepTimes) -> str:
    """The time of a step against the reference, with its interval."""
    effect = times.effect
    if effect.ratio is None or effect.low is None or effect.high is None:
        return "step time: too few steps at the same context yet"
    interval = f"({effect.low:.3f} to {effect.high:.3f})"
    return f"step time {units.fine_ratio(effect.ratio)} {interval}\n{effect.verdict}, {RUNS}"


def verdict_tip(times: StepTimes) -> str:
    """How that was found."""
    return "\n".join(
        (
            "Median time of a step, this / reference, with its 95 % interval, where both had the same contexts;",
            "what a different context alone would have done is taken out.",
            f"It needs 64 steady steps on each side: here are {times.steps:,}, there {times.reference_steps:,}.",
            f"{CAUSE}: what the machine did in between is in the ratio, and in no interval.",
            "For a verdict on a setting let its values take turns.",
        )
    )
