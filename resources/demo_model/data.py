"""The text as token ids: batches to train on, and the held-out text to measure by."""

import json
import lzma
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from resources.demo_model.corpus import Corpus
from resources.demo_model.settings import CONTEXT, SEED
from resources.demo_model.vocabulary import train_tokenizer

#: Share of the words that are written as a space and the word: whoever writes a prompt may end it with a space.
LONE_SPACES = 0.02
#: Files to begin lessons with, in bytes: neither lists of names nor generated tables; and how much of them.
UNSEEN_FILE, UNSEEN_TOKENS = (3_000, 200_000), 3_500_000
HELD_OUT_FILE = Path(__file__).parent / "held_out.json.xz"


@dataclass(frozen=True)
class Text:
    """Ids to train on, (n,) uint16, with an END token between documents."""

    ids: npt.NDArray[np.uint16]

    def batch(self, step: int, tokens: int, length: int) -> torch.Tensor:
        """Batch `step`, always the same: (tokens // length, length + 1) ids. An epoch sees every place once."""
        count = tokens // length
        per_epoch = (len(self.ids) - length) // length // count
        epoch, place = divmod(step, per_epoch)
        generator = np.random.default_rng((SEED, epoch, length))
        offset = int(generator.integers(length))  # sequences begin elsewhere in each epoch
        order = generator.permutation((len(self.ids) - 1 - offset) // length)
        begins = offset + order[place * count : (place + 1) * count].astype(np.int64) * length
        rows = np.stack([self.ids[begin : begin + length + 1] for begin in begins])
        return torch.from_numpy(rows.astype(np.int64))


@dataclass(frozen=True)
class HeldOut:
    """Held-out documents as ids; `size`: their bytes."""

    documents: list[list[int]]
    size: int

    def bits_per_byte(self, model: Any, most: int | None = None) -> float:
        """The text's negative log-likelihood, in bits, over its bytes; of the first `most` windows only.

        A document is cut into windows of the context that begin with END; a window knows nothing of the one before, so
        this is an upper bound.
        """
        windows = list(self._windows())[:most]
        nats = sum(negative_log_likelihood(model, ids) for ids in windows)
        share = sum(len(ids) - 1 for ids in windows) / sum(map(len, self.documents))
        return nats / math.log(2) / (self.size * share)

    def _windows(self) -> Iterator[list[int]]:
        for ids in self.documents:
            for begin in range(0, len(ids), CONTEXT - 1):
                yield [0, *ids[begin : begin + CONTEXT - 1]]


@torch.no_grad()
def negative_log_likelihood(model: Any, ids: list[int]) -> float:
    """Of all ids but the first, nats."""
    row = torch.tensor([ids])
    logits = model(input_ids=row[:, :-1], use_cache=False).logits[0].float()
    return float(functional.cross_entropy(logits, row[0, 1:], reduction="sum"))


def write_text(work: Path, corpus: Corpus) -> None:
    """Train the tokenizer, keep it and the text as ids in `work`, and the held-out text beside the models."""
    tokenizer = train_tokenizer(corpus.train)
    tokenizer.save_pretrained(work / "tokenizer")
    space, words = words_after_space(tokenizer)
    generator = np.random.default_rng(SEED)
    rows = [np.zeros(1, np.uint16)]
    for begin in range(0, len(corpus.train), 500):
        taken = tokenizer(corpus.train[begin : begin + 500], add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        rows += [np.array([*ids, 0], np.uint16) for ids in taken]
    HELD_OUT_FILE.write_bytes(lzma.compress(json.dumps(corpus.held_out).encode(), preset=9))
    np.save(work / "train.npy", with_lone_spaces(np.concatenate(rows), space, words, generator))


def unseen_text(work: Path, tokenizer: Any, sources: Sequence[Path]) -> Text:
    """Some Python files below other directories than the text is from, in random order; kept in `work` once read."""
    kept = work / "unseen.npy"
    if not kept.exists():
        files = [
            file
            for source in sources
            for file in sorted(source.rglob("*.py"))
            if "test" not in str(file.relative_to(source))
        ]
        files = [file for file in files if UNSEEN_FILE[0] < file.stat().st_size < UNSEEN_FILE[1]]
        np.random.default_rng(SEED).shuffle(files)  # type: ignore[arg-type]
        rows: list[int] = []
        for file in files:
            if len(rows) > UNSEEN_TOKENS:
                break
            rows += [*plain_ids(tokenizer, file.read_text(errors="ignore")), 0]
        np.save(kept, np.array(rows, np.uint16))
    return Text(np.load(kept))


def words_after_space(tokenizer: Any) -> tuple[int, npt.NDArray[np.int64]]:
    """The token of a space, and of each token (vocabulary,) what is left of it without its first space, or -1."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    space: str = tokenizer.tokenize(" ")[0]
    words = np.full(len(vocabulary), -1, np.int64)
    for token, number in vocabulary.items():
        if token[0] == space and token[1:] in vocabulary:
            words[number] = vocabulary[token[1:]]
    return vocabulary[space], words


def with_lone_spaces(
    ids: npt.NDArray[np.uint16], space: int, words: npt.NDArray[np.int64], generator: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """The same text, in which a share LONE_SPACES of the words stand behind a token of their space, (n + m,)."""
    apart = (words[ids] >= 0) & (generator.random(len(ids)) < LONE_SPACES)
    spaces = np.flatnonzero(apart) + np.arange(apart.sum())
    longer = np.repeat(ids, 1 + apart)
    longer[spaces], longer[spaces + 1] = space, words[ids[apart]]
    return longer


def held_out_text(tokenizer: Any) -> HeldOut:
    """The held-out text as a tokenizer cuts it."""
    documents = held_out_documents()
    ids = [plain_ids(tokenizer, text) for text in documents.values()]
    return HeldOut(ids, sum(len(text.encode()) for text in documents.values()))


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """A text's ids, without the END that stands before a beginning."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def held_out_documents() -> dict[str, str]:
    """The text that no model was trained on, by its path in the standard library."""
    documents: dict[str, str] = json.loads(lzma.decompress(HELD_OUT_FILE.read_bytes()))
    return documents
