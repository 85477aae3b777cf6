"""The table of recorded sessions: sorted by any column, filtered as one types, walked with the arrows."""

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import (
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QSize,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QColor, QFont, QFontMetrics, QResizeEvent, QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QTreeView

from gui.copying import Copies, offer_copies, table
from gui.panels.lists import dress_list, note_over
from gui.panels.model_table import chosen_ground
from gui.panels.session_rows import COLUMNS, NAME, NUMBERS, STARTED, STATE, SessionRow, tip_of
from gui.panels.widgets import plain_tip
from gui.theme import RESOURCES, Theme, number_font, text_font

ROW_ROLE, KEY_ROLE = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1
ROW_HEIGHT = 30
CELL_PADDING = 20  # pixels beside a text
LEAST_WORDS, WIDEST_CELL = 130, 240
ARROWS = (RESOURCES / "theme").as_posix()
ARROW = "width: 9px; height: 9px; subcontrol-position: top center;"  # so that it lies over no title


class SessionTable(QTreeView):
    """Rows, at first the latest on top; `row_changed` when another one is chosen, or none."""

    row_changed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._rows: list[SessionRow] = []
        self._is_filling = False
        self._items = QStandardItemModel(0, len(COLUMNS), self)
        self._items.setHorizontalHeaderLabels(list(COLUMNS))
        for column in NUMBERS:
            self._items.horizontalHeaderItem(column).setTextAlignment(_side(column))
        self._filter = _Filter(self)
        self._filter.setSourceModel(self._items)
        self._filter.setSortRole(KEY_ROLE)
        self.setModel(self._filter)
        self._dress()
        self._note = note_over(self)
        self.selectionModel().currentRowChanged.connect(self._changed)
        offer_copies(self, self.copies)
        self.set_theme(theme)

    def _dress(self) -> None:
        dress_list(self)
        self.setAllColumnsShowFocus(True)
        self.setAccessibleName("Sessions")
        header = self.header()
        header.setSortIndicator(STARTED, Qt.SortOrder.DescendingOrder)
        self.setSortingEnabled(True)

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self._theme = theme
        self.setStyleSheet(
            f"QTreeView {{ border-radius: 6px; selection-background-color: {chosen_ground(theme)}; }}"
            f"QTreeView::item {{ padding: 0 5px; border: none; }}"
            f"QTreeView::item:selected {{ background: {chosen_ground(theme)}; color: {theme.text}; }}"
            f"QHeaderView::section {{ padding: 8px 8px 4px 8px; }}"
            f"QHeaderView::up-arrow {{ image: url('{ARROWS}/up-{theme.name}.svg'); {ARROW} }}"
            f"QHeaderView::down-arrow {{ image: url('{ARROWS}/down-{theme.name}.svg'); {ARROW} }}"
        )
        self._fill()

    # ------------------------------------------------------------ what is in it

    def show_rows(self, rows: Sequence[SessionRow]) -> None:
        """Show these sessions, and keep the one that is chosen."""
        if list(rows) != self._rows:
            self._rows = list(rows)
            self._fill()

    def _fill(self) -> None:
        chosen, top = self.current_path, self.verticalScrollBar().value()
        self._is_filling = True  # rows that are only on their way are not chosen
        self._items.removeRows(0, self._items.rowCount())
        for row in self._rows:
            self._items.appendRow(self._cells(row))
        self._fit_columns()
        if chosen is None or not self.choose(chosen):
            self.choose_first()
        self.verticalScrollBar().setValue(top)
        self._is_filling = False
        self.row_changed.emit()

    def _cells(self, row: SessionRow) -> list[QStandardItem]:
        items = []
        for column, text in enumerate(row.cells):
            item = QStandardItem(text)
            item.setData(row, ROW_ROLE)
            item.setData(row.keys[column], KEY_ROLE)
            item.setFont(_font(column, bool(row.entry.title)))
            item.setTextAlignment(_side(column))
            is_title = column == NAME and not row.entry.problem
            item.setForeground(QColor(self._theme.text if is_title else self._theme.muted))
            item.setToolTip(plain_tip(tip_of(row.entry)))
            items.append(item)
        items[NAME].setSizeHint(QSize(0, ROW_HEIGHT))
        items[STATE].setForeground(QColor(self._state_color(row)))
        return items

    def _state_color(self, row: SessionRow) -> str:
        entry, theme = row.entry, self._theme
        if entry.problem:
            return theme.danger
        return theme.good if entry.is_live else theme.warning if entry.is_interrupted else theme.accent

    def search(self, words: Sequence[str]) -> None:
        """Show what has all these words, in lower case, and choose the first of it where the chosen one is gone."""
        chosen = self.current_path
        self._filter.set_words(words)
        if chosen is None or not self.choose(chosen):
            self.choose_first()
        self.row_changed.emit()

    def set_note(self, note: str) -> None:
        """Say something in the middle, while there are no rows."""
        self._note.setText(note)
        self._note.setVisible(bool(note))

    def _fit_columns(self) -> None:
        """As wide as the widest text of all rows; the name has what is left, and words are cut before figures are."""
        widths = [self._width_of(column) for column in range(len(COLUMNS))]
        widths[NAME] = max(LEAST_WORDS, self.viewport().width() - sum(widths[NAME + 1 :]))
        for column in range(STARTED):
            too_wide = sum(widths) - self.viewport().width()
            widths[column] = max(min(widths[column], LEAST_WORDS), widths[column] - max(0, too_wide))
        for column, width in enumerate(widths[:STATE]):
            self.setColumnWidth(column, width)

    def _width_of(self, column: int) -> int:
        metrics = QFontMetrics(_font(column))
        texts = max((metrics.horizontalAdvance(row.cells[column]) for row in self._rows), default=0)
        title = (
            self.header().fontMetrics().horizontalAdvance(COLUMNS[column]) + CELL_PADDING
        )  # with its arrow
        return min(max(texts, title), WIDEST_CELL) + CELL_PADDING

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Share the new width."""
        super().resizeEvent(event)
        self._fit_columns()

    # ------------------------------------------------------------ what is chosen

    @property
    def current_row(self) -> SessionRow | None:
        """The row that is chosen, if any."""
        row = self.currentIndex().siblingAtColumn(NAME).data(ROW_ROLE)
        return row if isinstance(row, SessionRow) else None

    @property
    def current_path(self) -> Path | None:
        """The file of the row that is chosen, if any."""
        row = self.current_row
        return row.path if row is not None else None

    def shown_rows(self) -> list[SessionRow]:
        """The rows that the search leaves, from top to bottom."""
        return [self._filter.index(place, NAME).data(ROW_ROLE) for place in range(self._filter.rowCount())]

    def choose(self, path: Path) -> bool:
        """Choose the row of a file; whether there is one."""
        place = next((place for place, row in enumerate(self.shown_rows()) if row.path == path), None)
        if place is not None:
            self.setCurrentIndex(self._filter.index(place, NAME))
        return place is not None

    def choose_first(self) -> None:
        """Choose the topmost row, if there is one."""
        self.setCurrentIndex(self._filter.index(0, NAME) if self._filter.rowCount() else QModelIndex())
        self.scrollToTop()

    def copies(self, at: QPoint | None) -> Copies:
        """The session at a place, or the chosen one, as a line; and all that are shown as a table."""
        under = self.indexAt(self.viewport().mapFrom(self, at)) if at is not None else self.currentIndex()
        one = under.siblingAtColumn(NAME).data(ROW_ROLE)
        rows = [(*row.cells, row.path) for row in self.shown_rows()]
        copies = [("Copy all sessions", table([(*COLUMNS, "file"), *rows]))] if rows else []
        if not isinstance(one, SessionRow):
            return copies
        return [
            ("Copy this session", table([(*one.cells, one.path)])),
            ("Copy its path", str(one.path)),
            *copies,
        ]

    def _changed(self) -> None:
        if not self._is_filling:
            self.row_changed.emit()


def _font(column: int, has_title: bool = True) -> QFont:
    return number_font(12) if column in NUMBERS else text_font(13, bold=column == NAME and has_title)


def _side(column: int) -> Qt.AlignmentFlag:
    side = Qt.AlignmentFlag.AlignRight if column in NUMBERS else Qt.AlignmentFlag.AlignLeft
    return side | Qt.AlignmentFlag.AlignVCenter


class _Filter(QSortFilterProxyModel):
    """Leaves the rows that have all words."""

    def __init__(self, parent: QTreeView) -> None:
        super().__init__(parent)
        self._words: tuple[str, ...] = ()

    def set_words(self, words: Sequence[str]) -> None:
        """Filter by other words, in lower case."""
        self._words = tuple(words)
        self.invalidate()

    def filterAcceptsRow(self, source_row: int, source_parent: QModelIndex | QPersistentModelIndex) -> bool:
        row = self.sourceModel().index(source_row, NAME, source_parent).data(ROW_ROLE)
        return isinstance(row, SessionRow) and row.matches(self._words)

    def lessThan(
        self, left: QModelIndex | QPersistentModelIndex, right: QModelIndex | QPersistentModelIndex
    ) -> bool:
        """By what is meant, not by its text; what is equal, the latest on top."""
        one, other = left.data(KEY_ROLE), right.data(KEY_ROLE)
        return bool(one < other)
