"""How long the prompt is and what the model takes, shown while one types; the engine counts, not the GUI thread."""

from collections.abc import Callable
from html import escape

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QWidget

from engine.protocol import CountTokens, Family, ModelFacts, Prompt, TokensCounted
from gui.panels.widgets import label, set_role, set_text

COUNT_AFTER_MS = 150  # of silence: whoever types on needs no number
STALE = " …"
PREVIEWED = 1_500  # characters of a rendered chat in the tooltip

_MEANING = "Tokens of the prompt, and the most that the model takes."
_WAITS = "Being counted. While the model generates, that has to wait."
_CUTS = {
    False: ("drop the beginning", "The prompt is too long for the model: let its beginning be dropped."),
    True: ("drop the ends", "An input is too long for the model: let the ends of such inputs be dropped."),
}


class PromptLength(QWidget):
    """The length as text, and the leave to truncate where it is too much. `prompt`: gives the prompt there is."""

    count_requested = Signal(object)  # CountTokens

    def __init__(self, prompt: Callable[[], Prompt]) -> None:
        super().__init__()
        self._prompt = prompt
        self._model: ModelFacts | None = None
        self._request = 0
        self._known = ""  # what was said last, about a prompt that may have changed since
        self._label = label("", "muted", wrap=True)
        self._label.setAccessibleName("Length of the prompt")
        self._truncate = QCheckBox()
        self._truncate.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._truncate.toggled.connect(self._color)
        self._truncate.hide()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._label, 1)
        layout.addWidget(self._truncate)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(COUNT_AFTER_MS)
        self._timer.timeout.connect(self.ask)

    @property
    def text(self) -> str:
        """What it says."""
        return self._label.text()

    @property
    def truncates(self) -> bool:
        """Whether the prompt was found to be too long, and may be truncated."""
        return self._truncate.isChecked() and not self._truncate.isHidden()

    def suit_model(self, model: ModelFacts) -> None:
        """A model was loaded: it has a tokenizer of its own."""
        self._model, self._known = model, ""
        words, tip = _CUTS[model.family is Family.ENCODER]
        self._truncate.setText(words)
        self._truncate.setToolTip(tip)
        self._truncate.setChecked(False)
        self._truncate.hide()
        self.changed()
        self.ask()

    def changed(self) -> None:
        """The prompt is another: what is shown is out of date, and is asked for after a moment of silence."""
        self._request += 1  # an answer that is under way is about another prompt
        if self._model is not None:
            self._say((self._known or "counting") + STALE, _WAITS)
            self._timer.start()

    def ask(self) -> None:
        """Ask now; the answer comes by show_count, when nothing runs."""
        self._timer.stop()
        if self._model is not None:
            self._request += 1
            self.count_requested.emit(CountTokens(self._request, self._prompt()))

    def show_count(self, counted: TokensCounted) -> None:
        """Show the length, if it is that of this prompt."""
        if counted.request != self._request:
            return
        self._truncate.setVisible(counted.tokens > counted.limit)
        if counted.reason and not self._is_blank():
            self._known = ""
            self._say(counted.reason, counted.reason)
            set_role(self._label, "warning")
            return
        self._known = self._sentence(counted)
        self._say(self._known, _preview(counted.rendered) if counted.rendered else _MEANING)
        self._color()

    def _is_blank(self) -> bool:
        prompt = self._prompt()
        return not (prompt.turns or prompt.text.strip())

    def _sentence(self, counted: TokensCounted) -> str:
        text = f"{counted.tokens:,} of {counted.limit:,} tokens"
        if self._model is None or self._model.family is not Family.ENCODER:
            return text
        inputs = sum(1 for line in self._prompt().text.splitlines() if line.strip())
        return f"{inputs:,} inputs, the longest {text}" if inputs > 1 else text

    def _say(self, text: str, tip: str) -> None:
        set_text(self._label, text)
        if self._label.toolTip() != tip:
            self._label.setToolTip(tip)

    def _color(self) -> None:
        """Red while a prompt that is too long would be refused."""
        refused = not self._truncate.isHidden() and not self._truncate.isChecked()
        set_role(self._label, "danger" if refused else "muted")


def _preview(rendered: str) -> str:
    """What the chat template made of the turns, as the rich text that Qt's tooltips take."""
    shown = rendered[:PREVIEWED] + (" …" if len(rendered) > PREVIEWED else "")
    return (
        f"{_MEANING} The model's template writes these turns as"
        f"<p style='white-space:pre-wrap;margin:6px 0 0 0'>{escape(shown)}</p>"
    )
