"""Small painting tools that all charts use: many rectangles at once, text that fits, colours with alpha."""

from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QBrush, QColor, QFont, QFontMetrics, QPainter
from shiboken6 import Shiboken

from gui.theme import Theme, fonts, number_font, text_font

Int32 = npt.NDArray[np.int32]
Float = npt.NDArray[np.float64]


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


def unique_pixels(x: Float, y: Float) -> tuple[Int32, Int32]:
    """The pixels on which points (n,) lie, each once: many of them are then no darker than one."""
    keys = np.unique(np.rint(x).astype(np.int64) << 32 | np.rint(y).astype(np.int64) & 0xFFFFFFFF)
    return (keys >> 32).astype(np.int32), keys.astype(np.int32)  # whose lower half is y


def fill_floor(painter: QPainter, left: Int32, right: Int32, y: Int32, width: int, theme: Theme) -> None:
    """Level lines left ≤ x < right at y (arrays of n pixels) for a floor, set off from whatever they lie on."""
    top = y - width // 2
    fill_rects(painter, left, top - 1, right, top + width + 1, QColor(theme.plot))
    fill_rects(painter, left, top, right, top + width, QColor(theme.floor))


def dashes(left: Int32, right: Int32, dash: int, gap: int) -> tuple[Int32, Int32, Int32]:
    """Stretches left ≤ x < right (arrays of n pixels) cut into dashes that lie on a grid of the whole picture, so that
    parts of a line which are drawn apart fit together: the number of the stretch, left and right of each dash.
    """
    period = dash + gap
    first = left // period
    counts = np.maximum(0, (right - 1) // period - first + 1) * (right > left)
    which = np.repeat(np.arange(len(left)), counts)
    cells = first[which] + np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    begin, end = np.maximum(left[which], cells * period), np.minimum(right[which], cells * period + dash)
    return which.astype(np.int32), begin.astype(np.int32), end.astype(np.int32)


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
    painter.drawText(rect, _one_line(align), text)


@cache
def _one_line(align: Qt.AlignmentFlag) -> int:
    """The flags of one line of text, centred vertically: putting flags together takes longer than drawing the text."""
    return align.value | Qt.AlignmentFlag.AlignVCenter.value | Qt.TextFlag.TextSingleLine.value


def text_width(text: str, pixels: int, numbers: bool = False) -> int:
    """Pixels that a text takes in the font for words, or in the one for numbers."""
    families = fonts()
    return _advance(text, families.numbers if numbers else families.text, pixels, QFont.Weight.Normal) + 1


@lru_cache(maxsize=1024)
def _advance(text: str, family: str, pixels: int, weight: int) -> int:
    font = text_font(pixels) if family == fonts().text else number_font(pixels)
    font.setWeight(QFont.Weight(weight))
    return QFontMetrics(font).horizontalAdvance(text)
