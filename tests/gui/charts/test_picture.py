"""Pictures of charts: as on screen, at any size, in either theme, and as shapes that others can read."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PySide6.QtCore import QByteArray, QPoint, QSize, Qt
from PySide6.QtGui import QImage, QPainter, QWheelEvent
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from engine.trace.store import Trace
from gui import theme as themes
from gui.charts.chart import Chart
from gui.charts.latency import LatencyChart
from gui.charts.layer_map import LayerMap
from gui.charts.legend import PhaseLegend
from gui.charts.picture import image_of, png_of, svg_of
from gui.charts.step_timeline import StepTimeline
from gui.charts.token_strip import TokenStrip
from gui.navigation import Navigation
from tests.engine.trace.export import sessions
from tests.gui import synthetic

ALL: list[type[Chart]] = [TokenStrip, LatencyChart, LayerMap, StepTimeline, PhaseLegend]
SIZE = QSize(640, 220)


@pytest.fixture
def trace() -> Trace:
    return synthetic.trace(120, synthetic.Shape(layers=4, generation_steps=60, mark_every=50))


def shown(kind: type[Chart], trace: Trace, qtbot: object, size: QSize = SIZE) -> Chart:
    navigation = Navigation()
    chart = kind(navigation)
    qtbot.addWidget(chart)  # type: ignore[attr-defined]
    navigation.setParent(chart)
    navigation.trace_grew(len(trace.steps))
    navigation.select(77)
    chart.set_trace(trace)
    chart.resize(size)
    chart.show()
    chart.refresh()
    return chart


def pixels(image: QImage) -> np.ndarray:
    """(height, width, 3) of 0 … 255."""
    image = image.convertToFormat(QImage.Format.Format_RGB32)
    raw = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return raw[:, : image.width(), :3].astype(np.int64)


def rendered(svg: bytes, size: QSize) -> QImage:
    renderer = QSvgRenderer(QByteArray(svg))
    assert renderer.isValid()
    image = QImage(size, QImage.Format.Format_RGB32)
    image.fill(Qt.GlobalColor.red)
    painter = QPainter(image)
    renderer.render(painter)
    painter.end()
    return image


@pytest.mark.parametrize("kind", ALL)
def test_a_picture_is_what_is_on_screen(kind: type[Chart], trace: Trace, qtbot: object) -> None:
    chart = shown(kind, trace, qtbot)
    for child in chart.findChildren(type(chart).__mro__[-2]):
        if hasattr(child, "hide") and child.parent() is chart:
            child.hide()  # controls, which are no part of the picture
    screen = pixels(chart.grab().toImage())
    picture = pixels(image_of(chart, SIZE, themes.DARK))
    assert screen.shape == picture.shape
    assert (screen != picture).any(axis=2).mean() < 0.002


@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT], ids=lambda theme: theme.name)
@pytest.mark.parametrize("kind", ALL)
def test_shapes_look_like_pixels(kind: type[Chart], theme: themes.Theme, trace: Trace, qtbot: object) -> None:
    chart, size = shown(kind, trace, qtbot), QSize(800, 300)
    image, svg = image_of(chart, size, theme), svg_of(chart, size, theme)
    assert image.size() == size
    far = np.abs(pixels(image) - pixels(rendered(svg, size))).max(axis=2) > 48
    assert far.mean() < 0.03  # letters are drawn in another way, and the edges of cells
    ground = tuple(int(theme.surface[i : i + 2], 16) for i in (5, 3, 1))  # blue first, as in memory
    assert tuple(pixels(image)[2, -2]) == ground


def test_size_and_scale(trace: Trace, qtbot: object) -> None:
    chart = shown(TokenStrip, trace, qtbot)
    image = image_of(chart, QSize(400, 200), themes.LIGHT, 2.5)
    assert image.size() == QSize(1000, 500)
    assert QImage.fromData(png_of(image)).size() == QSize(1000, 500)
    root = ElementTree.fromstring(svg_of(chart, QSize(960, 200), themes.LIGHT))
    assert root.attrib["viewBox"] == "0 0 960 200"
    assert float(root.attrib["width"].removesuffix("mm")) == pytest.approx(960 / 96 * 25.4, rel=0.01)


def test_the_chart_on_screen_does_not_notice(trace: Trace, qtbot: object, qapp: QApplication) -> None:
    chart = shown(StepTimeline, trace, qtbot)
    place = chart.rect().center()
    chart.wheelEvent(
        QWheelEvent(place, chart.mapToGlobal(place), QPoint(), QPoint(0, 480), Qt.MouseButton.NoButton,
                    Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False)
    )  # fmt: skip
    chart.refresh()
    before = pixels(chart.grab().toImage())
    widgets = len(qapp.allWidgets())
    picture = pixels(image_of(chart, SIZE, themes.DARK))
    svg_of(chart, QSize(900, 500), themes.LIGHT)
    assert len(qapp.allWidgets()) == widgets
    chart.update()
    assert (pixels(chart.grab().toImage()) == before).all()
    assert (picture != before).any(axis=2).mean() < 0.002  # it is zoomed as far


def test_shapes_are_clipped_and_have_fonts_of_last_resort(trace: Trace, qtbot: object) -> None:
    chart = shown(StepTimeline, trace, qtbot)
    chart._begin, chart._end = 1e6, 2e6
    svg = svg_of(chart, SIZE, themes.DARK).decode()
    assert "clip-path=" in svg
    families = set(re.findall(r'font-family="([^"]*)"', svg))
    assert {family.rsplit(",", 1)[-1] for family in families} <= {"sans-serif", "monospace", "Sans Serif"}
    assert "Step timeline" in svg


def test_names_with_markup_are_text(qtbot: object) -> None:
    trace = sessions.trace("<b>&\"'")
    trace.append(sessions.changed("<script>x</script>"))
    for kind in (TokenStrip, StepTimeline):
        chart = shown(kind, trace, qtbot, QSize(1200, 300))
        chart._navigation.select(1)
        root = ElementTree.fromstring(svg_of(chart, QSize(1200, 300), themes.DARK))
        names = {element.tag.rsplit("}")[-1] for element in root.iter()}
        assert not {"script", "b"} & names
    words = "".join(root.itertext())
    assert "<b>&" in words


def test_an_empty_chart_says_why(qtbot: object) -> None:
    chart = TokenStrip(Navigation())
    qtbot.addWidget(chart)  # type: ignore[attr-defined]
    assert b"Nothing measured yet" in svg_of(chart, SIZE, themes.LIGHT)


def test_the_menu_offers_pictures_and_the_step_as_text(
    trace: Trace, qtbot: object, qapp: QApplication
) -> None:
    chart = shown(LatencyChart, trace, qtbot)
    asked: list[object] = []
    chart.copy_wished.connect(lambda which: asked.append(("copy", which)))
    chart.save_wished.connect(lambda which: asked.append(("save", which)))
    menu = chart.menu()
    entries = {action.text(): action for action in menu.actions() if action.text()}
    assert list(entries) == ["Copy the phases of step 77", "Copy picture", "Save picture…"]
    for action in entries.values():
        action.trigger()
    assert asked == [("copy", chart), ("save", chart)]
    sentence, head, *rows, last = qapp.clipboard().text().splitlines()
    assert sentence.startswith("step 77 · decode")
    assert head.split("\t") == ["phase", "ns", "share"]
    cells = [row.split("\t") for row in rows]
    assert sum(int(ns) for _, ns, _ in cells) == int(trace.steps.wall_ns[77]) == int(last.split("\t")[1])
    menu.deleteLater()
