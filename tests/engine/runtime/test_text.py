"""Text streams give whole characters as they complete, and lose nothing, with every kind of tokenizer."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.runtime.models.tokenizer_files import built_in_tokenizer
from engine.runtime.text import REPLACEMENT, TextStream
from tests.engine.runtime.live_models import byte_tokenizer

WORDS = (
    "the",
    "time",
    "of",
    "every",
    "token",
    "un",
    "##known",
    "##s",
    "时",
    "间",
    "한",
    ".",
    ",",
    "n",
    "'",
    "##t",
)
TEXTS = (
    "The time of every token.",
    "大型语言模型的推理过程可以分为两个阶段。龘靐齉",
    "family 👩‍👩‍👧‍👦, flag 🇨🇳, skin 👍🏽",
    "combined: e\u0301 o\u0308\u0304 नि",
    "한국어 텍스트와 조합 \u1112\u1161\u11ab",
    "  spaces   and\n\nlines\t",
    "literal \ufffd in between",
)


@cache
def byte_level() -> Any:
    return built_in_tokenizer()


@cache
def llama_style() -> Any:
    """SentencePiece as Llama 2 has it: ▁ for spaces, unknown characters as bytes, the first space dropped."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdefghijklmnopqrstuvwxyz.,", "▁the", "▁time", "▁of", "的", "时"]
    pieces += ["▁t", "th", "▁th", "ti", "▁ti", "me", "▁o"]
    merges = [
        ("▁", "t"),
        ("▁t", "h"),
        ("▁th", "e"),
        ("▁t", "i"),
        ("m", "e"),
        ("▁ti", "me"),
        ("▁", "o"),
        ("▁o", "f"),
    ]
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrapped(tokenizer, special=["<s>", "</s>"])


@cache
def metaspace() -> Any:
    scores = [
        ("<unk>", 0.0),
        ("▁", -2.0),
        *((character, -3.0) for character in "abcdefghijklmnopqrstuvwxyz.,时间"),
    ]
    tokenizer = Tokenizer(
        models.Unigram([*scores, ("▁the", -1.0), ("▁time", -1.0)], unk_id=0, byte_fallback=False)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _wrapped(tokenizer, special=[])


@cache
def word_piece() -> Any:
    vocabulary = {word: id for id, word in enumerate(["[UNK]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _wrapped(tokenizer, special=["[SEP]"])


def _wrapped(tokenizer: Tokenizer, special: list[str]) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


class SlowTokenizer:
    """A tokenizer without a backend, as those written in Python are: tokens of bytes, decoded together."""

    SPLIT = (b"the ", b"\xe6\x97", b"\xb6", b"\xf0\x9f", b"\x91\x8d", b"x")

    def decode(
        self, ids: Sequence[int], skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str:
        assert not skip_special_tokens
        assert not clean_up_tokenization_spaces
        return b"".join(self.SPLIT[id] for id in ids).decode("utf-8", "replace")

    def convert_ids_to_tokens(self, id: int) -> bytes:
        return self.SPLIT[id]


ALL = [byte_level, llama_style, metaspace, word_piece]


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def streamed(stream: TextStream, ids: Iterable[int]) -> list[str]:
    return [*(stream.push(id) for id in ids), stream.flush()]


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_make_the_text(make: Any, text: str) -> None:
    ids = make()(text, add_special_tokens=False)["input_ids"]
    assert "".join(streamed(TextStream(make()), ids)) == decoded(make(), ids)


@pytest.mark.parametrize("make", [byte_level, llama_style])
@pytest.mark.parametrize("text", TEXTS[:-1])  # the last one has a replacement character of its own
def test_pieces_are_whole_characters_and_nothing_is_left(make: Any, text: str) -> None:
    pieces = streamed(TextStream(make()), make()(text, add_special_tokens=False)["input_ids"])
    assert pieces[-1] == ""
    assert REPLACEMENT not in "".join(pieces)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("cut", [1, 2, 5, 11])
def test_a_prompt_is_continued_as_if_never_cut(make: Any, cut: int) -> None:
    ids = make()("the time of the time, the 时 of, the time.", add_special_tokens=False)["input_ids"]
    continued = "".join(streamed(TextStream(make(), ids[:cut]), ids[cut:]))
    assert decoded(make(), ids[:cut]) + continued == decoded(make(), ids)


def test_the_first_piece_after_a_prompt_keeps_its_space() -> None:
    the, time = llama_style().convert_tokens_to_ids(["▁the", "▁time"])
    assert TextStream(llama_style(), [the]).push(time) == " time"
    assert TextStream(llama_style()).push(time) == "time"


def test_a_character_appears_when_it_is_complete() -> None:
    ids = byte_level()("👍", add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    stream = TextStream(byte_level())
    assert [stream.push(id) for id in ids] == [*([""] * (len(ids) - 1)), "👍"]


def test_neighbouring_characters_spelled_in_bytes_appear_one_by_one() -> None:
    ids = llama_style()("a龘靐", add_special_tokens=False)["input_ids"]
    assert [piece for piece in streamed(TextStream(llama_style()), ids) if piece] == ["a", "龘", "靐"]


@pytest.mark.parametrize("make", [byte_level, llama_style])
def test_an_incomplete_tail_comes_with_the_flush(make: Any) -> None:
    ids = make()("time 龘", add_special_tokens=False)["input_ids"][:-1]
    pieces = streamed(TextStream(make()), ids)
    assert set(pieces[-1]) == {REPLACEMENT}
    assert "".join(pieces) == decoded(make(), ids)


def test_bytes_that_are_no_text_do_not_hold_the_stream_up() -> None:
    bad = llama_style().convert_tokens_to_ids("<0xFF>")
    the = llama_style().convert_tokens_to_ids("▁the")
    stream = TextStream(llama_style(), [the])
    pieces = [stream.push(bad) for _ in range(20)]
    assert "".join(pieces) == REPLACEMENT * 17  # the last three might still have become a character
    assert stream.push(the) == REPLACEMENT * 3 + " the"


@pytest.mark.parametrize("make", [byte_level, llama_style, word_piece])
def test_special_tokens_are_shown(make: Any) -> None:
    token = make().convert_ids_to_tokens(max(make().added_tokens_decoder))
    id = make().convert_tokens_to_ids(token)
    assert token in "".join(streamed(TextStream(make()), [id, id]))


def test_added_tokens_outside_the_byte_alphabet_are_shown_as_they_are() -> None:
    tokenizer = built_in_tokenizer()
    tokenizer.add_tokens(["〈思考〉", "two words"])
    ids = tokenizer("a〈思考〉b two words", add_special_tokens=False)["input_ids"]
    assert max(ids) >= 16_384
    assert "".join(streamed(TextStream(tokenizer), ids)) == decoded(tokenizer, ids)


@pytest.mark.parametrize("make", ALL)
def test_ids_without_a_token_are_shown_by_number(make: Any) -> None:
    the = make()("the", add_special_tokens=False)["input_ids"][0]
    pieces = streamed(TextStream(make()), [the, 50_300, the])
    assert pieces[1] == "⟨50300⟩"
    assert pieces[0] == decoded(make(), [the])


def test_an_id_without_a_token_ends_an_incomplete_character() -> None:
    ids = byte_level()("龘", add_special_tokens=False)["input_ids"]
    assert streamed(TextStream(byte_level()), [ids[0], 99_999])[1] == f"{REPLACEMENT}⟨99999⟩"


def test_a_tokenizer_without_a_backend() -> None:
    pieces = streamed(TextStream(SlowTokenizer(), [0]), [0, 1, 2, 3, 4, 77, 5, 3])
    assert pieces == ["the ", "", "时", "", "👍", "⟨77⟩", "x", "", REPLACEMENT]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
@example("👩‍👩‍👧‍👦")
@example("\u0000\ufffd\u0301")
def test_any_text_survives_bytes(text: str) -> None:
    for make in (byte_level, llama_style):
        ids = make()(text, add_special_tokens=False)["input_ids"]
        assert "".join(streamed(TextStream(make()), ids)) == decoded(make(), ids)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 16_383), max_size=40))
def test_any_ids_are_decoded_exactly_by_bytes(ids: list[int]) -> None:
    assert "".join(streamed(TextStream(byte_level()), ids)) == decoded(byte_level(), ids)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 259), max_size=60), st.lists(st.integers(0, 40), max_size=8))
