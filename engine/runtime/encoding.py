"""Encoder-only models: a stream of inputs run through the model batch by batch, each batch one stamped step.

The counterpart of `generation` for models that read and do not write: the same phases and measurements, per sequence
instead of per token. What the model's head says about each input is read off at the end of its step.
"""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from engine.protocol import SequenceResult
from engine.runtime.clocks import wait_for_device
from engine.runtime.generation import Stepped
from engine.runtime.live import Context, LiveModel
from engine.runtime.prompts import PromptRefused, losing
from engine.trace.phases import Phase, StepKind

#: How many labels or words are told of each input.
TOLD = 5


@dataclass(frozen=True, slots=True)
class EncodedInput:
    """One input: its text, its ids with special tokens, and how many ids its end lost, to fit.

    `types`: a token type for each id, where the tokenizer gives any but 0 (and 0 is what models assume); else empty.
    """

    text: str
    ids: tuple[int, ...]
    dropped: int = 0
    types: tuple[int, ...] = ()


def encode_inputs(live: LiveModel, text: str, truncate: bool = False) -> list[EncodedInput]:
    """One input a line of `text`; blank lines are left out.

    A line too long for the model is refused or, with `truncate`, loses its end (special tokens stay). Raises
    PromptRefused.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise PromptRefused("There is no input: type something, one input a line.")
    limit = live.input_limit
    whole = _tokenized(live, lines)
    for place, each in enumerate(whole, 1):
        if not each.ids:
            raise PromptRefused(
                f"Input {place} has no tokens for this model's tokenizer: type something else."
            )
        if len(each.ids) > limit and not truncate:
            raise PromptRefused(
                f"Input {place} has {len(each.ids):,} tokens, but this model takes {limit:,} at once:"
                " split it into several lines, or let what is too long be dropped."
            )
    return [each if len(each.ids) <= limit else _shortened(live, each, limit) for each in whole]


def _tokenized(live: LiveModel, lines: list[str], **options: Any) -> list[EncodedInput]:
    taken = live.tokenizer(lines, verbose=False, **options)
    types = taken.get("token_type_ids") if _takes(live, "token_type_ids") else None
    return [
        EncodedInput(line, tuple(ids), types=tuple(kinds) if any(kinds) else ())
        for line, ids, kinds in zip(lines, taken["input_ids"], types or [()] * len(lines), strict=True)
    ]


def _shortened(live: LiveModel, whole: EncodedInput, limit: int) -> EncodedInput:
    with losing(live.tokenizer, "right"):
        (cut,) = _tokenized(live, [whole.text], truncation=True, max_length=limit)
    return EncodedInput(whole.text, cut.ids, len(whole.ids) - len(cut.ids), cut.types)


def _takes(live: LiveModel, argument: str) -> bool:
    """Whether the model's forward knows an argument by name."""
    return argument in inspect.signature(type(live.model).forward).parameters


# ---------------------------------------------------------------- steps


class Encoding:
    """Inputs on their way through a live model, `batch` of them a step. Iterating runs them (see Generation).

    Raises PromptRefused where inputs of different lengths would share a step and the model cannot do that.
    """

    def __init__(self, live: LiveModel, inputs: Sequence[EncodedInput], batch: int) -> None:
        self._live = live
        self._batches = [inputs[begin : begin + batch] for begin in range(0, len(inputs), batch)]
        # The configuration's, not the tokenizer's: models derive positions from it, or find the last token by it.
        self._padding: int | None = live.model.config.get_text_config().pad_token_id
        _check_batches(live, self._batches, self._padding)
        self._reader = _READERS.get(live.facts.task, Reader)(live)
        define = live.recorder.define
        self._inputs_code = define(Phase.TRANSFER, name="inputs to device")
        self._forward_code = define(Phase.FORWARD, name="forward")
        self._read_code = define(Phase.SAMPLE, name="read the head")
        self._results_code = define(Phase.TRANSFER, name="results to host")
        self._words_code = define(Phase.DETOKENIZE, name="ids to words")
        self._stop_code = define(Phase.STOP, name="next inputs")
        self.context = Context([], 0)  # nothing is cached, and nothing grows
        live.context = self.context

    def tail(self) -> str:
        """Nothing is ever incomplete."""
        return ""

    def __iter__(self) -> Iterator[Stepped]:
        for place, inputs in enumerate(self._batches, 1):
            yield self._step(inputs, place == len(self._batches))

    def _step(self, inputs: Sequence[EncodedInput], last: bool) -> Stepped:
        recorder = self._live.recorder
        recorder.begin_step()
        with self._live.forward_mode():
            recorder.begin(self._inputs_code)
            batch = self._padded(inputs)
            arguments = {name: tensor.to(self._live.device) for name, tensor in batch.items()}
            recorder.end()
            output = self._live.run(self._live.model, self._forward_code, arguments)
            recorder.begin(self._read_code)
            read = self._reader.read(output, batch["input_ids"])
            recorder.turn(self._results_code)
            on_host = self._to_host(read)
            recorder.turn(self._words_code)
        results = tuple(self._reader.results(on_host, inputs))
        recorder.turn(self._stop_code)
        real = sum(len(each.ids) for each in inputs)
        padding = batch["input_ids"].numel() - real
        recorder.end()
        codes, stamps = recorder.end_step()
        return Stepped(
            kind=StepKind.ENCODE,
            codes=codes,
            stamps=stamps,
            tokens=(),
            prompt_tokens=real,
            end_reason="inputs done" if last else "",
            batch=len(inputs),
            padding_tokens=padding,
            results=results,
        )

    def _padded(self, inputs: Sequence[EncodedInput]) -> dict[str, torch.Tensor]:
        """Arguments for the model, on the host, each (sequences, length of the longest).

        A mask only where there is something to hide: without one, attention is faster.
        """
        side = self._live.tokenizer.padding_side
        lengths = [len(each.ids) for each in inputs]
        arguments = {"input_ids": _stacked((each.ids for each in inputs), self._padding or 0, side)}
        if len(set(lengths)) > 1:
            arguments["attention_mask"] = _stacked(([1] * length for length in lengths), 0, side)
        if any(each.types for each in inputs):
            types = (each.types or (0,) * len(each.ids) for each in inputs)
            arguments["token_type_ids"] = _stacked(types, self._live.tokenizer.pad_token_type_id, side)
        return arguments

    def _to_host(self, read: torch.Tensor | None) -> torch.Tensor | None:
        """What was read; where there is nothing to read, a step still is not over before the device is done."""
        if read is None:
            wait_for_device(self._live.device)
            return None
        return read.cpu()


