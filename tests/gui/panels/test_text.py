"""The text panel follows what is written, until somebody looks elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from PySide6.QtWidgets import QAbstractSlider, QApplication

from engine.protocol import Beam, BeamsRanked, GenerationStarted, StepEnded, Token
from engine.trace.store import Trace
from gui.navigation import Navigation
from gui.panels.text import TextPanel
from gui.theme import DARK
from tests.gui import synthetic
from tests.gui.conftest import on_screen

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

LONG_PROMPT = "夜里九点，火车离开了港口。" * 150


@pytest.fixture
def panel(qapp: QApplication) -> Iterator[TextPanel]:
    made = TextPanel(Navigation(), DARK)
    made.resize(300, 260)
    yield from on_screen(made, qapp)


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


def test_what_is_written_behind_the_selected_step_is_not_selected(
    panel: TextPanel, stream: Callable[[int], None]
) -> None:
    stream(60)
    newest = len(panel._trace.steps) - 1
    panel._navigation.trace_grew(newest + 1)
    panel._navigation.select(newest)
    (mark,) = panel.view.extraSelections()
    chosen = mark.cursor.selectedText()  # type: ignore[attr-defined]
    assert chosen
    stream(30)
    (mark,) = panel.view.extraSelections()
    assert mark.cursor.selectedText() == chosen  # type: ignore[attr-defined]


def together(panel: TextPanel, steps: int = 30, branch: int = 10) -> Trace:
    """A generation whose sequence 1 branches off at a step."""
    trace = Trace(synthetic.loaded(4))
    panel.set_trace(trace)
    for event in synthetic.events(steps, synthetic.Shape(layers=4, chunks=1)):
        if isinstance(event, StepEnded) and event.index >= branch:
            own = (Token(1, f" a{event.index}", 0), Token(2, f" b{event.index}", 0, 1))
            event = replace(event, tokens=own, batch=2)
        trace.append(event)
    return trace


def refresh(panel: TextPanel, qapp: QApplication) -> None:
    while panel.refresh():
        qapp.processEvents()


def test_sequences_are_offered_only_where_there_are_several(
    panel: TextPanel, stream: Callable[[int], None], qapp: QApplication
) -> None:
    stream(30)
    assert not panel.sequence.isVisible()
    together(panel)
    refresh(panel, qapp)
    assert panel.sequence.isVisible()
    assert [panel.sequence.itemText(i) for i in range(panel.sequence.count())] == [
        "all sequences",
        "sequence 0",
        "sequence 1",
    ]
    assert panel.together.text() == "+ 1 more sequence running"
    panel.set_trace(Trace(synthetic.loaded(4)))
    assert panel.sequence.count() == 0


def test_another_sequence_is_shown_and_linked_like_the_first(panel: TextPanel, qapp: QApplication) -> None:
    trace = together(panel)
    refresh(panel, qapp)
    navigation = panel._navigation
    navigation.trace_grew(len(trace.steps))
    navigation.select(20)
    assert selected(panel) == " a20"
    panel.sequence.setCurrentText("sequence 1")
    refresh(panel, qapp)
    text = panel.view.toPlainText()
    assert " b20" in text
    assert " a20" not in text
    assert selected(panel) == " b20", "what is selected stays so"
    panel.view.clicked_at.emit(text.index("b12") + 1)
    assert navigation.selected == 12
    assert selected(panel) == " b12"
    panel.set_theme(DARK)
    refresh(panel, qapp)
    assert panel.sequence.currentText() == "sequence 1"
    assert selected(panel) == " b12"


def test_a_selected_token_of_another_sequence_is_brought_into_view(
    panel: TextPanel, qapp: QApplication
) -> None:
    trace = together(panel, steps=900)
    refresh(panel, qapp)
    panel._navigation.trace_grew(len(trace.steps))
    panel._navigation.select(450)
    panel.sequence.setCurrentText("sequence 1")
    refresh(panel, qapp)
    (selection,) = panel.view.extraSelections()
    line = panel.view.cursorRect(selection.cursor)
    assert 0 <= line.top() < line.bottom() <= panel.view.viewport().height()


def test_all_sequences_are_shown_a_paragraph_each(panel: TextPanel, qapp: QApplication) -> None:
    trace = together(panel)
    refresh(panel, qapp)
    panel._navigation.trace_grew(len(trace.steps))
    panel.sequence.setCurrentText("all sequences")
    refresh(panel, qapp)
    text = panel.view.toPlainText()
    first, second = text.index("sequence 0\n"), text.index("sequence 1\n")
    assert first < text.index(" a12") < text.index(" a29") < second < text.index(" b12") < text.index(" b29")
    for word in (" a12", " b12"):
        panel.view.clicked_at.emit(text.index(word) + 1)
        assert panel._navigation.selected == 12
        chosen = [each.cursor.selectedText() for each in panel.view.extraSelections()]
        assert chosen == [" a12", " b12"]


def selected(panel: TextPanel) -> str:
    (selection,) = panel.view.extraSelections()
    return selection.cursor.selectedText()


def test_beams_are_told_without_a_choice(panel: TextPanel, qapp: QApplication) -> None:
    trace = Trace(replace(synthetic.loaded(4), effective=(("beams", 2),)))
    panel.set_trace(trace)
    for event in synthetic.events(6, synthetic.Shape(layers=4, chunks=1)):
        trace.append(replace(event, batch=2) if isinstance(event, StepEnded) else event)
    trace.append(BeamsRanked(5, 0, (Beam(" and", 1, -0.5), Beam(" or", 1, -0.7))))
    refresh(panel, qapp)
    assert panel.together.isVisible()
    assert panel.together.text() == "2 beams, not agreed yet: “␣and”"
    assert not panel.sequence.isVisible()
