"""The prompt panel: what the model is given, how far it goes, and the button that starts it."""

from pathlib import Path

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QInputDialog,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from engine.prompt_files import read_prompt_file
from engine.protocol import Family, Generate, Join, ModelFacts, Prompt, TokensCounted
from gui.aside import Aside, Say
from gui.panels.chat_editor import ChatEditor
from gui.panels.prompt_edit import PromptEdit, local_files
from gui.panels.prompt_length import PromptLength
from gui.panels.sample_menu import SampleMenu, menu_button
from gui.panels.widgets import Segments, button, inset, label, row
from gui.prompt_library import first_sample, knows_turns
from gui.settings_store import LONGEST_NAME, OwnPrompt, SettingsStore

PLAIN, CHAT = 0, 1

_WHY_NO_CHAT = "This model's tokenizer has no chat template: it continues text and knows no turns."
_PLACES = {
    Family.DECODER: "Text for the model to continue. Ctrl+Enter runs it.",
    Family.ENCODER_DECODER: "Text for the model to answer, translate or summarize. Ctrl+Enter runs it.",
    Family.ENCODER: "One input a line. Ctrl+Enter runs them, step by step.",
}
_THINKING = (("thinking: default", None), ("thinking: on", True), ("thinking: off", False))


class PromptPanel(QWidget):
    """The prompt, plain or as a chat, and the limits of a generation."""

    run_requested = Signal()
    count_requested = Signal(object)  # CountTokens
    failed = Signal(str)  # what was dropped cannot be a prompt, or what was to be saved cannot be

    def __init__(self, store: SettingsStore | None = None) -> None:
        super().__init__()
        self._store = store or SettingsStore.forgetful()
        self._model: ModelFacts | None = None
        self._untouched = True  # the prompt is still a sample that nobody chose
        self.setAcceptDrops(True)
        self._make_modes()
        self._plain = PromptEdit(
            first_sample().prompt_for(None, False).text, _PLACES[Family.DECODER], "Prompt"
        )
        self._plain.setMinimumHeight(64)
        self._chat = ChatEditor()
        self._pages = _Pages()
        self._pages.addWidget(self._plain)
        self._pages.addWidget(self._chat)
        self.length = PromptLength(lambda: self.prompt)
        self.length.count_requested.connect(self.count_requested)
        self.aside = Aside("prompt file", ValueError, self)
        self._make_numbers()
        self._menu = SampleMenu(self._store, self)
        self._menu.chosen.connect(self.set_prompt)
        self._menu.save_requested.connect(self._ask_to_save)
        self._menu.rename_requested.connect(self._ask_to_rename)
        self._menu.removed.connect(self._store.forget_own_prompt)
        self.run_button = button("Run", "primary")
        self.run_button.setToolTip("Generate from this prompt (Ctrl+Enter)")
        self.run_button.clicked.connect(self.run_requested)
        self._lay_out()
        for editor in (self._plain, self._chat):
            editor.changed.connect(self._changed)
            editor.files_dropped.connect(self.take_files)
        self._show_model()

    def _make_modes(self) -> None:
        self._modes = Segments(("Plain", "Chat"))
        self._modes.buttons[PLAIN].setToolTip("The text as it is")
        self._modes.chosen.connect(self._choose_mode)
        self._thinking = QComboBox()
        self._thinking.setAccessibleName("Thinking")
        self._thinking.setToolTip(
            "Whether the model thinks before it answers; its chat template knows of that."
        )
        self._thinking.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        for text, value in _THINKING:
            self._thinking.addItem(text, value)
        self._thinking.currentIndexChanged.connect(self._changed)

    def _make_numbers(self) -> None:
        self._clear = button("Clear")
        self._clear.setToolTip("Drop this long text and write another")
        self._clear.clicked.connect(self._drop_text)
        self._clear.hide()
        self._count_label = label("new tokens", "muted")
        self._count = _spin(256, 1_000_000, 64, "Most new tokens", "How many tokens to generate at most")
        self._batch_label = label("inputs a step", "muted")
        self._batch = _spin(
            2, 4096, 1, "Inputs a step", "How many inputs are read at once; shorter ones are padded"
        )
        self._stop = QCheckBox("stop at end token")
        self._stop.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._stop.setToolTip("End when the model says so. Random weights say so by chance, or never.")
        self._stop.setChecked(True)

    def _lay_out(self) -> None:
        layout = self._layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 10, 12, 10)
        layout.setSpacing(8)
        layout.addLayout(row(self._modes, self._thinking))
        layout.addWidget(self._pages, 1)
        layout.addWidget(self.length)
        numbers = row(self._count_label, self._count, self._batch_label, self._batch)
        numbers.addStretch(1)
        numbers.addWidget(self._stop)
        layout.addLayout(numbers)
        buttons = row(menu_button(self._menu), self._clear)
        buttons.addStretch(1)
        buttons.addWidget(self.run_button)
        layout.addLayout(buttons)

    def minimumSizeHint(self) -> QSize:
        """With as many lines as its texts take at this width: docks do not ask for that."""
        hint = super().minimumSizeHint()
        wrapped = self._layout.totalMinimumHeightForWidth(max(self.width(), hint.width()))
        return QSize(hint.width(), max(hint.height(), wrapped))

    # ------------------------------------------------------------ the prompt

    @property
    def text(self) -> str:
        """The plain prompt (also while a chat is shown)."""
        return self._plain.text

    @property
    def own_prompt(self) -> Prompt:
        """The prompt as it is shown, if it is not merely a sample that nobody chose."""
        return Prompt() if self._untouched else self.prompt

    @property
    def mode(self) -> int:
        """PLAIN or CHAT."""
        return self._pages.currentIndex()

    @property
    def prompt(self) -> Prompt:
        """What the model would be given."""
        if self.mode == CHAT:
            thinking: bool | None = None if self._thinking.isHidden() else self._thinking.currentData()
            return Prompt(turns=self._chat.turns, thinking=thinking, truncate=self.length.truncates)
        return Prompt(self._plain.text, truncate=self.length.truncates)

    def set_text(self, text: str) -> None:
        """Show another plain prompt."""
        self.set_prompt(Prompt(text))

    def set_prompt(self, prompt: Prompt) -> None:
        """Show another prompt, in the mode that it needs."""
        if prompt.turns:
            self._chat.set_turns(prompt.turns)
            self._thinking.setCurrentIndex([value for _, value in _THINKING].index(prompt.thinking))
            self._show_mode(CHAT)
        else:
            self._plain.set_text(prompt.text)
            self._show_mode(PLAIN)
        self._changed()

    def command(self, paused: bool = False) -> Generate:
        """The generation that is asked for."""
        return Generate(self.prompt, self._count.value(), self._stop.isChecked(), paused, self._batch.value())

    def join_command(self) -> Join:
        """The sequence that is to join what runs."""
        return Join(self.prompt, self._count.value(), self._stop.isChecked())

    def set_limit(self, tokens: int, stop_at_end_token: bool) -> None:
        """Set how far a generation goes."""
        self._count.setValue(tokens)
        self._stop.setChecked(stop_at_end_token)

    def focus_text(self) -> None:
        """Put the cursor into the prompt."""
        if self.mode == CHAT:
            self._chat.focus_text()
            return
        self._plain.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self._plain.selectAll()

    def offer_answer(self, text: str) -> None:
        """The generation of a chat has ended with this text: the chat can go on with it."""
        self._chat.offer_answer(text)

    def _drop_text(self) -> None:
        self.set_text("")
        self.focus_text()

    def _changed(self) -> None:
        self._untouched = False
        self._clear.setVisible(self.mode == PLAIN and self._plain.is_long)
        self.length.changed()

    # ------------------------------------------------------------ files

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """A file may be dropped anywhere on the panel."""
        if local_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """A file was dropped beside the editor, or on a text too long to be edited."""
        event.acceptProposedAction()
        self.take_files(local_files(event.mimeData()))

    def take_files(self, paths: list[Path]) -> None:
        """Use the text of a file, when it has been read, instead of a plain prompt or as a turn of a chat."""
        if len(paths) > 1:
            self.failed.emit(f"{len(paths)} files were dropped, and a prompt is one text: drop one of them.")
            return
        self.setCursor(Qt.CursorShape.BusyCursor)
        path = paths[0]
        self.aside.drop()
        self.aside.do(
            lambda say: self._read(path, say), self._file_failed, f"The prompt file {path} cannot be read"
        )

    def _read(self, path: Path, say: Say) -> None:
        say(self._file_read, read_prompt_file(path))

    def _file_read(self, text: str) -> None:
        self.unsetCursor()
        if self.mode == CHAT:
            self._chat.add_text(text)
        else:
            self.set_text(text)

    def _file_failed(self, sentence: str) -> None:
        self.unsetCursor()
        self.failed.emit(sentence)

    # ------------------------------------------------------------ the model

    def suit_model(self, model: ModelFacts) -> None:
        """A model was loaded: keep within its context, offer what it can; random weights end where they happen to."""
        self._model = model
        self._count.setMaximum(max(1, model.context_limit - 1))
        if model.random_weights:
            self._stop.setChecked(False)
        self._show_model()
        if self._untouched:
            chat = knows_turns(model)
            self.set_prompt(first_sample(model, chat).prompt_for(model, chat))
            self._untouched = True  # another model gets what suits it
        self.length.suit_model(model)

    def show_count(self, counted: TokensCounted) -> None:
        """The engine has counted a prompt."""
        self.length.show_count(counted)

    def _show_model(self) -> None:
        family = self._model.family if self._model else Family.DECODER
        reads, chats = family is Family.ENCODER, knows_turns(self._model)
        self._modes.setVisible(family is Family.DECODER)
        self._modes.buttons[CHAT].setEnabled(chats)
        why_not = _WHY_NO_CHAT if self._model else "No model is loaded yet."
        self._modes.buttons[CHAT].setToolTip(
            "Turns, written by the model's own chat template" if chats else why_not
        )
        self._plain.setPlaceholderText(_PLACES[family])
        for widget in (self._count_label, self._count, self._stop):
            widget.setVisible(not reads)
        for widget in (self._batch_label, self._batch):
            widget.setVisible(reads)
        self._show_mode(self.mode if chats else PLAIN)

    def _choose_mode(self, mode: int) -> None:
        self._show_mode(mode)
        self._changed()

    def _show_mode(self, mode: int) -> None:
        self._modes.show_choice(mode)
        self._pages.setCurrentIndex(mode)
        self._pages.updateGeometry()
        self._thinking.setVisible(mode == CHAT and self._model is not None and self._model.knows_thinking)
        self._menu.suit(self._model, mode == CHAT)

    # ------------------------------------------------------------ own prompts

    def save_own(self, name: str) -> None:
        """Keep the prompt under a name, in place of one that had it."""
        try:
            self._store.keep_own_prompt(OwnPrompt(name, self.prompt))
        except ValueError as problem:
            self.failed.emit(str(problem))

    def rename_own(self, name: str, new: str) -> None:
        """Give a saved prompt another name."""
        try:
            self._store.rename_own_prompt(name, new)
        except ValueError as problem:
            self.failed.emit(str(problem))

    def _ask_to_save(self) -> None:
        name = self._ask_name("Save this prompt", "")
        if name:
            self.save_own(name)

    def _ask_to_rename(self, name: str) -> None:
        new = self._ask_name("Rename this prompt", name)
        if new:
            self.rename_own(name, new)

    def _ask_name(self, title: str, name: str) -> str:
        given, accepted = QInputDialog.getText(self, title, "Name", text=name)
        return given.strip()[:LONGEST_NAME] if accepted else ""


class _Pages(QStackedWidget):
    """Needs as much room as the page that is shown, not as the largest one."""

    def minimumSizeHint(self) -> QSize:
        """That of the page."""
        page = self.currentWidget()
        return page.minimumSizeHint().expandedTo(page.minimumSize()) if page else QSize()

    def sizeHint(self) -> QSize:
        """That of the page."""
        page = self.currentWidget()
        return page.sizeHint() if page else QSize()


def _spin(value: int, most: int, step: int, name: str, tip: str) -> QSpinBox:
    made = QSpinBox()
    inset(made)
    made.setRange(1, most)
    made.setSingleStep(step)
    made.setValue(value)
    made.setAccessibleName(name)
    made.setToolTip(tip)
    return made
