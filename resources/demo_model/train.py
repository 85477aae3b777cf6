"""Trains the large demo model from scratch, and the draft model from the large one. Seeded; resumes where it stopped.

    python -m resources.demo_model.train large --work DIRECTORY --tokens 25000000
    python -m resources.demo_model.train draft --work DIRECTORY --tokens 8000000

The work directory keeps the tokenized text and the newest state; the models are written beside this file. Training the
draft model is distillation: it learns the large model's whole distribution, on the same text and on what the large
model writes.
"""

import argparse
import json
import math
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoTokenizer, LlamaForCausalLM

from resources.demo_model.corpus import read_corpus
from resources.demo_model.data import HeldOut, Text, held_out_text, unseen_text, write_text
from resources.demo_model.distil import (
    KNOWN,
    LONG,
    UNSEEN,
    Forward,
    Kind,
    Lessons,
    distillation_loss,
    lessons,
)
from resources.demo_model.muon import Muon
from resources.demo_model.settings import CONTEXT, DRAFT, LARGE, SEED, Size, llama_config

HERE = Path(__file__).parent
BATCH_TOKENS = {"large": 8192, "draft": 4096}
PART_TOKENS = 2048  # of a batch, forward and backward at once: more of it stays in the processor's caches
SHORT = 256  # tokens of a sequence in most of the training: attention costs less
LONG_FROM = 0.85  # share of the steps after which sequences are as long as the context
MUON_LR, ADAM_LR = 0.02, 0.004
WARM_UP = 0.02  # share of the steps
DECAY_FROM = 0.35  # share of the steps after which the rate falls, to 0 at the end
AGAIN = 0.7  # of its full value the rate has at most in a second go
#: Of what the large model writes for the draft model, how much is of each kind; and what the draft model learns from in
#: steps that follow each other, over and over.
WRITTEN = {KNOWN: 0.45, UNSEEN: 0.35, LONG: 0.2}
CYCLE = (*(UNSEEN, KNOWN, UNSEEN) * 3, UNSEEN, KNOWN, LONG)
SAVE_EVERY_S = 120.0
REPETITION_PENALTY = 1.2  # that a model asks for when it writes: small ones soon repeat themselves otherwise
LOG_EVERY = 20
MEASURE_EVERY = 400
MEASURED_WINDOWS = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train, and how long: steps of `batch` tokens. A second go begins with what the first one made."""

    name: str
    size: Size
    steps: int
    batch: int
    go: int = 1

    @property
    def peak(self) -> float:
        """The highest learning rate, as a share of its full value."""
        return 1.0 if self.go == 1 else AGAIN


#: What is learned in a step, given its number: equal parts of the batch, and of each its mean loss on a model, nats a
#: token.
Course = Callable[[int], Sequence[Callable[[Forward], torch.Tensor]]]


def reading(text: Text, plan: Plan) -> Course:
    """To foresee the next token of a text; in sequences as long as the context in the end."""

    def parts(step: int) -> Sequence[Callable[[Forward], torch.Tensor]]:
        length = CONTEXT if step >= LONG_FROM * plan.steps else SHORT
        batch = text.batch(step, plan.batch, length)
        return [partial(next_token_loss, ids=part) for part in batch.split(max(1, PART_TOKENS // length))]

    return parts


def following(taught: Mapping[Kind, Lessons], plan: Plan) -> Course:
    """To foresee what a teacher thinks, by lessons of several kinds in turn."""

    def parts(step: int) -> Sequence[Callable[[Forward], torch.Tensor]]:
        turn, place = divmod(step, len(CYCLE))
        kind = CYCLE[place]
        before = turn * CYCLE.count(kind) + CYCLE[:place].count(kind)  # steps of this kind
        rows = taught[kind].batch(before, plan.batch // kind.length)
        count = max(1, plan.batch // PART_TOKENS)
        return [
            partial(distillation_loss, lessons=taught[kind], rows=part)
            for part in np.array_split(rows, count)
        ]

    return parts


class Training:
    """One model being trained; its state can be written and read, and then goes on as if nothing had happened."""

    def __init__(
        self, plan: Plan, work: Path, course: Course, held_out: HeldOut, mixed: bool = False
    ) -> None:
        torch.manual_seed(SEED)
        self.plan, self.course, self.held_out = plan, course, held_out
        self.model = LlamaForCausalLM(llama_config(plan.size))
        self._mixed = mixed  # matrix products in bfloat16, twice as fast where the processor has instructions
        self.state_file = work / f"{plan.name}-{plan.go}.pt"
        self.log_file = work / f"{plan.name}.jsonl"
        layers = [p for n, p in self.model.named_parameters() if p.ndim == 2 and "layers" in n]
        others = [p for n, p in self.model.named_parameters() if p.ndim != 2 or "layers" not in n]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(layers, MUON_LR, weight_decay=0.02),
            torch.optim.AdamW(others, ADAM_LR, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.step = self.tokens = 0
        self.seconds = 0.0
        if self.state_file.exists():
            self._resume(self.state_file)
        elif plan.go > 1:
            self._resume(work / f"{plan.name}-{plan.go - 1}.pt")
            self.step = 0

    def run(self, until: int | None = None) -> None:
        """Train to the end of the plan, or to step `until`."""
        begin = saved = time.monotonic()
        before = self.seconds
        losses: list[float] = []
        while self.step < (until or self.plan.steps):
            losses.append(self._one_step())
            self.seconds = before + time.monotonic() - begin
            if self.step % LOG_EVERY == 0:
                self._log(losses)
                losses.clear()
            if time.monotonic() - saved > SAVE_EVERY_S:
                self.save()
                saved = time.monotonic()
        self.save()

    def _one_step(self) -> float:
        share = self.step / self.plan.steps
        factor = self.plan.peak * rate(share)
        for optimizer, full in zip(self.optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * factor
            optimizer.zero_grad(set_to_none=True)
        parts = self.course(self.step)
        total = 0.0
        for part in parts:
            with torch.autocast("cpu", torch.bfloat16, enabled=self._mixed):
                loss = part(self.model) / len(parts)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.tokens += self.plan.batch
        return total

    def _log(self, losses: Sequence[float]) -> None:
        row: dict[str, Any] = {
            "go": self.plan.go,
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "tokens": self.tokens,
            "loss": round(sum(losses) / len(losses), 4),
        }
        if self.step % MEASURE_EVERY == 0:
            bits = self.held_out.bits_per_byte(self.model, MEASURED_WINDOWS)
            row["held_out_bits_per_byte"] = round(bits, 4)
        with self.log_file.open("a") as log:
            log.write(json.dumps(row) + "\n")
        print(row, flush=True)

    def save(self) -> None:
        """Write the state, whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }
        new = self.state_file.with_suffix(".new")
        torch.save(state, new)
        new.replace(self.state_file)

    def _resume(self, file: Path) -> None:
        state = torch.load(file)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        # what was logged after the state had been saved is logged once more
        rows = self.log_file.read_text().splitlines(keepends=True) if self.log_file.exists() else []
        self.log_file.write_text("".join(row for row in rows if json.loads(row)["tokens"] <= self.tokens))


