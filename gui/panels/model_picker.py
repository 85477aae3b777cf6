"""The model picker: built-in and cached models, a local directory, or the id of a model on the hub."""

from PySide6.QtCore import QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QKeyEvent, QStandardItem, QStandardItemModel
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QTreeView,
    QVBoxLayout,
    QWidget,
)

from engine.protocol import CatalogueEntry, CatalogueListed, DeviceFacts
from gui import units
from gui.panels.widgets import button, label

NAME_ROLE = Qt.ItemDataRole.UserRole
REASON_ROLE = Qt.ItemDataRole.UserRole + 1
COLUMNS = ("model", "parameters", "weights", "context", "")


class ModelPicker(QDialog):
    """Choose a model; what does not fit says why. `chosen` carries its name and the device."""

    chosen = Signal(str, str)

    def __init__(
        self, devices: tuple[DeviceFacts, ...], recent: list[str], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose a model")
        self.resize(880, 480)
        self._recent = recent
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search, or type a directory or a hub id such as Qwen/Qwen2.5-0.5B")
        self.search.setClearButtonEnabled(True)
        self.search.setAccessibleName("Search or model id")
        self._items = QStandardItemModel(0, len(COLUMNS))
        self._items.setHorizontalHeaderLabels(list(COLUMNS))
        self._filter = QSortFilterProxyModel()
        self._filter.setSourceModel(self._items)
        self._filter.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self._filter.setFilterKeyColumn(-1)
        self.view = self._make_view()
        self._device = _device_box(devices)
        self._hint = label("Asking the engine what there is…", "muted", wrap=True)
        self._load = button("Load", "primary")
        self._load.setDefault(True)
        self._lay_out()
        self.search.textChanged.connect(self._search)
        self._load.clicked.connect(self._choose)
        self.search.returnPressed.connect(self._choose)
        self.view.doubleClicked.connect(self._choose)
        self.view.selectionModel().currentChanged.connect(self._explain)
        self._explain()

    def _make_view(self) -> QTreeView:
        view = QTreeView()
        view.setModel(self._filter)
        view.setRootIsDecorated(False)
        view.setUniformRowHeights(True)
        view.setStyleSheet("QTreeView::item { padding: 4px 6px; }")
        view.setEditTriggers(QTreeView.EditTrigger.NoEditTriggers)
        view.setAllColumnsShowFocus(True)
        header = view.header()
        header.setStretchLastSection(True)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        return view

    def _lay_out(self) -> None:
        browse, cancel = button("Open directory…"), button("Cancel")
        browse.clicked.connect(self._browse)
        cancel.clicked.connect(self.reject)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(label("device", "muted"))
        buttons.addWidget(self._device)
        buttons.addStretch(1)
        for widget in (browse, cancel, self._load):
            buttons.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addWidget(self.search)
        layout.addWidget(self.view, 1)
        layout.addWidget(self._hint)
        layout.addLayout(buttons)

    def show_catalogue(self, listed: CatalogueListed) -> None:
        """Show what there is."""
        self._items.removeRows(0, self._items.rowCount())
        known = {entry.name for entry in listed.entries}
        recent = [name for name in self._recent if name not in known]
        for entry in listed.entries:
            self._items.appendRow(_row_of(entry))
        for name in recent:
            self._items.appendRow(_row_of(CatalogueEntry(name, "recent", "", 0, 0, 0, "loaded before")))
        for place in range(1, len(COLUMNS) - 1):
            self.view.resizeColumnToContents(place)
        self._explain()

    @property
    def choice(self) -> str:
        """The model that Load would load: the row that is chosen, else what was typed; empty when neither fits."""
        index = self.view.currentIndex()
        if index.isValid():
            name = index.siblingAtColumn(0)
            return "" if name.data(REASON_ROLE) else str(name.data(NAME_ROLE))
        return self.search.text().strip()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and down choose a row while the search has the focus."""
        if event.key() in (Qt.Key.Key_Down, Qt.Key.Key_Up) and self.search.hasFocus():
            self.view.setFocus()
            if not self.view.currentIndex().isValid():
                self.view.setCurrentIndex(self._filter.index(0, 0))
            return
        super().keyPressEvent(event)

    def _search(self, text: str) -> None:
        self._filter.setFilterFixedString(text.strip())
        self.view.setCurrentIndex(self._filter.index(0, 0) if text.strip() else self.view.rootIndex())
        self._explain()

    def _explain(self) -> None:
        index = self.view.currentIndex()
        reason = str(index.siblingAtColumn(0).data(REASON_ROLE) or "") if index.isValid() else ""
        typed = self.search.text().strip()
        if reason:
            text = reason
        elif index.isValid():
            text = f"Load {self.choice}."
        elif typed:
            text = (
                f"Nothing listed matches. Load takes “{typed}” as a directory, or as a hub id to be fetched."
            )
        elif self._items.rowCount():
            text = "Presets have real architectures and sizes and random weights: honest for timing, no download."
        else:
            text = "Asking the engine what there is…"
        self._hint.setText(text)
        self._load.setEnabled(bool(self.choice))

    def _browse(self) -> None:
        directory = QFileDialog.getExistingDirectory(self, "A directory in Hugging Face form")
        if directory:
            self.search.setText(directory)
            self.view.setCurrentIndex(self.view.rootIndex())
            self._choose()

    def _choose(self) -> None:
        if self.choice:
            self.chosen.emit(self.choice, str(self._device.currentData()))
            self.accept()


def _device_box(devices: tuple[DeviceFacts, ...]) -> QComboBox:
    box = QComboBox()
    box.setAccessibleName("Device")
    box.addItem("automatic", "auto")
    for facts in devices:
        box.addItem(f"{facts.device} · {units.size(facts.available_bytes)} free", facts.device)
        box.setItemData(
            box.count() - 1,
            f"{facts.label}, {units.size(facts.memory_bytes)} in all",
            Qt.ItemDataRole.ToolTipRole,
        )
    return box


def _row_of(entry: CatalogueEntry) -> list[QStandardItem]:
    remark = entry.reason or " · ".join(filter(None, (entry.kind, entry.remark)))
    texts = (
        entry.name,
        units.count(entry.parameters or None),
        units.size(entry.weight_bytes or None),
        f"{entry.context:,}" if entry.context else units.ABSENT,
        remark,
    )
    items = [QStandardItem(text) for text in texts]
    items[0].setData(entry.name, NAME_ROLE)
    items[0].setData(entry.reason, REASON_ROLE)
    for place, item in enumerate(items):
        item.setToolTip("\n".join(filter(None, (entry.architecture, entry.remark, entry.reason))))
        if entry.reason:  # it can be pointed at, to read why it does not fit
            item.setForeground(QApplication.palette().placeholderText())
        if 1 <= place <= 3:
            item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return items
