"""A training step on demand: what inference leaves out, measured on the text so far."""

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QCheckBox, QSpinBox, QWidget

from engine.protocol import ProbeTraining
from gui.panels.widgets import button, column, inset, row

MEANING = (
    "Forward, loss and backward on the text so far, as one bar of kind “backward”; gradients are dropped and the"
    " parameters stay as they are. Inference has no such term: that is what a formula for training adds."
)


class TrainingProbe(QWidget):
    """A button, not a switch: nothing stays in force."""

    requested = Signal(object)  # ProbeTraining

    def __init__(self) -> None:
        super().__init__()
        self.mixed = QCheckBox("Mixed precision")
        self.mixed.setToolTip(
            "Matrix products in bfloat16 (torch.autocast), weights and gradients as they are."
        )
        self.accumulate = QSpinBox()
        self.accumulate.setRange(1, 64)
        self.accumulate.setPrefix("pieces  ")
        inset(self.accumulate)
        self.accumulate.setToolTip(
            "Gradient accumulation: the text in so many pieces, whose gradients add up."
        )
        self.accumulate.setAccessibleName("pieces of the training step")
        self.run = button("Measure one")
        self.run.setToolTip(MEANING)
        self.run.clicked.connect(self._request)
        layout = column(margin=0, spacing=6)
        layout.addLayout(row(self.mixed, self.accumulate))
        layout.addWidget(self.run)
        self.setLayout(layout)

    @Slot()
    def _request(self) -> None:
        self.requested.emit(ProbeTraining(self.mixed.isChecked(), self.accumulate.value()))
