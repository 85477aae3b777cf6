"""A step compiled region by region: what lies between two marks is compiled each for itself.

The stamps stay outside of compiled code, as eager code's do, so phases are told apart where no mark can be put into
compiled code. That has its price: what surrounds each call of compiled code takes as long as several small kernels, so
a model that waits for its launches is slower by regions than it is uncompiled (on a CPU, of the uncompiled time: tiny
1.05, demo 1.11; as one graph 0.68 and 0.61).

A region is what one span holds alone: attention, MLP or mixer of a layer, its norms, the norm before the head. A part
that has stamps inside of it stays as it is, and its parts are regions; so does a single matrix product, of which there
is nothing to fuse. What cannot be compiled stays as it is, too, and is told.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import count
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


class _Version:
    """What was compiled for one version of a step: functions by module, and the errors of those that could not be."""

    def __init__(self) -> None:
        self.functions: dict[nn.Module, Callable[..., Any]] = {}
        self.left: dict[nn.Module, Exception] = {}

    def keep(self, modules: set[nn.Module]) -> None:
        """Forget all other modules: they were exchanged meanwhile."""
        self.functions = {module: each for module, each in self.functions.items() if module in modules}
        self.left = {module: error for module, error in self.left.items() if module in modules}


class Regions:
    """The regions of one model in one mode of compilation. `put_in` begins it, `take_out` ends it.

    Only inside of `in_force` do their modules run as compiled code.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._ran_eagerly: list[bool] = []
        self._placed: list[Region] = []
        self._versions: dict[object, _Version] = {}
        self._now: _Version | None = None
        self._leaves_core = False
        self._may_compile = False
        self._numbers = count(1)

    def put_in(self, anatomy: Anatomy) -> None:
        """Give each module a forward that runs compiled code. Take probes out before: they belong around it."""
        self._placed = regions_of(anatomy)
        for version in self._versions.values():
            version.keep({region.module for region in self._placed})
        for region in self._placed:
            region.module.forward = self._forward(region)

    def take_out(self) -> None:
        """Give the modules their own forward back. Take probes out before."""
        for region in self._placed:
            del region.module.forward
        self._placed = []

    def fit(self, anatomy: Anatomy | None) -> bool:
        """Whether they are in place for a model that has these parts now; with None, whether they are not in place."""
        wanted = [] if anatomy is None else regions_of(anatomy)
        return [each.module for each in self._placed] == [each.module for each in wanted]

    @contextmanager
    def in_force(self, version: object, detail: Detail, may_compile: bool = False) -> Iterator[list[bool]]:
        """Inside, regions run what was compiled for this version of the step; gets True for each that ran eagerly.

        `may_compile`: what torch cannot compile is left as it is then.
        """
        self._ran_eagerly.clear()
        self._now, self._may_compile = self._versions.setdefault(version, _Version()), may_compile
        self._leaves_core = detail is Detail.CORE
        try:
            yield self._ran_eagerly
        finally:
            self._now, self._may_compile = None, False

    def why_none(self, version: object) -> Exception | None:
        """The first error of a version of which no region could be compiled; None where one was."""
        made = self._versions.get(version, _Version())
        return next(iter(made.left.values())) if made.left and len(made.left) == len(made.functions) else None

    def told(self, version: object) -> str:
        """How many regions of a version are compiled, and which are not, in words."""
        made = self._versions.get(version, _Version())
        words = f"{len(made.functions) - len(made.left)} regions, a call each"
        kinds = Counter(each.what for each in self._placed if each.module in made.left)
        left = ", ".join(f"{number} × {what}" for what, number in kinds.items())
        return f"{words}, but for {left}" if left else words

    def _forward(self, region: Region) -> Callable[..., Any]:
        module, has_core, plain = region.module, region.has_core, region.module.forward

        @wraps(plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            now = self._now
            if now is None or (has_core and self._leaves_core):
                return plain(*args, **kwargs)
            function = now.functions.get(module)
            if function is None:
                name = f"region_{next(self._numbers)}"
                function = now.functions[module] = compiled(plain, name, self._mode, self._ran_eagerly)
            if not self._may_compile:
                return function(*args, **kwargs)
            _mark_growing_mask(kwargs)
            try:
                return function(*args, **kwargs)
            except Exception as error:  # whatever the compiler raises
                if is_lost(error):
                    raise
                now.functions[module], now.left[module] = plain, error.with_traceback(None)
            return plain(*args, **kwargs)

        return forward


def _mark_growing_mask(arguments: dict[str, Any]) -> None:
    """A mask is as long as the cache: one graph for all of its lengths."""
    mask = arguments.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.ndim == 4:
        torch._dynamo.maybe_mark_dynamic(mask, 3)
