"""What a draft model learns from: texts that the large model wrote, and what it thought at each of their places."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import DynamicCache, RepetitionPenaltyLogitsProcessor

from resources.demo_model.data import Text
from resources.demo_model.settings import SEED

Forward = Callable[..., Any]
Loss = Callable[[Forward, torch.Tensor], torch.Tensor]

KEPT = 24  # likeliest tokens of the teacher's at each place: nearly all of its distribution
GIVEN_WEIGHT = 0.3  # of a place in a given beginning, that of one which the teacher wrote is 1


@dataclass(frozen=True, slots=True)
class Way:
    """How the large model writes: temperature 0 is greedy."""

    temperature: float
    penalty: float = 1.0


GREEDY, PENALIZED, BY_CHANCE = Way(0.0), Way(0.0, penalty=1.2), Way(0.6)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of lesson: sequences of `length` tokens, of which `given` are a piece of a text, written `rows` at once.

    A draft model serves greedy decoding first, but must know what lies beside it: hence several `ways` in turn.
    """

    name: str
    length: int
    given: int
    rows: int
    ways: tuple[Way, ...]


#: Beginnings that the large model knows by heart, those that it never saw (there it has to take up what stands before,
#: and the draft model to learn that it does), and long ones.
KNOWN = Kind("known", 256, 48, 128, (GREEDY, PENALIZED, GREEDY, BY_CHANCE, GREEDY))
UNSEEN = Kind("unseen", 256, 128, 128, (GREEDY, GREEDY, GREEDY, GREEDY, PENALIZED))
LONG = Kind("long", 1024, 816, 32, KNOWN.ways)


@dataclass(frozen=True)
class Lessons:
    """Sequences of ids (n, length), the first ones `given`; and of each place the KEPT likeliest next tokens and their
    logits, (n, length, KEPT).
    """

    given: int
    ids: npt.NDArray[np.uint16]
    likeliest: npt.NDArray[np.uint16]
    logits: npt.NDArray[np.float16]

    def batch(self, step: int, count: int) -> npt.NDArray[np.int64]:
        """The sequences of batch `step`, always the same: (count,) numbers. An epoch sees every sequence once."""
        epoch, place = divmod(step, len(self.ids) // count)
        order = np.random.default_rng((SEED, epoch)).permutation(len(self.ids))
        return order[place * count : (place + 1) * count]


def distillation_loss(model: Forward, lessons: Lessons, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    """How far a model's distribution of the next token is from the teacher's: mean KL divergence, nats.

    What the teacher thought of all other tokens than the likeliest is left out of its distribution. Places in a given
    beginning count GIVEN_WEIGHT, the others 1.
    """
    logits = model(input_ids=torch.from_numpy(lessons.ids[rows].astype(np.int64)), use_cache=False).logits
    likeliest = torch.from_numpy(lessons.likeliest[rows].astype(np.int64))
    wanted = torch.from_numpy(lessons.logits[rows].astype(np.float32)).log_softmax(-1)
    found = functional.log_softmax(logits, -1).gather(-1, likeliest)
    distance = functional.kl_div(found, wanted, reduction="none", log_target=True).sum(-1)
    weights = torch.ones(distance.shape[1])
    weights[: lessons.given - 1] = GIVEN_WEIGHT
    return (distance * weights).mean() / weights.mean()


def lessons(teacher: Any, text: Text, work: Path, kind: Kind, tokens: int) -> Lessons:
    """About `tokens` tokens of a kind, begun with pieces of the text; kept in `work` once written."""
    file = work / f"lessons-{kind.name}.npz"
    if not file.exists():
        written = _write_all(teacher, text, kind, tokens)
        new = file.with_suffix(".new.npz")
        np.savez(new, **{name: getattr(written, name) for name in _ARRAYS})
        new.replace(file)
    with np.load(file) as kept:
        return Lessons(kind.given, *(kept[name] for name in _ARRAYS))


_ARRAYS = ("ids", "likeliest", "logits")


def _write_all(teacher: Any, text: Text, kind: Kind, tokens: int) -> Lessons:
    torch.manual_seed(SEED)
    generator = np.random.default_rng((SEED, *kind.name.encode()))
    parts: list[Lessons] = []
    for turn in range(-(-tokens // (kind.rows * kind.length))):
        begins = generator.integers(0, len(text.ids) - kind.given, kind.rows)
        given = np.stack([text.ids[begin : begin + kind.given] for begin in begins])
        given[::2, 0] = 0  # half of them begin as a prompt does, half in the middle of something
        way = kind.ways[turn % len(kind.ways)]
        parts.append(_write(teacher, torch.from_numpy(given.astype(np.int64)), kind.length, way))
    return Lessons(kind.given, *(np.concatenate([getattr(part, n) for part in parts]) for n in _ARRAYS))


@torch.inference_mode()
def _write(teacher: Any, ids: torch.Tensor, length: int, way: Way) -> Lessons:
    """What the teacher makes of beginnings (rows, tokens), up to `length` tokens each."""
    cache, kept = DynamicCache(), []
    given, fed = ids.shape[1], ids
    while True:
        logits = teacher(input_ids=fed, past_key_values=cache).logits
        kept.append(logits.topk(KEPT))
        if ids.shape[1] == length:
            break
        fed = _next(ids, logits[:, -1], way)[:, None]
        ids = torch.cat((ids, fed), 1)
    return Lessons(
        given,
        ids.numpy().astype(np.uint16),
        torch.cat([k.indices for k in kept], 1).numpy().astype(np.uint16),
        torch.cat([k.values for k in kept], 1).numpy().astype(np.float16),
    )


def _next(ids: torch.Tensor, logits: torch.Tensor, way: Way) -> torch.Tensor:
    if way.temperature:
        return (logits / way.temperature).softmax(-1).multinomial(1)[:, 0]
    penalty = RepetitionPenaltyLogitsProcessor(way.penalty)
    return penalty(ids, logits).argmax(-1)
