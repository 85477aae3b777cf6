"""The layer map: layers over steps as an image; each cell is the time of a layer's attention, MLP or rest."""

import numpy as np
from PySide6.QtCore import QPoint, QRect, Qt, Slot
from PySide6.QtGui import QColor, QImage, QPainter, QResizeEvent
from PySide6.QtWidgets import QWidget

from engine.trace.phases import Role
from gui import theme as themes
from gui import units
from gui.charts import colormap
from gui.charts.chart import EMPTY, Chart
from gui.charts.painting import draw_text, text_width
from gui.charts.segments import Segments
from gui.charts.step_plot import HEADER, LEFT, RIGHT, StepPlot
from gui.charts.tips import cell_tip
from gui.navigation import Navigation
from gui.view_state import map_ceiling_ns, map_columns, ticks, visible_slice

ROLE_LABELS = {Role.ATTENTION: "attention", Role.MLP: "MLP", Role.REST: "rest"}
BAR_WIDTH, BAR_HEIGHT = 140, 8


class LayerMap(StepPlot):
    """Layer 0 at the bottom; steps that share a pixel column show the largest time of each layer."""

    accessible_name = "Layer map"
    accessible_description = "Layers over steps: the time of each layer's attention, MLP or rest as colour."

    def __init__(self, navigation: Navigation, parent: QWidget | None = None) -> None:
        super().__init__(navigation, parent)
        self._others = ""  # what there is to see where the chosen role has nothing
        self._needed = 0.0  # ns that the colours must reach; 0 where layers are not told apart
        self._scaled_role = navigation.role
        self._segments = Segments("Layer map shows", [ROLE_LABELS[r] for r in Role], self)
        self._segments.chosen.connect(self._role_chosen)
        navigation.role_changed.connect(self._segments.show_chosen)

    @Slot(int)
    def _role_chosen(self, place: int) -> None:
        self._navigation.set_role(Role(place))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the control at the right end of the header."""
        self._segments.adjustSize()
        self._segments.move(
            self.width() - RIGHT - self._segments.width(), (HEADER - self._segments.height()) // 2
        )

    def take_view(self, other: Chart) -> None:
        """Keep the scale of the colours."""
        super().take_view(other)
        self._scaled_role = self._navigation.role

    def _empty_sentence(self) -> str:
        if not len(self._trace.steps):
            return EMPTY
        if not self._trace.layer_count:
            return "This model has no layers that can be told apart."
        if self._others:
            return f"Nothing in these layers counts as {ROLE_LABELS[self._navigation.role]}: choose {self._others}."
        if not self._needed:
            return "Layers are not told apart here: choose the detail “layer” and run on."
        return ""

    def _prepare(self) -> None:
        role = self._navigation.role
        if role is not self._scaled_role:
            self._scaled_role, self._ceiling = role, 0.0
        rows = visible_slice(self.device_scale(), len(self._trace.steps))
        self._needed = map_ceiling_ns(self._trace, role, rows)
        others = [] if self._needed else [r for r in Role if map_ceiling_ns(self._trace, r, rows)]
        self._others = " or ".join(ROLE_LABELS[other] for other in others)
        super()._prepare()

    def _needed_ceiling(self) -> float:
        return self._needed

    def _frame_state(self) -> tuple[object, ...]:
        return *super()._frame_state(), self._navigation.role

    def _overlay_state(self) -> tuple[object, ...]:
        return *super()._overlay_state(), self._navigation.layer

    # ------------------------------------------------------------ drawing

    def _draw_data(self, painter: QPainter, buckets: range) -> None:
        scale, plot = self.device_scale(), self._device_plot()
        size = scale.bucket
        cells = map_columns(self._trace, self._navigation.role, size, buckets)
        if not cells.size:
            return
        absent = QColor(self._theme.plot).rgb()
        colors = colormap.pixels(cells, self._ceiling, self._theme.map, absent)
        begins = np.arange(buckets.start, buckets.stop + 1) * size
        begins[-1] = min(begins[-1], len(self._trace.steps))
        edges = scale.x(begins)
        inside = np.clip(edges, plot.left(), plot.right() + 1)
        image = np.ascontiguousarray(np.repeat(colors.T[::-1], np.diff(inside), axis=1))
        height, width = image.shape
        if not width:
            return
        picture = QImage(image.data, width, height, width * 4, QImage.Format.Format_RGB32)
        painter.save()
        self._to_device(painter)
        painter.drawImage(QRect(int(inside[0]), plot.top(), width, plot.height()), picture)
        painter.restore()

    def _draw_header(self, painter: QPainter, area: QRect) -> None:
        font = themes.number_font(11)
        top = area.center().y() - BAR_HEIGHT // 2
        words = f"≥ {units.duration(self._ceiling)}"
        draw_text(painter, QRect(area.x(), 0, 12, HEADER), "0", self._theme.muted, font)
        bar = QRect(area.x() + 14, top, BAR_WIDTH, BAR_HEIGHT)
        table = np.ascontiguousarray(colormap.lookup(self._theme.map)[None, :])
        painter.drawImage(bar, QImage(table.data, 256, 1, 1024, QImage.Format.Format_RGB32))
        end = QRect(bar.right() + 8, 0, text_width(words, 11, numbers=True), HEADER)
        draw_text(painter, end, words, self._theme.muted, font)

    def _draw_grid(self, painter: QPainter, area: QRect) -> None:
        pass  # an image has no grid

    def _draw_y_axis(self, painter: QPainter, plot: QRect) -> None:
        font, layers = themes.number_font(11), self._trace.layer_count
        unit = QRect(0, plot.top() - 24, LEFT - 8, 16)
        draw_text(
            painter, unit, "layer", self._theme.faint, themes.text_font(11), Qt.AlignmentFlag.AlignRight
        )
        for tick in ticks(0, max(0, layers - 1), max(1, plot.height() // 24)) if layers else []:
            if tick == int(tick):
                y = self._layer_rect(int(tick)).center().y()
                area = QRect(0, y - 8, LEFT - 8, 16)
                draw_text(painter, area, str(int(tick)), self._theme.muted, font, Qt.AlignmentFlag.AlignRight)

    def _layer_rect(self, layer: int) -> QRect:
        plot, layers = self.plot_rect(), max(1, self._trace.layer_count)
        top = plot.top() + round((layers - 1 - layer) * plot.height() / layers)
        end = plot.top() + round((layers - layer) * plot.height() / layers)
        return QRect(plot.left(), top, plot.width(), max(1, end - top))

    def _draw_selection(self, painter: QPainter, step: int | None) -> None:
        layer, color = self._navigation.layer, QColor(self._theme.crosshair)
        if step is not None:
            column = self.column_rect(step)
            painter.fillRect(column.left() - 1, column.top(), 1, column.height(), color)
            painter.fillRect(column.right() + 1, column.top(), 1, column.height(), color)
        if step is not None and layer is not None and layer < self._trace.layer_count:
            row = self._layer_rect(layer)
            painter.fillRect(row.left(), row.top() - 1, row.width(), 1, color)
            painter.fillRect(row.left(), row.bottom() + 1, row.width(), 1, color)

    # ------------------------------------------------------------ mouse

    def _layer_under(self, y: float) -> int | None:
        plot, layers = self.plot_rect(), self._trace.layer_count
        if not layers or not plot.top() <= y <= plot.bottom():
            return None
        return min(layers - 1, int((plot.bottom() + 1 - y) / plot.height() * layers))

    def _clicked(self, at: QPoint) -> None:
        step, layer = self._step_under(at.x()), self._layer_under(at.y())
        same = (step, layer) == (self._navigation.selected, self._navigation.layer)
        self._navigation.select(None if same else step)
        self._navigation.set_layer(None if same else layer)

    def _tip(self, at: QPoint) -> str:
        step, layer = self._step_under(at.x()), self._layer_under(at.y())
        if step is None or layer is None:
            return ""
        return cell_tip(self._trace, step, layer, self._navigation.role, self._theme)
