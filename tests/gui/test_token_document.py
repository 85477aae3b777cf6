"""The streamed text: whole, tinted by latency, copied as the model wrote it, and known token by token."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QApplication, QPlainTextDocumentLayout

from engine.protocol import GenerationEnded, GenerationStarted, SequenceResult, StepEnded, Token
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from gui import theme as themes
from gui.token_document import LIMITS, NEUTRAL, TokenDocument, text_between, tints, tints_of
from tests.gui import readers, synthetic

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


def written(
    qapp: QApplication, trace: Trace, shows_special: bool = True, sequence: int = 0
) -> tuple[QTextDocument, TokenDocument]:
    document = QTextDocument()
    document.setDocumentLayout(QPlainTextDocumentLayout(document))
    tokens = TokenDocument(document, themes.DARK, trace, shows_special, sequence)
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


def batch_trace() -> Trace:
    """A sequence from which two others branch off."""
    trace = trace_of([" one", " two"])
    for index in (2, 3):
        event = StepEnded(
            index, 0, StepKind.DECODE, 0, 1, trace.stamps(0).tobytes(), 0, 0, 0,
            (Token(7, f" first{index}", index), Token(8, " other", index, 1), Token(9, " third", index, 2)),
            batch=3,
        )  # fmt: skip
        trace.append(event)
    return trace


def test_of_sequences_decoded_together_the_first_is_written(qapp: QApplication) -> None:
    document, tokens = written(qapp, batch_trace())
    text = text_between(document, 0, document.characterCount() - 1)
    assert text == "Prompt:  one two first2 first3"
    assert tokens.step_at(text.index("first3")) == 3
    assert tokens.step_at(text.index("first2")) == 2
    begin, end = tokens.spans_of_step(2)[0]
    assert text[begin:end] == " first2"


def test_another_sequence_is_written_from_where_it_branched_off(qapp: QApplication) -> None:
    trace = batch_trace()
    trace.append(GenerationEnded(0, 0, "length", "\ufffd"))
    trace.append(GenerationStarted(1, 0, 0, "Next:", (1,), 10))
    raw = trace.stamps(0).tobytes()
    trace.append(StepEnded(4, 1, StepKind.DECODE, 0, 1, raw, 0, 0, 0, (Token(7, " alone", 9),)))
    document, tokens = written(qapp, trace, sequence=1)
    text = text_between(document, 0, document.characterCount() - 1)
    assert text == "Prompt:  one two other other\n\nNext: alone", "the tail was of the first sequence"
    assert tokens.step_at(text.index("two")) == 1
    assert tokens.step_at(text.rindex("other")) == 3
    begin, end = tokens.spans_of_step(2)[0]
    assert (begin, text[begin:end]) == (text.index(" other"), " other")


def test_a_sequence_that_comes_while_it_is_written_is_followed_from_then_on(qapp: QApplication) -> None:
    whole = batch_trace()
    trace = trace_of([" one", " two"])
    document, tokens = written(qapp, trace, sequence=2)
    for index in (2, 3):
        chosen = tuple(
            Token(7, whole.tokens.text[row], index, int(whole.tokens.sequence[row]))
            for row in whole.tokens_of(index)
        )
        raw = whole.stamps(index).tobytes()
        trace.append(StepEnded(index, 0, StepKind.DECODE, 0, 1, raw, 0, 0, 0, chosen, batch=3))
        tokens.write()
    assert text_between(document, 0, document.characterCount() - 1) == "Prompt:  one two third third"


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
    assert tints_of(np.array([ratio])).tolist() == [level]


@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT])
def test_the_usual_has_no_tint_and_extremes_are_strongest(theme: themes.Theme) -> None:
    shades = [shade.alphaF() for shade in tints(theme)]
    assert shades[NEUTRAL] == 0
    assert shades[:NEUTRAL] == sorted(shades[:NEUTRAL], reverse=True)
    assert shades[NEUTRAL:] == sorted(shades[NEUTRAL:])


def test_a_long_prompt_is_cut_and_says_so(qapp: QApplication) -> None:
    document, _ = written(qapp, trace_of(["a"], prompt="x" * 10_000))
    assert "6,000 more characters" in document.toPlainText()


SPECIAL = ((1, "<s>"), (2, "</s>"), (7, "<|end|>"))


def chat_trace() -> Trace:
    """A prompt with special tokens in and around it, and an answer that ends with one."""
    trace = Trace(
        replace(synthetic.loaded(1), model=replace(synthetic.loaded(1).model, special_tokens=SPECIAL))
    )
    trace.append(synthetic.layout(1))
    trace.append(GenerationStarted(0, 0, 0, "Hi<|end|>there", (1, 50, 7, 51, 2), 100))
    count = len(synthetic.layout(1).codes) + 2
    for index, (id, text) in enumerate(((60, " well"), (7, "<|end|>"))):
        raw = b"".join((index * 1000 + i).to_bytes(8, "little", signed=True) for i in range(count))
        trace.append(StepEnded(index, 0, StepKind.DECODE, 0, 1, raw, 0, index, 0, (Token(id, text, index),)))
    return trace


def test_special_tokens_are_tags_and_can_be_left_out(qapp: QApplication) -> None:
    trace = chat_trace()
    document, tokens = written(qapp, trace)
    assert document.toPlainText() == "<s>Hi<|end|>there</s> well<|end|>"
    assert tagged(document) == ["<s>", "<|end|>", "</s>", "<|end|>"]
    (span,) = tokens.spans_of_step(1)
    assert text_between(document, *span) == "<|end|>"
    document, tokens = written(qapp, trace, shows_special=False)
    assert document.toPlainText() == "Hithere well"
    assert tokens.spans_of_step(0) == [(7, 12)]
    assert tokens.step_at(8) == 0


def tagged(document: QTextDocument) -> list[str]:
    """The pieces that are written in another font than the text."""
    found = []
    fragments = document.firstBlock().begin()
    while not fragments.atEnd():
        fragment = fragments.fragment()
        if fragment.charFormat().font().family() == themes.fonts().numbers:
            found.append(fragment.text())
        fragments += 1
    return found


def test_inputs_are_told_in_a_trace_that_was_cleared(qapp: QApplication) -> None:
    layout, begun, *_ = readers.events()
    later = [
        readers.step(40, (3, 7)),
        readers.results(40, SequenceResult("one", 3), SequenceResult("two words", 7)),
    ]
    trace = Trace(readers.loaded())
    trace.extend([layout, begun, *later])
    document, tokens = written(qapp, trace)
    assert document.toPlainText().splitlines()[0] == "step 0: 2 inputs, 4 tokens of padding"
    assert tokens.spans_of_step(0)


def test_inputs_stand_beside_what_was_made_of_them(qapp: QApplication) -> None:
    document, tokens = written(qapp, readers.trace())
    assert document.toPlainText().replace("\u00a0", " ").splitlines() == [
        "step 0: 2 inputs, 4 tokens of padding",
        "one  3 tokens + 4 padding",
        "Paris is in [MASK]  7 tokens",
        "    france 90.0 %",
        "step 1: 1 input, 0 tokens of padding",
        "[MASK] and [MASK]  5 tokens",
        "    mask 1: paris 62.0 % · lyon 11.3 %",
        "    mask 2: rome 50.0 %",
    ]
    (span,) = tokens.spans_of_step(1)
    assert tokens.step_at(span[0]) == tokens.step_at(span[1] - 1) == 1
    assert tokens.step_at(span[0] - 1) == 0
