"""The measurements: headline numbers, the other metrics, and where the time of a step goes."""

from collections.abc import Sequence
from itertools import zip_longest

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from engine.protocol import Family
from engine.trace.against import Against, ratio_to
from engine.trace.energy import energy_counters
from engine.trace.metrics import METRICS, Measured, summary
from engine.trace.reference import Reference
from engine.trace.store import GenerationRecord, Trace
from engine.trace.wording import formatted as formatted
from gui import units
from gui.copying import Copies, offer_copies, table
from gui.floor_texts import ON_A_CALIBRATION, calibration_name, calibrations_of, why_no_floor
from gui.panels.reference_table import Line, ReferenceTable
from gui.panels.share_bar import SHARES, ShareBar, Swatch
from gui.panels.widgets import Segments, label, set_text
from gui.theme import Theme

_LATENCIES = ("itl_p95", "itl_p99", "itl_max", "stalls", "tpot", "end_to_end", "output_throughput")
#: What is shown of each kind of model: the large numbers, and the others in reading order, two a row.
HEADLINES = {
    Family.DECODER: ("decode_throughput", "itl_p50", "ttft"),
    Family.ENCODER_DECODER: ("decode_throughput", "itl_p50", "ttft"),
    Family.ENCODER: ("sequence_throughput", "sequence_p50", "padding_share"),
}
ROWS = {
    Family.DECODER: (*_LATENCIES, "prefill_throughput", "tokens", "context_length"),
    Family.ENCODER_DECODER: (*_LATENCIES, "encode_time", "tokens", "context_length"),
    Family.ENCODER: ("sequence_p95", "sequence_p99", "input_throughput", "sequences", "steps", "held"),
}
#: Shown where it is known what steps had to move and to compute.
FLOOR_ROWS = ("floor_share", "mbu", "intensity")
#: Shown where the machine has an energy counter.
ENERGY = ("energy_per_token", "mean_power")
MOST_ROWS = max(map(len, ROWS.values())) + len(FLOOR_ROWS) + len(ENERGY)
SCOPES = ("latest run", "all runs")


