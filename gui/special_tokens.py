"""A model's special tokens: which ids they are, and where their texts stand in a prompt."""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from engine.protocol import GenerationStarted, ModelFacts, SequenceJoined


class SpecialTokens:
    """The tokens of a model that are not text. Without a model there are none."""

    def __init__(self, model: ModelFacts | None) -> None:
        self._texts = dict(model.special_tokens) if model else {}
        longest_first = sorted(filter(None, self._texts.values()), key=len, reverse=True)
        self._found = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __contains__(self, id: int) -> bool:
        return id in self._texts

    def pieces(self, text: str) -> Iterator[tuple[str, bool]]:
        """A text cut at the special tokens that are spelled out in it: (piece, whether it is one)."""
        place = 0
        for found in self._found.finditer(text) if self._found else ():
            if found.start() > place:
                yield text[place : found.start()], False
            yield found.group(), True
            place = found.end()
        if place < len(text):
            yield text[place:], False

    def around(self, started: GenerationStarted | SequenceJoined) -> tuple[str, str]:
        """The special tokens that the tokenizer put before and behind a prompt and that its text does not spell out."""
        begin = self._run(started.prompt_ids)
        end = self._run(started.prompt_ids[::-1])[::-1]
        before, behind = "".join(begin), "".join(end)
        return (
            "" if started.prompt.startswith(before) else before,
            "" if started.prompt.endswith(behind) or len(begin) == len(started.prompt_ids) else behind,
        )

    def _run(self, ids: Sequence[int]) -> list[str]:
        return [self._texts[id] for id in takewhile(self.__contains__, ids)]
