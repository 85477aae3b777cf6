"""The choice of a device: automatic, each one there is, or layers split over all of them."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox

from engine.protocol import DeviceFacts
from gui import units

AUTO, SPLIT = "auto", "split"


def device_box(devices: Sequence[DeviceFacts]) -> QComboBox:
    """A box of devices; its data are what a load is given. Splitting is offered where there is more than one."""
    box = QComboBox()
    box.setAccessibleName("Device")
    box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    _add(box, "automatic", AUTO, "An accelerator where there is one, else the CPU.")
    for facts in devices:
        free = units.size(facts.available_bytes)
        tip = (
            f"{facts.label}: {units.size(facts.memory_bytes)} in all, {free} free when the engine started,"
            " before it held a model"
        )
        _add(box, f"{facts.device} · {free} free", facts.device, tip)
    if len(devices) > 1:
        tip = "Each device holds as many layers as it can; what is left over stays on the CPU. Slower than one device."
        _add(box, "split over all devices", SPLIT, tip)
    return box


def _add(box: QComboBox, text: str, device: str, tip: str) -> None:
    box.addItem(text, device)
    box.setItemData(box.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)


def device_words(device: str) -> str:
    """Where a model would go, as the end of a sentence about loading it."""
    return {AUTO: "", SPLIT: ", split over all devices"}.get(device, f" on {device}")
