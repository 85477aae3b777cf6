"""What a generation has written so far, and how chosen ids become tokens: what all ways to choose them share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch

from engine.protocol import Beam, Token
from engine.runtime.answers import Answer
from engine.runtime.live import Context, LiveModel, Loop
from engine.runtime.positions import is_outgrown, short_reach
from engine.runtime.sampling import Chooser, Rows
from engine.runtime.text import TextStream
from engine.trace.phases import Phase


@dataclass(frozen=True, slots=True)
class Limits:
    """When a generation ends: after so many new tokens, or at one of the end tokens."""

    max_new_tokens: int
    end_tokens: frozenset[int] = frozenset()


def end_tokens(live: LiveModel, stop: bool) -> frozenset[int]:
    """The ids with which a sequence ends; none where it is not to `stop` there."""
    ids = live.model.generation_config.eos_token_id if stop else None
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)


class Taken(NamedTuple):  # a tuple is made several times faster than a frozen dataclass: there is one a step
    """What was made of a step's logits: tokens, and why the generation ends with them ("": it does not).

    `drafted`, `accepted`: tokens proposed and found right. `beams`: what beam search left, best first. `surplus`:
    positions that were computed for nothing and have been taken back.
    """

    tokens: tuple[Token, ...]
    end_reason: str = ""
    drafted: int = 0
    accepted: int = 0
    beams: tuple[Beam, ...] = ()
    surplus: int = 0


@dataclass
class Strand:
    """One sequence that is being written. `ids`: all of them, the prompt's first; `produced` of them are new.

    `limits`: when it ends.
    `backlog`: ids at the end of `ids` that have not become tokens yet; they do with the next that is chosen.
    """

    number: int
    ids: list[int]
    stream: TextStream
    chooser: Chooser
    limits: Limits
    produced: int = 0
    backlog: list[int] = field(default_factory=list)

    def branch(self, number: int, chooser: Chooser) -> "Strand":
        """A sequence that goes on from here by itself."""
        ids, stream = list(self.ids), self.stream.branch()
        return Strand(number, ids, stream, chooser, self.limits, self.produced, list(self.backlog))


class Writing:
    """A generation as far as it is written, for the strategies to go on with.

    `strand`: the sequence that `context.ids` are of. `chosen`: the newest token of each row of the cache, still on the
    device, shape (rows,); None before the first.
    """

    def __init__(
        self,
        live: LiveModel,
        context: Context,
        limits: Limits,
        context_limit: int,
        answer: Answer | None,
        stream: TextStream,
    ) -> None:
        self.live = live
        self.context = context
        self.limits = limits
        self.context_limit = context_limit
        self.answer = answer
        self.strand = Strand(0, context.ids, stream, self.new_chooser(0), limits)
        self.chosen: torch.Tensor | None = None
        self._numbers = 1  # sequences so far
        self._short_reach = short_reach(live.model)
        define = live.recorder.define
        self.draft_code = define(Phase.DRAFT, name="propose tokens")
        self.sample_code = define(Phase.SAMPLE, name="choose token")
        self.keep_code = define(Phase.SAMPLE, name="keep what was right")
        self.transfer_code = define(Phase.TRANSFER, name="token to host")
        self.detokenize_code = define(Phase.DETOKENIZE, name="id to text")
        self.stop_code = define(Phase.STOP, name="stopping criteria")

    def new_number(self) -> int:
        """A number that no sequence of this generation has had."""
        self._numbers += 1
        return self._numbers - 1

    def new_strand(self, row: list[int], prompt: Sequence[int], limits: Limits | None = None) -> Strand:
        """A sequence with a prompt of its own; `row`: its ids, filled up. `limits`: its own, or the generation's."""
        number = self.new_number()
        stream = TextStream(self.live.tokenizer, prompt)
        return Strand(number, row, stream, self.new_chooser(number), limits or self.limits)

    def new_chooser(self, number: int) -> Chooser:
        """What chooses the tokens of a sequence, with random numbers of its own."""
        return Chooser(self.live.decoding, self.live.device, number)

    def lead(self, strand: Strand) -> None:
        """From now on the context's ids are this sequence's."""
        self.strand = strand
        self.context.ids = strand.ids

    def chooser(self, strand: Strand) -> Chooser:
        """What chooses a sequence's tokens, as the settings are now."""
        if strand.chooser.decoding is not self.live.decoding:
            strand.chooser = self.new_chooser(strand.number)
        return strand.chooser

    def ruled(self, logits: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Logits (rows, vocabulary) after the rules that an encoder–decoder's answers follow. `rows`: ids so far."""
        return logits if self.answer is None else self.answer.scores(logits, rows)

    def wanted(self, strand: Strand) -> int:
        """How many more tokens were asked for."""
        return strand.limits.max_new_tokens - strand.produced

    def room(self, strand: Strand) -> int:
        """How many tokens a sequence may still get."""
        return min(self.wanted(strand), self.context_limit - len(strand.ids))

    @property
    def is_outgrown(self) -> bool:
        """Whether the text has outgrown a model's short reach, and what is cached is of no use therefore."""
        return is_outgrown(self._short_reach, self.context.cached, self.context.length)

    def end_reason(self, strand: Strand) -> str:
        """Why a sequence ends with its newest token; "" where it does not."""
        if strand.ids[-1] in strand.limits.end_tokens:
            return "end token"
        if strand.produced >= strand.limits.max_new_tokens:
            return "length"
        if len(strand.ids) >= self.context_limit:
            return "context full"
        return ""

    def deliver(self, ids: Sequence[int], strand: Strand | None = None) -> tuple[tuple[Token, ...], str]:
        """Ids that were chosen for a sequence (the leading one, unless another is given) become tokens that arrive
        together; why it ends, or "". Ends the open span, in which they have come to the host.
        """
        recorder = self.live.recorder
        recorder.turn(self.detokenize_code)
        strand = strand or self.strand
        push, number = strand.stream.push, strand.number
        told = (*strand.backlog, *ids)
        texts = [push(id) for id in told]
        recorder.turn(self.stop_code)
        arrival_ns = recorder.times[-1]
        strand.ids.extend(ids)
        strand.produced += len(ids)
        strand.backlog.clear()
        tokens = [Token(id, text, arrival_ns, number) for id, text in zip(told, texts, strict=True)]
        end_reason = self.end_reason(strand)
        recorder.end()
        return tuple(tokens), end_reason


class Strategy(Protocol):
    """A way to go from step to step. It leaves nothing behind but the writing: one strand, one row of the cache."""

    def propose(self) -> list[int]:
        """Ids to be checked by the next step behind the newest token; [] for none."""
        ...

    def rows(self) -> Sequence[list[int]]:
        """The ids of every row of the cache, equally long."""
        ...

    def take(self, logits: torch.Tensor) -> Taken:
        """Choose by logits of shape (rows, positions kept, vocabulary), the last ones those of the newest ids."""
        ...

    def follow(self, loop: Loop) -> bool:
        """Fit in with changed settings of the loop, between two steps; False where they ask for another strategy."""
        ...

    def leave(self) -> None:
        """Give way to another strategy: keep one strand and its row."""
        ...

    def tail(self) -> str:
        """Text that is not in any token yet, at the end."""
        ...


class Plain:
    """One token of one sequence a step."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    def propose(self) -> list[int]:
        """Nothing."""
        return []

    def rows(self) -> Sequence[list[int]]:
        """The one."""
        return (self._writing.context.ids,)

    def take(self, logits: torch.Tensor) -> Taken:
        """Choose the next token and bring it to the host."""
        writing, recorder = self._writing, self._writing.live.recorder
        strand = writing.strand
        recorder.begin(writing.sample_code)
        chooser = writing.chooser(strand)
        scores = logits[:, -1]
        if writing.answer is not None:
            scores = writing.ruled(scores, (strand.ids,))
        writing.chosen = chooser.choose(scores, strand.ids)
        recorder.turn(writing.transfer_code)
        id = int(writing.chosen.item())
        return Taken(*writing.deliver((id,)))

    def follow(self, loop: Loop) -> bool:
        """As long as nothing else is asked for."""
        return loop.speculation == "off" and loop.beams == loop.batch == 1 and loop.read_back == "synchronous"

    def leave(self) -> None:
        """There is one row already."""

    def tail(self) -> str:
        """What is incomplete of the last character."""
        return self._writing.strand.stream.flush()
