"""Navigation: what of the trace is on screen and what is chosen, shared by all charts and the text.

The x axis counts steps: step i covers i ≤ x < i + 1. While following, the range moves in strides (an eighth
of its span) and grows in strides, so that axes and cached pictures are used again for many frames.
"""

import math
from enum import StrEnum

from PySide6.QtCore import QObject, Signal, Slot

from engine.trace.phases import Role

DEFAULT_SPAN = 512.0  # steps that following keeps on screen unless the user chose otherwise
MINIMUM_SPAN = 8.0
FIRST_SPAN = 64.0  # an empty axis shows this many


class LatencyAxis(StrEnum):
    """What the latency chart is drawn against."""

    STEP = "step"
    CONTEXT = "context"


class Navigation(QObject):
    """View state of the charts. Everything that shows steps reads it; everything that can be moved or
    clicked writes it.

    `selected` and `hovered` are steps or None; `layer` is the layer chosen in the map or None.
    """

    range_changed = Signal()
    selection_changed = Signal(object)
    hover_changed = Signal(object)
    follow_changed = Signal(bool)
    layer_changed = Signal(object)
    role_changed = Signal(int)
    latency_axis_changed = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.first = 0.0
        self.last = FIRST_SPAN
        self.follow = True
        self.count = 0
        self.selected: int | None = None
        self.hovered: int | None = None
        self.layer: int | None = None
        self.role = Role.ATTENTION
        self.latency_axis = LatencyAxis.STEP
        self._followed_span = DEFAULT_SPAN

    @property
    def span(self) -> float:
        """Steps on screen."""
        return self.last - self.first

    @property
    def shown_step(self) -> int | None:
        """The step to show in detail: the selected one, else the newest."""
        if self.selected is not None:
            return self.selected
        return self.count - 1 if self.count else None

    def reset(self) -> None:
        """Begin again, for another trace."""
        self.count = 0
        self._followed_span = DEFAULT_SPAN
        self.select(None)
        self.set_layer(None)
        self.hover(None)
        self.set_follow(True)
        self._set_range(0.0, FIRST_SPAN)

    def trace_grew(self, count: int) -> None:
        """Say how many steps there are now; the range moves along while following."""
        self.count = count
        if self.selected is not None and self.selected >= count:
            self.select(None)
        if self.follow:
            self._go_to_end()

    @Slot(bool)
    def set_follow(self, follow: bool) -> None:
        """Keep the newest step on screen, or let the range rest."""
        if follow != self.follow:
            self.follow = follow
            self.follow_changed.emit(follow)
        if follow:
            self._go_to_end()

    @Slot()
    def show_all(self) -> None:
        """Show the whole trace and follow it as it grows."""
        self._followed_span = math.inf
        self.set_follow(True)
        self._go_to_end()

    def pan(self, steps: float) -> None:
        """Move the range; this lets go of the newest step."""
        self._rest()
        span = self.span
        low = min(0.0, self.count - span)
        first = min(
            max(self.first + steps, low if span < self.count else 0.0), max(0.0, self.count - span / 4)
        )
        self._set_range(first, first + span)

    def zoom(self, factor: float, center: float) -> None:
        """Show `factor` times as many steps, keeping step `center` where it is on screen (while following:
        the newest).
        """
        longest = max(FIRST_SPAN, 1.25 * self.count)
        span = min(max(self.span * factor, MINIMUM_SPAN), longest)
        if self.follow:
            self._followed_span = math.inf if span >= longest else span
            self._go_to_end()
            return
        first = max(0.0, center - (center - self.first) * span / self.span)
        self._set_range(first, first + span)

    def show_range(self, first: float, last: float) -> None:
        """Show exactly the steps first ≤ x < last; this lets go of the newest step."""
        self._rest()
        span = max(last - first, MINIMUM_SPAN)
        first = max(0.0, first)
        self._set_range(first, first + span)

    @Slot(object)
    def select(self, step: int | None) -> None:
        """Choose a step (None: no step). One that is off screen is brought into view."""
        if step is not None and not 0 <= step < self.count:
            return
        if step == self.selected:
            return
        self.selected = step
        self.selection_changed.emit(step)
        if step is not None and not self.first <= step < self.last:
            self._rest()
            first = max(0.0, math.floor(step - self.span / 2))
            self._set_range(first, first + self.span)

    def select_next(self, by: int) -> None:
        """Choose the step `by` further on (from the newest when none is chosen)."""
        if self.count:
            start = self.count - 1 if self.selected is None else self.selected
            self.select(min(max(start + by, 0), self.count - 1))

    def hover(self, step: int | None) -> None:
        """Say which step the pointer is on."""
        if step != self.hovered:
            self.hovered = step
            self.hover_changed.emit(step)

    def set_layer(self, layer: int | None) -> None:
        """Choose a layer of the model (None: no layer)."""
        if layer != self.layer:
            self.layer = layer
            self.layer_changed.emit(layer)

    def set_role(self, role: Role) -> None:
        """Choose what the layer map shows."""
        if role != self.role:
            self.role = role
            self.role_changed.emit(int(role))

    def set_latency_axis(self, axis: LatencyAxis) -> None:
        """Choose what latency is drawn against."""
        if axis != self.latency_axis:
            self.latency_axis = axis
            self.latency_axis_changed.emit(axis.value)

    def _rest(self) -> None:
        if self.follow:
            self.follow = False
            self.follow_changed.emit(False)

    def _go_to_end(self) -> None:
        self._set_range(*followed_range(self.count, self._followed_span))

    def _set_range(self, first: float, last: float) -> None:
        if (first, last) != (self.first, self.last):
            self.first, self.last = first, last
            self.range_changed.emit()


def followed_range(count: int, span: float) -> tuple[float, float]:
    """The range that shows the newest of `count` steps: grows in strides up to `span`, then moves in
    strides of span/8.
    """
    grown = grown_span(count)
    if grown <= span:
        return 0.0, grown
    if count <= span:
        return 0.0, float(span)
    stride = max(1.0, math.floor(span / 8))
    last = math.ceil(count / stride) * stride
    return last - span, float(last)


def grown_span(count: int) -> float:
    """The least of 64, 80, 96, 112, 128, 160, … (four a doubling) that holds `count` steps."""
    if count <= FIRST_SPAN:
        return FIRST_SPAN
    stride = 2.0 ** (math.ceil(math.log2(count)) - 3)
    return math.ceil(count / stride) * stride
