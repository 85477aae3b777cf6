"""Speculation: several tokens are proposed cheaply, and the model checks all of them in one step.

A step feeds the newest token and the proposed ones behind it. The model then says what it would have chosen at each
place: proposals are kept as long as they are that, and behind them its own next choice, which comes for free. So a step
yields one token at least, and the text is the same as without speculation. That holds for sampling too, by the rule of
Leviathan et al. (2023, arXiv 2211.17192, algorithm 1): as what is proposed is certain (q = 1), accepting it with
probability p and drawing from the rest otherwise is the same as drawing from p and comparing. The draws are those that
plain decoding would make, one a token, from the same random numbers.
"""

import torch
from transformers import LogitsProcessorList

from engine.runtime.drafting import drafter
from engine.runtime.live import Loop
from engine.runtime.positions import short_reach, within_reach
from engine.runtime.rows import TakingBack
from engine.runtime.sampling import Chooser, penalties
from engine.runtime.writing import Plain, Taken, Writing

#: With an adaptive length: where it begins, and its end.
START, LONGEST = 4, 16


class Speculation(Plain):
    """Steps that check proposed tokens, and plain ones where nothing is proposed."""

    def __init__(self, writing: Writing) -> None:
        super().__init__(writing)
        self._kind = writing.live.loop.speculation
        self._drafter = drafter(writing.live)
        self._short_reach = short_reach(writing.live.model)
        self._adapted = START
        self._drafts: list[int] = []
        self._taking_back = TakingBack(writing.context)

    @property
    def length(self) -> int:
        """How many tokens are proposed now."""
        return self._writing.live.loop.draft_length or self._adapted

    def propose(self) -> list[int]:
        """What the drafter has for the next step, timed as one span whatever it runs."""
        writing = self._writing
        self._drafts = []
        count = min(self.length, writing.room(writing.strand) - 1)
        count = within_reach(self._short_reach, len(writing.context.ids), count)
        if count < 1 or not self._is_ready():
            return []
        self._taking_back.record()
        recorder = writing.live.recorder
        recorder.begin(writing.draft_code)
        place = recorder.place()
        self._drafts = self._drafter.propose(writing.context.ids, count, self._rules())
        recorder.forget(place)  # of a model that drafts by its own layers
        recorder.end()
        return self._drafts

    def _rules(self) -> LogitsProcessorList:
        """What says which token is the likeliest, in the order in which the choice follows it."""
        writing = self._writing
        answers = writing.answer.rules if writing.answer is not None else ()
        return LogitsProcessorList([*answers, *penalties(writing.live.decoding)])

    def _is_ready(self) -> bool:
        """Whether only the newest token is pending: a prompt is read first, also one that is read anew."""
        writing = self._writing
        if writing.chosen is None:
            return False
        if writing.live.cache_kind == "none":
            return True
        return writing.context.pending == 1 and not writing.is_outgrown

    def take(self, logits: torch.Tensor) -> Taken:
        """Keep the proposals that are right, and the model's own choice behind them."""
        writing, recorder, drafts = self._writing, self._writing.live.recorder, self._drafts
        scores = logits[0, -1 - len(drafts) :]
        recorder.begin(writing.sample_code)
        chooser = writing.chooser(writing.strand)
        if chooser.is_plain and not (writing.answer and writing.answer.rules):
            choices = scores.argmax(-1)
            recorder.turn(writing.transfer_code)
            chosen: list[int] = choices.tolist()
            recorder.turn(writing.keep_code)
        else:
            chosen = self._choose_in_turn(chooser, scores)
            choices = torch.tensor(chosen, device=scores.device)
        kept = self._kept(chosen)
        writing.chosen = choices[kept - 1 : kept]
        self._taking_back.take_back(len(drafts) + 1 - kept)
        self._adapt(kept - 1)
        tokens, end_reason = writing.deliver(chosen[:kept])
        return Taken(tokens, end_reason, len(drafts), kept - 1)

    def _choose_in_turn(self, chooser: Chooser, scores: torch.Tensor) -> list[int]:
        """The model's choices, (positions, vocabulary) scores, up to the first that is not the one proposed."""
        writing, length = self._writing, len(self._writing.context.ids)
        checked = torch.tensor([[*writing.context.ids, *self._drafts]], device=scores.device)
        chosen: list[int] = []
        for place in range(len(self._drafts) + 1):
            seen = checked[:, : length + place]
            ruled = writing.ruled(scores[place : place + 1], seen)
            chosen.append(int(chooser.draw(chooser.weigh(ruled, seen)).item()))
            if chosen[-1:] != self._drafts[place : place + 1]:
                break
        return chosen

    def _kept(self, chosen: list[int]) -> int:
        """How many of the choices stand: as many as were proposed alike, one more, none behind an end token."""
        ends = self._writing.limits.end_tokens
        for place, id in enumerate(chosen):
            if id in ends or self._drafts[place : place + 1] != [id]:
                return place + 1
        return len(chosen)

    def _adapt(self, accepted: int) -> None:
        """The rule of transformers: two more when all were right, else one less."""
        if self._drafts:
            more = accepted == len(self._drafts)
            self._adapted = min(self._adapted + 2, LONGEST) if more else max(self._adapted - 1, 1)

    def follow(self, loop: Loop) -> bool:
        """As long as the same proposes; the length is read anew at each step."""
        return loop.speculation == self._kind and loop.beams == loop.batch == 1

    def leave(self) -> None:
        """Window layers hold only their window again."""
        self._taking_back.forget()
