"""The bundled icons: stroke drawings in one colour, tinted for a theme."""

from pathlib import Path

from PySide6.QtCore import QByteArray, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from gui.theme import Theme

ICONS = Path(__file__).resolve().parent.parent / "resources" / "icons"
SIZES = (16, 20, 32, 40)


def icon(name: str, theme: Theme) -> QIcon:
    """The icon in the theme's text colour, faint where it is disabled. Raises FileNotFoundError for an unknown name."""
    source = (ICONS / f"{name}.svg").read_text(encoding="utf-8")
    made = QIcon()
    for mode, color in ((QIcon.Mode.Normal, theme.text), (QIcon.Mode.Disabled, theme.faint)):
        for size in SIZES:
            made.addPixmap(drawn(source.replace("currentColor", color), size), mode)
    return made


def tinted(name: str, color: str, size: int, ratio: float = 1.0) -> QPixmap:
    """The icon as a picture of `size` logical pixels in one colour, for a screen of that pixel ratio."""
    source = (ICONS / f"{name}.svg").read_text(encoding="utf-8")
    picture = drawn(source.replace("currentColor", color), round(size * ratio))
    picture.setDevicePixelRatio(ratio)
    return picture


def application_icon() -> QIcon:
    """The application's own icon."""
    source = (ICONS / "cyclograph.svg").read_text(encoding="utf-8")
    made = QIcon()
    for size in (16, 32, 64, 128):
        made.addPixmap(drawn(source, size))
    return made


def drawn(source: str, size: int) -> QPixmap:
    """An SVG text as a picture of size × size pixels."""
    picture = QPixmap(size, size)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    QSvgRenderer(QByteArray(source.encode())).render(painter)
    painter.end()
    return picture
