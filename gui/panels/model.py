"""The model panel: what is loaded, in facts; a button opens the picker."""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFormLayout, QLabel, QSizePolicy, QWidget

from engine.protocol import Family, ModelFacts
from gui import units
from gui.panels.model_rows import FAMILIES
from gui.panels.widgets import button, column, label, plain_tip, row, set_text

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
        self._name.setToolTip(plain_tip(model.name))
        self._badge.setVisible(model.random_weights)
        self._hint.hide()
        self._facts.show()
        for name, value, tip in model_facts(model):
            self._show_value(name, value, tip)
        self._warnings.setText("\n".join(model.warnings))
        self._warnings.setVisible(bool(model.warnings))

    def offer_choice(self, offered: bool) -> None:
        """Whether another model can be chosen."""
        self._pick.setVisible(offered)

    def show_hint(self, hint: str) -> None:
        """Say why no model is ready. The facts of the one before stay, as its trace does."""
        set_text(self._hint, hint)
        self._hint.show()

    def _show_value(self, name: str, text: str, tip: str) -> None:
        if name not in self._values:
            value = label("", "number", selectable=True)
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            value.setStyleSheet("font-size: 12px;")
            value.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            self._form.addRow(label(name, "muted"), value)
            self._values[name] = value
        value = self._values[name]
        set_text(value, text)
        for widget in (value, self._form.labelForField(value)):
            widget.setToolTip(
                plain_tip(f"{text}\n{tip}")
            )  # the value as well: the panel may be too narrow for it


def model_facts(model: ModelFacts) -> list[tuple[str, str, str]]:
    """The facts as (name, value, explanation)."""
    return [
        ("task", _task(model), "what it does with a prompt, and what its head is for"),
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
        ("layers × width", *_layers(model)),
        ("vocabulary", f"{model.vocabulary:,}", f"tokenizer: {model.tokenizer}"),
        ("context", f"{model.context_limit:,} tokens", "the longest prompt and answer together"),
        ("device", *_device(model)),
        ("loaded in", units.duration(model.load_ns), _load_stages(model)),
    ]


def _task(model: ModelFacts) -> str:
    return f"{model.task} · {FAMILIES[model.family]}"


def _layers(model: ModelFacts) -> tuple[str, str]:
    layers, meaning = len(model.layer_names), "and the width of what flows between them"
    if model.family is Family.ENCODER_DECODER and model.encoder_layers:
        decoder = layers - model.encoder_layers
        words = f"{model.encoder_layers} + {decoder} × {model.hidden_size}"
        return words, f"number of layers of the encoder and of the decoder, {meaning}"
    return f"{layers} × {model.hidden_size}", f"number of layers, {meaning}"


def _device(model: ModelFacts) -> tuple[str, str]:
    """Where it is: one device, or how many layers are on each of several."""
    if not model.placement:
        return model.device, "where the weights lie"
    words = " + ".join(f"{layers} on {device}" for device, layers in model.placement)
    each = "\n".join(f"{device}: {layers} layers" for device, layers in model.placement)
    return words, f"layers are split over devices\n{each}"


def _load_stages(model: ModelFacts) -> str:
    """Where the time of loading went, a line a stage."""
    whole = "wall time from the command to a model ready to run"
    stages = (f"{units.duration(took_ns)}  {stage}" for stage, took_ns in model.load_stages_ns)
    return "\n".join((whole, *stages))
