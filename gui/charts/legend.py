"""The legend that all charts share: the phases that occur, each with its one colour, and the lines of the floor and of
a reference.
"""

import numpy as np
from PySide6.QtCore import QPoint, QRect, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QMouseEvent, QPainter
from PySide6.QtWidgets import QSizePolicy, QWidget

from engine.protocol import Family
from engine.trace.phases import LABELS, MEANINGS, PHASE_COUNT, Phase
from engine.trace.reference import Reference
from gui import theme as themes
from gui.charts.chart import Chart
from gui.charts.painting import draw_text, text_width, translucent
from gui.charts.reference_overlay import draw_swatch
from gui.charts.tips import reference_tip
from gui.navigation import Navigation
from gui.view_state import is_preparation

SWATCH, SPACE, ROW = 11, 18, 22
_HATCHED = {
    "prefill": "a step that takes in the prompt, or a chunk of it: nothing is written yet",
    "encoder": "a step in which the encoder reads the prompt: nothing is written yet",
    "captured": "a step that ran under the profiler, which takes longer: it is in no statistic",
}
_FLOOR, _REFERENCE = "floor", "reference"
_LEAST = (
    "the least time in which this machine could do the step: its bytes at the bandwidth, or its operations at the rate,"
    " that were measured here; what of a bar lies above can still be won"
)


class PhaseLegend(Chart):
    """Swatches with labels, from the bottom of a bar to its top; wraps to as many rows as it needs."""

    accessible_name = "Legend of phases"

    def __init__(self, navigation: Navigation, parent: QWidget | None = None) -> None:
        super().__init__(navigation, parent)
        self._reference: Reference | None = None
        self._reset()
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def sizeHint(self) -> QSize:
        """One row."""
        return QSize(600, ROW + 6)

    def heightForWidth(self, width: int) -> int:
        """The height that all rows need at a width."""
        return 6 + ROW * (1 + max((row for *_, row in self._places(width)), default=0))

    def hasHeightForWidth(self) -> bool:
        """It wraps."""
        return True

    def phases(self) -> list[Phase]:
        """The phases that occur in the trace."""
        return [p for p in Phase if self._seen[p]]

    def set_reference(self, reference: Reference | None) -> None:
        """Explain the line of a reference, where there is one."""
        self._reference = reference
        self.updateGeometry()

    def take_view(self, other: Chart) -> None:
        """Also with its reference."""
        assert isinstance(other, PhaseLegend)
        self.set_reference(other._reference)

    def _reset(self) -> None:
        self._seen = np.zeros(PHASE_COUNT, np.bool_)
        self._prefill = self._captured = self._floor = False
        self._looked = 0

    def _prepare(self) -> None:
        steps = self._trace.steps
        count = len(steps)
        if count == self._looked:
            return
        before = self._frame_state()
        self._seen |= steps.phases_ns[self._looked : count].any(axis=0)
        new = steps.kind[self._looked : count]
        self._prefill = self._prefill or bool(is_preparation(self._trace, new).any())
        self._floor = self._floor or bool(steps.floor_ns[self._looked : count].any())
        self._captured = self._captured or bool(steps.captured[self._looked : count].any())
        self._looked = count
        if before != self._frame_state():
            self.updateGeometry()

    def _frame_state(self) -> tuple[object, ...]:
        return self._seen.tobytes(), *self._hatched(), self._floor, self._reference

    def _empty_sentence(self) -> str:
        return ""

    def _entries(self) -> list[tuple[Phase | None, str]]:
        entries: list[tuple[Phase | None, str]] = [(p, LABELS[p]) for p in self.phases()]
        if hatched := self._hatched():
            entries.append((None, f"{' or '.join(hatched)} step (hatched)"))
        entries += [(None, _FLOOR)] if self._floor else []
        return [*entries, (None, _REFERENCE)] if self._reference and self.phases() else entries

    def _hatched(self) -> list[str]:
        """The kinds of steps that are hatched in the strip, those that occur."""
        model = self._trace.model
        encodes = model is not None and model.family is Family.ENCODER_DECODER
        found = ["encoder" if encodes else "prefill"] if self._prefill else []
        return [*found, "captured"] if self._captured else found

    def _places(self, width: int) -> list[tuple[Phase | None, str, int, int, int]]:
        """Each entry with its x, width and row."""
        x, row, places = 8, 0, []
        for phase, label in self._entries():
            needed = SWATCH + 6 + text_width(label, 12)
            if x + needed > width - 8 and x > 8:
                x, row = 8, row + 1
            places.append((phase, label, x, needed, row))
            x += needed + SPACE
        return places

    def _draw(self, painter: QPainter) -> None:
        font = themes.text_font(12)
        for phase, label, x, width, row in self._places(self.width()):
            top = 3 + row * ROW
            swatch = QRect(x, top + (ROW - SWATCH) // 2, SWATCH, SWATCH)
            area = QRect(x + SWATCH + 6, top, width - SWATCH - 4, ROW)
            draw_text(painter, area, label, self._theme.muted, font)
            if label == _FLOOR:
                painter.fillRect(swatch.adjusted(-2, 4, 2, -5), QColor(self._theme.floor))
                continue
            if label == _REFERENCE:
                draw_swatch(painter, swatch, self._theme)
                continue
            painter.fillRect(
                swatch, QColor(self._theme.phases[phase] if phase is not None else self._theme.faint)
            )
            style = {None: Qt.BrushStyle.BDiagPattern, Phase.UNATTRIBUTED: Qt.BrushStyle.Dense5Pattern}.get(
                phase
            )
            if style is not None:
                painter.fillRect(swatch, QBrush(translucent(self._theme.plot, 0.7), style))

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        return QRect()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Explain the phase under the pointer."""
        self._show_tip(event.globalPosition().toPoint(), self._meaning_at(event.position().toPoint()))

    def _meaning_at(self, at: QPoint) -> str:
        for phase, label, x, width, row in self._places(self.width()):
            if x <= at.x() <= x + width and 3 + row * ROW <= at.y() < 3 + (row + 1) * ROW:
                if label == _FLOOR:
                    return _LEAST
                if label == _REFERENCE and self._reference is not None:
                    return reference_tip(self._reference, self._trace.configuration, self._theme)
                if phase is not None:
                    return MEANINGS[phase]
                return "\n".join(f"{name}: {_HATCHED[name]}" for name in self._hatched())
        return ""
