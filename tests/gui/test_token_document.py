"""The streamed text: whole, tinted by latency, copied as the model wrote it, and known token by token."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication, QPlainTextDocumentLayout

from engine.protocol import GenerationEnded, GenerationStarted, StepEnded, Token
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from gui import theme as themes
from gui.token_document import LIMITS, NEUTRAL, TokenDocument, text_between, tint_of, tints
from tests.gui import synthetic

STAMPS = synthetic._gaps_ns(1).astype("int64").cumsum()


def trace_of(texts: list[str], prompt: str = "Prompt: ", gaps_ms: list[int] | None = None) -> Trace:
    """A generation that yields these texts, one a step."""
    trace = Trace(synthetic.loaded(1))
    trace.append(synthetic.layout(1))
    trace.append(GenerationStarted(0, 0, 0, prompt, (1,), 100))
    at = 0
    for index, text in enumerate(texts):
        at += (gaps_ms[index] if gaps_ms else 10) * 1_000_000
        stamps = [at - 1000 + i for i in range(len(synthetic.layout(1).codes) + 2)]
        raw = b"".join(s.to_bytes(8, "little", signed=True) for s in stamps)
        trace.append(StepEnded(index, 0, StepKind.DECODE, 0, 1, raw, 0, index, 0, (Token(7, text, at),)))
    return trace


def written(qapp: QApplication, trace: Trace) -> tuple[QTextDocument, TokenDocument]:
    document = QTextDocument()
    document.setDocumentLayout(QPlainTextDocumentLayout(document))
    tokens = TokenDocument(document, themes.DARK, trace)
    for _ in range(100):
        if tokens.finished:
            break
        tokens.write()
    assert tokens.finished
    return document, tokens


@given(st.lists(st.sampled_from([" word", "字", "👩‍👩‍👧", "\n", "", "  ", "é", "\n\n", "x"]), max_size=400))
@settings(max_examples=40, deadline=None)
def test_copied_text_is_what_the_model_wrote(qapp: QApplication, texts: list[str]) -> None:
    document, _ = written(qapp, trace_of(texts))
    assert text_between(document, 0, document.characterCount() - 1) == "Prompt: " + "".join(texts)


def test_long_paragraphs_are_broken_and_copied_whole(qapp: QApplication) -> None:
    texts = [" word"] * 500
    document, _ = written(qapp, trace_of(texts))
    assert document.blockCount() >= 500 // 61
    assert text_between(document, 0, document.characterCount() - 1) == "Prompt: " + "".join(texts)


def test_each_character_belongs_to_its_token(qapp: QApplication) -> None:
    texts = ["a", "👩", "", "bc", "\n", "d"]
    document, tokens = written(qapp, trace_of(texts, prompt="P"))
    for row, text in enumerate(texts):
        span = tokens.span_of(range(row, row + 1))
        assert span is not None
        assert text_between(document, *span) == text
    assert tokens.token_at(0) is None, "the prompt is no token"
    assert tokens.token_at(1) == 0
    assert tokens.token_at(4) == 3, "of two tokens at a place the one with text"


def test_what_comes_later_is_added_once(qapp: QApplication) -> None:
    trace = trace_of(["a", "b"])
    document, tokens = written(qapp, trace)
    trace.append(GenerationEnded(0, 0, "length", "\ufffd"))
    assert not tokens.finished
    tokens.write()
    tokens.write()
    trace.append(GenerationStarted(1, 0, 0, "again", (1,), 10))
    tokens.write()
    assert text_between(document, 0, document.characterCount() - 1) == "Prompt: ab\ufffd\n\nagain"


def test_a_slow_token_stands_out_and_usual_ones_do_not(qapp: QApplication) -> None:
    gaps = [10] * 80
    gaps[60] = 45
    document, tokens = written(qapp, trace_of([" x"] * 80, gaps_ms=gaps))

    def alpha(row: int) -> int:
        span = tokens.span_of(range(row, row + 1))
        assert span is not None
        block = document.findBlock(span[0] + 1)
        fragments = block.begin()
        while not fragments.atEnd():
            fragment = fragments.fragment()
            if fragment.position() <= span[0] < fragment.position() + fragment.length():
                brush = fragment.charFormat().background()
                return brush.color().alpha() if brush.style().value else 0
            fragments += 1
        raise AssertionError("no such place")

    assert alpha(60) > 150
    assert alpha(40) == 0


@pytest.mark.parametrize(
    ("ratio", "level"), [(0.1, 0), (0.9, 2), (1.0, NEUTRAL), (1.09, NEUTRAL), (1.2, 4), (99.0, len(LIMITS))]
)
def test_tints_grow_with_latency(ratio: float, level: int) -> None:
    assert tint_of(ratio) == level


@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT])
def test_the_usual_has_no_tint_and_extremes_are_strongest(theme: themes.Theme) -> None:
    shades = [shade.alphaF() for shade in tints(theme)]
    assert shades[NEUTRAL] == 0
    assert shades[:NEUTRAL] == sorted(shades[:NEUTRAL], reverse=True)
    assert shades[NEUTRAL:] == sorted(shades[NEUTRAL:])


def test_a_long_prompt_is_cut_and_says_so(qapp: QApplication) -> None:
    document, _ = written(qapp, trace_of(["a"], prompt="x" * 10_000))
    assert "6,000 more characters" in document.toPlainText()
