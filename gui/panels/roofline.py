"""The roofline with what it stands on: this machine's calibration, and the parts of the shown step in numbers."""

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from engine.protocol import Calibrated
from engine.trace.store import Trace
from gui import units
from gui.charts.roofline import RooflineChart
from gui.copying import Copies, offer_copies, put, table
from gui.floor_texts import HEADINGS, date, doubts, figures, part_remark, part_rows, setup
from gui.navigation import Navigation
from gui.panels.beside import Beside
from gui.panels.number_table import NumberTable
from gui.panels.widgets import button, column, label, row, set_role, set_text
from gui.visibility import is_seen

MEASURE, AGAIN, MEASURING = "Measure this machine", "Measure again", "Measuring…"
WHY = (
    "Measures what this machine achieves, in about two seconds: how fast it reads and how fast it multiplies."
    " Without it there is no floor (Ctrl+M)."
)
NOT_YET = "This machine was not measured yet, so nothing says how fast a step could be here."
MOST_FIGURES, MOST_PARTS = 8, 6
MEANINGS = (
    "the whole step, and the parts of the model that it ran through",
    "time of the part in this step, by the clock that its phases are told by",
    "the least time for its bytes and operations, by the calibration",
    "floor / time: 100 % would be the physical limit",
    "arithmetic intensity: operations for each byte that has to move",
)


class RooflinePanel(QWidget):
    """A chart, and numbers beside it. `refresh` is called four times a second."""

    calibrate_requested = Signal()

    def __init__(self, navigation: Navigation) -> None:
        super().__init__()
        self._navigation = navigation
        self._trace = Trace()
        self._shown: tuple[object, ...] = ()
        self._rows: list[tuple[str, ...]] = []
        self.chart = RooflineChart(navigation)
        self._machine = _Machine()
        self.measure = button(MEASURE)
        self.measure.setToolTip(WHY)
        self.measure.clicked.connect(self.calibrate_requested)
        self._title = label("", "section")
        self._parts = NumberTable("The parts of the step against their floors", MOST_PARTS + 1)
        self._remark = label("", "muted", wrap=True)
        self.copy = button("Copy", "flat")
        self.copy.setToolTip("Copy the numbers of this step as a table")
        self.copy.setAccessibleName("Copy the parts of the step")
        self.copy.clicked.connect(self._copy)
        self.setLayout(self._make_layout())
        offer_copies(self._parts, self.copies)
        self.refresh()

    def _make_layout(self) -> QVBoxLayout:
        side = QWidget()
        title = row(self._title, self.copy)
        title.setStretch(0, 1)
        layout = column(self._parts, self._remark, margin=10, spacing=6)
        layout.insertLayout(0, title)
        head = row(label("THIS MACHINE", "section"), self.measure)
        head.setStretch(0, 1)
        layout.addLayout(head)
        layout.addWidget(self._machine)
        layout.addStretch(1)
        side.setLayout(layout)
        return column(Beside(self.chart, side), margin=0)

    # ------------------------------------------------------------ what the window calls

    def set_trace(self, trace: Trace) -> None:
        """Show another trace; the chart is told by itself."""
        self._trace, self._shown = trace, ()
        self.refresh()

    def show_measuring(self, measuring: bool) -> None:
        """Whether the machine is being measured."""
        self.measure.setEnabled(not measuring)
        self._name_button(measuring)

    def refresh(self) -> bool:
        """Bring the numbers up to date; whether there was anything to do."""
        step = self._navigation.shown_step
        step = step if step is not None and step < len(self._trace.steps) else None
        state = (step, len(self._trace.steps) if step is None else 0, len(self._trace.calibrations))
        if state == self._shown or not is_seen(self):
            return False
        self._shown = state
        told = self._told(step)
        self._machine.show_calibration(told)
        self._name_button(self.measure.text() == MEASURING)
        self._show_parts(step)
        return True

    def _told(self, step: int | None) -> Calibrated | None:
        """The calibration that the shown step stands on, or else the newest."""
        known = self._trace.calibrations
        number = int(self._trace.steps.calibration[step]) if step is not None else -1
        return known.get(number) or (known[max(known)] if known else None)

    def _name_button(self, measuring: bool) -> None:
        text = AGAIN if self._trace.calibrations else MEASURE
        self.measure.setText(MEASURING if measuring else text)
        set_role(self.measure, "" if self._trace.calibrations else "primary")

    def _show_parts(self, step: int | None) -> None:
        self._rows = part_rows(self._trace, step) if step is not None else []
        title = f"STEP {step:,} AGAINST ITS FLOOR" if step is not None else "A STEP AGAINST ITS FLOOR"
        set_text(self._title, title)
        self._parts.show_rows((HEADINGS, *self._rows) if self._rows else (), MEANINGS)
        remark = part_remark(self._trace, step) if step is not None else ""
        set_text(self._remark, remark)
        self._remark.setVisible(bool(remark))
        self.copy.setVisible(bool(self._rows))
        self._title.setVisible(step is not None)

    def copies(self, _at: QPoint | None) -> Copies:
        """The numbers of the step as a table."""
        return [("Copy these numbers", table((HEADINGS, *self._rows)))] if self._rows else []

    def _copy(self) -> None:
        for _, text in self.copies(None):
            put(text)


class _Machine(QWidget):
    """What this machine achieves, and when that was measured."""

    def __init__(self) -> None:
        super().__init__()
        self._setup = label("", wrap=True)
        self._date = label("", "muted", wrap=True)
        self._doubts = label("", "warning", wrap=True, selectable=True)
        self._cells = [
            (label("", "muted"), label("", "number", selectable=True)) for _ in range(MOST_FIGURES)
        ]
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        for line, (name, value) in enumerate(self._cells):
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            grid.addWidget(name, line, 0)
            grid.addWidget(value, line, 1)
        grid.setColumnStretch(1, 1)
        layout = column(self._setup, self._date, self._doubts, margin=0, spacing=3)
        layout.addLayout(grid)
        self.setLayout(layout)

    def show_calibration(self, told: Calibrated | None) -> None:
        """Show a calibration, or that there is none."""
        rows = figures(told.calibration) if told else []
        for line, (name, value) in enumerate(self._cells):
            known = line < len(rows)
            name.setVisible(known)
            value.setVisible(known)
            if known:
                set_text(name, rows[line][0])
                set_text(value, rows[line][1])
                value.setAccessibleName(rows[line][0])
                name.setToolTip(rows[line][2])
                value.setToolTip(rows[line][2])
        set_text(self._setup, setup(told.calibration) if told else NOT_YET)
        words = ""
        if told:
            again = f"repeated within {units.share(told.calibration.spread)}"
            words = f"calibration {told.number}, measured {date(told.calibration)}, {again}"
        set_text(self._date, words)
        self._date.setVisible(bool(words))
        doubtful = doubts(told.calibration) if told else []
        set_text(self._doubts, "\n".join(doubtful))
        self._doubts.setVisible(bool(doubtful))
