"""The loop: a generator that yields one step of the model at a time, stamped.

The consumer pulls steps and decides between them (pause, stop, change a setting); nothing here knows who that is.
One rule drives it: the tokens that are not in the cache yet are pending. Many pending tokens are a prompt (or a
prompt again, after the cache was dropped) and are prefilled in chunks; one pending token is a decode step. The step
that leaves nothing pending chooses the next token.

An encoder–decoder reads the prompt in a step of its own, once; after that the tokens are the decoder's, which begin
with its start tokens: context, cache and pending tokens are all the decoder's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from engine.protocol import SequenceResult, Token
from engine.runtime.answers import prepare_answer
from engine.runtime.caches import window_mask
from engine.runtime.clocks import wait_for_device
from engine.runtime.live import Context, LiveModel
from engine.runtime.sampling import Chooser
from engine.runtime.text import TextStream
from engine.trace.phases import Phase, StepKind


@dataclass(frozen=True, slots=True)
class Limits:
    """When a generation ends: after so many new tokens, or at one of the end tokens."""

    max_new_tokens: int
    end_tokens: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Stepped:
    """One step: what it was, its stamps (see StampRecorder.end_step), what it yielded, and why it was the last.

    `batch`: sequences; `padding_tokens`: positions computed for nothing; `results`: what an encoder made of its inputs.
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


