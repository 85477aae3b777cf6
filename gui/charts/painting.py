"""Small painting tools that all charts use: many rectangles at once, text that fits, colours with alpha."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QBrush, QColor, QFont, QFontMetrics, QPainter
from shiboken6 import Shiboken

from gui.theme import fonts, number_font, text_font

Int32 = npt.NDArray[np.int32]


def fill_rects(
    painter: QPainter, left: Int32, top: Int32, right: Int32, bottom: Int32, brush: QColor | QBrush
) -> None:
    """Fill n rectangles left ≤ x < right, top ≤ y < bottom (arrays of n pixels); empty ones are left out."""
    rects = np.empty((len(left), 4), np.int32)  # the memory of a QRect: x1, y1, x2, y2, the last two inside
    rects[:, 0], rects[:, 1], rects[:, 2], rects[:, 3] = left, top, right, bottom
    rects[:, 2:] -= 1
    rects = rects[(rects[:, 2] >= rects[:, 0]) & (rects[:, 3] >= rects[:, 1])]
    if not len(rects):
        return
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(brush)
    first = Shiboken.wrapInstance(rects.ctypes.data, QRect)
    painter.drawRects(first, len(rects))  # type: ignore[call-overload]  # `rects` lives until the call returns


def translucent(color: QColor | str, alpha: float) -> QColor:
    """A colour that lets what is under it shine through: alpha 0 … 1."""
    made = QColor(color)
    made.setAlphaF(alpha)
    return made


def draw_text(
    painter: QPainter,
    rect: QRect,
    text: str,
    color: QColor | str,
    font: QFont,
    align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignLeft,
) -> None:
    """One line of text, centred vertically in `rect` and shortened to its width."""
    painter.setFont(font)
    painter.setPen(QColor(color))
    if _advance(text, font.family(), font.pixelSize(), font.weight()) > rect.width():
        text = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, rect.width())
    painter.drawText(rect, align | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextSingleLine, text)


def text_width(text: str, pixels: int, numbers: bool = False) -> int:
    """Pixels that a text takes in the font for words, or in the one for numbers."""
    families = fonts()
    return _advance(text, families.numbers if numbers else families.text, pixels, QFont.Weight.Normal) + 1


@lru_cache(maxsize=1024)
def _advance(text: str, family: str, pixels: int, weight: int) -> int:
    font = text_font(pixels) if family == fonts().text else number_font(pixels)
    font.setWeight(QFont.Weight(weight))
    return QFontMetrics(font).horizontalAdvance(text)
