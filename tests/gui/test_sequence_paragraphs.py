"""All sequences of a batch, a paragraph each: whole, and known token by token, however they come."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication, QPlainTextDocumentLayout

from engine.protocol import Event, Token
from engine.trace.store import Trace
from gui import theme as themes
from gui.sequence_paragraphs import ParagraphDocument
from gui.token_document import text_between
from tests.engine.trace.building import APART, T0, ended, joined, loaded, started, step

Said = Sequence[tuple[int, str]]
TEXTS = st.text(st.sampled_from("ab \n\u4e2d\U0001f600"), max_size=4)
STEPS = st.lists(st.lists(st.tuples(st.integers(0, 3), TEXTS), min_size=1, max_size=4), max_size=12)


def written(events: list[Event], at_once: bool) -> tuple[QTextDocument, ParagraphDocument, Trace]:
    document = QTextDocument()
    document.setDocumentLayout(QPlainTextDocumentLayout(document))
    trace = Trace(loaded())
    paragraphs = ParagraphDocument(document, themes.DARK, trace)
    for event in events:
        trace.append(event)
        if not at_once:
            paragraphs.write()
    while not paragraphs.finished:
        paragraphs.write()
    return document, paragraphs, trace


def batch(index: int, said: Said, generation: int = 0) -> Event:
    """A step in which sequences say something."""
    tokens = tuple(Token(0, text, T0 + index, number) for number, text in said)
    return replace(step(index=index, generation=generation, batch=4), tokens=tokens)


@settings(max_examples=40, deadline=None)
@given(first=STEPS, second=STEPS, at_once=st.booleans())
def test_each_token_is_where_it_is_said_to_be(
    qapp: QApplication, first: list[Said], second: list[Said], at_once: bool
) -> None:
    events: list[Event] = [APART, started()]
    events += [batch(index, said) for index, said in enumerate(first)]
    events += [ended(tail="\U0001f600!"), started(1)]
    events += [batch(len(first) + index, said, 1) for index, said in enumerate(second)]
    document, paragraphs, trace = written(events, at_once)
    for row, text in enumerate(trace.tokens.text):
        span = paragraphs.span_of(range(row, row + 1))
        assert span is not None
        assert text_between(document, *span) == text
        if text:
            assert paragraphs.token_at(span[1] - 1) is not None
    for index, said in enumerate([*first, *second]):
        assert len(paragraphs.spans_of_step(index)) == len({number for number, _ in said})


def test_paragraphs_stand_one_below_the_other_with_their_prompts(qapp: QApplication) -> None:
    events = [
        APART,
        started(),
        batch(0, [(0, "one ")]),
        joined(1),
        batch(1, [(1, "x ")]),
        batch(2, [(0, "two"), (1, "y")]),
        ended(tail="~"),
        started(1),
        batch(3, [(0, "alone")], 1),
    ]
    document, paragraphs, _ = written(events, at_once=False)
    text = document.toPlainText()
    assert text == "hello\n\nsequence 0\none two~\n\nsequence 1\notherx y\n\nhelloalone"
    assert paragraphs.step_at(text.index("two") + 1) == 2
    assert paragraphs.step_at(text.index("other") + 1) is None
