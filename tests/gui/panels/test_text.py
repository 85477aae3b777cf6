"""The text panel follows what is written, until somebody looks elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from PySide6.QtWidgets import QAbstractSlider, QApplication

from engine.protocol import GenerationStarted
from engine.trace.store import Trace
from gui.navigation import Navigation
from gui.panels.text import TextPanel
from gui.theme import DARK
from tests.gui import synthetic
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

LONG_PROMPT = "夜里九点，火车离开了港口。" * 150


@pytest.fixture
def panel(qapp: QApplication) -> Iterator[TextPanel]:
    made = TextPanel(Navigation(), DARK)
    made.resize(300, 260)
    made.show()
    yield made
    made.close()
    made.deleteLater()
    settle(qapp)


@pytest.fixture
def stream(qapp: QApplication, panel: TextPanel) -> Callable[[int], None]:
    """Goes on with a generation after a long prompt, a frame every few steps."""
    trace = Trace(synthetic.loaded(4))
    panel.set_trace(trace)
    events = synthetic.events(1_000, synthetic.Shape(layers=4))

    def go_on(count: int) -> None:
        for place in range(count):
            event = next(events)
            trace.append(
                replace(event, prompt=LONG_PROMPT) if isinstance(event, GenerationStarted) else event
            )
            if place % 3 == 0:
                panel.refresh()
                qapp.processEvents()
        while panel.refresh():
            qapp.processEvents()

    return go_on


def test_the_newest_text_is_shown_after_a_long_prompt(
    panel: TextPanel, stream: Callable[[int], None]
) -> None:
    bar = panel.view.verticalScrollBar()
    for _ in range(3):
        stream(60)
        assert bar.maximum() > 20
        assert bar.value() == bar.maximum()


def test_who_scrolls_away_stays_there_and_follows_again_at_the_end(
    panel: TextPanel, stream: Callable[[int], None]
) -> None:
    stream(120)
    bar = panel.view.verticalScrollBar()
    bar.triggerAction(QAbstractSlider.SliderAction.SliderToMinimum)
    stream(60)
    assert bar.value() == 0
    bar.triggerAction(QAbstractSlider.SliderAction.SliderToMaximum)
    stream(60)
    assert bar.value() == bar.maximum()


def test_a_selected_step_is_brought_into_view_and_kept(
    panel: TextPanel, stream: Callable[[int], None]
) -> None:
    stream(400)
    bar = panel.view.verticalScrollBar()
    panel._navigation.trace_grew(400)
    panel._navigation.select(30)
    chosen = bar.value()
    assert chosen < bar.maximum()
    stream(60)
    assert bar.value() == chosen
    panel._navigation.select(None)
    assert not panel.refresh() or bar.value() == bar.maximum()
