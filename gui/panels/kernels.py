"""The kernels of a captured step: what took the longest, by name, and how our clocks compare."""

from PySide6.QtCore import QItemSelectionModel, Qt, Signal, Slot
from PySide6.QtGui import (
    QAction,
    QGuiApplication,
    QKeySequence,
    QResizeEvent,
    QStandardItem,
    QStandardItemModel,
)
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTreeView, QWidget

from engine.protocol import KernelsCaptured
from engine.trace.agreement import REACH
from engine.trace.store import Trace
from gui.navigation import Navigation
from gui.panels.widgets import button, column, label, plain_tip, row, set_text
from gui.view_texts import CAPTURE_COLUMNS, capture_heading, capture_remarks, capture_rows, capture_verdict

NUMBERS = (1, 2, 3)  # columns of figures
LEAST_NAME = 120  # pixels; more where the columns of figures leave it
NOTHING = "Press K to capture a step: the selected one again, or the next one."


class KernelsPanel(QWidget):
    """A table of the step that is shown, where it was captured. `refresh` is called four times a second."""

    export_requested = Signal()

    def __init__(self, navigation: Navigation) -> None:
        super().__init__()
        self._navigation = navigation
        self._trace = Trace()
        self._shown: tuple[KernelsCaptured | None, int] | None = None
        self._heading = label(NOTHING, "muted", wrap=True, selectable=True)
        self._words = label("", "muted", wrap=True, selectable=True)
        self._items = QStandardItemModel(0, len(CAPTURE_COLUMNS), self)
        self.table = self._make_table()
        self.copy_button, self.export_button = button("Copy table"), button("Save as Chrome trace…")
        self.copy_button.clicked.connect(self.copy_all)
        self.export_button.clicked.connect(self.export_requested)
        layout = column(self._heading, self.table, self._words, spacing=6)
        layout.setStretch(1, 1)
        buttons = row(self.copy_button, self.export_button)
        buttons.addStretch(1)
        layout.addLayout(buttons)
        self.setLayout(layout)
        self.refresh()

    def _make_table(self) -> "_Table":
        table = _Table()
        table.setModel(self._items)
        table.setRootIsDecorated(False)
        table.setUniformRowHeights(True)
        table.setEditTriggers(QTreeView.EditTrigger.NoEditTriggers)
        table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        table.setMinimumHeight(90)
        table.setAccessibleName("Kernels of the captured step")
        copy = QAction("Copy", table)
        copy.setShortcut(QKeySequence(QKeySequence.StandardKey.Copy))
        copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        copy.triggered.connect(self.copy_selected)
        table.addAction(copy)
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        return table

    @property
    def row(self) -> int | None:
        """The step that is shown: the selected one, else the newest."""
        return self._navigation.shown_step

    def set_trace(self, trace: Trace) -> None:
        """Show another trace."""
        self._trace, self._shown = trace, None
        self.refresh()

    def refresh(self) -> bool:
        """Show the step that is chosen now; whether there was anything to do."""
        step = self.row
        event = self._trace.captures.get(step) if step is not None else None
        neighbours = min(len(self._trace.steps), (step or 0) + REACH)  # that it is held against
        if (event, neighbours) == self._shown:
            return False
        first = self._shown is None or self._shown[0] is not event
        self._shown = event, neighbours
        for each in (self.table, self.copy_button, self.export_button, self._words):
            each.setVisible(event is not None)
        if event is None or step is None:
            set_text(self._heading, NOTHING)
            self._heading.setToolTip("")
            return True
        capture = self._trace.capture(step)
        assert capture is not None
        set_text(self._heading, capture_heading(capture, step))
        verdict = [*capture_verdict(self._trace, step), *event.notes]
        set_text(self._words, "\n".join(verdict))
        for each in (self._heading, self._words):
            each.setToolTip("\n".join(capture_remarks(self._trace, step)))
        if first:
            self._fill(step)
        return True

    def _fill(self, step: int) -> None:
        self._items.clear()
        self._items.setHorizontalHeaderLabels(list(CAPTURE_COLUMNS))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for place in NUMBERS:
            self._items.horizontalHeaderItem(place).setTextAlignment(right)
        for cells in capture_rows(self._trace, step):
            items = [QStandardItem(cell) for cell in cells]
            items[0].setToolTip(plain_tip(cells[0]))
            for place in NUMBERS:
                items[place].setTextAlignment(right)
            self._items.appendRow(items)
        header = self.table.header()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        self.table.fit_names()

    @Slot()
    def copy_all(self) -> None:
        """The whole table to the clipboard, one line a row, cells apart by tabs."""
        self._copy(range(self._items.rowCount()))

    @Slot()
    def copy_selected(self) -> None:
        """The rows that are selected."""
        chosen: QItemSelectionModel = self.table.selectionModel()
        self._copy(sorted(index.row() for index in chosen.selectedRows()))

    def _copy(self, rows: "range | list[int]") -> None:
        columns = range(self._items.columnCount())
        lines = ["\t".join(CAPTURE_COLUMNS)]
        lines += ["\t".join(self._items.item(place, each).text() for each in columns) for place in rows]
        QGuiApplication.clipboard().setText("\n".join(lines))


class _Table(QTreeView):
    """Its first column takes what the others leave."""

    def fit_names(self) -> None:
        """Call it when there are other rows."""
        header = self.header()
        others = sum(header.sectionSize(place) for place in range(1, header.count()))
        self.setColumnWidth(0, max(LEAST_NAME, self.viewport().width() - others))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """There is more room, or less."""
        super().resizeEvent(event)
        self.fit_names()
