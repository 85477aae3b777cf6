"""What every chart shares: a picture kept between frames, drawn again only where something changed."""

from PySide6.QtCore import QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QContextMenuEvent, QPainter, QPaintEvent, QPixmap
from PySide6.QtWidgets import QMenu, QSizePolicy, QToolTip, QWidget

from engine.trace.store import Trace
from gui import theme as themes
from gui.charts.painting import draw_text
from gui.copying import copy_menu
from gui.navigation import Navigation
from gui.theme import Theme
from gui.view_texts import ledger_text
from gui.visibility import is_seen

EMPTY = "Nothing measured yet: press Space to run."


class Chart(QWidget):
    """A widget that draws a trace. `refresh()` is called once a frame and does nothing when nothing
    changed.
    """

    copy_wished = Signal(object)  # this chart: a picture of it, to paste
    save_wished = Signal(object)  # this chart: a picture of it, as a file

    accessible_name = "Chart"
    accessible_description = ""

    def __init__(self, navigation: Navigation, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._navigation = navigation
        self._trace = Trace()
        self._theme: Theme = themes.DARK
        self._picture = QPixmap()
        self._frame_key: tuple[object, ...] = ()
        self._overlay_key: tuple[object, ...] = ()
        self._drawn = 0  # steps in the picture
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAccessibleName(self.accessible_name)
        self.setAccessibleDescription(self.accessible_description)

    # ------------------------------------------------------------ what the window calls

    def set_trace(self, trace: Trace) -> None:
        """Draw another trace from now on."""
        self._trace = trace
        self._reset()
        self._forget()

    def set_theme(self, theme: Theme) -> None:
        """Draw in the colours of a theme from now on."""
        self._theme = theme
        self._forget()

    def refresh(self) -> bool:
        """Bring the picture up to date and ask for a paint where it changed; whether there was anything to
        do.
        """
        if not is_seen(self):
            return False
        changed = self._bring_up_to_date()
        overlay = self._overlay_state()
        if overlay != self._overlay_key:
            changed = changed.united(self._overlay_area())
            self._overlay_key = overlay
        if changed.isEmpty():
            return False
        self.update(changed)
        return True

    # ------------------------------------------------------------ pictures

    def twin(self) -> "Chart":
        """Another chart of this kind, of the same trace; it is to be let go of soon."""
        made = type(self)(self._navigation)
        made.set_trace(self._trace)
        return made

    def take_view(self, other: "Chart") -> None:
        """Show what another chart of this kind shows, where that is not in the navigation."""

    def draw_on(self, painter: QPainter) -> None:
        """Draw everything as it is now with another painter, without what is only under the pointer."""
        self._navigation.hover(None)
        self._prepare()
        painter.fillRect(self.rect(), QColor(self._theme.surface))
        self._draw(painter)
        painter.setClipping(False)
        if empty := self._empty_sentence():
            self._draw_empty(painter, empty)
        self._draw_overlay(painter, self.rect())

    # ------------------------------------------------------------ what a chart fills in

    def _reset(self) -> None:
        """Forget what was derived from the trace before."""

    def _prepare(self) -> None:
        """Bring what is derived from the trace up to date: scales, series."""

    def _frame_state(self) -> tuple[object, ...]:
        """What makes the whole picture different when it changes."""
        return ()

    def _overlay_state(self) -> tuple[object, ...]:
        """What is drawn over the picture."""
        return ()

    def _overlay_area(self) -> QRect:
        """Where it is drawn."""
        return self.rect()

    def _empty_sentence(self) -> str:
        """Why there is nothing to see; empty when there is."""
        return "" if len(self._trace.steps) else EMPTY

    def _draw(self, painter: QPainter) -> None:
        """Draw the whole picture, in widget coordinates."""

    def _draw_newest(self, painter: QPainter, drawn: int) -> QRect:
        """Draw the steps from `drawn` on; where that was, in widget coordinates."""
        self._draw(painter)
        return self.rect()

    def _draw_overlay(self, painter: QPainter, area: QRect) -> None:
        """Draw what lies over the picture, in widget coordinates."""

    # ------------------------------------------------------------ the picture

    def _forget(self) -> None:
        self._frame_key = ()

    def _bring_up_to_date(self) -> QRect:
        self._prepare()
        count = len(self._trace.steps)
        empty = self._empty_sentence()
        key = (self.size(), self.devicePixelRatioF(), self._theme.name, empty, *self._frame_state())
        if key != self._frame_key:
            self._start_picture(empty)
            self._frame_key, self._drawn = key, count
            return self.rect()
        if count == self._drawn or empty:
            return QRect()
        painter = QPainter(self._picture)
        changed = self._draw_newest(painter, self._drawn)
        painter.end()
        self._drawn = count
        return changed

    def _start_picture(self, empty: str) -> None:
        ratio = self.devicePixelRatioF()
        wanted = QSize(round(self.width() * ratio), round(self.height() * ratio))
        if self._picture.size() != wanted:
            self._picture = QPixmap(wanted)
        self._picture.setDevicePixelRatio(ratio)
        self._picture.fill(QColor(self._theme.surface))
        painter = QPainter(self._picture)
        self._draw(painter)
        if empty:
            self._draw_empty(painter, empty)
        painter.end()

    def _draw_empty(self, painter: QPainter, sentence: str) -> None:
        font = themes.text_font(13)
        draw_text(
            painter, self._empty_area(), sentence, self._theme.muted, font, Qt.AlignmentFlag.AlignHCenter
        )

    def _empty_area(self) -> QRect:
        return self.rect().adjusted(12, 0, -12, 0)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Copy the picture to the screen where Qt asks for it."""
        stale = self._picture.isNull() or self._picture.deviceIndependentSize().toSize() != self.size()
        if stale or not self._frame_key:
            self._bring_up_to_date()
        area = event.rect()
        painter = QPainter(self)
        ratio = self.devicePixelRatioF()
        source = QRect(
            round(area.x() * ratio),
            round(area.y() * ratio),
            round(area.width() * ratio),
            round(area.height() * ratio),
        )
        painter.drawPixmap(area, self._picture, source)
        self._draw_overlay(painter, area)
        painter.end()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Offer what can be done about the step under the pointer, a picture of the chart, and the step as text."""
        self._choose_for_menu(event.pos())
        menu = self.menu()
        menu.popup(event.globalPos())
        event.accept()

    def menu(self) -> QMenu:
        """What the right button offers."""
        step = self._navigation.shown_step
        words = (
            [] if step is None else [(f"Copy the phases of step {step:,}", ledger_text(self._trace, step))]
        )
        menu = copy_menu(self, words) or QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if not menu.isEmpty():
            menu.addSeparator()
        if self.actions():
            menu.addActions(self.actions())
            menu.addSeparator()
        menu.addAction("Copy picture").triggered.connect(lambda: self.copy_wished.emit(self))
        menu.addAction("Save picture…").triggered.connect(lambda: self.save_wished.emit(self))
        return menu

    def _choose_for_menu(self, at: QPoint) -> None:
        """Choose the step that a menu at a place is about."""

    def _show_tip(self, at: QPoint, text: str) -> None:
        if text:
            QToolTip.showText(at, text, self)
        else:
            QToolTip.hideText()
