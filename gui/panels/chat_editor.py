"""The chat mode of the prompt panel: what the system says, and turns of user and assistant."""

from PySide6.QtCore import QSize, QSizeF, Qt, Signal
from PySide6.QtWidgets import QFrame, QLineEdit, QScrollArea, QToolButton, QVBoxLayout, QWidget

from engine.protocol import Turn
from gui.panels.prompt_edit import PromptEdit
from gui.panels.widgets import button, label, row

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
LEAST_ROWS, MOST_ROWS = 2, 6
LEAST_SEEN = 104  # pixels of the turns
FRAME = 14  # pixels of a turn's editor above and below its text


class ChatEditor(QWidget):
    """Turns of a chat, to be edited. There is always at least one."""

    changed = Signal()
    files_dropped = Signal(list)  # of Path

    def __init__(self) -> None:
        super().__init__()
        self._system = QLineEdit()
        self._system.setPlaceholderText("System (optional): how the model is to behave")
        self._system.setAccessibleName("System turn")
        self._system.textChanged.connect(self.changed)
        self._turns: list[_TurnEditor] = []
        self._list = QVBoxLayout()
        self._list.setContentsMargins(0, 0, 4, 0)
        self._list.setSpacing(6)
        self._list.addStretch(1)
        inner = QWidget()
        inner.setLayout(self._list)
        self._area = QScrollArea()
        self._area.setWidgetResizable(True)
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._area.setWidget(inner)
        self._area.setMinimumHeight(LEAST_SEEN)
        self._area.verticalScrollBar().rangeChanged.connect(self._show_end)
        self._follows = False  # a turn was added: it is brought into view when it is laid out
        add = button("Add turn")
        add.setToolTip("A turn of the user or the assistant, whoever is next")
        add.clicked.connect(self._add_next)
        self._answer = button("Add answer as a turn")
        self._answer.setToolTip(
            "What the model wrote becomes the assistant's turn, so that the dialogue goes on"
        )
        self._answer.clicked.connect(self._take_answer)
        self._answer.hide()
        self._answered = ""
        under = row(add, self._answer)
        under.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self._system)
        layout.addWidget(self._area, 1)
        layout.addLayout(under)
        self.set_turns((Turn(USER, ""),))

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns that say something, the system's first."""
        system = self._system.text().strip()
        head = (Turn(SYSTEM, system),) if system else ()
        return (*head, *(Turn(t.role, t.edit.text) for t in self._turns if t.edit.text.strip()))

    def set_turns(self, turns: tuple[Turn, ...]) -> None:
        """Show another chat."""
        while self._turns:
            self._drop(self._turns[-1])
        self._system.setText("\n".join(turn.content for turn in turns if turn.role == SYSTEM))
        self._system.setCursorPosition(0)  # its beginning is seen
        for turn in turns:
            if turn.role != SYSTEM:
                self._add(turn)
        if not self._turns:
            self._add(Turn(USER, ""))
        self.offer_answer("")
        self.changed.emit()

    def add_text(self, text: str) -> None:
        """The user also says this: in the last turn, if that is the user's and empty, else in a new one."""
        last = self._turns[-1]
        if last.role == USER and not last.edit.text.strip():
            last.edit.set_text(text)
        else:
            self._add(Turn(USER, text))
            self.changed.emit()

    def offer_answer(self, text: str) -> None:
        """The model has answered; its text can become a turn ("": it has not)."""
        self._answered = text
        self._answer.setVisible(bool(text.strip()))

    def focus_text(self) -> None:
        """Put the cursor into the last turn."""
        self._turns[-1].edit.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def _take_answer(self) -> None:
        text = self._answered
        self.offer_answer("")
        if not self._turns[-1].edit.text.strip() and len(self._turns) > 1:
            self._drop(self._turns[-1])
        self._add(Turn(ASSISTANT, text))
        self._add(Turn(USER, ""))
        self.changed.emit()
        self.focus_text()

    def _add_next(self) -> None:
        self._add(Turn(USER if self._turns[-1].role == ASSISTANT else ASSISTANT, ""))
        self.changed.emit()
        self.focus_text()

    def _add(self, turn: Turn) -> None:
        made = _TurnEditor(turn)
        made.edit.changed.connect(self.changed)
        made.edit.files_dropped.connect(self.files_dropped)
        made.removed.connect(self._remove)
        self._turns.append(made)
        self._list.insertWidget(self._list.count() - 1, made)
        self._follows = len(self._turns) > 1

    def _remove(self) -> None:
        sender = self.sender()
        if isinstance(sender, _TurnEditor):
            self._drop(sender)
            if not self._turns:
                self._add(Turn(USER, ""))
            self.changed.emit()

    def _drop(self, turn: "_TurnEditor") -> None:
        self._turns.remove(turn)
        self._list.removeWidget(turn)
        turn.hide()
        turn.deleteLater()

    def _show_end(self, _low: int, high: int) -> None:
        if self._follows:
            self._follows = False
            self._area.verticalScrollBar().setValue(high)


class _TurnEditor(QWidget):
    """One turn: who speaks, and what. It grows with its text, to a limit."""

    removed = Signal()

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.role = turn.role
        self.edit = PromptEdit(turn.content, f"What the {turn.role} says", f"Turn of the {turn.role}")
        self.remove = QToolButton()
        self.remove.setText("×")
        self.remove.setProperty("role", "flat")
        self.remove.setStyleSheet("padding: 0; min-height: 0;")
        self.remove.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.remove.setToolTip("Remove this turn")
        self.remove.setAccessibleName(f"Remove this turn of the {turn.role}")
        self.remove.setFixedSize(QSize(20, 18))
        self.remove.clicked.connect(self.removed)
        head = row(label(turn.role, "section"))
        head.addStretch(1)
        head.addWidget(self.remove)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(head)
        layout.addWidget(self.edit)
        self.edit.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._fit(self.edit.document().size())

    def _fit(self, size: QSizeF) -> None:
        """As high as the text; a QPlainTextDocumentLayout measures heights in lines."""
        lines = min(max(round(size.height()), LEAST_ROWS), MOST_ROWS)
        height = lines * self.edit.fontMetrics().lineSpacing() + FRAME
        if height != self.edit.minimumHeight():
            self.edit.setFixedHeight(height)
