"""The cycle model with its coefficients: what a fit says that a step is made of, and whether the formula holds."""

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QWidget

from gui.charts.cycle_model import CycleModelChart
from gui.copying import Copies, offer_copies, put, table
from gui.cycle_view import DECODE_HEADINGS, PREFILL_HEADINGS, CycleView
from gui.navigation import Navigation
from gui.panels.beside import Beside
from gui.panels.number_table import NumberTable
from gui.panels.widgets import button, column, label, row, set_text

MEANINGS = {
    DECODE_HEADINGS: (
        "the terms of the formula, by the phases that they hold",
        "what it takes without any context: weights, and launching work",
        "what 1,000 tokens of context add: reading the cache, and attention",
        "of a step in the middle of these contexts",
        "median distance of a step from the fit, relative to the median step",
    ),
    PREFILL_HEADINGS: (
        "what a prefill step is made of",
        "as fitted to all prefill steps of these settings",
        "as fitted to their floors: what this machine needs at least",
    ),
}


class CycleModelPanel(QWidget):
    """A chart, and the model in numbers beside it. `refresh` is called four times a second."""

    def __init__(self, navigation: Navigation) -> None:
        super().__init__()
        self.chart = CycleModelChart(navigation)
        self._shown: CycleView | None = None
        self._title = label("", "section", wrap=True)
        self._table = NumberTable("Terms of the cycle model", 9)
        self._formula = label("", "number", selectable=True)
        self._formula.setStyleSheet("font-size: 12px;")
        self._formula.setAccessibleName("The formula with its coefficients")
        self._words = label("", wrap=True, selectable=True)
        self.copy = button("Copy", "flat")
        self.copy.setToolTip("Copy the model: its terms as a table, and the formula")
        self.copy.setAccessibleName("Copy the cycle model")
        self.copy.clicked.connect(self._copy)
        side = QWidget()
        layout = column(self._table, self._formula, self._words, margin=10, spacing=8)
        head = row(self._title, self.copy)
        head.setStretch(0, 1)
        layout.insertLayout(0, head)
        layout.addStretch(1)
        side.setLayout(layout)
        self.setLayout(column(Beside(self.chart, side), margin=0))
        offer_copies(side, self.copies)
        self.refresh()

    def refresh(self) -> bool:
        """Say what the chart shows; whether that was anything new."""
        view = self.chart.view
        if view is self._shown:
            return False
        self._shown = view
        set_text(self._title, view.title or "THE CYCLE MODEL")
        rows = (view.headings, *view.rows) if view.rows else ()
        self._table.show_rows(rows, MEANINGS.get(view.headings, ()))
        set_text(self._formula, "\n".join(view.formula))
        self._formula.setVisible(bool(view.formula))
        set_text(self._words, "\n".join(view.sentences))
        self.copy.setVisible(bool(view.rows))
        return True

    def copies(self, _at: QPoint | None) -> Copies:
        """The model as text."""
        view = self._shown
        if view is None or not view.rows:
            return []
        text = "\n".join((view.title, table((view.headings, *view.rows)), *view.formula, *view.sentences))
        return [("Copy the model", text)]

    def _copy(self) -> None:
        for _, text in self.copies(None):
            put(text)