class MeasurementsPanel(QWidget):
    """Numbers of the latest generation, or of all. `refresh` is called four times a second."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._trace = Trace()
        self._shown: tuple[int, bool] | None = None
        self._all = False
        self.measured: dict[str, Measured] = {}
        self._reference: Reference | None = None
        self._against: Against | None = None
        self._scope = Segments(SCOPES)
        self._scope.show_choice(0)
        self._scope.chosen.connect(self._choose_scope)
        self._headlines = [_Headline() for _ in HEADLINES[Family.DECODER]]
        self._cells: list[tuple[QLabel, QLabel]] = []  # a name and its value
        self._shares: list[tuple[QLabel, QLabel]] = []
        self._bar = ShareBar(theme)
        self._alone = QWidget()  # what is shown without a reference
        self._alone.setLayout(self._make_rows())
        self._beside = ReferenceTable(len(HEADLINES[Family.DECODER]) + MOST_ROWS)
        self._beside.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 10, 12, 10)
        layout.setSpacing(10)
        layout.addWidget(self._scope)
        heads = QHBoxLayout()
        heads.setSpacing(8)
        for shown in self._headlines:
            heads.addWidget(shown, 1)
        layout.addLayout(heads)
        layout.addWidget(self._alone)
        layout.addWidget(self._beside)
        layout.addWidget(label("WHERE A STEP'S TIME GOES", "section"))
        layout.addWidget(self._bar)
        layout.addLayout(self._make_shares())
        layout.addStretch(1)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)  # so that Ctrl+C is meant for it
        offer_copies(self, self.copies)
        self.refresh()

    def copies(self, at: QPoint | None) -> Copies:
        """The number under a place as text, and all of them as a table."""
        family = self._trace.model.family if self._trace.model else Family.DECODER
        known = [m for m in self.measured.values() if m.value is not None and family in m.metric.families]
        rows = self._copied(known)
        copies = [("Copy all measurements", table(rows))] if known else []
        one = self._at(at) if at is not None else None
        return copies if one is None else [(f"Copy {NAMES[one]}", self._said(one)), *copies]

    def _copied(self, known: Sequence[Measured]) -> list[tuple[object, ...]]:
        """All known metrics as rows of a table, those of the reference beside them."""
        heading = ("metric", "value", "unit", "n")
        if self._reference is None:
            return [heading, *map(_exact, known)]
        rows: list[tuple[object, ...]] = [(*heading, "reference", "n of reference", "ratio")]
        for each in known:
            ratio = ratio_to(self._reference.measured, each)
            _, value, _, count = _exact(ratio.reference)
            rows.append((*_exact(each), value, count, ratio.ratio))
        return rows

    def _at(self, at: QPoint) -> str | None:
        """The metric that is shown at a place."""
        under = self.childAt(at)
        while under is not None and under is not self:
            key = under.property("metric")
            if key:
                return str(key)
            under = under.parentWidget()
        return None

    def _said(self, key: str) -> str:
        return f"{NAMES[key]}\t{formatted(self.measured[key])}"

    def set_trace(self, trace: Trace) -> None:
        """Measure another trace."""
        self._trace, self._shown = trace, None
        self._against = Against(self._reference, trace) if self._reference else None
        self.refresh()

    def set_reference(self, reference: Reference | None) -> None:
        """Compare with a reference, a line a metric; None: with none."""
        self._reference = reference
        self._alone.setVisible(reference is None)
        self._beside.setVisible(reference is not None)
        self.set_trace(self._trace)

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self._theme = theme
        self._bar.set_theme(theme)

    def wanted_height(self) -> int:
        """How high it would be with everything in sight, in pixels."""
        for part in (self._beside, self):
            if (layout := part.layout()) is not None:
                layout.activate()
        return self.sizeHint().height()

    def refresh(self) -> bool:
        """Compute and show anew if the trace has grown; whether it did."""
        state = (self._trace.revision, self._all)
        if state == self._shown:
            return False
        self._shown = state
        self.measured = summary(self._trace, self._generations())
        family = self._trace.model.family if self._trace.model else Family.DECODER
        for key, headline in zip(HEADLINES[family], self._headlines, strict=True):
            headline.setProperty("metric", key)
            headline.show_value(NAMES[key], *_headline(self.measured[key]), explain(self.measured[key]))
        floors = FLOOR_ROWS if self._trace.steps.moved_bytes.any() else ()
        counted = ENERGY if energy_counters(self._trace) else ()
        energy = (key for key in counted if family in METRICS[key].families)
        keys = (*ROWS[family], *floors, *energy)
        if self._reference is not None:
            self._compare(self._reference, (*HEADLINES[family], *keys))
        for key, cell in zip_longest(keys, self._cells):
            self._show_cell(cell, key)
        for (key, _, _), cell in zip(SHARES, self._shares, strict=True):
            self._show_cell(cell, key)
        self._bar.show_shares([self.measured[key].value for key, _, _ in SHARES])
        return True

    def _compare(self, reference: Reference, keys: Sequence[str]) -> None:
        """Set some metrics, and the time of a step, against the reference."""
        assert self._against is not None
        lines = []
        for key in keys:
            ratio = ratio_to(reference.measured, self.measured[key])
            lines.append(Line(key, NAMES[key], ratio, explain(self.measured[key])))
        generations = self._generations() or self._trace.generations
        begin = generations[0].first_step if generations else 0
        rows = range(begin, generations[-1].end_step if generations else 0)
        self._beside.show_reference(reference, self._trace.configuration, self._theme)
        self._beside.show_lines(lines, self._against.step_times(rows))

    def _generations(self) -> list[GenerationRecord] | None:
        """The generations to measure: all, or the latest that made a step."""
        if self._all:
            return None
        begun = [g for g in self._trace.generations[-2:] if g.end_step > g.first_step]
        return begun[-1:]

    def _choose_scope(self, place: int) -> None:
        self._all = place == 1
        self._scope.show_choice(place)
        self.refresh()

    def _show_cell(self, cell: tuple[QLabel, QLabel], key: str | None) -> None:
        """Show a metric in a place for a name and a value; None: nothing."""
        name, value = cell
        for part in cell:
            part.setVisible(key is not None)
        if key is None:
            return
        measured = self.measured[key]
        text = formatted(measured)
        largest = self.measured["stall_largest"].value
        if key == "stalls" and measured.value:
            text = f"{measured.value:.0f} · {units.duration(largest)}"
        for part in cell:
            part.setProperty("metric", key)
        set_text(name, NAMES[key])
        set_text(value, text)
        value.setAccessibleName(NAMES[key])
        tip = "\n".join((explain(measured), *self._stands_on(key)))
        for part in cell:
            if part.toolTip() != tip:
                part.setToolTip(tip)

    def _stands_on(self, key: str) -> list[str]:
        """The calibrations behind a number, a line each, or why the last step has none."""
        if key not in ON_A_CALIBRATION:
            return []
        steps = self._trace.steps
        if self.measured[key].value is None and len(steps) and steps.moved_bytes[-1] > 0:
            why = why_no_floor(self._trace, len(steps) - 1)
            return [f"{why[0].upper()}{why[1:]}."] if steps.floor_ns[-1] <= 0 else []
        return [calibration_name(told) for told in calibrations_of(self._trace, self._generations())]

    def _make_rows(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        for place in range(MOST_ROWS):
            self._cells.append(_add_cell(grid, place // 2, 3 * (place % 2)))
        grid.setColumnMinimumWidth(2, 4)  # and two spacings: a value must not be read with the next name
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(4, 1)
        return grid

    def _make_shares(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(3)
        for line, (_, _, phase) in enumerate(SHARES):
            swatch = Swatch(phase, self._bar)
            grid.addWidget(swatch, line, 0, Qt.AlignmentFlag.AlignVCenter)
            self._shares.append(_add_cell(grid, line, 1))
        grid.setColumnStretch(2, 1)
        return grid


def _add_cell(grid: QGridLayout, line: int, place: int) -> tuple[QLabel, QLabel]:
    """A name and a value, side by side."""
    name, value = label("", "muted"), label(units.ABSENT, "number")
    name.setStyleSheet("font-size: 12px;")
    value.setStyleSheet("font-size: 12px;")
    value.setAlignment(Qt.AlignmentFlag.AlignRight)
    grid.addWidget(name, line, place)
    grid.addWidget(value, line, place + 1)
    return name, value


NAMES = {key: name for key, name, _ in SHARES} | {
    "decode_throughput": "decode",
    "itl_p50": "ITL median",
    "ttft": "first token",
    "sequence_throughput": "throughput",
    "sequence_p50": "sequence median",
    "padding_share": "padding",
    "sequence_p95": "sequence p95",
    "sequence_p99": "p99",
    "input_throughput": "input",
    "sequences": "sequences",
    "steps": "steps",
    "held": "held",
    "encode_time": "encode",
    "itl_p95": "ITL p95",
    "itl_p99": "ITL p99",
    "itl_max": "ITL max",
    "stalls": "stalls",
    "tpot": "TPOT",
    "end_to_end": "end to end",
    "output_throughput": "output",
    "prefill_throughput": "prefill",
    "tokens": "tokens",
    "context_length": "context",
    "energy_per_token": "energy",
    "mean_power": "power",
    "floor_share": "of the floor",
    "mbu": "MBU",
    "intensity": "intensity",
}


def _exact(measured: Measured) -> tuple[str, float | int | None, str, int]:
    """A metric with its value as it was measured, in its own unit."""
    value = measured.value
    whole = int(value) if value is not None and float(value).is_integer() else value
    return measured.metric.name, whole, measured.metric.unit, measured.count


def _headline(measured: Measured) -> tuple[str, str]:
    """A headline's number and its unit, apart."""
    number, _, unit = formatted(measured).partition(" ")
    return number, unit


