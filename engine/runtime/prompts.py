"""From a prompt to the ids a model is fed: chat templates, length, and what is done about too much of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engine.protocol import Family, Prompt
from engine.runtime.live import LiveModel
from engine.runtime.models.errors import first_line

#: Characters of a rendered chat that are told back to a front end.
SHOWN_CHARACTERS = 4_000


class PromptRefused(Exception):
    """A prompt cannot be continued. The message is one sentence for people."""


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A prompt as the model takes it. `dropped`: tokens that its beginning lost, to fit."""

    text: str
    ids: list[int]
    dropped: int = 0


def render(tokenizer: Any, prompt: Prompt) -> str:
    """The text that a model is given: plain text as it is, a chat by the model's own template.

    Templates run in the sandbox of transformers. Raises PromptRefused.
    """
    if not prompt.turns:
        return prompt.text
    if not getattr(tokenizer, "chat_template", None):
        raise PromptRefused(
            "This model's tokenizer has no chat template, so it does not know turns: use a plain prompt, or a model"
            " that was made for chat."
        )
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
    answered = prompt.turns[-1].role == "assistant"
    thinking = {} if prompt.thinking is None else {"enable_thinking": prompt.thinking}
    try:
        return str(
            tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=not answered,
                continue_final_message=answered,
                **thinking,
            )
        )
    except Exception as error:  # a template is a program from a stranger: it may fail in any way
        raise PromptRefused(
            f"The model's chat template refuses these turns ({first_line(error)}): change their roles or their order."
        ) from error


def tokenize(live: LiveModel, prompt: Prompt) -> Tokenized:
    """All of a prompt, whatever its length. Raises PromptRefused when it cannot be rendered."""
    text = render(live.tokenizer, prompt)
    return Tokenized(text, _ids(live.tokenizer, text, bool(prompt.turns)))


def fitted(live: LiveModel, prompt: Prompt, new_tokens: int) -> Tokenized:
    """A prompt that leaves room for at least one new token.

    One that is too long is refused, or, with `prompt.truncate`, loses its beginning: as much as leaves room for
    `new_tokens`, but never more than leaves half of the context. Raises PromptRefused.
    """
    whole = tokenize(live, prompt)
    limit = prompt_limit(live)
    if not whole.text:
        raise PromptRefused("The prompt is empty: type something for the model to continue.")
    if not whole.ids:
        raise PromptRefused("The prompt has no tokens for this model's tokenizer: type something else.")
    if len(whole.ids) <= limit:
        return whole
    if not prompt.truncate:
        raise PromptRefused(
            f"The prompt has {len(whole.ids):,} tokens, but this model's context holds {limit + 1:,}:"
            " shorten the prompt, let its beginning be dropped, or choose a model with a longer context."
        )
    keep = max(limit + 1 - new_tokens, (limit + 1) // 2, 1)
    ids = _ids(live.tokenizer, whole.text, bool(prompt.turns), min(keep, limit))
    return Tokenized(whole.text, ids, len(whole.ids) - len(ids))


def prompt_limit(live: LiveModel) -> int:
    """The most tokens that a prompt may have: a decoder needs a place for at least one new token."""
    limit = live.input_limit
    return limit - 1 if live.facts.family is Family.DECODER else limit


def answer_limit(live: LiveModel, prompt_tokens: int) -> int:
    """The most new tokens after a prompt: an encoder–decoder answers in a context of its own, behind a start token."""
    limit = live.facts.context_limit
    return limit - (prompt_tokens if live.facts.family is Family.DECODER else 1)


def _ids(tokenizer: Any, text: str, templated: bool, longest: int | None = None) -> list[int]:
    """Ids of a text; a template has already written the special tokens that belong to it."""
    with losing(tokenizer, "left"):
        taken = tokenizer(
            text,
            add_special_tokens=not templated,
            truncation=longest is not None,
            max_length=longest,
            verbose=False,
        )
    return list(taken["input_ids"])


@contextmanager
def losing(tokenizer: Any, side: str) -> Iterator[None]:
    """Inside, a text that is truncated loses that side of it, "left" or "right"; special tokens stay."""
    before = tokenizer.truncation_side
    tokenizer.truncation_side = side
    try:
        yield
    finally:
        tokenizer.truncation_side = before
