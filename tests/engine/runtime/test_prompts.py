"""From a prompt to ids: templates, their refusals, and length."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.protocol import Family, Prompt, Turn
from engine.runtime.live import LiveModel
from engine.runtime.prompts import PromptRefused, answer_limit, fitted, prompt_limit, render, tokenize
from tests.engine.runtime.live_models import byte_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}"
    "<no-thought>{% endif %}{% endif %}"
)
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


def live(family: Family = Family.DECODER, limit: int = 64, template: str = TEMPLATE) -> LiveModel:
    """A model of which prompts need nothing but its tokenizer and its facts."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    facts = SimpleNamespace(context_limit=limit, family=family)
    return cast(LiveModel, SimpleNamespace(tokenizer=tokenizer, facts=facts, input_limit=limit))


def chat(*turns: tuple[str, str], **how: Any) -> Prompt:
    return Prompt(turns=tuple(Turn(role, content) for role, content in turns), **how)


def test_a_chat_is_written_by_the_models_own_template() -> None:
    prompt = chat(("system", "Be brief."), ("user", "Hi"))
    assert render(live().tokenizer, prompt) == "<system>Be brief.</><user>Hi</><assistant>"


def test_a_last_turn_of_the_assistant_is_continued_instead_of_answered() -> None:
    assert (
        render(live().tokenizer, chat(("user", "Hi"), ("assistant", "Well"))) == "<user>Hi</><assistant>Well"
    )


def test_thinking_is_told_to_the_template_only_when_it_was_chosen() -> None:
    assert render(live().tokenizer, chat(("user", "Hi"), thinking=False)).endswith("<no-thought>")
    assert render(live().tokenizer, chat(("user", "Hi"))).endswith("<assistant>")


@pytest.mark.parametrize(
    ("template", "turns", "words"),
    [
        ("", [("user", "Hi")], "no chat template"),
        (STRICT, [("system", "x"), ("user", "Hi")], "System role not supported"),
        ("{{ messages | nonsense }}", [("user", "Hi")], "nonsense"),
        ("{{ ''.__class__.__mro__ }}", [("user", "Hi")], "unsafe"),
    ],
)
def test_what_a_template_does_not_do_is_one_sentence(
    template: str, turns: list[tuple[str, str]], words: str
) -> None:
    with pytest.raises(PromptRefused, match=words) as refusal:
        render(live(template=template).tokenizer, chat(*turns))
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def test_a_prompt_that_is_too_long_is_refused_or_loses_its_beginning_when_told_to() -> None:
    text = "".join(chr(97 + n % 26) for n in range(100))
    with pytest.raises(PromptRefused, match="100 tokens"):
        fitted(live(), Prompt(text), 10)
    found = fitted(live(), Prompt(text, truncate=True), 10)
    assert live().tokenizer.decode(found.ids) == text[-54:]
    assert found.dropped == 46


def test_however_many_new_tokens_are_wanted_half_of_the_context_is_left_to_the_prompt() -> None:
    assert len(fitted(live(), Prompt("x" * 100, truncate=True), 1000).ids) == 32


def test_truncating_a_prompt_leaves_the_tokenizer_as_it_was() -> None:
    model = live()
    fitted(model, Prompt("x" * 100, truncate=True), 10)
    assert model.tokenizer.truncation_side == "right"
    assert len(tokenize(model, Prompt("x" * 100)).ids) == 100


def test_a_million_characters_are_counted() -> None:
    assert len(tokenize(live(), Prompt("wörld\n" * 170_000)).ids) == 7 * 170_000


def test_an_encoder_decoder_answers_in_a_context_of_its_own() -> None:
    assert (prompt_limit(live()), answer_limit(live(), 10)) == (63, 54)
    both = live(Family.ENCODER_DECODER)
    assert (prompt_limit(both), answer_limit(both, 10)) == (64, 63)
