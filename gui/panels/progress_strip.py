"""Long work: what is going on, how far it is, and a way to give it up."""

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar

from engine.trace.store import Trace
from gui.panels.widgets import button, label, set_text

PREFILL_SHOWN_AFTER_NS = 300_000_000


class ProgressStrip(QFrame):
    """One line above the charts, hidden while nothing takes long."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self._text = label()
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(8)
        self._cancel = button("Cancel")
        self._cancel.clicked.connect(self.cancelled)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 6, 6, 6)
        layout.setSpacing(12)
        layout.addWidget(self._text)
        layout.addWidget(self._bar, 1)
        layout.addWidget(self._cancel)
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text.text()

    def show_progress(self, activity: str, fraction: float | None, can_cancel: bool = True) -> None:
        """Say what goes on; `fraction` in [0, 1], or None when its end is not known."""
        set_text(self._text, activity)
        if fraction is None:
            self._bar.setRange(0, 0)
        else:
            self._bar.setRange(0, 1000)
            self._bar.setValue(round(min(max(fraction, 0.0), 1.0) * 1000))
        self._cancel.setVisible(can_cancel)
        self.show()


def prefill_progress(trace: Trace, now_ns: int) -> tuple[str, float | None] | None:
    """How far a prompt that takes long is: words and fraction; None when there is nothing to wait for."""
    if not trace.generations or trace.generations[-1].ended is not None:
        return None
    generation = trace.generations[-1]
    total = len(generation.started.prompt_ids)
    done = int(trace.steps.prompt_tokens[generation.first_step : generation.end_step].sum())
    if done >= total or now_ns - generation.started.submitted_ns < PREFILL_SHOWN_AFTER_NS:
        return None
    return f"prefill: {done:,} of {total:,} prompt tokens", done / total if done else None