def _stacked(rows: Iterable[Sequence[int]], fill: int, side: str) -> torch.Tensor:
    """Rows of different lengths as one int64 tensor, filled up at one side: "left" or "right"."""
    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=fill, padding_side=side)


def _check_batches(live: LiveModel, batches: Sequence[Sequence[EncodedInput]], padding: int | None) -> None:
    if padding is None and any(len(batch) > 1 for batch in batches):
        raise PromptRefused(
            "This model's configuration names no padding token, so several inputs cannot share a step:"
            " set the batch to 1."
        )
    uneven = any(len({len(each.ids) for each in batch}) > 1 for batch in batches)
    if uneven and not _takes(live, "attention_mask"):
        raise PromptRefused(
            "This model cannot leave padding out (its forward pass takes no attention mask), so inputs of different"
            " lengths in one step would change each other's results: set the batch to 1."
        )


# ---------------------------------------------------------------- heads


class Reader:
    """Reads what a model's head says. This one is for models without a head: it says nothing."""

    def __init__(self, live: LiveModel) -> None:
        self.live = live

    def read(self, output: Any, ids: torch.Tensor) -> torch.Tensor | None:
        """The numbers that are told, still on the device; None where there are none.

        ids: (sequences, length), on the host, padded.
        """
        return None

    def results(self, read: torch.Tensor | None, inputs: Sequence[EncodedInput]) -> Iterator[SequenceResult]:
        """What is told of each input, in their order. `read`: what `read` returned, on the host."""
        for each in inputs:
            yield SequenceResult(each.text, len(each.ids))


class ClassReader(Reader):
    """Of a classifier: the likeliest labels. (A regression's number is no probability: it is not told.)"""

    def read(self, output: Any, ids: torch.Tensor) -> torch.Tensor | None:
        """Probabilities and numbers of the likeliest labels, (sequences, 2, labels told)."""
        logits: torch.Tensor = output.logits.float()
        kind = self.live.model.config.problem_type
        if kind == "regression":
            return None
        independent = kind == "multi_label_classification" or logits.shape[-1] == 1
        return _best(logits.sigmoid() if independent else logits.softmax(-1))

    def results(self, read: torch.Tensor | None, inputs: Sequence[EncodedInput]) -> Iterator[SequenceResult]:
        """The likeliest labels of each input, by the names that the model gives them."""
        if read is None:
            yield from super().results(read, inputs)
            return
        names: Any = self.live.model.config.id2label
        for each, row in zip(inputs, read, strict=True):
            yield SequenceResult(each.text, len(each.ids), tuple((names[id], p) for id, p in _pairs(row)))


class MaskReader(Reader):
    """Of a masked language model: the likeliest words for each mask."""

    def __init__(self, live: LiveModel) -> None:
        super().__init__(live)
        self._mask: int | None = live.tokenizer.mask_token_id

    def read(self, output: Any, ids: torch.Tensor) -> torch.Tensor | None:
        """Probabilities and ids of the likeliest words, (masks, 2, words told), masks in the order of the inputs."""
        if self._mask is None:
            return None
        places = (ids == self._mask).nonzero()
        if not len(places):
            return None
        rows, columns = places.to(self.live.device).unbind(1)
        return _best(output.logits[rows, columns].float().softmax(-1))

    def results(self, read: torch.Tensor | None, inputs: Sequence[EncodedInput]) -> Iterator[SequenceResult]:
        """The likeliest words, one result a mask; an input without a mask has one without words."""
        rows = iter(() if read is None else read)
        for each in inputs:
            masks = 0 if self._mask is None else each.ids.count(self._mask)
            if not masks:
                yield SequenceResult(each.text, len(each.ids))
            for number in range(masks):
                words = tuple((self._word(id), p) for id, p in _pairs(next(rows)))
                yield SequenceResult(each.text, len(each.ids), words, number)

    def _word(self, id: int) -> str:
        """A token's text; where that cannot be shown (a space, a part of a character), its name."""
        text: str = self.live.tokenizer.decode([id]).strip()
        if text.isprintable() and text and "\N{REPLACEMENT CHARACTER}" not in text:
            return text
        return self.live.tokenizer.convert_ids_to_tokens(id) or f"token {id}"


def _best(shares: torch.Tensor) -> torch.Tensor:
    """The largest of shares (n, all): (n, 2, told), shares and their numbers, in one tensor: one way to the host."""
    best = shares.topk(min(TOLD, shares.shape[-1]))
    return torch.stack(
        [best.values, best.indices.to(best.values.dtype)], 1
    )  # float32 holds 16 M words exactly


def _pairs(row: torch.Tensor) -> list[tuple[int, float]]:
    """A row of `_best` as (number, share), best first."""
    shares, numbers = row.tolist()
    return [(int(number), share) for number, share in zip(numbers, shares, strict=True)]


_READERS: dict[str, type[Reader]] = {"classification": ClassReader, "fill-mask": MaskReader}
