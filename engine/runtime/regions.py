"""A step compiled region by region: what lies between two marks is compiled each for itself.

The stamps stay outside of compiled code, as eager code's do, so phases are told apart where no mark can be put into
compiled code. That has its price: what surrounds each call of compiled code takes as long as several small kernels, so
a model that waits for its launches may be slower by regions than it is uncompiled.

A region is what one span holds alone: attention, MLP or mixer of a layer, its norms, the norm before the head. A part
that has stamps inside of it stays as it is, and its parts are regions; so does a single matrix product, of which there
is nothing to fuse. What cannot be compiled stays as it is, too, and is told.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import nn

from engine.runtime.anatomy import Anatomy, asks_attention_interface
from engine.runtime.compiled_code import compiled
from engine.runtime.faults import is_lost
from engine.runtime.roles import has_parameters, is_linear
from engine.trace.phases import Detail


@dataclass(frozen=True, eq=False)
class Region:
    """A module whose forward is compiled by itself. `what`: in words; `has_core`: at detail "core" it has stamps."""

    what: str
    module: nn.Module
    has_core: bool


def regions_of(anatomy: Anatomy) -> list[Region]:
    """The regions of a model, in the order in which they run, each module once."""
    named: dict[nn.Module, str] = {}
    for block in anatomy.blocks:
        for what, parts in (
            ("attention", block.attention),
            ("cross-attention", block.cross_attention),
            ("MLP", block.mlp),
            ("mixer", block.mixer),
            ("norm", (*block.norms, *block.inner_norms)),
        ):
            named |= {part.module: what for part in parts if part.until is None}
    named |= {part.module: "head" for part in anatomy.head if part.until is None}
    inner = {part.module for block in anatomy.blocks for part in block.inner_norms}
    return [
        Region(what, module, any(map(asks_attention_interface, module.modules())))
        for module, what in named.items()
        if has_parameters(module) and not is_linear(module) and inner.isdisjoint(_below(module))
    ]


def _below(module: nn.Module) -> set[nn.Module]:
    return {each for each in module.modules() if each is not module}


class Regions:
    """The regions of one model in one mode of compilation. `put_in` begins it, `take_out` ends it.

    Only inside of `in_force` do their modules run as compiled code.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._ran_eagerly: list[bool] = []
        self._placed: list[Region] = []
        self._compiled: dict[tuple[nn.Module, object], Callable[..., Any]] = {}
        self._left: dict[tuple[nn.Module, object], Exception] = {}
        self._version: object = None
        self._leaves_core = False
        self._may_compile = False
        self._numbers = 0

    def put_in(self, anatomy: Anatomy) -> None:
        """Give each module a forward that runs compiled code. Take probes out before: they belong around it."""
        self._placed = regions_of(anatomy)
        there = {region.module for region in self._placed}
        for kept in (self._compiled, self._left):  # of modules that were exchanged meanwhile
            for key in [key for key in kept if key[0] not in there]:
                del kept[key]  # type: ignore[attr-defined]
        for region in self._placed:
            region.module.forward = self._forward(region)

    def take_out(self) -> None:
        """Give the modules their own forward back. Take probes out before."""
        for region in self._placed:
            del region.module.forward
        self._placed = []

    def fit(self, anatomy: Anatomy) -> bool:
        """Whether they are in place for a model that has these parts now."""
        return [each.module for each in self._placed] == [each.module for each in regions_of(anatomy)]

    @contextmanager
    def in_force(self, version: object, detail: Detail, may_compile: bool = False) -> Iterator[list[bool]]:
        """Inside, regions run what was compiled for this version of the step; gets True for each that ran eagerly.

        `may_compile`: what torch cannot compile is left as it is then.
        """
        self._ran_eagerly.clear()
        self._version, self._may_compile = version, may_compile
        self._leaves_core = detail is Detail.CORE
        try:
            yield self._ran_eagerly
        finally:
            self._version, self._may_compile = None, False

    def why_none(self, version: object) -> Exception | None:
        """The first error of a version of which no region could be compiled; None where one was."""
        called, left = self._called(version)
        return self._left[left[0].module, version] if left and len(left) == len(called) else None

    def told(self, version: object) -> str:
        """How many regions of a version are compiled, and which are not, in words."""
        called, left = self._called(version)
        words = f"{len(called) - len(left)} regions"
        if left:
            kinds = Counter(each.what for each in left)
            words += ", but for " + ", ".join(f"{count} × {what}" for what, count in kinds.items())
        return words

    def _called(self, version: object) -> tuple[list[Region], list[Region]]:
        """The regions that ran in a version, and those of them that torch cannot compile."""
        called = [each for each in self._placed if (each.module, version) in self._compiled]
        return called, [each for each in called if (each.module, version) in self._left]

    def _forward(self, region: Region) -> Callable[..., Any]:
        plain = region.module.forward

        @wraps(plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            key = region.module, self._version
            if self._version is None or key in self._left or (self._leaves_core and region.has_core):
                return plain(*args, **kwargs)
            if key not in self._compiled:
                self._compiled[key] = compiled(plain, self._new_name(), self._mode, self._ran_eagerly)
            if not self._may_compile:
                return self._compiled[key](*args, **kwargs)
            _mark_growing_mask(kwargs)
            try:
                return self._compiled[key](*args, **kwargs)
            except Exception as error:  # whatever the compiler raises
                if is_lost(error):
                    raise
                self._left[key] = error.with_traceback(None)
            return plain(*args, **kwargs)

        return forward

    def _new_name(self) -> str:
        self._numbers += 1
        return f"region_{self._numbers}"


def _mark_growing_mask(arguments: dict[str, Any]) -> None:
    """A mask is as long as the cache: one graph for all of its lengths."""
    mask = arguments.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        torch._dynamo.maybe_mark_dynamic(mask, 3)
