"""The menu of prompts: samples by task and language, and the user's own."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QMenu, QPushButton, QWidget

from engine.protocol import ModelFacts, Prompt
from gui.panels.widgets import button
from gui.prompt_library import knows_turns, samples_for
from gui.settings_store import SettingsStore

TIP_CHARACTERS = 400


class SampleMenu(QMenu):
    """Filled whenever it opens, since what suits depends on the model and the mode."""

    chosen = Signal(object)  # a Prompt
    save_requested = Signal()
    rename_requested = Signal(str)  # the name of an own prompt
    removed = Signal(str)  # the name of an own prompt

    def __init__(self, store: SettingsStore, parent: QWidget) -> None:
        super().__init__(parent)
        self.setToolTipsVisible(True)
        self._store = store
        self._model: ModelFacts | None = None
        self._chat = False
        self.aboutToShow.connect(self.fill)

    def suit(self, model: ModelFacts | None, chat: bool) -> None:
        """What the next opening offers."""
        self._model, self._chat = model, chat

    def fill(self) -> None:
        """Make the entries: a submenu a task, an entry a language; then the user's own."""
        for menu in self.findChildren(QMenu):
            menu.deleteLater()
        self.clear()
        menus: dict[str, QMenu] = {}
        for sample in samples_for(self._model, self._chat):
            if sample.task not in menus:
                menus[sample.task] = self._submenu(sample.task)
            self._entry(menus[sample.task], sample.language, sample.prompt_for(self._model, self._chat))
        self._add_own()

    def _submenu(self, name: str) -> QMenu:
        made = self.addMenu(name)
        made.setToolTipsVisible(True)
        return made

    def _add_own(self) -> None:
        own = self._store.own_prompts
        self.addSeparator()
        for kept in own:
            action = self._entry(self, kept.name, kept.prompt)
            if kept.prompt.turns and not knows_turns(self._model):
                action.setEnabled(False)
                action.setToolTip("It has turns, and this model has no chat template.")
        save = self.addAction("Save this prompt…")
        save.triggered.connect(self.save_requested)
        for title, does in (("Rename", self._rename), ("Delete", self._remove)) if own else ():
            menu = self._submenu(title)
            for kept in own:
                action = menu.addAction(_shown(kept.name))
                action.setData(kept.name)
                action.triggered.connect(does)

    def _entry(self, menu: QMenu, name: str, prompt: Prompt) -> QAction:
        action = menu.addAction(_shown(name))
        action.setData(prompt)
        text = prompt.text or "\n".join(f"{turn.role}: {turn.content}" for turn in prompt.turns)
        action.setToolTip(text if len(text) <= TIP_CHARACTERS else text[:TIP_CHARACTERS] + " …")
        action.triggered.connect(self._choose)
        return action

    def _choose(self) -> None:
        action = self.sender()
        if isinstance(action, QAction):
            self.chosen.emit(action.data())

    def _rename(self) -> None:
        action = self.sender()
        if isinstance(action, QAction):
            self.rename_requested.emit(action.data())

    def _remove(self) -> None:
        action = self.sender()
        if isinstance(action, QAction):
            self.removed.emit(action.data())


def _shown(name: str) -> str:
    return name.replace("&", "&&")  # else Qt takes it for the mark of a key


def menu_button(menu: SampleMenu) -> QPushButton:
    """The button that opens it."""
    made = button("Samples")
    made.setMenu(menu)
    made.setToolTip("Prompts by task, in English and Chinese, and your own")
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return made
