"""The table of the model picker: rows in groups, filtered as one types, walked with the arrows."""

from collections.abc import Sequence

from PySide6.QtCore import (
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontMetrics,
    QPainter,
    QResizeEvent,
    QStandardItem,
    QStandardItemModel,
)
from PySide6.QtWidgets import (
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeView,
)

from gui.copying import Copies, offer_copies, table
from gui.panels.lists import dress_list, note_over
from gui.panels.model_rows import COLUMNS, DIRECTORY, MEANINGS, Group, ModelRow
from gui.theme import Theme, number_font, text_font

ROW_ROLE = Qt.ItemDataRole.UserRole
NUMBERS = range(2, 6)  # columns of figures
NAME, VERDICT = 0, len(COLUMNS) - 1
ROW_HEIGHT = 31
LEAST_NAME, WIDEST_NAME = 120, 340
LEAST_VERDICT = 132
CELL_PADDING = 18  # pixels beside a text
TINT = 0.16  # of the accent, under the chosen row


class ModelTable(QTreeView):
    """Rows in groups; `row_changed` when another one is chosen, or none."""

    row_changed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._rows: list[ModelRow] = []
        self._typed: ModelRow | None = None
        self._items = QStandardItemModel(0, len(COLUMNS), self)
        self._items.setHorizontalHeaderLabels(list(COLUMNS))
        for column in NUMBERS:
            self._items.horizontalHeaderItem(column).setTextAlignment(
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
        self._filter = _Filter(self)
        self._filter.setSourceModel(self._items)
        self.setModel(self._filter)
        self._painter = _Painter(theme, self)
        self.setItemDelegate(self._painter)
        dress_list(self)
        self._note = note_over(self)
        self.selectionModel().currentChanged.connect(self._changed)
        offer_copies(self, self.copies)

    def copies(self, at: QPoint | None) -> Copies:
        """The model at a place, or the chosen one, as a line; and all that are shown as a table."""
        under = self.indexAt(self.viewport().mapFrom(self, at)) if at is not None else self.currentIndex()
        one = under.siblingAtColumn(NAME).data(ROW_ROLE)
        rows = [row.cells for row in self.shown_rows()]
        copies = [("Copy all models", table([COLUMNS, *rows]))] if rows else []
        return [("Copy this model", table([one.cells])), *copies] if isinstance(one, ModelRow) else copies

    # ------------------------------------------------------------ what is in it

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self._theme = theme
        self._painter.theme = theme
        self.setStyleSheet(
            f"QTreeView {{ border-radius: 6px; selection-background-color: {chosen_ground(theme)}; }}"
            "QTreeView::item { padding: 0 5px; border: none; }"
            "QTreeView::branch { background: transparent; }"
        )
        self._rebuild()

    def show_rows(self, rows: Sequence[ModelRow]) -> None:
        """Show these models, and keep the one that is chosen."""
        if list(rows) != self._rows:
            self._rows = list(rows)
            self._rebuild()

    def _rebuild(self) -> None:
        chosen = self.current_row
        self._items.removeRows(0, self._items.rowCount())
        for group in Group:
            self._append_group(group, [row for row in self._rows if row.group is group])
        self._append_typed()
        self._settle()
        self._fit_columns()
        if chosen is None or not self.choose(chosen.model):
            self.choose_first()

    def _fit_columns(self) -> None:
        """As wide as the widest text of all rows, also of those that the search hides: columns do not jump.

        Names are cut before the verdict is.
        """
        rows = [*self._rows, *([self._typed] if self._typed else [])]
        widths = [self._width_of(column, rows) for column in range(VERDICT)]
        room = self.viewport().width() - sum(widths[NAME + 1 :]) - LEAST_VERDICT
        widths[NAME] = min(widths[NAME], WIDEST_NAME, max(room, LEAST_NAME))
        for column, width in enumerate(widths):
            self.setColumnWidth(column, width)

    def _width_of(self, column: int, rows: Sequence[ModelRow]) -> int:
        metrics = QFontMetrics(_font(column))
        texts = max((metrics.horizontalAdvance(row.cells[column]) for row in rows), default=0)
        return max(texts, self.header().fontMetrics().horizontalAdvance(COLUMNS[column])) + CELL_PADDING

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Share the new width."""
        super().resizeEvent(event)
        self._fit_columns()

    @property
    def lists_typed(self) -> bool:
        """Whether what was typed is one of the listed models."""
        return self._typed is not None and any(row.model == self._typed.model for row in self._rows)

    def search(self, words: Sequence[str], typed: ModelRow | None) -> None:
        """Show what has all these words, and the row for what was typed; choose the one that is meant."""
        self._replace_typed(typed)
        self._filter.set_words(words)
        self._settle()
        meant = typed is not None and (self.lists_typed or typed.what == DIRECTORY)
        if typed is not None and meant and self.choose(typed.model):
            return
        self.choose_first()

    def show_typed(self, typed: ModelRow) -> None:
        """More is known about what was typed: show that, and keep the row that is chosen."""
        chosen = self.current_row
        self._replace_typed(typed)
        if chosen is not None:
            self.choose(chosen.model)
        self._changed()

    def _replace_typed(self, typed: ModelRow | None) -> None:
        self._typed = typed
        last = self._items.rowCount() - 1
        if last >= 0 and self._items.item(last).data(ROW_ROLE) == Group.TYPED:
            self._items.removeRow(last)
        self._append_typed()
        self._settle()
        self._fit_columns()

    def set_note(self, note: str) -> None:
        """Say something in the middle, while there are no rows."""
        self._note.setText(note)
        self._note.setVisible(bool(note))

    def _append_typed(self) -> None:
        if self._typed is not None and not self.lists_typed:
            self._append_group(Group.TYPED, [self._typed])

    def _append_group(self, group: Group, rows: Sequence[ModelRow]) -> None:
        if not rows:
            return
        title = QStandardItem()
        title.setFlags(Qt.ItemFlag.NoItemFlags)
        title.setData(group, ROW_ROLE)
        title.setAccessibleText(group)
        title.setSizeHint(QSize(0, ROW_HEIGHT))
        for row in rows:
            title.appendRow(self._cells(row))
        self._items.appendRow(title)

    def _cells(self, row: ModelRow) -> list[QStandardItem]:
        items = [QStandardItem(text) for text in row.cells]
        theme = self._theme
        for column, item in enumerate(items):
            item.setData(row, ROW_ROLE)
            item.setToolTip("\n".join(filter(None, (row.name, row.remark, row.reason))))
            item.setForeground(QColor(theme.muted))
            item.setFont(_font(column))
            if column in NUMBERS:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        items[NAME].setForeground(QColor(theme.muted if row.reason else theme.text))
        items[VERDICT].setSizeHint(QSize(0, ROW_HEIGHT))  # of the row; the last column is stretched anyway
        if row.reason or row.is_certain:
            items[VERDICT].setForeground(QColor(theme.warning if row.reason else theme.good))
        return items

    def _settle(self) -> None:
        """Titles go across all columns, and their rows are always open."""
        for place in range(self._filter.rowCount()):
            self.setFirstColumnSpanned(place, QModelIndex(), True)
        self.expandAll()

    # ------------------------------------------------------------ what is chosen

    @property
    def current_row(self) -> ModelRow | None:
        """The row that is chosen, if any."""
        row = self.currentIndex().siblingAtColumn(NAME).data(ROW_ROLE)
        return row if isinstance(row, ModelRow) else None

    def shown_rows(self) -> list[ModelRow]:
        """The rows that the search leaves, from top to bottom."""
        return [index.data(ROW_ROLE) for index in self._indexes()]

    def choose(self, model: str) -> bool:
        """Choose the first row of this model; whether there is one."""
        found = next((index for index in self._indexes() if index.data(ROW_ROLE).model == model), None)
        if found is not None:
            self.setCurrentIndex(found)
        return found is not None

    def choose_first(self) -> None:
        """Choose the first listed row, best one that can be loaded; else what was typed; else none."""
        indexes = self._indexes()
        best = sorted(indexes, key=lambda index: _order(index.data(ROW_ROLE)))
        self.setCurrentIndex(best[0] if best else QModelIndex())
        if indexes and self.currentIndex() == indexes[0]:
            self.scrollToTop()  # with the title of its group
        self._changed()

    def _indexes(self) -> list[QModelIndex]:
        groups = [self._filter.index(place, NAME) for place in range(self._filter.rowCount())]
        return [
            self._filter.index(place, NAME, group)
            for group in groups
            for place in range(self._filter.rowCount(group))
        ]

    def _changed(self) -> None:
        self.row_changed.emit()


def _font(column: int) -> QFont:
    return number_font(12) if column in NUMBERS else text_font(13, bold=column == NAME)


def _order(row: ModelRow) -> tuple[bool, bool]:
    return row.group is Group.TYPED, bool(row.reason)


class _Painter(QStyledItemDelegate):
    """Draws the titles of groups, and a bar beside the row that is chosen."""

    def __init__(self, theme: Theme, parent: QTreeView) -> None:
        super().__init__(parent)
        self.theme = theme

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Draw one cell."""
        found = index.data(ROW_ROLE)
        area = option.rect
        if found in MEANINGS:
            self._paint_title(painter, area.adjusted(8, 8, -8, 0), Group(found))
            return
        plain = QStyleOptionViewItem(option)
        if (
            option.state & QStyle.StateFlag.State_Selected
        ):  # the row is drawn so; its texts keep their colours
            plain.state &= ~(QStyle.StateFlag.State_Selected | QStyle.StateFlag.State_HasFocus)
            painter.fillRect(area, QColor(chosen_ground(self.theme)))
            if index.column() == NAME:
                painter.fillRect(area.x(), area.y(), 3, area.height(), QColor(self.theme.accent))
        super().paint(painter, plain, index)

    def _paint_title(self, painter: QPainter, area: QRect, group: Group) -> None:
        flags = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        painter.save()
        painter.setFont(text_font(11, bold=True))
        painter.setPen(QColor(self.theme.muted))
        title = group.upper()
        painter.drawText(area, flags, title)
        area = area.adjusted(painter.fontMetrics().horizontalAdvance(title) + 10, 0, 0, 0)
        painter.setFont(text_font(11))
        painter.drawText(area, flags, MEANINGS[group])
        painter.restore()


def chosen_ground(theme: Theme) -> str:
    """What the chosen row lies on: a little of the accent over the surface, as "#rrggbb"."""
    below, above = QColor(theme.surface).toRgb(), QColor(theme.accent).toRgb()
    pairs = zip(
        (below.red(), below.green(), below.blue()), (above.red(), above.green(), above.blue()), strict=True
    )
    return "#" + "".join(f"{round(under + TINT * (over - under)):02x}" for under, over in pairs)


class _Filter(QSortFilterProxyModel):
    """Leaves rows that have all words, and the groups of those. While one searches each model is there once."""

    def __init__(self, parent: QTreeView) -> None:
        super().__init__(parent)
        self._words: tuple[str, ...] = ()
        self.setRecursiveFilteringEnabled(True)

    def set_words(self, words: Sequence[str]) -> None:
        """Filter by other words, in lower case."""
        self._words = tuple(words)
        self.invalidate()

    def filterAcceptsRow(self, source_row: int, source_parent: QModelIndex | QPersistentModelIndex) -> bool:
        row = self.sourceModel().index(source_row, NAME, source_parent).data(ROW_ROLE)
        if not isinstance(row, ModelRow):
            return False  # a title is there with its rows
        if row.again and self._words:
            return False
        return row.group is Group.TYPED or row.matches(self._words)
