"""Long work: what is going on, how far it is, and a way to give it up."""

import math

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QSizePolicy, QVBoxLayout

from engine.protocol import GenerationStarted, Progress, SequenceJoined
from engine.trace.store import Trace
from gui import units
from gui.panels.widgets import button, label, row, set_text

PREFILL_SHOWN_AFTER_NS = 300_000_000
DOWNLOAD = "download"  # the stage of a load in which bytes come from the hub
FINE = 1000  # parts of a progress bar


class ProgressStrip(QFrame):
    """A strip above the charts, hidden while nothing takes long."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self._stage = label("", "section")
        self._text = label()
        self._text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._share = label("", "number")
        self._share.setStyleSheet("font-size: 12px;")
        self._bar = QProgressBar()
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(8)
        self._bar.setAccessibleName("Progress")
        self._details = label("", "number")
        self._details.setStyleSheet("font-size: 12px;")
        self._details.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._cancel = button("Cancel")
        self._cancel.clicked.connect(self.cancelled)
        self._lay_out()
        self.hide()

    def _lay_out(self) -> None:
        head = row(self._stage, self._text, self._share, spacing=10)
        head.setStretch(1, 1)
        middle = QVBoxLayout()
        middle.setSpacing(5)
        middle.addLayout(head)
        middle.addWidget(self._bar)
        middle.addWidget(self._details)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(12, 8, 8, 8)
        layout.setSpacing(12)
        layout.addLayout(middle, 1)
        layout.addWidget(self._cancel, 0, Qt.AlignmentFlag.AlignVCenter)

    @property
    def text(self) -> str:
        """What it says is going on."""
        return self._text.text()

    @property
    def details(self) -> str:
        """What it says of bytes, files, rate and time left."""
        return self._details.text()

    def show_progress(self, activity: str, fraction: float | None, can_cancel: bool = True) -> None:
        """Say what goes on; `fraction` in [0, 1], or None when its end is not known."""
        self._show("", activity, fraction, "", can_cancel)

    def show_load(self, progress: Progress, can_cancel: bool = True) -> None:
        """Say how far a load is."""
        self._show(progress.stage, progress.activity, progress.fraction, download_words(progress), can_cancel)

    def _show(
        self, stage: str, activity: str, fraction: float | None, details: str, can_cancel: bool
    ) -> None:
        set_text(self._stage, stage.upper())
        self._stage.setVisible(bool(stage))
        set_text(self._text, activity)
        self._text.setToolTip(activity)
        if fraction is None or not math.isfinite(fraction):
            self._bar.setRange(0, 0)
            set_text(self._share, "")
        else:
            fraction = min(max(fraction, 0.0), 1.0)
            self._bar.setRange(0, FINE)
            self._bar.setValue(round(fraction * FINE))
            set_text(self._share, f"{math.floor(fraction * 100)} %")
        set_text(self._details, details)
        self._details.setVisible(bool(details))
        self._cancel.setVisible(can_cancel)
        self.show()


def download_words(progress: Progress) -> str:
    """Bytes, files, rate and time left of a download, as far as they are known; "" outside of one."""
    done, total = progress.done_bytes, progress.total_bytes
    if not done and not total:
        return ""
    parts = [_bytes_words(done, total)]
    if progress.total_files:
        parts.append(f"file {min(progress.done_files + 1, progress.total_files)} of {progress.total_files}")
    if progress.bytes_per_s > 0:
        parts.append(f"{units.size(progress.bytes_per_s)}/s")
        if total > done:
            parts.append(f"{time_words((total - done) / progress.bytes_per_s)} left")
    return " · ".join(parts)


def _bytes_words(done: int, total: int) -> str:
    """ "1.20 of 3.40 GiB"; both units where they differ."""
    if not total:
        return units.size(done)
    (number, unit), (total_number, total_unit) = units.size(done).split(), units.size(total).split()
    return f"{number} {'' if unit == total_unit else unit + ' '}of {total_number} {total_unit}"


def time_words(seconds: float) -> str:
    """How long something will take, in whole units, rounded up: "50 s", "4 min", "1 h 5 min"."""
    whole = math.ceil(seconds)
    if whole < 90:
        return f"{whole} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 24 else f"{hours} h"


def prefill_progress(trace: Trace, now_ns: int) -> tuple[str, float | None] | None:
    """How far a prompt that takes long is: words and fraction; None when there is nothing to wait for."""
    if not trace.generations or trace.generations[-1].ended is not None:
        return None
    generation = trace.generations[-1]
    joins = [join.event for join in trace.joins if join.event.generation == generation.started.generation]
    prompts: list[GenerationStarted | SequenceJoined] = [generation.started, *joins]
    total = sum(len(prompt.prompt_ids) for prompt in prompts)
    done = int(trace.steps.prompt_tokens[generation.first_step : generation.end_step].sum())
    if done >= total or now_ns - prompts[-1].submitted_ns < PREFILL_SHOWN_AFTER_NS:
        return None
    return f"prefill: {done:,} of {total:,} prompt tokens", done / total if done else None
