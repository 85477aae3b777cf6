"""The model picker: demo, presets, cached and recent models, a local directory, or the id of a model on the hub."""

from collections.abc import Sequence
from pathlib import Path
from time import time

from PySide6.QtCore import QMimeData, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QDialog, QFileDialog, QFrame, QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from engine.protocol import CatalogueListed, DeviceFacts, LookedUp, LookUp
from gui import units
from gui.icons import icon
from gui.panels.model_rows import (
    ModelRow,
    asking_row,
    can_be_looked_up,
    looked_up_row,
    rows_of,
    typed_row,
)
from gui.panels.model_table import ModelTable
from gui.panels.picker_devices import DeviceBox, device_words
from gui.panels.widgets import button, column, label, set_role
from gui.theme import Theme

SIZE = QSize(1120, 680)
ASK_AFTER_MS = 600  # of silence: whoever types on has not typed the whole id
WALKING = (Qt.Key.Key_Up, Qt.Key.Key_Down, Qt.Key.Key_PageUp, Qt.Key.Key_PageDown)
ASKING = (
    "Asking the engine what there is: while it starts or loads a model, that takes a moment.\n"
    "A directory or a hub id can be typed already."
)


class ModelPicker(QDialog):
    """Choose a model; what will not work says why. `chosen` carries what a load is given: a model and a device.

    The search field keeps the focus: one types to search, walks with the arrows, loads with Enter. A directory or a
    whole hub id that is typed is looked up after a moment (`look_up_requested`); nothing else is told to anybody.
    """

    chosen = Signal(str, str)
    look_up_requested = Signal(object)  # LookUp

    def __init__(
        self,
        devices: Sequence[DeviceFacts],
        recent: Sequence[str],
        theme: Theme,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose a model")
        self.setAcceptDrops(True)
        screen = QGuiApplication.primaryScreen()
        self.resize(SIZE.boundedTo(screen.availableSize() * 0.95) if screen else SIZE)
        self._recent = list(recent)
        self._listed: CatalogueListed | None = None
        self._request = 0
        self._answer: LookedUp | None = None  # to the last question
        self._ask_later = QTimer(self, singleShot=True, interval=ASK_AFTER_MS)
        self._ask_later.timeout.connect(self._ask)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search, or type a directory or a hub id such as Qwen/Qwen2.5-0.5B")
        self.search.setClearButtonEnabled(True)
        self.search.setAcceptDrops(False)  # a folder dropped on it is a choice, not text
        self.search.setAccessibleName("Search or model id")
        self.search.setStyleSheet("QLineEdit { padding: 0 10px; font-size: 14px; }")
        self.search.setFixedHeight(38)
        self.table = ModelTable(theme)
        self.table.setFocusProxy(self.search)
        self.table.set_note(ASKING)
        self.devices = DeviceBox(devices)
        self._title = label("", selectable=True)
        self._title.setStyleSheet("font-size: 14px; font-weight: 600;")
        self._remark = label("", "muted", wrap=True)
        self._hint = label("", wrap=True)
        self._browse = button("Browse…")
        self.load = button("Load", "primary")
        self.load.setDefault(True)
        self._lay_out()
        self.set_theme(theme)
        self.search.textChanged.connect(self._search)
        self.load.clicked.connect(self._choose)
        self.table.doubleClicked.connect(self._choose)
        self.table.row_changed.connect(self._explain)
        self.devices.currentIndexChanged.connect(self._device_chosen)
        self._show_rows()
        self.search.setFocus()

    def _lay_out(self) -> None:
        cancel = button("Cancel")
        self._browse.setToolTip("Choose a directory in Hugging Face form; it can be dropped here as well")
        self._browse.clicked.connect(self._open_browser)
        cancel.clicked.connect(self.reject)
        top, buttons = QHBoxLayout(), QHBoxLayout()
        top.setSpacing(8)
        buttons.setSpacing(8)
        top.addWidget(self.search, 1)
        top.addWidget(self._browse)
        buttons.addWidget(label("Run on", "muted"))
        buttons.addWidget(self.devices)
        buttons.addStretch(1)
        for made in (cancel, self.load):
            made.setMinimumWidth(96)
            buttons.addWidget(made)
        card = QFrame()
        card.setProperty("role", "card")
        card.setLayout(column(self._title, self._remark, self._hint, spacing=3))
        card.setMinimumHeight(92)  # so that the table does not move when a sentence is longer
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 16, 16, 16)
        layout.setSpacing(12)
        layout.addLayout(top)
        layout.addWidget(self.table, 1)
        layout.addWidget(card)
        layout.addLayout(buttons)

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self.table.set_theme(theme)
        self._browse.setIcon(icon("folder", theme))

    # ------------------------------------------------------------ what there is

    def show_catalogue(self, listed: CatalogueListed) -> None:
        """Show what there is."""
        self._listed = listed
        self.devices.show_devices(listed.devices)
        self._show_rows()

    def _show_rows(self) -> None:
        """The catalogue as the chosen device sees it; what was loaded before is known without one."""
        entries = self._listed.entries if self._listed is not None else ()
        rows = rows_of(entries, self._recent, time(), self.device)
        self.table.set_note("" if rows else ASKING)
        self.table.show_rows(rows)
        self._explain()

    def _device_chosen(self) -> None:
        self._show_rows()
        self._show_answer()

    @property
    def hint(self) -> str:
        """What it says about the chosen row."""
        return self._hint.text()

    @property
    def choice(self) -> str:
        """The model that Load would load; empty where there is none."""
        row = self.table.current_row
        return row.model if row is not None and not row.reason else ""

    @property
    def device(self) -> str:
        """The chosen device, as a load is given it."""
        return self.devices.device

    # ------------------------------------------------------------ what was typed

    def _ask(self) -> None:
        """Ask the engine about what was typed."""
        typed = typed_row(self.search.text())
        if typed is not None and not self.table.lists_typed:
            self.table.show_typed(asking_row(typed))
            self.look_up_requested.emit(LookUp(self._request, typed.model))

    def show_answer(self, answer: LookedUp) -> None:
        """The engine says what it found out about what was typed."""
        if answer.request == self._request:
            self._answer = answer
            self._show_answer()

    def _show_answer(self) -> None:
        typed = typed_row(self.search.text())
        if typed is not None and self._answer is not None:
            self.table.show_typed(looked_up_row(typed, self._answer, self.device))

    # ------------------------------------------------------------ what the user does

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """The arrows walk through the table, whatever has the focus."""
        if event.key() in WALKING:
            self.table.keyPressEvent(event)
            return
        super().keyPressEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """A directory can be dropped."""
        if _dropped(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take a directory as if it had been typed."""
        directory = _dropped(event.mimeData())
        if directory:
            event.acceptProposedAction()
            self.search.setText(directory)

    def _search(self, text: str) -> None:
        typed = typed_row(text)
        meant = typed.model if typed is not None and typed.model else text  # of an address its id
        self.table.search(meant.lower().split(), typed)
        self._explain()
        self._request += 1  # an answer that is under way is about another text
        self._answer = None
        self._ask_later.stop()
        if typed is not None and can_be_looked_up(typed):
            self._ask_later.start()

    def _open_browser(self) -> None:
        browser = QFileDialog(self, "A directory in Hugging Face form")
        browser.setFileMode(QFileDialog.FileMode.Directory)
        browser.setOption(QFileDialog.Option.ShowDirsOnly)
        browser.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        browser.fileSelected.connect(self.search.setText)
        browser.open()

    def _explain(self) -> None:
        row = self.table.current_row
        if row is None:
            title, remark, hint = "", "", "Choose a model, or type a directory or a hub id."
        else:
            title = row.name
            remark = _facts(row)
            tries = "tries to load" if row.is_doubtful else "loads"
            hint = row.reason or f"Enter {tries} it{device_words(self.device)}."
        self._title.setText(title)
        self._remark.setText(remark)
        for made in (self._title, self._remark):
            made.setVisible(bool(made.text()))
        self._hint.setText(hint)
        set_role(self._hint, "warning" if row is not None and row.reason else "")
        self.search.setAccessibleDescription(f"{title}. {remark}. {hint}")  # for who cannot see the table
        self.load.setEnabled(bool(self.choice))

    def _choose(self) -> None:
        if self.choice:
            self.chosen.emit(self.choice, self.device)
            self.accept()


def _facts(row: ModelRow) -> str:
    """A row in one line, with what the table has no room for."""
    facts = (
        (row.what, "{}"),
        (row.parameters, "{} parameters"),
        (row.weights, "{} of weights"),
        (row.context, "context of {} tokens"),
        (row.remark, "{}"),
    )
    return " · ".join(form.format(text) for text, form in facts if text not in ("", units.ABSENT))


def _dropped(data: QMimeData) -> str:
    """The directory that is dropped, "" where something else is."""
    paths = [url.toLocalFile() for url in data.urls() if url.isLocalFile()]
    return next((path for path in paths if Path(path).is_dir()), "")
