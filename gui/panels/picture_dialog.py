"""How to save a picture of a chart: as pixels or shapes, how large, in which theme, and where to."""

from pathlib import Path

from PySide6.QtCore import QSize
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QSpinBox, QWidget

from gui import theme as themes
from gui.charts.picture import LARGEST, MOST_SCALE, SMALLEST
from gui.panels.save_dialog import SaveDialog
from gui.panels.widgets import inset, label, row
from gui.theme import Theme

PNG, SVG = ".png", ".svg"


class PictureDialog(SaveDialog):
    """`size`, `scale`, `theme`: of the picture; the ending of `path` says what kind it is."""

    def __init__(self, size: QSize, theme: Theme, place: Path, parent: QWidget | None = None) -> None:
        super().__init__("Save picture", place, parent)
        self.kind = QComboBox()
        self.kind.setAccessibleName("Kind")
        self.kind.addItem("Pixels (PNG)", PNG)
        self.kind.addItem("Shapes (SVG)", SVG)
        self.width_box = _pixel_box("Width", SMALLEST.width(), LARGEST.width(), size.width())
        self.height_box = _pixel_box("Height", SMALLEST.height(), LARGEST.height(), size.height())
        self.scale_box = QDoubleSpinBox()
        inset(self.scale_box)
        self.scale_box.setRange(1.0, MOST_SCALE)
        self.scale_box.setSingleStep(0.5)
        self.scale_box.setDecimals(1)
        self.scale_box.setValue(2.0)
        self.scale_box.setSuffix("×")
        self.scale_box.setAccessibleName("Scale")
        self.scale_box.setToolTip(
            "Pixels of the file for each pixel of the window: 2 for print or a sharp screen"
        )
        self.theme_box = QComboBox()
        self.theme_box.setAccessibleName("Theme")
        for each in (themes.LIGHT, themes.DARK):
            self.theme_box.addItem(each.name.capitalize(), each.name)
        self.theme_box.setCurrentIndex(self.theme_box.findData(theme.name))
        sizes = row(self.width_box, label("×", "muted"), self.height_box)
        sizes.addStretch(1)
        self._scale_label = label("Scale")
        self.form.addRow("Kind", self.kind)
        self.form.addRow("Size", sizes)
        self.form.addRow(self._scale_label, self.scale_box)
        self.form.addRow("Theme", self.theme_box)
        self.kind.currentIndexChanged.connect(self._kind_chosen)
        self.kind.setCurrentIndex(max(0, self.kind.findData(place.suffix.lower())))
        self._kind_chosen()

    @property
    def picture_size(self) -> QSize:
        """Width and height in pixels of the window."""
        return QSize(self.width_box.value(), self.height_box.value())

    @property
    def scale(self) -> float:
        """How much larger the image is."""
        return self.scale_box.value()

    @property
    def theme(self) -> Theme:
        """The colours."""
        return themes.DARK if self.theme_box.currentData() == themes.DARK.name else themes.LIGHT

    def files(self) -> list[Path]:
        """The file."""
        if self.path.suffix.lower() != self.kind.currentData():
            raise ValueError(
                f"This kind of picture ends in {self.kind.currentData()}: “{self.path.name}” does not."
            )
        return [self.path]

    def _kind_chosen(self) -> None:
        kind = self.kind.currentData()
        for part in (self._scale_label, self.scale_box):
            part.setVisible(kind == PNG)
        if self.path.name and self.path.suffix.lower() != kind:
            known = self.path.suffix.lower() in (PNG, SVG)
            self.place.setText(str(self.path.with_suffix(kind) if known else f"{self.path}{kind}"))
        self.look_again()


def _pixel_box(name: str, least: int, most: int, value: int) -> QSpinBox:
    made = QSpinBox()
    inset(made)
    made.setRange(least, most)
    made.setValue(value)
    made.setSuffix(" px")
    made.setAccessibleName(name)
    made.setMinimumWidth(104)
    return made
