"""The transport bar: what it says is wished for, what it shows, and that it can be used by keys alone."""

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMainWindow

from engine.replay import ALL_AT_ONCE
from gui import theme
from gui.actions import Actions
from gui.panels.transport import SPEEDS, TransportBar, clock_text
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

S = 1_000_000_000


@pytest.fixture
def window(qapp: QApplication) -> Iterator[QMainWindow]:
    theme.apply(qapp, theme.DARK)
    made = QMainWindow()
    yield made
    made.close()
    made.deleteLater()
    settle(qapp)


@pytest.fixture
def actions(window: QMainWindow) -> Actions:
    made = Actions(window)
    for action in made.all():
        window.addAction(action)
    return made


@pytest.fixture
def bar(window: QMainWindow, actions: Actions, qapp: QApplication) -> TransportBar:
    made = TransportBar(actions)
    window.setCentralWidget(made)
    window.resize(1000, 80)
    window.show()
    window.activateWindow()
    made.show_place(10 * S, 40 * S, 25, 100)
    qapp.processEvents()
    return made


def wishes(bar: TransportBar) -> list[int]:
    told: list[int] = []
    bar.place_wished.connect(told.append)
    return told


@pytest.mark.parametrize(
    ("ns", "tenths", "text"),
    [
        (0, True, "0:00.0"),
        (7 * S + 999_999_999, False, "0:07"),
        (59_960_000_000, True, "0:59.9"),
        (61 * S, False, "1:01"),
        (3723 * S, False, "1:02:03"),
    ],
)
def test_times_as_a_player_shows_them(ns: int, tenths: bool, text: str) -> None:
    assert clock_text(ns, tenths) == text


def test_where_it_stands_is_shown_and_is_no_wish(bar: TransportBar) -> None:
    told = wishes(bar)
    bar.show_place(30 * S, 40 * S, 75, 1_000)
    assert (bar.time.text(), bar.steps.text()) == ("0:30.0 / 0:40.0", "step 75 of 1,000")
    assert bar.slider.value() * 40 == bar.slider.maximum() * 30
    bar.show_place(30 * S, 7200 * S, 75, 1_000)
    assert bar.time.text() == "0:30 / 2:00:00"
    assert told == []


def test_a_press_goes_there_and_drags_on_and_is_not_moved_meanwhile(bar: TransportBar) -> None:
    told = wishes(bar)
    slider = bar.slider
    middle = QPoint(slider.width() // 2, slider.height() // 2)
    QTest.mousePress(slider, Qt.MouseButton.LeftButton, pos=middle)
    assert told[-1] == pytest.approx(20 * S, rel=0.02)
    QTest.mouseMove(slider, QPoint(slider.width() * 3 // 4, slider.height() // 2))
    assert told[-1] == pytest.approx(30 * S, rel=0.02)
    bar.show_place(0, 40 * S, 0, 100)
    assert slider.value() == pytest.approx(30_000, rel=0.02)
    QTest.mouseRelease(slider, Qt.MouseButton.LeftButton)
    bar.show_place(0, 40 * S, 0, 100)
    assert slider.value() == 0


def test_arrows_are_the_sliders_while_it_has_the_focus(bar: TransportBar, actions: Actions) -> None:
    told = wishes(bar)
    selected: list[str] = []
    for name in ("previous", "next"):
        actions[name].triggered.connect(lambda _=False, name=name: selected.append(name))
    bar.slider.setFocus()
    QTest.keyClick(bar.slider, Qt.Key.Key_Right)
    QTest.keyClick(bar.slider, Qt.Key.Key_Home)
    QTest.keyClick(bar.slider, Qt.Key.Key_End)
    assert told == [10_200_000_000, 0, 40 * S]
    assert selected == []
    bar.slider.clearFocus()
    QTest.keyClick(bar, Qt.Key.Key_Right)
    assert selected == ["next"]


def test_speeds_by_name(bar: TransportBar) -> None:
    told: list[float] = []
    bar.speed_chosen.connect(told.append)
    assert SPEEDS[bar.speed.currentText()] == 1
    for text in SPEEDS:
        bar.speed.setCurrentText(text)
    bar.speed.setCurrentText("1×")
    assert told == [0.25, 0.5, 1, 2, 5, 20, ALL_AT_ONCE, 1]


def test_everything_has_a_name_for_who_does_not_see_it(bar: TransportBar) -> None:
    names = [part.accessibleName() for part in (bar, bar.speed, bar.slider, bar.time, bar.steps)]
    assert all(names)
    assert len(set(names)) == len(names)
