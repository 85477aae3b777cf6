"""The heading in the toolbar: what the engine is doing, with which model, and whether its weights are random."""

from PySide6.QtWidgets import QWidget

from engine.protocol import EngineState, ModelFacts
from gui.panels.model import RANDOM_WEIGHTS, RANDOM_WEIGHTS_MEANING
from gui.panels.widgets import label, plain_tip, row, set_text
from gui.theme import Theme

WORDS: dict[EngineState | None, str] = {
    None: "NO ENGINE",
    EngineState.STARTING: "STARTING",
    EngineState.EMPTY: "NO MODEL",
    EngineState.LOADING: "LOADING",
    EngineState.READY: "READY",
    EngineState.RUNNING: "RUNNING",
    EngineState.PAUSED: "PAUSED",
}
PLAYING = "PLAYING"  # of a recording, instead of RUNNING


class Heading(QWidget):
    """State pill, model, badge."""

    def __init__(self) -> None:
        super().__init__()
        self._state: EngineState | None = EngineState.STARTING
        self._theme: Theme | None = None
        self._pill = label(WORDS[self._state])
        self._pill.setAccessibleName("State of the engine")
        self._pill.setMinimumWidth(92)
        self._model = label("")
        self._model.setStyleSheet("font-size: 14px; font-weight: 600;")
        self._facts = label("", "muted")
        self._badge = label(RANDOM_WEIGHTS, "warning")
        self._badge.setToolTip(RANDOM_WEIGHTS_MEANING)
        self._badge.hide()
        self._recording = label("recording", "chip")
        self._recording.hide()
        layout = row(self._pill, self._recording, self._model, self._facts, self._badge, spacing=10)
        layout.setContentsMargins(4, 0, 0, 0)
        self.setLayout(layout)

    @property
    def text(self) -> str:
        """What the pill says."""
        return self._pill.text()

    def show_recording(self, tip: str) -> None:
        """Say that it is a recording, which is played and does not run; `tip`: which one."""
        self._recording.setToolTip(plain_tip(tip))
        self._recording.show()

    def show_state(self, state: EngineState | None) -> None:
        """Show what the engine is doing; None: there is none."""
        self._state = state
        plays = state is EngineState.RUNNING and not self._recording.isHidden()
        set_text(self._pill, PLAYING if plays else WORDS[state])
        self._color()

    def show_model(self, model: ModelFacts) -> None:
        """Show what is loaded."""
        set_text(self._model, model.name)
        self.show_precision(model, model.dtype)
        self._badge.setVisible(model.random_weights)

    def show_precision(self, model: ModelFacts, dtype: str) -> None:
        """Show in which precision the model runs now."""
        set_text(self._facts, f"{dtype} on {model.device}")

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self._theme = theme
        self._badge.setStyleSheet(
            f"color: {theme.warning}; border: 1px solid {theme.warning}; border-radius: 6px; padding: 2px 8px;"
            " font-size: 11px; font-weight: 600;"
        )
        self._color()

    def _color(self) -> None:
        theme = self._theme
        if theme is None:
            return
        color = {
            None: theme.danger,
            EngineState.RUNNING: theme.good,
            EngineState.PAUSED: theme.warning,
            EngineState.READY: theme.accent,
        }.get(self._state, theme.muted)
        self._pill.setStyleSheet(
            f"color: {color}; background: {theme.raised}; border: 1px solid {color}; border-radius: 11px;"
            " padding: 3px 10px; font-size: 11px; font-weight: 600; letter-spacing: 1px;"
            " qproperty-alignment: AlignCenter;"
        )