def rate(share: float) -> float:
    """The learning rate as a share of its full value, after a share of the steps: warm-up, plateau, decay to 0."""
    if share < WARM_UP:
        return (share + 1e-3) / (WARM_UP + 1e-3)
    return min(1.0, (1 - share) / (1 - DECAY_FROM))


def next_token_loss(model: Forward, ids: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of each next token, nats. ids: (sequences, length + 1)."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def export(training: Training, tokenizer: Any, directory: Path) -> None:
    """Write a model as people load it, in float16. (A copy: the one that trains stays in float32.)"""
    copy = LlamaForCausalLM(training.model.config)
    copy.load_state_dict(training.model.state_dict())
    copy.generation_config.repetition_penalty = REPETITION_PENALTY
    copy.half().save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def write_log(work: Path, file: Path) -> None:
    """Write the logs of both models, as far as there are any, into one file."""
    with file.open("w") as log:
        for name in ("large", "draft"):
            kept = work / f"{name}.jsonl"
            for row in kept.read_text().splitlines() if kept.exists() else []:
                log.write(json.dumps({"model": name, **json.loads(row)}) + "\n")


def main() -> None:
    """Train what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", choices=("large", "draft"))
    parser.add_argument("--work", type=Path, required=True, help="where text and state are kept")
    parser.add_argument("--tokens", type=int, required=True, help="how many tokens to train on")
    parser.add_argument("--library", type=Path, action="append", help="standard libraries, the newest first")
    parser.add_argument("--manual", type=Path, help="the sources of Python's manual (reStructuredText)")
    parser.add_argument(
        "--unseen", type=Path, action="append", help="sources that the large model did not learn from"
    )
    parser.add_argument("--mixed", action="store_true", help="matrix products in bfloat16")
    parser.add_argument(
        "--written", type=int, default=4_200_000, help="tokens of lessons that the large model writes"
    )
    parser.add_argument("--go", type=int, default=1, choices=(1, 2), help="2: go on with what 1 has made")
    parser.add_argument("--export-only", action="store_true", help="write the model as it is now")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    training, tokenizer = _training(options)
    if not options.export_only:
        training.run()
    export(training, tokenizer, HERE / options.model)
    write_log(options.work, HERE / "training.jsonl")


def _training(options: argparse.Namespace) -> tuple[Training, Any]:
    """What the command line asks for, and the tokenizer."""
    work: Path = options.work
    if not (work / "train.npy").exists():
        libraries = options.library or [Path(sysconfig.get_path("stdlib"))]
        write_text(work, read_corpus(libraries, options.manual))
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    text, held_out = Text(np.load(work / "train.npy")), held_out_text(tokenizer)
    batch = BATCH_TOKENS[options.model]
    size = LARGE if options.model == "large" else DRAFT
    plan = Plan(options.model, size, math.ceil(options.tokens / batch), batch, options.go)
    if options.model == "large":
        return Training(plan, work, reading(text, plan), held_out, options.mixed), tokenizer
    teacher = LlamaForCausalLM.from_pretrained(HERE / "large", dtype=torch.float32).eval()
    unseen = unseen_text(work, tokenizer, options.unseen or [Path(sysconfig.get_path("purelib"))])
    taught = {
        kind: lessons(teacher, unseen if kind is UNSEEN else text, work, kind, int(options.written * share))
        for kind, share in WRITTEN.items()
    }
    return Training(plan, work, following(taught, plan), held_out, options.mixed), tokenizer


if __name__ == "__main__":
    main()
