"""The text of a trace as a document: every token with its tint, and which characters belong to which token.

A long paragraph is laid out anew with every character, so a line break that is not in the text is put in about every
60 tokens; such breaks are marked and left out again when text is copied.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PySide6.QtGui import QColor, QFont, QTextCharFormat, QTextCursor, QTextDocument

from engine.protocol import GenerationStarted, SequenceJoined, SequenceResult
from engine.trace.ledger import Int64
from engine.trace.statistics import Float, RollingQuantiles
from engine.trace.store import NO_LATENCY, GenerationRecord, Trace
from gui import units
from gui.sequences import lineage
from gui.special_tokens import SpecialTokens
from gui.theme import Theme, number_font
from gui.view_state import only_reads

SOFT = 1  # user state of a block that begins with a break which is not in the text
NEUTRAL = 3  # the tint of what takes about as long as usual
LIMITS = (0.67, 0.8, 0.91, 1.1, 1.25, 1.5, 2.0, 3.0)  # latency over its rolling median, between the tints
WINDOW = 64
BREAK_FROM = 60  # tokens in a block before a break at a good place, and before one anywhere
BREAK_AT = 120
LONGEST_PROMPT = 4_000  # characters of a prompt that are shown
AT_ONCE = 1_500  # tokens a frame
UNBROKEN = "\u00a0"  # a word and its share stay on one line
INPUT_WORTH = 30  # tokens that take as long to write as an input with its result


def tints_of(ratios: Float) -> Int64:
    """Which tint shows each ratio of a latency to its rolling median: 0 (fast) to 8 (slow)."""
    return np.searchsorted(LIMITS, ratios, side="right")


def tints(theme: Theme) -> tuple[QColor, ...]:
    """Background of each tint: the accent for fast tokens, nothing at the median, orange to red for slow ones."""
    fast, slow = QColor(theme.accent), QColor("#e69f00" if theme.name == "dark" else "#e07b00")
    worst = QColor(theme.danger)
    shades = []
    for place in range(len(LIMITS) + 1):
        if place < NEUTRAL:
            shades.append(_faded(fast, (0.42, 0.28, 0.14)[place]))
        elif place == NEUTRAL:
            shades.append(QColor(0, 0, 0, 0))
        else:
            steps = (0.20, 0.38, 0.58, 0.80, 0.85)
            shades.append(_faded(worst if place == len(LIMITS) else slow, steps[place - NEUTRAL - 1]))
    return tuple(shades)


def _faded(color: QColor, alpha: float) -> QColor:
    faded = QColor(color)
    faded.setAlphaF(alpha)
    return faded


class TokenDocument:
    """Writes a trace's tokens to the end of a document, and knows where each one is."""

    def __init__(
        self,
        document: QTextDocument,
        theme: Theme,
        trace: Trace,
        shows_special: bool = True,
        sequence: int = 0,
    ) -> None:
        """`shows_special`: write special tokens as tags; else they are left out.

        `sequence`: which of the sequences that were decoded together is written.
        """
        self._document = document
        self._trace = trace
        self._shows_special = shows_special
        self._sequence = sequence
        self._special = SpecialTokens(trace.model)
        document.clear()
        self._formats = [_format(theme.text, tint) for tint in tints(theme)]
        self._muted = _format(theme.muted, None)
        self._tag = _tag_format(theme)
        self._begins: list[int] = []  # position of each token written
        self._ends: list[int] = []
        self._steps = 0
        self._levels: list[int] = []  # of each step that was looked at
        self._rolling = RollingQuantiles(WINDOW, (0.5,))
        self._prompts = 0
        self._tails = 0
        self._in_block = 0
        self._results = 0
        self._step_spans: dict[
            int, tuple[int, int]
        ] = {}  # of steps that read inputs instead of writing tokens

    @property
    def finished(self) -> bool:
        """Whether everything in the trace is written."""
        trace = self._trace
        return (
            len(self._begins) == len(trace.tokens)
            and self._results == len(trace.results)
            and self._prompts == len(trace.generations)
            and self._tails
            == self._prompts - (1 if trace.generations and not trace.generations[-1].ended else 0)
        )

    def write(self) -> None:
        """Write what has been added to the trace, at most some 1,500 tokens, as one edit."""
        self._rate_steps()
        cursor = QTextCursor(self._document)
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.beginEditBlock()
        room = AT_ONCE
        for _, end in pairwise(self._borders()):
            room = self._write_tokens(cursor, end, room)
            if len(self._begins) < end:
                break
            self._write_between(cursor, end)
        if self._prompts == len(self._trace.generations):
            self._write_results(cursor, max(0, room // INPUT_WORTH))
        cursor.endEditBlock()

    def _borders(self) -> list[int]:
        """Rows of tokens between which something else may have to be written: where generations begin."""
        rows = [self._first_token(place) for place in range(self._prompts, len(self._trace.generations))]
        return [len(self._begins), *rows, len(self._trace.tokens)]

    def _first_token(self, generation: int) -> int:
        first = self._trace.generations[generation].first_step
        return (
            self._trace.tokens_of(first).start if first < len(self._trace.steps) else len(self._trace.tokens)
        )

    def _write_tokens(self, cursor: QTextCursor, end: int, room: int) -> int:
        tokens = self._trace.tokens
        begin = len(self._begins)
        end = min(end, begin + room)
        steps: list[int] = tokens.step[begin:end].tolist()
        ids: list[int] = tokens.id[begin:end].tolist()
        shown = self._shown(begin, end)
        for text, step, id, is_shown in zip(tokens.text[begin:end], steps, ids, shown, strict=True):
            if not is_shown:  # of those decoded together one is written; the others have no place
                self._begins.append(cursor.position())
                self._ends.append(cursor.position())
                continue
            self._insert_token(cursor, text, id, step)
        return room - (end - begin)

    def _insert_token(self, cursor: QTextCursor, text: str, id: int, step: int) -> None:
        self._break_softly(cursor, text)
        self._begins.append(cursor.position())
        if id not in self._special:
            cursor.insertText(text, self._formats[self._levels[step]])
        elif self._shows_special:
            cursor.insertText(text, self._tag)
        self._ends.append(cursor.position())
        self._in_block = 0 if "\n" in text else self._in_block + 1

    def _shown(self, begin: int, end: int) -> list[bool]:
        """Which tokens of these rows, all of the generation that is being written, are of the chosen sequence."""
        numbers = self._trace.tokens.sequence[begin:end]
        if not self._sequence or not self._prompts:
            return (numbers == 0).tolist()  # type: ignore[no-any-return]
        line = lineage(self._trace, self._trace.generations[self._prompts - 1], self._sequence)
        starts, sequences = np.array(line).T
        places = np.searchsorted(starts, np.arange(begin, end), side="right") - 1
        return (numbers == sequences[places]).tolist()  # type: ignore[no-any-return]

    def _break_softly(self, cursor: QTextCursor, text: str) -> None:
        good = text[:1].isspace() and self._in_block >= BREAK_FROM
        if good or self._in_block >= BREAK_AT:
            cursor.insertBlock()
            cursor.block().setUserState(SOFT)
            self._in_block = 0

    def _write_between(self, cursor: QTextCursor, row: int) -> None:
        """All tokens before `row` are written: the tail of a generation that ended there, the prompt of the next."""
        generations = self._trace.generations
        while True:
            if self._tails < self._prompts and (ended := generations[self._tails].ended):
                self._write_tail(cursor, generations[self._tails], ended.tail)
                self._tails += 1
            elif self._prompts < len(generations) and self._first_token(self._prompts) == row:
                self._tails = max(self._tails, self._prompts)  # a generation whose end was never told
                self._begin_generation(cursor, generations[self._prompts])
                self._prompts += 1
            else:
                return

    def _write_tail(self, cursor: QTextCursor, generation: GenerationRecord, tail: str) -> None:
        if not self._sequence or self._sequence not in self._trace.sequences_of(generation):
            cursor.insertText(tail, self._muted)

    def _begin_generation(self, cursor: QTextCursor, generation: GenerationRecord) -> None:
        if self._prompts:
            cursor.insertText("\n\n", self._muted)
        if not only_reads(self._trace):  # else each input stands beside what was made of it
            joined = self._trace.join_of(generation, self._sequence)
            self._write_prompt_text(cursor, joined or generation.started)

    def _write_prompt_text(self, cursor: QTextCursor, started: GenerationStarted | SequenceJoined) -> None:
        before, behind = self._special.around(started)
        prompt = started.prompt
        shown = prompt[:LONGEST_PROMPT]
        if len(shown) < len(prompt):
            shown += f" … ({len(prompt) - len(shown):,} more characters)"
        for piece in (before, shown, behind):
            self._write_with_tags(cursor, piece, self._muted)
        self._in_block = 0 if len(shown) < 200 else BREAK_AT

    def _write_with_tags(self, cursor: QTextCursor, text: str, style: QTextCharFormat) -> None:
        for piece, special in self._special.pieces(text):
            if not special:
                cursor.insertText(piece, style)
            elif self._shows_special:
                cursor.insertText(piece, self._tag)

    def _write_results(self, cursor: QTextCursor, room: int) -> None:
        """What steps made of their inputs: a line for the step, then each input with what the head says below it."""
        steps = self._trace.steps
        for event in self._trace.results[self._results : self._results + room]:
            begin, row = cursor.position(), event.step - self._trace.first_index
            longest = max((result.tokens for result in event.results), default=0)
            padding = int(steps.padding_tokens[row]) if row < len(steps) else 0
            count = sum(result.mask <= 0 for result in event.results)
            cursor.insertText(batch_sentence(row, count, padding) + "\n", self._muted)
            for result, after in pairwise([*event.results, None]):
                if result is not None:
                    several = result.mask > 0 or (after is not None and after.mask > 0)
                    self._write_result(cursor, result, longest, several)
            self._step_spans[row] = begin, cursor.position()
            self._results += 1

    def _write_result(self, cursor: QTextCursor, result: SequenceResult, longest: int, several: bool) -> None:
        """An input (once, however many masks it has) and what was found for it.

        `longest`: tokens of the longest input of its batch. `several`: the input has several masks.
        """
        plain = self._formats[NEUTRAL]
        if result.mask <= 0:
            self._write_with_tags(cursor, result.text, plain)
            cursor.insertText(f"  {length_sentence(result.tokens, longest)}\n", self._muted)
        if result.outputs:
            cursor.insertText(f"    {result_sentence(result, several)}\n", plain)

    def _rate_steps(self) -> None:
        """The tint of each step that may be written now, by its latency against the rolling median up to it."""
        tokens = self._trace.tokens
        last = min(len(tokens), len(self._begins) + AT_ONCE) - 1
        end = int(tokens.step[last]) + 1 if last >= 0 else 0
        itl = self._trace.steps.itl_ns[self._steps : max(end, self._steps)]
        self._steps += len(itl)
        known = itl != NO_LATENCY
        self._rolling.extend(itl[known])
        levels = np.full(len(itl), NEUTRAL)
        count = int(known.sum())
        if count:
            usual = self._rolling.of(0.5)[-count:]
            ratios = itl[known] / np.where(usual > 0, usual, 1)
            levels[known] = np.where(usual > 0, tints_of(ratios), NEUTRAL)
        self._levels += levels.tolist()

    def token_at(self, position: int) -> int | None:
        """The token that this place in the document belongs to, if one does."""
        row = bisect_right(self._begins, position) - 1
        return row if row >= 0 and position <= self._ends[row] else None

    def spans_of_step(self, step: int) -> list[tuple[int, int]]:
        """Where what a step yielded is: its tokens, or its inputs and their results; empty where nothing is written."""
        span = self._step_spans.get(step) or self.span_of(self._trace.tokens_of(step))
        return [span] if span else []

    def step_at(self, position: int) -> int | None:
        """The step that this place in the document belongs to, if one does."""
        token = self.token_at(position)
        if token is not None:
            return int(self._trace.tokens.step[token])
        spans = self._step_spans.items()
        return next((step for step, (begin, end) in spans if begin <= position < end), None)

    def span_of(self, rows: range) -> tuple[int, int] | None:
        """Where these tokens are: begin and end in the document; None where they are not written."""
        if not rows or rows.stop > len(self._begins):
            return None
        return self._begins[rows.start], self._ends[rows.stop - 1]


def batch_sentence(step: int, inputs: int, padding: int) -> str:
    """What a step read: "step 3: 8 inputs, 36 tokens of padding"."""
    return f"step {step}: {inputs} input{'s' if inputs != 1 else ''}, {padding:,} tokens of padding"


def length_sentence(tokens: int, longest: int) -> str:
    """How long an input is, and what it was padded with to be as long as the longest of its batch."""
    return f"{tokens:,} tokens" + (f" + {longest - tokens:,} padding" if longest > tokens else "")


def result_sentence(result: SequenceResult, numbered: bool = False) -> str:
    """What a model's head says about an input: "paris 62.0 % · london 11.3 %", behind "mask 1: " where numbered."""
    mask = f"mask {result.mask + 1}: " if numbered else ""
    found = (f"{label} {units.share(share)}".replace(" ", UNBROKEN) for label, share in result.outputs)
    return mask + " · ".join(found)


def _tag_format(theme: Theme) -> QTextCharFormat:
    """Of a special token: small and monospaced, on a ground of its own."""
    made = _format(theme.accent, _faded(QColor(theme.accent), 0.14))
    font = number_font(12)
    font.setFeature(
        QFont.Tag("calt"), 0
    )  # "<|" is two characters: this is a place for looking at what is there
    made.setFont(font)
    return made


def _format(color: str, tint: QColor | None) -> QTextCharFormat:
    made = QTextCharFormat()
    made.setForeground(QColor(color))
    if tint is not None and tint.alpha():
        made.setBackground(tint)
    return made


def text_between(document: QTextDocument, begin: int, end: int) -> str:
    """The text of a stretch of the document as it is, without the breaks that only this window put in."""
    pieces: list[str] = []
    block = document.findBlock(begin)
    while block.isValid() and block.position() <= end:
        start = block.position()
        if start > begin and block.userState() != SOFT:
            pieces.append("\n")
        pieces.append(_cut(block.text(), max(0, begin - start), end - start))
        block = block.next()
    return "".join(pieces)


def _cut(text: str, begin: int, end: int) -> str:
    """A stretch of a text by places in UTF-16, as Qt counts."""
    return text.encode("utf-16-le")[2 * begin : 2 * end].decode("utf-16-le", "replace")


def swatches(theme: Theme) -> Sequence[tuple[QColor, str]]:
    """Each tint with what it means."""
    words = [f"below {LIMITS[0]}×"]
    words += [f"{low}× to {high}×" for low, high in pairwise(LIMITS)]
    words.append(f"above {LIMITS[-1]:g}×")
    return tuple(zip(tints(theme), words, strict=True))