def explain(measured: Measured) -> str:
    """What a number is: name, formula, clock, what it stands on, what is left out."""
    metric = measured.metric
    lines = [metric.name, f"= {metric.formula}", f"clock: {metric.clock}"]
    if measured.value is None:
        lines.append(f"no value yet: needs {metric.needs}")
    else:
        lines.append(f"stands on {measured.count:,} sample{'s' if measured.count != 1 else ''}")
    if metric.excludes:
        lines.append(f"leaves out: {metric.excludes}")
    if measured.note:
        lines.append(measured.note)
    return "\n".join(lines)


class _Headline(QWidget):
    """A large number with its name above and its unit below."""

    def __init__(self) -> None:
        super().__init__()
        self._number = label(units.ABSENT, "headline")
        self._number.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._unit = label("", "muted")
        self._unit.setStyleSheet("font-size: 12px;")
        self._name = label("", "muted")
        self._name.setStyleSheet("font-size: 12px;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for widget in (self._name, self._number, self._unit):
            layout.addWidget(widget)

    def show_value(self, name: str, number: str, unit: str, tip: str) -> None:
        """Show a number."""
        set_text(self._name, name)
        self._number.setAccessibleName(name)
        set_text(self._number, number)
        set_text(self._unit, unit)
        if self.toolTip() != tip:
            self.setToolTip(tip)
