"""The tokenizer that ships with the program works without a network and treats Chinese fairly."""

from importlib.resources import files

import pytest

from engine.runtime.models.tokenizer_files import built_in_tokenizer

CHINESE = "大型语言模型的推理过程可以分为两个阶段：预填充阶段一次处理整个提示词，解码阶段则逐个生成新的词元。"


def test_its_size() -> None:
    assert len(built_in_tokenizer()) == 16_384
    assert len((files("resources") / "tokenizer" / "tokenizer.json").read_bytes()) < 1_500_000


@pytest.mark.parametrize(
    "text", [CHINESE, "def f(x):\n    return x\n", "👩‍👩‍👧‍👦 e\u0301 한국어", "", " a  b "]
)
def test_text_survives(text: str) -> None:
    tokenizer = built_in_tokenizer()
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=False) == text


def test_chinese_takes_less_than_a_token_a_character() -> None:
    assert len(built_in_tokenizer()(CHINESE)["input_ids"]) < len(CHINESE)


def test_special_tokens_are_one_token_each_and_none_ends_a_text() -> None:
    tokenizer = built_in_tokenizer()
    assert len(tokenizer("<|endoftext|><|im_start|>")["input_ids"]) == 2
    assert tokenizer.eos_token is None
