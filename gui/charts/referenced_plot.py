"""A chart over steps that can have a reference laid under its data, or over them."""

from PySide6.QtCore import QRect
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QWidget

from engine.trace.reference import Reference
from gui.charts.chart import Chart
from gui.charts.reference_overlay import ReferenceOverlay
from gui.charts.step_plot import StepPlot
from gui.navigation import Navigation


class ReferencedPlot(StepPlot):
    """Base of the token strip and the latency chart. `reference_on_top`: it lies over the data, not under them."""

    reference_on_top = False

    def __init__(self, navigation: Navigation, parent: QWidget | None = None) -> None:
        super().__init__(navigation, parent)
        self._overlay = ReferenceOverlay()

    def set_reference(self, reference: Reference | None) -> None:
        """Show another reference from now on; None: none. It stays when the trace becomes another one."""
        self._overlay.reference = reference

    def take_view(self, other: Chart) -> None:
        """Also with the same reference."""
        assert isinstance(other, ReferencedPlot)
        super().take_view(other)
        self.set_reference(other._overlay.reference)

    def _reset(self) -> None:
        super()._reset()
        self._overlay.reset()

    def _prepare(self) -> None:
        self._overlay.update(self._trace)
        super()._prepare()

    def _frame_state(self) -> tuple[object, ...]:
        return *self._overlay.state, *super()._frame_state()

    def _draw_layers(self, painter: QPainter, buckets: range, area: QRect) -> None:
        """A reference also shows where there are no steps yet."""
        if self._overlay.is_drawn and not self.reference_on_top:
            self._draw_reference_in(painter, area)
        super()._draw_layers(painter, buckets, area)
        if self._overlay.is_drawn and self.reference_on_top:
            self._draw_reference_in(painter, area)

    def _draw_reference_in(self, painter: QPainter, area: QRect) -> None:
        painter.save()
        self._to_device(painter)
        painter.setClipRect(area)
        self._draw_reference(painter, area)
        painter.restore()

    def _draw_reference(self, painter: QPainter, area: QRect) -> None:
        """Draw what of the reference lies in an area of the plot, in device pixels."""
