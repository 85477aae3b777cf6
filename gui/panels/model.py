"""The model panel: what is loaded, in facts; a button opens the picker."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFormLayout, QLabel, QSizePolicy, QWidget

from engine.protocol import ModelFacts
from gui import units
from gui.panels.widgets import button, column, label, row, set_text

RANDOM_WEIGHTS = "random weights"
RANDOM_WEIGHTS_MEANING = (
    "This model has its real architecture and size, but random weights: its latency is that of the real one"
    " (it does not depend on the values), its text means nothing."
)


class ModelPanel(QWidget):
    """Facts about the loaded model."""

    pick_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._name = label("no model", selectable=True)
        self._name.setStyleSheet("font-size: 15px; font-weight: 600;")
        self._name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._badge = label(RANDOM_WEIGHTS, "warning")
        self._badge.setToolTip(RANDOM_WEIGHTS_MEANING)
        self._badge.hide()
        self._pick = button("Choose…")
        self._pick.clicked.connect(self.pick_requested)
        self._pick.setToolTip("Choose another model (Ctrl+O)")
        self._hint = label("The engine is starting.", "muted", wrap=True)
        self._form = QFormLayout()
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setHorizontalSpacing(12)
        self._form.setVerticalSpacing(3)
        self._facts = QWidget()
        self._facts.setLayout(self._form)
        self._facts.hide()
        self._warnings = label("", "warning", wrap=True, selectable=True)
        self._warnings.hide()
        layout = column(self._badge, self._hint, self._facts, self._warnings, spacing=6)
        head = row(self._name, self._pick)
        head.setStretch(0, 1)
        layout.insertLayout(0, head)
        layout.addStretch(1)
        self.setLayout(layout)
        self._values: dict[str, QLabel] = {}

    def show_model(self, model: ModelFacts) -> None:
        """Show what is loaded."""
        set_text(self._name, model.name)
        self._name.setToolTip(model.name)
        self._badge.setVisible(model.random_weights)
        self._hint.hide()
        self._facts.show()
        for name, value, tip in model_facts(model):
            self._value(name, tip).setText(value)
        self._warnings.setText("\n".join(model.warnings))
        self._warnings.setVisible(bool(model.warnings))

    def show_hint(self, hint: str) -> None:
        """Say why no model is ready. The facts of the one before stay, as its trace does."""
        set_text(self._hint, hint)
        self._hint.show()

    def _value(self, name: str, tip: str) -> QLabel:
        if name not in self._values:
            title, value = label(name, "muted"), label("", "number", selectable=True)
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            value.setStyleSheet("font-size: 12px;")
            value.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            for widget in (title, value):
                widget.setToolTip(tip)
            self._form.addRow(title, value)
            self._values[name] = value
        return self._values[name]


def model_facts(model: ModelFacts) -> list[tuple[str, str, str]]:
    """The facts as (name, value, explanation)."""
    return [
        ("architecture", model.architecture, "class of the model in transformers"),
        (
            "parameters",
            units.count(model.parameters),
            f"{model.parameters:,} parameters; tied ones are counted once",
        ),
        (
            "weights",
            f"{units.size(model.weight_bytes)} · {model.dtype}",
            f"{model.weight_bytes:,} bytes, as loaded",
        ),
        (
            "layers × width",
            f"{len(model.layer_names)} × {model.hidden_size}",
            "number of layers, and the width of what flows between them",
        ),
        ("vocabulary", f"{model.vocabulary:,}", f"tokenizer: {model.tokenizer}"),
        ("context", f"{model.context_limit:,} tokens", "the longest prompt and answer together"),
        ("device", model.device, "where the weights lie"),
        ("loaded in", units.duration(model.load_ns), "wall time from the command to a model ready to run"),
    ]
