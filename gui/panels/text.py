"""The text panel: the streamed output, each token tinted by its latency, linked with the charts."""

from collections.abc import Sequence

from PySide6.QtCore import QMimeData, QRect, QSignalBlocker, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QComboBox, QPlainTextEdit, QTextEdit, QToolButton, QVBoxLayout, QWidget

from engine.trace.store import Trace
from gui.navigation import Navigation
from gui.panels.widgets import ElidedLabel, label, row, set_text
from gui.sequence_paragraphs import ALL, ParagraphDocument
from gui.sequences import sequence_numbers
from gui.theme import Theme, text_font
from gui.token_document import NEUTRAL, TokenDocument, swatches, text_between
from gui.view_state import only_reads
from gui.view_texts import together_sentence

MEANING = (
    "Each token is tinted by its latency against the median of the 64 before it. A click selects its step."
)
MARKS = 3


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
        self.sequence = _sequence_menu()
        self.sequence.currentIndexChanged.connect(self._write_anew)
        self._looked = 0  # tokens whose sequences are offered
        self._marks_due = 0  # frames in which what is selected is to stand out again: see _mark_again
        self._written = self._document()
        self.together = ElidedLabel("muted")
        self.together.setToolTip("What is decoded together with the text below.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(self._make_head())
        layout.addWidget(self.view, 1)
        self._follows = True  # until the user scrolls away, or selects something that is elsewhere
        self.view.clicked_at.connect(self._clicked)
        self.view.verticalScrollBar().actionTriggered.connect(self._scrolled)
        navigation.selection_changed.connect(self._show_selection)

    def _make_head(self) -> QVBoxLayout:
        """The legend, and below it what is decoded together, where something is."""
        first = row(self._tints)
        first.addStretch(1)
        first.addWidget(self.special)
        self._others = QWidget()
        second = row(self.sequence)
        second.addWidget(self.together, 1)
        second.setContentsMargins(0, 6, 0, 0)
        self._others.setLayout(second)
        self._others.hide()
        head = QVBoxLayout()
        head.setContentsMargins(12, 8, 12, 0)
        head.setSpacing(0)
        head.addLayout(first)
        head.addWidget(self._others)
        return head

    def set_trace(self, trace: Trace) -> None:
        """Show another trace, and of what was decoded together in it the first."""
        if trace is not self._trace:
            with QSignalBlocker(self.sequence):
                self.sequence.clear()
            self._looked = 0
        self._trace = trace
        self._tints.setVisible(not only_reads(trace))
        self.special.setEnabled(bool(trace.model and trace.model.special_tokens))
        self._write_anew()

    @Slot()
    def _write_anew(self) -> None:
        self._revision = -1
        self._written = self._document()
        self._marks_due = MARKS
        self.view.mark([], self._theme)
        self._follows = self._navigation.selected is None

    def _document(self) -> TokenDocument:
        document, special, chosen = (
            self.view.document(),
            self.special.isChecked(),
            self.sequence.currentData() or 0,
        )
        if chosen == ALL:
            return ParagraphDocument(document, self._theme, self._trace, special)
        return TokenDocument(document, self._theme, self._trace, special, chosen)

    def _offer_sequences(self) -> None:
        """A generation that has several sequences lets one choose between them."""
        with QSignalBlocker(self.sequence):
            for number in sequence_numbers(self._trace, self._looked):
                if self.sequence.findData(number) < 0:
                    self.sequence.addItem(f"sequence {number}", number)
            if self.sequence.count() > 1 and self.sequence.findData(ALL) < 0:
                self.sequence.insertItem(0, "all sequences", ALL)
        self._looked = len(self._trace.tokens)
        self.sequence.setVisible(self.sequence.count() > 1)
        self._others.setVisible(self.sequence.count() > 1 or bool(self.together.text()))

    def set_theme(self, theme: Theme) -> None:
        """Take other colours: the text is written anew."""
        self._theme = theme
        self._legend.set_theme(theme)
        self.set_trace(self._trace)

    def refresh(self) -> bool:
        """Write what is new; whether there was anything."""
        wrote = self._write_on()
        if self._marks_due:
            self._mark_again()
        return self._follow() or wrote

    def _write_on(self) -> bool:
        if self._trace.revision == self._revision and self._written.finished:
            return False
        self._revision = self._trace.revision
        set_text(self.together, together_sentence(self._trace))
        self._offer_sequences()
        if self._written.finished:
            return False
        self._written.write()
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
        spans = []
        self._follows = step is None
        if isinstance(step, int) and step < len(self._trace.steps):
            spans = self._written.spans_of_step(step)
        self.view.mark(spans, self._theme)

    def _mark_again(self) -> None:
        """After it was written anew; more than once, as long paragraphs are laid out late and move what is shown."""
        step = self._navigation.selected
        if step is None:
            self._marks_due = 0
        elif self._written.finished or self._written.spans_of_step(step):
            self._marks_due -= 1
            self._show_selection(step)


def _sequence_menu() -> QComboBox:
    made = QComboBox()
    made.setAccessibleName("Sequence")
    made.setToolTip("Which of the sequences that were decoded together is shown")
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    made.setFixedHeight(24)
    made.hide()
    return made


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

    def mark(self, spans: Sequence[tuple[int, int]], theme: Theme) -> None:
        """Make stretches stand out, and bring the first of them into view."""
        self.setExtraSelections([self._standing_out(span, theme) for span in spans])
        if not spans:
            return
        place = QTextCursor(self.document())
        place.setPosition(spans[0][1])
        line = self.cursorRect(place)
        if line.top() < 0 or line.bottom() > self.viewport().height():
            self.setTextCursor(place)
            self.ensureCursorVisible()

    def _standing_out(self, span: tuple[int, int], theme: Theme) -> QTextEdit.ExtraSelection:
        selection = QTextEdit.ExtraSelection()
        cursor = QTextCursor(self.document())
        cursor.setPosition(span[0])
        cursor.setPosition(span[1], QTextCursor.MoveMode.KeepAnchor)
        cursor.setKeepPositionOnInsert(True)  # what is written behind it is not chosen
        style = QTextCharFormat()
        style.setBackground(QColor(theme.selection))
        style.setForeground(QColor(theme.background))
        selection.cursor, selection.format = cursor, style
        return selection

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
