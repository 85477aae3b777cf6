"""Turns token ids into text as they come: whole characters only, and nothing lost.

A token need not end where a character ends: a Chinese character or an emoji may take several. A stream holds text back
until its last character is complete. Special tokens appear as their text, since this is a place for looking inside.
"""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol

REPLACEMENT = "\ufffd"
#: A character of UTF-8 has at most 4 bytes, so at most 3 tokens can be waiting for the one that completes it.
MOST_INCOMPLETE = 3
#: Enough of the prompt for a decoder that looks at neighbours (a leading space, a word's continuation).
PROMPT_CONTEXT = 8


class TextStream:
    """Text of a generation, token by token.

    The pieces of all pushes and the flush at the end make `tokenizer.decode(ids, skip_special_tokens=False,
    clean_up_tokenization_spaces=False)` as it continues the prompt's. An id that the tokenizer does not know, as a
    model with more rows than its tokenizer has tokens can choose, is shown as ⟨id⟩. A push costs about a microsecond
    with a byte-level tokenizer, some tens with others.
    """

    def __init__(self, tokenizer: Any, prompt_ids: Sequence[int] = ()) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._stream: _Stream
        if backend is not None and _is_byte_level(backend):
            self._stream = _ByteStream(backend)
        else:
            self._stream = _WindowStream(*_decoding(tokenizer, backend), prompt_ids)

    def push(self, id: int) -> str:
        """The text that this token completes; "" while its last character is incomplete."""
        return self._stream.push(id)

    def flush(self) -> str:
        """What is still incomplete, as replacement characters; the stream is empty then and can go on."""
        return self._stream.flush()

    def branch(self) -> "TextStream":
        """A stream that goes on from here by itself."""
        other = copy(self)
        other._stream = self._stream.branch()
        return other


class _Stream(Protocol):
    def push(self, id: int) -> str: ...

    def flush(self) -> str: ...

    def branch(self) -> "_Stream": ...


def unknown(id: int) -> str:
    """How an id without a token is shown."""
    return f"⟨{id}⟩"


def _is_byte_level(backend: Any) -> bool:
    """Whether a tokenizer of the tokenizers library spells bytes as characters (GPT-2's way) and nothing else."""
    if backend.decoder is None:
        return False
    decoder = json.loads(backend.decoder.__getstate__())
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return [step["type"] for step in steps] == ["ByteLevel"]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling: a printable byte stands for itself, each other for the next character from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()


class _ByteStream:
    """Exact for byte-level tokenizers: every token is bytes, and bytes are decoded as they come."""

    def __init__(self, backend: Any) -> None:
        self._token: Callable[[int], str | None] = backend.id_to_token
        self._known: dict[int, bytes] = {}
        self._decoder = _new_decoder()

    def push(self, id: int) -> str:
        spelled = self._known.get(id)
        if spelled is None:
            token = self._token(id)
            if token is None:
                return self.flush() + unknown(id)
            spelled = self._known[id] = _spelled(token)
        return self._decoder.decode(spelled)

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)

    def branch(self) -> "_ByteStream":
        other = copy(self)  # what is known of tokens is shared
        other._decoder = _new_decoder()
        other._decoder.setstate(self._decoder.getstate())
        return other


def _new_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def _spelled(token: str) -> bytes:
    """The bytes of a token; one with a character outside of the alphabet (an added token) stands for itself."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode("utf-8", "replace")


def _decoding(tokenizer: Any, backend: Any) -> tuple[Callable[[list[int]], str], Callable[[int], str | None]]:
    """How a tokenizer decodes ids, and its token for an id (None where it has none)."""
    if backend is not None:
        return lambda ids: backend.decode(ids, skip_special_tokens=False), backend.id_to_token
    return (
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        lambda id: _token(tokenizer, id),
    )


def _token(tokenizer: Any, id: int) -> str | None:
    try:
        token = tokenizer.convert_ids_to_tokens(id)
    except (LookupError, ValueError, OverflowError):
        return None
    return None if token is None else str(token)


_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


class _WindowStream:
    """For every other tokenizer: decode the newest ids behind the ones before them, and take what is new.

    The ids of the last piece are the context, because decoders treat the first token specially (SentencePiece drops
    its leading space). A run of bytes that is no UTF-8 is given up after as many tokens as a character can take.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        token: Callable[[int], str | None],
        prompt_ids: Sequence[int],
    ) -> None:
        self._decode = decode
        self._token = token
        self._before = self._prompt_context([id for id in prompt_ids if token(id) is not None])
        self._pending: list[int] = []

    def _prompt_context(self, ids: list[int]) -> list[int]:
        """The end of the prompt, beginning with a whole character."""
        for count in range(min(PROMPT_CONTEXT, len(ids)), len(ids) + 1):
            if REPLACEMENT not in self._decode(ids[-count:]) or count >= 4 * PROMPT_CONTEXT:
                return ids[-count:] if count else []
        return ids

    def push(self, id: int) -> str:
        if self._token(id) is None:
            return self.flush() + unknown(id)
        self._pending.append(id)
        if not self._decode(self._pending).endswith(REPLACEMENT) or self._is_replacement():
            return self._take(len(self._pending))
        return self._take(len(self._pending) - MOST_INCOMPLETE)

    def _is_replacement(self) -> bool:
        """Whether what is pending spells the replacement character itself, byte by byte (SentencePiece's way)."""
        found = [_BYTE_TOKEN.fullmatch(self._token(id) or "") for id in self._pending]
        return bytes(int(match[1], 16) for match in found if match) == REPLACEMENT.encode()

    def flush(self) -> str:
        return self._take(len(self._pending))

    def branch(self) -> "_WindowStream":
        other = copy(self)
        other._pending, other._before = list(self._pending), list(self._before)
        return other

    def _take(self, count: int) -> str:
        """The text of the first `count` pending ids, which become the context of the next."""
        if count <= 0:
            return ""
        taken, self._pending = self._pending[:count], self._pending[count:]
        before, text = self._decode(self._before), self._decode(self._before + taken)
        # A broken run of bytes can swallow the characters before it; they have been shown and stay.
        piece = text[len(before) :] if text.startswith(before) else self._decode(taken)
        self._before = taken if piece else (self._before + taken)[-2 * PROMPT_CONTEXT :]
        return piece
