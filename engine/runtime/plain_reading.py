"""Reading memory by other means than those that a calibration stands on: what its bandwidth is checked against.

A bandwidth that is wrong by a factor of two makes every floor wrong by two, and no step need ever tell: one that is too
small is noticed as soon as a step beats its floor, one that is too large by nobody. So the same memory is read once
more by code that shares nothing with matrix products and copies: on the CPU by numpy's largest of all bytes, each
thread its own part, on accelerators by torch's largest of all numbers. Reading is all that either has to wait for.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

MIB = 2**20
_ALONE, _TOGETHER = 4 * MIB, 16 * MIB  # that a thread reads at once: several have to be woken each time
_ON_DEVICES = 64 * MIB

Bytes = npt.NDArray[np.uint8]
Read = Callable[[], object]


@contextmanager
def plain_reads(memory: torch.Tensor, threads: int) -> Iterator[list[Read]]:
    """What reads all of some memory (n,), piece after piece; on the CPU by so many threads."""
    if memory.device.type != "cpu":
        yield [partial(torch.amax, piece) for piece in memory.split(_ON_DEVICES // memory.element_size())]  # type: ignore[no-untyped-call]
        return
    whole: Bytes = memory.numpy().view(np.uint8)
    if threads == 1:
        yield [partial(np.max, piece) for piece in _pieces(whole, _ALONE)]
        return
    with ThreadPoolExecutor(threads) as pool:
        pieces = _pieces(whole, threads * _TOGETHER)
        yield [partial(_read_together, pool, np.array_split(piece, threads)) for piece in pieces]


def _pieces(whole: Bytes, each: int) -> list[Bytes]:
    return [whole[begin : begin + each] for begin in range(0, len(whole), each)]


def _read_together(pool: ThreadPoolExecutor, parts: Sequence[Bytes]) -> None:
    for _ in pool.map(np.max, parts):
        pass
