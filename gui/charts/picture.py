"""Pictures of charts: as pixels (PNG) or as shapes (SVG), at any size and in either theme.

A picture is drawn by a chart of the same kind that sees the same trace in the same view, made for it and let go of
afterwards: the one on screen does not notice. (pyqtgraph's SVG exporter does not work with Qt 6.11 and later; Qt's own
generator does.)
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QRect, QSize
from PySide6.QtGui import QImage, QPainter
from PySide6.QtSvg import QSvgGenerator
from shiboken6 import Shiboken

from gui.charts.chart import Chart
from gui.theme import Theme, fonts

SMALLEST, LARGEST = QSize(240, 120), QSize(8000, 8000)
MOST_SCALE = 4.0
CSS_DPI = 96  # at which a pixel of a chart is a pixel of a page


def image_of(chart: Chart, size: QSize, theme: Theme, scale: float = 1.0) -> QImage:
    """A chart as an image of size × scale pixels, in which everything is `scale` times as large."""
    image = QImage(size * scale, QImage.Format.Format_RGB32)
    image.setDevicePixelRatio(scale)
    with _drawing(chart, size, theme) as drawn:
        painter = QPainter(image)
        drawn.draw_on(painter)
        painter.end()
    return image


def svg_of(chart: Chart, size: QSize, theme: Theme) -> bytes:
    """A chart as an SVG document. Texts stay texts, in the fonts of the window, or what the reader has instead."""
    content = QBuffer()
    content.open(QIODevice.OpenModeFlag.WriteOnly)
    generator = QSvgGenerator(QSvgGenerator.SvgVersion.Svg11)
    generator.setOutputDevice(content)
    generator.setResolution(CSS_DPI)
    generator.setSize(size)
    generator.setViewBox(QRect(0, 0, size.width(), size.height()))
    generator.setTitle(chart.accessible_name)
    generator.setDescription(chart.accessible_description)
    with _drawing(chart, size, theme) as drawn:
        painter = QPainter(generator)
        drawn.draw_on(painter)
        painter.end()
    return _dressed(bytes(content.data().data()))


def _dressed(svg: bytes) -> bytes:
    """What Qt leaves to the reader: fonts that it lacks become others of their kind, and images stay sharp."""
    for family, kind in ((fonts().text, "sans-serif"), (fonts().numbers, "monospace")):
        svg = re.sub(
            rb'font-family="(%b[^"]*)"' % re.escape(family.encode()),
            rb'font-family="\1,%b"' % kind.encode(),
            svg,
        )
    return svg.replace(b"<image ", b'<image style="image-rendering:pixelated" ')  # cells have edges


def png_of(image: QImage) -> bytes:
    """An image as a PNG file."""
    content = QByteArray()
    buffer = QBuffer(content)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")  # type: ignore[call-overload]
    return bytes(content.data())


@contextmanager
def _drawing(chart: Chart, size: QSize, theme: Theme) -> Iterator[Chart]:
    """A chart that shows what this one does, in another size and theme."""
    made = chart.twin()
    try:
        made.set_theme(theme)
        made.resize(size)
        made.take_view(chart)
        yield made
    finally:
        Shiboken.delete(made)