class Generation:
    """One prompt being continued, or answered by an encoder–decoder, on a live model whose `context` it fills.

    Iterating runs it: each item is a step that has been done. Settings may change between items; the next step reads
    them afresh. `tail()` is the text left incomplete at the end.
    """

    def __init__(self, live: LiveModel, prompt_ids: list[int], limits: Limits) -> None:
        self._live = live
        self._limits = limits
        self._prompt = list(prompt_ids)
        encodes = live.anatomy.encoder is not None
        self._answer = prepare_answer(live, self._prompt, limits.max_new_tokens) if encodes else None
        first = self._prompt if self._answer is None else self._answer.start
        self._context_limit = live.facts.context_limit if self._answer is None else self._answer.limit
        self._extra = {"logits_to_keep": 1} if live.keeps_logits else {}
        self._stream = TextStream(live.tokenizer, [] if encodes else prompt_ids)
        self._chooser = Chooser(live.decoding, live.device)
        self._chosen: torch.Tensor | None = None  # the newest token, still on the device, shape (1,)
        self._produced = 0
        define = live.recorder.define
        self._forward_code = define(Phase.FORWARD, name="forward")
        self._sample_code = define(Phase.SAMPLE, name="choose token")
        self._transfer_code = define(Phase.TRANSFER, name="token to host")
        self._detokenize_code = define(Phase.DETOKENIZE, name="id to text")
        self._stop_code = define(Phase.STOP, name="stopping criteria")
        self.context = Context(list(first), len(first) + limits.max_new_tokens)
        live.context = self.context

    def tail(self) -> str:
        """The text of an incomplete last character, as replacement characters."""
        return self._stream.flush()

    def __iter__(self) -> Iterator[Stepped]:
        end_reason = ""
        if self._answer is not None:
            yield self._encode()
        while not end_reason:
            step = self._step()
            end_reason = step.end_reason
            yield step

    def _encode(self) -> Stepped:
        """The encoder's pass over the whole prompt."""
        recorder, encoder = self._live.recorder, self._live.anatomy.encoder
        assert encoder is not None
        recorder.begin_step()
        ids = self._tensor(self._prompt)
        with self._live.forward_mode():
            self.context.encoded = self._live.run(encoder, self._forward_code, input_ids=ids)
            self._await_device()
        return self._stepped(StepKind.ENCODE, (), len(self._prompt), "")

    def _step(self) -> Stepped:
        live, context, recorder = self._live, self.context, self._live.recorder
        recorder.begin_step()
        ids, kind, completes = self._next_input()
        with live.forward_mode():
            logits = self._forward(ids)
            context.cached = 0 if live.cache_kind == "none" else context.cached + ids.shape[1]
            if not completes:
                self._await_device()
                return self._stepped(kind, (), ids.shape[1], "")
            token, end_reason = self._choose(logits)
        prompt_tokens = ids.shape[1] if kind is StepKind.PREFILL else 0
        return self._stepped(kind, (token,), prompt_tokens, end_reason)

    def _stepped(
        self, kind: StepKind, tokens: tuple[Token, ...], prompt_tokens: int, end_reason: str
    ) -> Stepped:
        codes, stamps = self._live.recorder.end_step()
        return Stepped(kind, codes, stamps, tokens, prompt_tokens, end_reason)

    def _next_input(self) -> tuple[torch.Tensor, StepKind, bool]:
        """Ids to feed, shape (1, n); what kind of step that makes; whether it leaves nothing pending."""
        live, context = self._live, self.context
        pending = len(context.ids) - context.cached
        if pending == 1 and self._chosen is not None:
            return self._chosen.view(1, 1), StepKind.DECODE, True
        begins_answer = self._answer is not None and not self._produced
        if live.cache_kind == "none":
            kind = StepKind.DECODE if self._produced or begins_answer else StepKind.PREFILL
            return self._tensor(context.ids), kind, True
        count = pending if begins_answer else min(pending, live.prefill_chunk or pending)
        ids = context.ids[context.cached : context.cached + count]
        kind = StepKind.DECODE if begins_answer else StepKind.PREFILL
        return self._tensor(ids), kind, count == pending

    def _tensor(self, ids: list[int]) -> torch.Tensor:
        return torch.tensor([ids], dtype=torch.long, device=self._live.device)

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits, shape (1, positions kept, vocabulary)."""
        live = self._live
        if live.cache_kind == "none":
            arguments: dict[str, Any] = {"use_cache": False}
        else:
            arguments = {"use_cache": True, live.cache_argument: self.context.cache}
            arguments |= window_mask(live, self.context.cache, ids.shape[1])
        if self._answer is None:
            arguments["input_ids"] = ids
        else:
            arguments |= {"decoder_input_ids": ids, "encoder_outputs": self.context.encoded}
        output = live.run(live.model, self._forward_code, **arguments, **self._extra)
        if live.cache_argument == "state":  # RWKV hands its state back instead of updating a cache
            self.context.cache = output.state
        logits: torch.Tensor = output.logits
        return logits

    def _await_device(self) -> None:
        """A chunk yields no token to wait for; without waiting, a pause would come a whole prompt late."""
        recorder = self._live.recorder
        recorder.begin(self._transfer_code)
        wait_for_device(self._live.device)
        recorder.end()

    def _choose(self, logits: torch.Tensor) -> tuple[Token, str]:
        recorder, context = self._live.recorder, self.context
        recorder.begin(self._sample_code)
        if self._chooser.decoding is not self._live.decoding:
            self._chooser = Chooser(self._live.decoding, self._live.device)
        scores = logits[:, -1]
        if self._answer is not None:
            scores = self._answer.scores(scores, context.ids)
        self._chosen = self._chooser.choose(scores, context.ids)
        recorder.end()
        recorder.begin(self._transfer_code)
        id = int(self._chosen.item())
        recorder.end()
        recorder.begin(self._detokenize_code)
        text = self._stream.push(id)
        recorder.end()
        arrival_ns = recorder.times[-1]
        recorder.begin(self._stop_code)
        context.ids.append(id)
        self._produced += 1
        end_reason = self._end_reason(id)
        recorder.end()
        return Token(id, text, arrival_ns), end_reason

    def _end_reason(self, id: int) -> str:
        if id in self._limits.end_tokens:
            return "end token"
        if self._produced >= self._limits.max_new_tokens:
            return "length"
        if len(self.context.ids) >= self._context_limit:
            return "context full"
        return ""
