"""The loop: a generator that yields one step of the model at a time, stamped.

The consumer pulls steps and decides between them (pause, stop, change a setting); nothing here knows who that is.
One rule drives it: the tokens that are not in the cache yet are pending. Many pending tokens are a prompt (or a
prompt again, after the cache was dropped) and are prefilled in chunks; one pending token is a decode step. The step
that leaves nothing pending chooses the next token.

A sequence that is to join (see `joining`) is prefilled as soon as no other has more than its newest token pending.

An encoder–decoder reads the prompt in a step of its own, once; after that the tokens are the decoder's, which begin
with its start tokens: context, cache and pending tokens are all the decoder's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from engine.protocol import Beam, SequenceResult, Token
from engine.runtime.answers import prepare_answer
from engine.runtime.batch import Batch
from engine.runtime.beams import Beams
from engine.runtime.caches import restart
from engine.runtime.clocks import wait_for_device
from engine.runtime.feeding import Feeding
from engine.runtime.joining import JoinRefused, Newcomer, why_never
from engine.runtime.live import Context, LiveModel
from engine.runtime.pipelining import PIPELINED, Pipelined
from engine.runtime.rows import filled_up
from engine.runtime.speculation import Speculation
from engine.runtime.text import TextStream
from engine.runtime.writing import Limits as Limits
from engine.runtime.writing import Plain, Strand, Strategy, Taken, Writing
from engine.trace.phases import Detail, Phase, StepKind

NOTHING = Taken(())
DECODE, VERIFY = StepKind.DECODE, StepKind.VERIFY


class Stepped(NamedTuple):
    """One step: what it was, its stamps (see StampRecorder.end_step), what it yielded, and why it was the last.

    `batch`: rows; `padding_tokens`: positions computed for nothing, to fill rows up or in a surplus step; `results`:
    what an encoder made of its inputs; `drafted`, `accepted`, `beams`: see Taken.
    """

    kind: StepKind
    codes: bytes
    stamps: bytes
    tokens: tuple[Token, ...]
    prompt_tokens: int
    end_reason: str
    batch: int = 1
    padding_tokens: int = 0
    results: tuple[SequenceResult, ...] = ()
    drafted: int = 0
    accepted: int = 0
    beams: tuple[Beam, ...] = ()


class Generation:
    """One prompt being continued, or answered by an encoder–decoder, on a live model whose `context` it fills.

    Iterating runs it: each item is a step that has been done. Settings may change between items; the next step reads
    them afresh. `tail()` is the text left incomplete at the end.
    """

    def __init__(
        self, live: LiveModel, prompt_ids: list[int], limits: Limits, others: Sequence[list[int]] = ()
    ) -> None:
        """`others`: further prompts of a decoder, continued together with the first."""
        self._live = live
        self._prompt = list(prompt_ids)
        encodes = live.anatomy.encoder is not None
        self._answer = prepare_answer(live, self._prompt, limits.max_new_tokens) if encodes else None
        first = self._prompt if self._answer is None else self._answer.start
        context_limit = live.facts.context_limit if self._answer is None else self._answer.limit
        self.context = Context(list(first), len(first) + limits.max_new_tokens, follow=self._follow)
        stream = TextStream(live.tokenizer, [] if encodes else prompt_ids)
        self._writing = Writing(live, self.context, limits, context_limit, self._answer, stream)
        self._strategy = _strategy(self._writing) if not others else self._together(prompt_ids, others)
        self._forward_code = live.recorder.define(Phase.FORWARD, name="forward")
        self._input_codes = {
            whole: live.recorder.define(phase, name="put the input together")
            for whole, phase in ((True, Phase.FORWARD), (False, Phase.EMBED))
        }
        self._join_code = live.recorder.define(Phase.STOP, name="join the others")
        self._newcomers: list[Newcomer] = []
        self._feeding = Feeding(live, self.context)
        live.context = self.context

    @property
    def prompt(self) -> list[int]:
        """The ids of what is continued, or answered."""
        return self._prompt

    def _together(self, first: list[int], others: Sequence[list[int]]) -> Batch:
        """A batch of prompts, filled up to the length of the longest."""
        writing, context = self._writing, self.context
        rows, context.padding = filled_up([first, *others])
        context.ids[:] = rows[0]
        context.capacity += len(rows[0]) - len(first)
        context.rows = len(rows)
        return Batch(
            writing, [writing.new_strand(row, ids) for row, ids in zip(rows[1:], others, strict=True)]
        )

    def join(self, prompt_ids: list[int], limits: Limits) -> Newcomer:
        """A sequence with a prompt of its own is to join, as soon as the others have no prompt left to be read.

        It gets at most as many tokens as the context has room for. Raises JoinRefused.
        """
        if reason := why_never(self._live):
            raise JoinRefused(reason)
        most = self._room_beside(len(prompt_ids), limits.max_new_tokens)
        own = replace(limits, max_new_tokens=min(most, limits.max_new_tokens))
        strand = self._writing.new_strand(list(prompt_ids), prompt_ids, own)
        self._newcomers.append(Newcomer(self._live, strand))
        self.context.beside = self._newcomers[0].context
        return self._newcomers[-1]

    def _room_beside(self, prompt_tokens: int, wanted: int) -> int:
        """How many tokens a prompt may get beside the others. Raises JoinRefused where that is none, or cuts theirs."""
        context, limit = self.context, self._writing.context_limit
        waiting = [each.strand for each in self._newcomers]
        length = context.length - min(context.padding, default=0)
        before = max([length, *(1 + len(strand.ids) for strand in waiting)])
        width = max(before, 1 + prompt_tokens)
        for strand in (*self._strands, *waiting):
            if min(self._writing.wanted(strand), limit - before) > limit - width:
                raise JoinRefused(
                    f"The others would be filled up to the {prompt_tokens:,} tokens of this prompt, and then the"
                    " context would not hold what they are still to write: give a shorter prompt, or start it by"
                    " itself."
                )
        if width >= limit and wanted > 1:
            raise JoinRefused(
                f"The context is full: the longest sequence has {width:,} of the {limit:,} tokens that it holds. Wait"
                " until that one has ended, or start a generation anew."
            )
        return 1 + limit - width  # the first comes with the prompt

    @property
    def _strands(self) -> Sequence[Strand]:
        strategy = self._strategy
        return strategy.strands if isinstance(strategy, Batch) else (self._writing.strand,)

    @property
    def newcomer(self) -> Newcomer | None:
        """The sequence whose prompt the next step reads; None where that step is another."""
        if not self._newcomers or self._writing.chosen is None or self._writing.is_outgrown:
            return None
        reads_all = self._live.cache_kind == "none"
        return self._newcomers[0] if reads_all or self.context.pending == 1 else None

    def tail(self) -> str:
        """The text of an incomplete last character, as replacement characters, and what no token has said yet."""
        return self._strategy.tail()

    def _follow(self) -> None:
        """The settings of the loop have changed: go on as they say, from where everything stands now."""
        if not self._strategy.follow(self._live.loop):
            self._strategy.leave()
            self._strategy = _strategy(self._writing)

    def __iter__(self) -> Iterator[Stepped]:
        end_reason = ""
        if self._answer is not None:
            yield self._encode()
        while not end_reason:
            newcomer = self.newcomer
            step = self._step() if newcomer is None else self._read(newcomer)
            end_reason = step.end_reason
            yield step

    def once(self) -> Stepped:
        """One step from where the context stands, whoever has filled it."""
        return self._step()

    def _encode(self) -> Stepped:
        """The encoder's pass over the whole prompt."""
        recorder, encoder = self._live.recorder, self._live.anatomy.encoder
        assert encoder is not None
        recorder.begin_step()
        ids = self._tensor([self._prompt])
        with self._live.forward_mode():
            self.context.encoded = self._live.run(encoder, self._forward_code, {"input_ids": ids})
            self._await_device()
        return _stepped(recorder.end_step(), StepKind.ENCODE, NOTHING, len(self._prompt))

    def _step(self) -> Stepped:
        live, context, recorder = self._live, self.context, self._live.recorder
        input_code = self._input_codes[live.detail is Detail.STEP]
        with live.forward_mode():
            recorder.begin_step()
            drafts = self._strategy.propose()
            recorder.begin(input_code)
            ids, kind, completes = self._next_input(drafts)
            padding = self._padding_in(ids) if context.padding else 0
            arguments = self._feeding.arguments(ids, live.cache_kind, 1 + len(drafts))
            recorder.end()
            logits = self._forward(ids, arguments)
            if completes:
                taken = self._strategy.take(logits)
            else:
                taken = NOTHING
                self._await_device()
            stamped = recorder.end_step()
        prompt_tokens = ids.numel() - padding if kind is StepKind.PREFILL else 0
        return _stepped(stamped, kind, taken, prompt_tokens, ids.shape[0], padding + taken.surplus)

    def _read(self, newcomer: Newcomer) -> Stepped:
        """A chunk of the prompt of a sequence that is to join; with the last one it does, unless it ends with that."""
        live, recorder = self._live, self._live.recorder
        recorder.begin_step()
        with live.forward_mode():
            ids = self._tensor([newcomer.next_ids()])
            logits = newcomer.feed(ids, self._forward_code)
            if logits is None:
                taken = NOTHING
                self._await_device()
            else:
                taken = self._first_of(newcomer, logits)
        return _stepped(recorder.end_step(), StepKind.PREFILL, taken, ids.numel())

    def _first_of(self, newcomer: Newcomer, logits: torch.Tensor) -> Taken:
        """The first token of a sequence, which joins the others with it, unless it ends with it."""
        writing, recorder, strand = self._writing, self._live.recorder, newcomer.strand
        recorder.begin(writing.sample_code)
        newcomer.chosen = writing.chooser(strand).choose(logits[:, -1], strand.ids)
        recorder.turn(writing.transfer_code)
        id = int(newcomer.chosen.item())
        tokens, end_reason = writing.deliver((id,), strand)
        recorder.begin(self._join_code)
        self._newcomers.pop(0)
        self.context.beside = self._newcomers[0].context if self._newcomers else None
        if not end_reason:
            if not isinstance(self._strategy, Batch):
                self._strategy = Batch(writing)
            self._strategy.join(newcomer)
            self._feeding = Feeding(self._live, self.context)  # for the room that there is now
            wait_for_device(self._live.device)
        recorder.end()
        return Taken(tokens)

    def _padding_in(self, ids: torch.Tensor) -> int:
        """How many of the ids that are about to be fed, (rows, n), only fill up."""
        begin = self._cached
        return sum(max(0, min(count, begin + ids.shape[1]) - begin) for count in self.context.padding)

    @property
    def _cached(self) -> int:
        """How many ids a forward pass does not have to be given."""
        return 0 if self._live.cache_kind == "none" else self.context.cached

    def _next_input(self, drafts: list[int]) -> tuple[torch.Tensor, StepKind, bool]:
        """Ids to feed, shape (rows, n); what kind of step that makes; whether it leaves nothing pending."""
        live, context, chosen = self._live, self.context, self._writing.chosen
        outgrown = self._writing.is_outgrown
        if outgrown:  # and in one piece, as a chunk alone would be taken for a short text
            restart(live, context, live.cache_kind)
        pending = context.pending
        written = DECODE if not drafts else VERIFY
        if pending == 1 and chosen is not None:
            newest = chosen.view(-1, 1)
            return torch.cat((newest, self._tensor([drafts])), 1) if drafts else newest, written, True
        begins_answer = self._answer is not None and chosen is None
        if live.cache_kind == "none":
            kind = written if chosen is not None or begins_answer else StepKind.PREFILL
            return self._tensor([[*row, *drafts] for row in self._strategy.rows()]), kind, True
        count = pending if begins_answer or outgrown else min(pending, live.prefill_chunk or pending)
        ids = [row[context.cached : context.cached + count] for row in self._strategy.rows()]
        kind = StepKind.DECODE if begins_answer else StepKind.PREFILL
        return self._tensor(ids), kind, count == pending

    def _tensor(self, rows: list[list[int]]) -> torch.Tensor:
        return torch.tensor(rows, dtype=torch.long, device=self._live.device)

    def _forward(self, ids: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        """Logits, shape (rows, positions kept, vocabulary), of a call that was put together for `ids`."""
        live = self._live
        output = live.run(live.model, self._forward_code, arguments)
        self._feeding.count(output, ids, live.cache_kind)
        logits: torch.Tensor = output.logits
        return logits

    def _await_device(self) -> None:
        """A chunk yields no token to wait for; without waiting, a pause would come a whole prompt late."""
        recorder = self._live.recorder
        recorder.begin(self._writing.transfer_code)
        wait_for_device(self._live.device)
        recorder.end()


def _stepped(
    stamped: tuple[bytes, bytes],
    kind: StepKind,
    taken: Taken,
    prompt_tokens: int,
    rows: int = 1,
    padding: int = 0,
) -> Stepped:
    return Stepped(
        kind,
        *stamped,
        taken.tokens,
        prompt_tokens,
        taken.end_reason,
        rows,
        padding,
        drafted=taken.drafted,
        accepted=taken.accepted,
        beams=taken.beams,
    )


def _strategy(writing: Writing) -> Strategy:
    """The strategy that the settings of the loop ask for; at most one of them does."""
    loop = writing.live.loop
    if loop.beams > 1:
        return Beams(writing)
    if loop.batch > 1:
        return Batch(writing)
    if loop.speculation != "off":
        return Speculation(writing)
    return Pipelined(writing) if loop.read_back == PIPELINED else Plain(writing)
