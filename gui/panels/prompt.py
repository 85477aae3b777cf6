"""The prompt panel: the text to continue, how far, and the button that starts it."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QPlainTextEdit, QSpinBox, QWidget

from engine.protocol import Generate
from gui.panels.widgets import button, column, label

LONGEST_SHOWN = 1_000_000  # characters that the editor takes; more would freeze it

SAMPLES: tuple[tuple[str, str], ...] = (
    (
        "Story (English)",
        "The night train left the harbour at nine, and for a while the only light came from the signal lamps along"
        " the water. Nobody in the carriage spoke. Then the conductor opened the door, looked at each of us in"
        " turn, and said:",
    ),
    (
        "Explain (English)",
        "Explain, step by step and for a reader who has never programmed, why a language model answers one word at"
        " a time, and what it has to remember between two words.",
    ),
    (
        "Code (Python)",
        "def median(values: list[float]) -> float:\n"
        '    """The middle of the values; the mean of the two in the middle for an even count."""\n',
    ),
    (
        "故事（中文）",
        "从前，在一座被群山环绕的小城里，住着一位修钟表的老人。每天清晨，他总是第一个推开店门，",
    ),
    (
        "解释（中文）",
        "请用通俗的语言解释：大语言模型在生成文字时，“预填充”和“解码”两个阶段分别做什么？为什么前者快而后者慢？",
    ),
    ("诗（中文）", "请以“秋夜听雨”为题，写一首七言绝句，并逐句解释它的意境。"),
    (
        "Long context (English)",
        " ".join(
            f"On day {day} the log of the station reads: wind {(day * 7) % 23} knots, {(day * 13) % 40} degrees,"
            f" {'fair' if day % 3 else 'fog'}, {(day * 5) % 11} ships seen, supplies for {120 - day} days."
            for day in range(1, 61)
        )
        + " Summary of the log:",
    ),
)
DEFAULT_PROMPT = SAMPLES[0][1]


class PromptPanel(QWidget):
    """The prompt and the limits of a generation."""

    run_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._text = QPlainTextEdit(DEFAULT_PROMPT)
        self._text.setPlaceholderText("Text for the model to continue. Ctrl+Enter runs it.")
        self._text.setAccessibleName("Prompt")
        self._text.setTabChangesFocus(True)
        self._text.setMinimumHeight(64)
        self._samples = QComboBox()
        self._samples.setAccessibleName("Sample prompts")
        self._samples.setPlaceholderText("Samples")
        self._samples.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._samples.addItems([name for name, _ in SAMPLES])
        self._samples.setCurrentIndex(-1)
        self._samples.setMinimumContentsLength(7)
        self._samples.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._samples.view().setMinimumWidth(170)
        self._samples.activated.connect(self._use_sample)
        self._count = QSpinBox()
        self._count.setAccessibleName("Most new tokens")
        self._count.setToolTip("How many tokens to generate at most")
        self._count.setRange(1, 1_000_000)
        self._count.setSingleStep(64)
        self._count.setValue(256)
        self._stop = QCheckBox("stop at end token")
        self._stop.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._stop.setToolTip("End when the model says so. Random weights say so by chance, or never.")
        self._stop.setChecked(True)
        self.run_button = button("Run", "primary")
        self.run_button.setToolTip("Generate from this prompt (Ctrl+Enter)")
        self.run_button.clicked.connect(self.run_requested)
        layout = column(self._text)
        layout.setStretch(0, 1)
        numbers = QHBoxLayout()
        numbers.setSpacing(8)
        numbers.addWidget(label("new tokens", "muted"))
        numbers.addWidget(self._count)
        numbers.addStretch(1)
        numbers.addWidget(self._stop)
        layout.addLayout(numbers)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self._samples)
        buttons.addStretch(1)
        buttons.addWidget(self.run_button)
        layout.addLayout(buttons)
        self.setLayout(layout)

    @property
    def text(self) -> str:
        """The prompt."""
        return self._text.toPlainText()

    def set_text(self, text: str) -> None:
        """Show another prompt."""
        self._text.setPlainText(text[:LONGEST_SHOWN])

    def set_limit(self, tokens: int, stop_at_end_token: bool) -> None:
        """Set how far a generation goes."""
        self._count.setValue(tokens)
        self._stop.setChecked(stop_at_end_token)

    def suit_model(self, context_limit: int, random_weights: bool) -> None:
        """A model was loaded: keep within its context; random weights end where they happen to."""
        self._count.setMaximum(max(1, context_limit - 1))
        if random_weights:
            self._stop.setChecked(False)

    def command(self, paused: bool = False) -> Generate:
        """The generation that is asked for."""
        return Generate(self.text, self._count.value(), self._stop.isChecked(), paused)

    def focus_text(self) -> None:
        """Put the cursor into the prompt."""
        self._text.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self._text.selectAll()

    def _use_sample(self, place: int) -> None:
        self.set_text(SAMPLES[place][1])
        self._samples.setCurrentIndex(-1)
