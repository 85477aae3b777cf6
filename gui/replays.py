"""The windows of recordings that are open, beside the live window or alone. They share its theme, and go with it."""

from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QWidget

from engine.trace.recording import RecordingError
from engine.trace.recording.opening import check_header
from engine.trace.recording.shelf import SUFFIX, Shelf
from gui.main_window import MainWindow
from gui.panels.message_bar import Kind
from gui.recording import Recording
from gui.replay import Replay
from gui.settings_store import SettingsStore


class Replays(QObject):
    """Opens recordings. `failed`: one cannot be shown, in a sentence."""

    failed = Signal(str)

    def __init__(self, store: SettingsStore, theme_store: SettingsStore, shelf: Shelf) -> None:
        """`store`: what windows of recordings remember of their layout. `theme_store`: where the theme is kept.

        `shelf`: of the user; there sessions are looked for at first.
        """
        super().__init__()
        self._store, self._theme_store, self._shelf = store, theme_store, shelf
        self._directory = shelf.directory
        self._windows: list[MainWindow] = []  # that share a theme
        self._replays: dict[Path, Replay] = {}

    @property
    def replays(self) -> list[Replay]:
        """The recordings that are open, in the order in which they were opened."""
        return list(self._replays.values())

    def attach(self, window: MainWindow) -> None:
        """A window from which recordings can be opened; the theme of one is that of all."""
        window.actions_["open"].triggered.connect(lambda: self.ask(window))
        window.theme_changed.connect(lambda: self._share_theme(window))
        self._windows.append(window)

    def ask(self, parent: QWidget) -> None:
        """Ask which file to open."""
        name, _ = QFileDialog.getOpenFileName(
            parent, "Open a session", str(self._directory), f"Sessions (*{SUFFIX});;All files (*)"
        )
        if name:
            self._directory = Path(name).parent
            self.show(Path(name))

    def serve(self, window: MainWindow, recording: Recording | None) -> None:
        """Open what is wished for in the live window, which says what cannot be opened."""
        self.attach(window)
        self.failed.connect(
            lambda sentence: window.messages.show_message(Kind.ERROR, sentence, about="replay")
        )
        if recording is not None:
            recording.open_wished.connect(self.show)

    @Slot(object)
    def show(self, path: Path) -> None:
        """Open a recording, and begin to play it."""
        replay = self.open(path)
        if replay is not None:
            replay.start()

    def open(self, path: Path, theme_name: str | None = None) -> Replay | None:
        """A recording in a window of its own, which is not shown yet; the one that it has, if it is open already.

        None where it cannot be shown, and `failed` says why; it may say so later, too, since it is read meanwhile.
        `theme_name`: where there is no window whose theme it could share.
        """
        path = path.absolute()
        known = self._replays.get(path)
        if known is not None:
            return known
        try:
            check_header(path)
        except RecordingError as error:
            self.failed.emit(str(error))
            return None
        if self._windows:
            theme_name = self._windows[0].theme_name
        replay = Replay(path, self._store, self._shelf, theme_name or self._theme_store.theme)
        self._replays[path] = replay
        self.attach(replay.window)
        replay.closed.connect(lambda: self._forget(replay))
        replay.failed.connect(lambda sentence: self._could_not_read(replay, sentence))
        return replay

    def _could_not_read(self, replay: Replay, sentence: str) -> None:
        replay.window.close()
        self.failed.emit(sentence)

    def _forget(self, replay: Replay) -> None:
        if self._replays.pop(replay.path, None) is not None:
            self._windows.remove(replay.window)
            replay.stop()

    def _share_theme(self, source: MainWindow) -> None:
        self._theme_store.theme = source.theme_name
        for window in self._windows:
            if window is not source and window.theme_name != source.theme_name:
                window.set_theme(source.theme_name)

    def close_all(self) -> None:
        """Close them all, when the program ends."""
        for replay in self.replays:
            replay.window.close()
