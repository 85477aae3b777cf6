"""Numbers beside a chart: as wide as they need, and not there where the chart needs the room."""

import pytest
from PySide6.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget

from gui.panels.beside import Beside
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def test_numbers_are_never_cut_off_and_give_way_to_the_chart(qapp: QApplication) -> None:
    chart, numbers, text = QWidget(), QWidget(), QLabel("1.00 ms")
    chart.setMinimumSize(200, 100)
    QVBoxLayout(numbers).addWidget(text)
    window = QWidget()
    beside = Beside(chart, numbers)
    beside.setParent(window)
    window.resize(800, 300)
    window.show()
    beside.resize(700, 200)
    beside.show()
    settle(qapp)
    narrow = numbers.width()
    assert text.width() >= text.sizeHint().width()
    text.setText("a number that is told with very many digits")
    settle(qapp)
    assert text.width() >= text.sizeHint().width()
    assert numbers.width() > narrow
    wide = chart.width()
    text.setText("1.00 ms")
    settle(qapp)
    assert chart.width() == wide, "the chart stays where it is"
    beside.resize(320, 200)
    settle(qapp)
    assert not numbers.isVisible()
    assert chart.width() == 320
    assert beside.minimumSizeHint() == chart.minimumSize()
    beside.resize(700, 200)
    settle(qapp)
    assert numbers.isVisible()
    window.close()
    window.deleteLater()
    settle(qapp)
