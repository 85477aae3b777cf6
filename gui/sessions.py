"""The list of recorded sessions, as a window opens it."""

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Slot

from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.recording import Recording
from gui.session_keeper import SessionKeeper
from gui.settings_store import SettingsStore

if TYPE_CHECKING:
    from gui.panels.sessions import SessionsDialog

ABOUT = "sessions"  # what messages are about


class Sessions(QObject):
    """Shows the list and has done what is wished for there; says what came of it, in the list or in the window."""

    def __init__(
        self, window: MainWindow, recording: Recording, keeper: SessionKeeper, store: SettingsStore
    ) -> None:
        super().__init__(window)
        self._window, self._recording, self._keeper, self._store = window, recording, keeper, store
        self._dialog: SessionsDialog | None = None
        keeper.listed.connect(self._listed)
        keeper.done.connect(self._done)
        keeper.failed.connect(self._failed)

    def show(self) -> "SessionsDialog":
        """Open the list, or bring it to the front."""
        if self._dialog is None:
            self._dialog = self._made()
            self._keeper.refresh()
            self._dialog.show()
        else:
            self._dialog.raise_()
            self._dialog.activateWindow()
        return self._dialog

    def _made(self) -> "SessionsDialog":
        from gui.panels.sessions import SessionsDialog  # when it is wanted: no window starts with it

        shelf, keeper = self._keeper.shelf, self._keeper
        dialog = SessionsDialog(self._window.theme, shelf.most_bytes, self._recording.is_on, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.look_wished.connect(keeper.refresh)
        dialog.open_wished.connect(self._recording.open_wished)
        dialog.described.connect(self._describe)
        dialog.pin_wished.connect(keeper.pin)
        dialog.discard_wished.connect(keeper.discard)
        dialog.room.most_chosen.connect(self._set_most)
        dialog.finished.connect(self._gone)
        self._window.theme_changed.connect(dialog.set_theme)
        return dialog

    @Slot()
    def _gone(self) -> None:
        self._dialog = None

    @Slot(object, object)
    def _describe(self, path: Path, changes: dict[str, str]) -> None:
        self._keeper.describe(path, changes)

    @Slot(object)
    def _set_most(self, most_bytes: int) -> None:
        self._store.session_bytes = most_bytes
        self._keeper.shelf.most_bytes = most_bytes
        self._keeper.make_room()

    @Slot(object, bool)
    def _listed(self, entries: object, is_complete: bool) -> None:
        if self._dialog is not None:
            assert isinstance(entries, list)
            self._dialog.show_entries(entries, is_complete, self._keeper.live_path)

    @Slot(str)
    def _done(self, sentence: str) -> None:
        self._say(Kind.INFO, sentence)

    @Slot(str)
    def _failed(self, sentence: str) -> None:
        self._say(Kind.WARNING, sentence)

    def _say(self, kind: Kind, sentence: str) -> None:
        if self._dialog is not None:
            self._dialog.say(sentence)
        else:
            self._window.messages.show_message(kind, sentence, about=ABOUT)
