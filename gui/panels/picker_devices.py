"""The choice of a device: automatic, each one there is, or layers split over all of them."""

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QComboBox

from engine.protocol import DeviceFacts
from gui import units
from gui.panels.model_rows import AUTO

SPLIT = "split"
SPLITTING = (
    "Each device holds as many layers as it can; what is left over stays on the CPU. Slower than one device."
)


class DeviceBox(QComboBox):
    """A box of devices; its data are what a load is given. Splitting is offered where there is more than one."""

    def __init__(self, devices: Sequence[DeviceFacts]) -> None:
        super().__init__()
        self._shown: tuple[DeviceFacts, ...] = ()
        self.setAccessibleName("Device")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self._add("automatic", AUTO, "An accelerator where there is one, else the CPU.")
        self.show_devices(devices)

    @property
    def device(self) -> str:
        """The chosen one."""
        return str(self.currentData())

    def show_devices(self, devices: Sequence[DeviceFacts]) -> None:
        """Show what is free now, and keep the one that is chosen."""
        if tuple(devices) == self._shown or not devices:
            return
        self._shown = tuple(devices)
        chosen, told = self.device, self.blockSignals(True)
        while self.count() > 1:
            self.removeItem(1)
        for facts in devices:
            self._add_device(facts)
        if len(devices) > 1:
            self._add("split over all devices", SPLIT, SPLITTING)
        self.setCurrentIndex(max(0, self.findData(chosen)))
        self.blockSignals(told)

    def _add_device(self, facts: DeviceFacts) -> None:
        free = units.size(facts.available_bytes)
        tip = (
            f"{facts.label}: {units.size(facts.memory_bytes)} in all, {free} free for a model"
            " (the one that is loaded now goes first)"
        )
        self._add(f"{facts.device} · {free} free", facts.device, tip)

    def _add(self, text: str, device: str, tip: str) -> None:
        self.addItem(text, device)
        self.setItemData(self.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)


def device_words(device: str) -> str:
    """Where a model would go, as the end of a sentence about loading it."""
    return {AUTO: "", SPLIT: ", split over all devices"}.get(device, f" on {device}")
