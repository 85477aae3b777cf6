"""The text of sequences that are decoded together, all of them: after each prompt a paragraph for each sequence.

Tokens of all sequences come in turns, so that a paragraph grows in the middle of the document. A token's place is
therefore kept as a distance from the begin of its paragraph, which moves with what is written before it.
"""

from bisect import bisect_right
from dataclasses import dataclass, field

from PySide6.QtGui import QTextCursor, QTextDocument

from engine.trace.store import GenerationRecord, Trace
from gui.theme import Theme
from gui.token_document import TokenDocument

ALL = -1  # stands for all sequences where one is chosen


@dataclass(slots=True)
class _Paragraph:
    """The text of a sequence. `anchor`: its begin in the document. `length`: characters. `rows`: of its tokens."""

    anchor: QTextCursor
    length: int = 0
    in_block: int = 0  # tokens since the last break
    rows: list[int] = field(default_factory=list)

    @property
    def begin(self) -> int:
        return self.anchor.position()


class ParagraphDocument(TokenDocument):
    """Like a TokenDocument of the first sequence, with paragraphs for the others, each behind its number."""

    def __init__(
        self, document: QTextDocument, theme: Theme, trace: Trace, shows_special: bool = True
    ) -> None:
        super().__init__(document, theme, trace, shows_special)
        self._paragraphs: list[_Paragraph] = []  # in the order of the document
        self._owners: list[int] = []  # of each token: which of the paragraphs
        self._places: dict[int, int] = {}  # of each sequence of the generation being written: which paragraph

    # ------------------------------------------------------------ writing

    def _write_tokens(self, cursor: QTextCursor, end: int, room: int) -> int:
        tokens, begin = self._trace.tokens, len(self._begins)
        end = min(end, begin + room)
        numbers: list[int] = tokens.sequence[begin:end].tolist()
        for row, number in zip(range(begin, end), numbers, strict=True):
            place = self._places.get(number)
            if place is None:
                place = self._begin_paragraph(number)
            self._write_token(place, row)
        return room - (end - begin)

    def _write_token(self, place: int, row: int) -> None:
        tokens, paragraph = self._trace.tokens, self._paragraphs[place]
        cursor = self._end_of(paragraph)
        self._in_block = paragraph.in_block
        self._insert_token(cursor, tokens.text[row], int(tokens.id[row]), int(tokens.step[row]))
        paragraph.in_block = self._in_block
        self._begins[row] -= paragraph.begin
        self._ends[row] -= paragraph.begin
        self._owners.append(place)
        paragraph.rows.append(row)
        paragraph.length = cursor.position() - paragraph.begin

    def _end_of(self, paragraph: _Paragraph) -> QTextCursor:
        cursor = QTextCursor(self._document)
        cursor.setPosition(paragraph.begin + paragraph.length)
        return cursor

    def _begin_paragraph(self, number: int) -> int:
        """A paragraph at the end of the document; with the second one, the first gets its number, too."""
        cursor = QTextCursor(self._document)
        cursor.movePosition(QTextCursor.MoveOperation.End)
        if number or self._places:
            if list(self._places) == [0]:
                self._number_first(self._paragraphs[self._places[0]])
                cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(f"\n\nsequence {number}\n", self._muted)
            begun = self._trace.generations[self._prompts - 1] if self._prompts else None
            if begun is not None and (joined := self._trace.join_of(begun, number)) is not None:
                self._write_prompt_text(cursor, joined)
        cursor.setKeepPositionOnInsert(True)
        self._paragraphs.append(_Paragraph(cursor))
        self._places[number] = len(self._paragraphs) - 1
        return self._places[number]

    def _number_first(self, paragraph: _Paragraph) -> None:
        cursor = QTextCursor(self._document)
        cursor.setPosition(paragraph.begin)
        cursor.insertText("\n\nsequence 0\n", self._muted)
        paragraph.anchor.setPosition(cursor.position())
        paragraph.anchor.setKeepPositionOnInsert(True)

    def _begin_generation(self, cursor: QTextCursor, generation: GenerationRecord) -> None:
        super()._begin_generation(cursor, generation)
        self._places = {}

    def _write_tail(self, cursor: QTextCursor, generation: GenerationRecord, tail: str) -> None:
        place = self._places.get(0)
        if place is None:
            super()._write_tail(cursor, generation, tail)
        else:
            paragraph = self._paragraphs[place]
            end = self._end_of(paragraph)
            end.insertText(tail, self._muted)
            paragraph.length = end.position() - paragraph.begin

    # ------------------------------------------------------------ places

    def token_at(self, position: int) -> int | None:
        """See TokenDocument."""
        for paragraph in self._paragraphs:
            at = position - paragraph.begin
            if 0 <= at <= paragraph.length:
                place = bisect_right(paragraph.rows, at, key=self._begins.__getitem__) - 1
                row = paragraph.rows[place] if place >= 0 else -1
                return row if row >= 0 and at <= self._ends[row] else None
        return None

    def spans_of_step(self, step: int) -> list[tuple[int, int]]:
        """Where the tokens of a step are, a stretch for each sequence."""
        rows = self._trace.tokens_of(step)
        if rows.stop > len(self._begins):
            return []
        found: dict[int, tuple[int, int]] = {}
        for row in rows:
            begin = self._paragraphs[self._owners[row]].begin
            first = found.get(self._owners[row], (begin + self._begins[row], 0))[0]
            found[self._owners[row]] = first, begin + self._ends[row]
        return list(found.values())

    def span_of(self, rows: range) -> tuple[int, int] | None:
        """Where the first of these tokens is."""
        if not rows or rows.stop > len(self._begins):
            return None
        begin = self._paragraphs[self._owners[rows.start]].begin
        return begin + self._begins[rows.start], begin + self._ends[rows.start]