def test_runs_of_single_bytes_are_decoded_exactly(ids: list[int], tail: list[int]) -> None:
    """The first tokens after the special ones are the single bytes: mostly no valid UTF-8."""
    assert "".join(streamed(TextStream(byte_level()), [*ids, *tail])) == decoded(byte_level(), [*ids, *tail])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_ids_are_decoded_exactly_by_words(data: st.DataObject) -> None:
    for make in (metaspace, word_piece):
        ids = data.draw(st.lists(st.integers(0, len(make()) - 1), max_size=30))
        assert "".join(streamed(TextStream(make()), ids)) == decoded(make(), ids)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40))
def test_broken_bytes_never_swallow_the_pieces_around_them(ids: list[int]) -> None:
    """decode() gives up a whole run of bytes when one of them is broken; a stream has shown its valid characters.

    So the two may differ in such a run, but every piece that is no byte stands in the text, in order.
    """
    ids = [id for id in ids if id < len(llama_style())]
    text = iter("".join(streamed(TextStream(llama_style()), ids)))
    pieces = [llama_style().convert_ids_to_tokens(id) for id in ids]
    expected = "".join(piece.replace("▁", "") for piece in pieces if not piece.startswith("<0x"))
    assert all(character in text for character in expected)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(259, 300), max_size=40))
def test_any_ids_but_bytes_are_decoded_exactly_by_byte_fallback(ids: list[int]) -> None:
    ids = [id for id in ids if id < len(llama_style())]
    assert "".join(streamed(TextStream(llama_style()), ids)) == decoded(llama_style(), ids)


def test_a_branch_goes_on_by_itself_in_the_middle_of_a_character() -> None:
    tokenizer = byte_tokenizer()
    ids: list[int] = tokenizer("令牌!")["input_ids"]
    stream = TextStream(tokenizer)
    assert stream.push(ids[0]) == ""
    branch = stream.branch()
    assert "".join(map(stream.push, ids[1:])) == "令牌!"
    assert branch.push(ids[1]) == ""
    other = branch.branch()
    assert branch.flush() == "�"
    assert other.push(ids[2]) == "令"
