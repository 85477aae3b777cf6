"""The text panel: the streamed output, each token tinted by its latency, linked with the charts."""

from PySide6.QtCore import QMimeData, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QPlainTextEdit, QSizePolicy, QTextEdit, QToolButton, QVBoxLayout, QWidget

from engine.trace.store import Trace
from gui.navigation import Navigation
from gui.panels.widgets import label, row, set_text
from gui.theme import Theme, text_font
from gui.token_document import NEUTRAL, TokenDocument, swatches, text_between
from gui.view_state import only_reads
from gui.view_texts import together_sentence

MEANING = (
    "Each token is tinted by its latency against the median of the 64 before it. A click selects its step."
)


class TextPanel(QWidget):
    """Output as it streams. `refresh` is called by the frame timer and writes what has come since."""

    def __init__(self, navigation: Navigation, theme: Theme) -> None:
        super().__init__()
        self._navigation = navigation
        self._theme = theme
        self._trace = Trace()
        self._revision = -1
        self.view = TokenView()
        self.view.setAccessibleName("Output")
        self._legend = _Legend(theme)
        self._tints = QWidget()
        self._tints.setLayout(row(label("faster", "muted"), self._legend, label("slower", "muted")))
        self.special = _special_button()
        self.special.toggled.connect(self._write_anew)
        self._written = self._document()
        self.together = label("", "muted")
        self.together.setToolTip(
            "What is decoded together with the text below; the text shows the first sequence."
        )
        self.together.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        head = row(self._tints)
        head.addWidget(self.together, 1)
        head.addWidget(self.special)
        head.setContentsMargins(12, 8, 12, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(head)
        layout.addWidget(self.view, 1)
        self._follows = True  # until the user scrolls away, or selects something that is elsewhere
        self.view.clicked_at.connect(self._clicked)
        self.view.verticalScrollBar().actionTriggered.connect(self._scrolled)
        navigation.selection_changed.connect(self._show_selection)

    def set_trace(self, trace: Trace) -> None:
        """Show another trace."""
        self._trace = trace
        self._tints.setVisible(not only_reads(trace))
        self.special.setEnabled(bool(trace.model and trace.model.special_tokens))
        self._write_anew()

    def _write_anew(self) -> None:
        self._revision = -1
        self._written = self._document()
        self._show_selection(None)

    def _document(self) -> TokenDocument:
        return TokenDocument(self.view.document(), self._theme, self._trace, self.special.isChecked())

    def set_theme(self, theme: Theme) -> None:
        """Take other colours: the text is written anew."""
        self._theme = theme
        self._legend.set_theme(theme)
        self.set_trace(self._trace)

    def refresh(self) -> bool:
        """Write what is new; whether there was anything."""
        if self._trace.revision == self._revision and self._written.finished:
            return self._follow()
        self._revision = self._trace.revision
        set_text(self.together, together_sentence(self._trace))
        if self._written.finished:
            return self._follow()
        self._written.write()
        self._follow()
        return True

    def _follow(self) -> bool:
        """Show the end, if it is followed; whether the view had to move. Long paragraphs are laid out late."""
        bar = self.view.verticalScrollBar()
        moves = self._follows and bar.value() < bar.maximum()
        if moves:
            bar.setValue(bar.maximum())
        return moves

    def _scrolled(self, _action: int) -> None:
        bar = self.view.verticalScrollBar()
        self._follows = bar.sliderPosition() >= bar.maximum() - 1

    def _clicked(self, position: int) -> None:
        self._navigation.select(self._written.step_at(position))

    def _show_selection(self, step: object) -> None:
        span = None
        self._follows = step is None
        if isinstance(step, int) and step < len(self._trace.steps):
            span = self._written.span_of_step(step)
        self.view.mark(span, self._theme)


def _special_button() -> QToolButton:
    made = QToolButton()
    made.setText("special tokens")
    made.setCheckable(True)
    made.setChecked(True)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setProperty("role", "segment")
    made.setToolTip("Show the tokens that are not text (begin, end, turns, masks) as tags, or leave them out")
    return made


class TokenView(QPlainTextEdit):
    """A read-only text that reports clicks, and copies the text as the model wrote it."""

    clicked_at = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setFont(text_font(14))
        self.setPlaceholderText("What the model writes appears here.")
        self.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        self.setStyleSheet(
            "QPlainTextEdit { border: none; border-radius: 0; background: transparent; padding: 4px 8px; }"
        )
        self.setToolTip(MEANING)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._pressed_at = -1

    def mark(self, span: tuple[int, int] | None, theme: Theme) -> None:
        """Make a stretch stand out, and bring it into view."""
        if span is None:
            self.setExtraSelections([])
            return
        selection = QTextEdit.ExtraSelection()
        cursor = QTextCursor(self.document())
        cursor.setPosition(span[0])
        cursor.setPosition(span[1], QTextCursor.MoveMode.KeepAnchor)
        style = QTextCharFormat()
        style.setBackground(QColor(theme.selection))
        style.setForeground(QColor(theme.background))
        selection.cursor, selection.format = cursor, style
        self.setExtraSelections([selection])
        place = QTextCursor(self.document())
        place.setPosition(span[1])
        line = self.cursorRect(place)
        if line.top() < 0 or line.bottom() > self.viewport().height():
            self.setTextCursor(place)
            self.ensureCursorVisible()

    def createMimeDataFromSelection(self) -> QMimeData:
        """The selected text without the breaks that only this view put in."""
        cursor = self.textCursor()
        data = QMimeData()
        data.setText(text_between(self.document(), cursor.selectionStart(), cursor.selectionEnd()))
        return data

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Remember where a click began."""
        self._pressed_at = self.cursorForPosition(event.position().toPoint()).position()
        super().mousePressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """A click that selected no text selects a token."""
        super().mouseReleaseEvent(event)
        if event.button() == Qt.MouseButton.LeftButton and not self.textCursor().hasSelection():
            self.clicked_at.emit(self._character_at(event))

    def _character_at(self, event: QMouseEvent) -> int:
        """The character under the pointer, not the gap next to it."""
        point = event.position().toPoint()
        cursor = self.cursorForPosition(point)
        if self.cursorRect(cursor).x() > point.x() and cursor.position() > 0:
            return cursor.position() - 1
        return cursor.position()


class _Legend(QWidget):
    """The tints, fast to slow, with what each means on hover."""

    CELL = 14

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self.setFixedSize(self.sizeHint())
        lines = "\n".join(f"{place + 1}. {words}" for place, (_, words) in enumerate(swatches(theme)))
        self.setToolTip(f"{MEANING}\nFrom left to right, latency over that median:\n{lines}")
        self.setAccessibleName("Legend of the tints, fast to slow")

    def sizeHint(self) -> QSize:
        """One cell a tint."""
        return QSize(self.CELL * len(swatches(self._theme)) + 1, 11)

    def set_theme(self, theme: Theme) -> None:
        """Take other colours."""
        self._theme = theme
        self.update()

    def paintEvent(self, _: QPaintEvent) -> None:
        """Draw the cells."""
        painter = QPainter(self)
        for place, (color, _words) in enumerate(swatches(self._theme)):
            cell = QRect(place * self.CELL, 0, self.CELL - 1, 10)
            painter.fillRect(cell, color)
            if place == NEUTRAL:
                painter.setPen(QPen(QColor(self._theme.faint)))
                painter.drawRect(cell.adjusted(0, 0, -1, 0))
        painter.end()
