"""Stamps where the parts of a model begin and end, by wrapping their `forward`: two clock reads a part.

While probes are installed they record; removing them is how one turns them off. Nothing about the computation
changes. What is wrapped depends on the level of detail:

- phase: embeddings, head, and attention, MLP and mixer summed over layers; one NORM span holds all layers
- layer: the same for each layer, in a NORM span of its own, whose own time is norms and residual additions
- core: also the attention core, where the model uses the attention interface of transformers

Where the model's anatomy is complete, all that its forward does before the first layer counts as EMBED and
all that it does after the last one as HEAD; what is left between two layers stays unattributed. An encoder's
pass and a decoder's are two passes, each with its own first and last layer, whether they run one by one or
within one call of the model.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_utils import AttentionInterface

from engine.runtime.anatomy import Anatomy, Block, Part, asks_attention_interface
from engine.runtime.clocks import StampRecorder
from engine.runtime.graph_marks import GraphWrappers
from engine.runtime.shared import wrap_shared
from engine.runtime.wrappers import Course, Function, Turns, Wrappers
from engine.trace.phases import Detail, Phase


class Probes:
    """What was installed in a model; `remove` takes it out again. Made by `install`.

    `mark_count`: stamps of one forward pass (of an encoder–decoder: of both) in which each wrapped part runs once.
    `core_available`: whether the attention core is told apart; if not, `why` says why.
    """

    def __init__(self, model: PreTrainedModel, core_available: bool, why: str) -> None:
        self._model = weakref.ref(model)
        self.mark_count = 0
        self.core_available = core_available
        self.why = why
        self._replaced: list[tuple[Any, str, bool, Any]] = []
        self._shared: list[Callable[[], Any]] = []  # how to take out what is not the model's own

    def replace(self, holder: Any, name: str, make: Callable[[Function], Function], marks: int = 2) -> None:
        """Replace attribute `name` of `holder` by `make(what was there)` until `remove`, or until the model goes."""
        self.mark_count += marks
        model = self._model()
        if not isinstance(holder, nn.Module) and model is not None:
            self._shared.append(wrap_shared(model, holder, name, make))
            return
        before = getattr(holder, name)
        self._replaced.append((holder, name, name in vars(holder), vars(holder).get(name)))
        setattr(holder, name, make(before))

    def remove(self) -> None:
        """Restore everything exactly as it was; a second call does nothing."""
        while self._replaced:
            holder, name, own, before = self._replaced.pop()
            if own:
                setattr(holder, name, before)
            else:
                delattr(holder, name)
        while self._shared:
            self._shared.pop()()


def install(
    model: PreTrainedModel,
    anatomy: Anatomy,
    recorder: StampRecorder,
    detail: Detail,
    *,
    compiled: bool = False,
) -> Probes:
    """Wrap the parts of `model` so that they stamp `recorder` at the given level of detail.

    `compiled`: the model is going to be compiled, with the stamps in it. STEP installs nothing. After an exception in
    the model spans are left open: drop what was recorded.
    Install after the model is on its device; remove and find the anatomy anew when its modules are exchanged.
    Raises RuntimeError when the model is probed already.
    """
    if hasattr(model.forward, "__probed__"):
        raise RuntimeError(
            "This model is already being measured: remove its probes before installing new ones."
        )
    why = anatomy.core_missing if detail is Detail.CORE else f"not told apart at detail level {detail}"
    probes = Probes(model, not why, why)
    if detail is not Detail.STEP:
        wrappers = GraphWrappers(recorder) if compiled else Wrappers(recorder)
        _Installer(probes, recorder, wrappers).install(model, anatomy, detail)
    return probes


class _Installer:
    """Puts the wrappers of one model in place."""

    def __init__(self, probes: Probes, recorder: StampRecorder, wrappers: Wrappers) -> None:
        self.probes = probes
        self.recorder = recorder
        self.wrappers = wrappers

    def install(self, model: PreTrainedModel, anatomy: Anatomy, detail: Detail) -> None:
        if detail is Detail.CORE or not anatomy.complete:
            self._around(
                anatomy
            )  # else "before" and "after the layers" tell the same phases apart with fewer marks
        passes: list[_Pass] = []
        if anatomy.encoder is not None:
            passes.append(_Pass(anatomy.encoder, anatomy.blocks[: anatomy.encoder_layers], Course()))
        passes.append(_Pass(model, anatomy.blocks[anatomy.encoder_layers :], Course()))
        cores: dict[int, int | Turns] = {}
        for each in passes:
            self._pass(each, anatomy.complete, detail)
            if self.probes.core_available:
                cores |= self._cores(each)
        if cores:
            wrap = partial(self.wrappers.interface, codes=cores)
            self.probes.replace(AttentionInterface, "get_interface", wrap, 0)

    def _pass(self, each: "_Pass", complete: bool, detail: Detail) -> None:
        by_layer = detail is not Detail.PHASE
        self._parts(each, by_layer)
        if by_layer:
            self._layers(each)
        self._places(each, complete, None if by_layer else self._single(Phase.NORM, "layers"))

    def _around(self, anatomy: Anatomy) -> None:
        """Spans for each module and function that works before or after the layers."""
        for part in anatomy.embeddings:
            self._part(part, self._single(Phase.EMBED, part.name))
        for part in anatomy.head:
            self._part(part, self._single(Phase.HEAD, part.name))
        for preparation in anatomy.preparations:
            wrap = partial(self.wrappers.guarded, code=self._single(Phase.EMBED, preparation.name))
            self.probes.replace(preparation.holder, preparation.name, wrap)

    # ------------------------------------------------------------ which code

    def _single(self, phase: Phase, name: str) -> int:
        return self.recorder.define(phase, -1, name)

    def _code(self, codes: list[int], course: Course) -> "int | Turns":
        """One code if it is always the same, else a turn for each layer that the module serves as."""
        if len(set(codes)) == 1:
            return codes[0]
        turns = Turns(codes)
        course.turns.append(turns)
        return turns

    # ------------------------------------------------------------ what is wrapped

    def _parts(self, each: "_Pass", by_layer: bool) -> None:
        found: dict[nn.Module, tuple[Part, list[int]]] = {}
        for block in each.blocks:
            for phase, parts in _phases(block):
                for part in parts:
                    code = self.recorder.define(phase, block.index if by_layer else -1, part.name)
                    found.setdefault(part.module, (part, []))[1].append(code)
        for part, codes in found.values():
            self._part(part, self._code(codes, each.course))

    def _part(self, part: Part, code: "int | Turns") -> None:
        if part.until is None:
            self.probes.replace(part.module, "forward", partial(self.wrappers.timed, code=code))
        else:
            self.probes.replace(part.module, "forward", partial(self.wrappers.beginning, code=code), marks=1)
            self.probes.replace(part.until, "forward", self.wrappers.ending, marks=1)

    def _layers(self, each: "_Pass") -> None:
        codes: dict[nn.Module, list[int]] = {}
        for block in each.blocks:
            code = self.recorder.define(Phase.NORM, block.index, "layer")
            codes.setdefault(block.module, []).append(code)
        for module, own in codes.items():
            wrap = partial(self.wrappers.timed, code=self._code(own, each.course))
            self.probes.replace(module, "forward", wrap)

    def _places(self, each: "_Pass", complete: bool, stack: int | None) -> None:
        """Spans for what a pass does before, in (where `stack` gives a code) and after its layers."""
        before = after = None
        if complete:
            before = self._single(Phase.EMBED, "before the layers")
            after = self._single(Phase.HEAD, "after the layers")
        calls, course, replace = 0, each.course, self.probes.replace
        if each.blocks:
            first, last = each.blocks[0].module, each.blocks[-1].module
            calls = sum(block.module is last for block in each.blocks)
            replace(first, "forward", partial(self.wrappers.first_layer, course=course, stack=stack), marks=0)
            replace(last, "forward", partial(self.wrappers.last_layer, course=course, after=after), marks=0)
        whole = partial(self.wrappers.whole, course=course, before=before, last_calls=calls)
        replace(each.runner, "forward", whole, marks=0)
        self.probes.mark_count += 2 * sum(code is not None for code in (before, stack, after))

    def _cores(self, each: "_Pass") -> "dict[int, int | Turns]":
        """By its id, the code of each module that asks for its attention core; cross-attention's stays in its phase."""
        codes: dict[nn.Module, list[int]] = {}
        for block in each.blocks:
            for phase, parts in (
                (Phase.ATTENTION_CORE, block.attention),
                (Phase.CROSS_ATTENTION, block.cross_attention),
            ):
                code = self.recorder.define(phase, block.index, "core")
                for part in parts:
                    for module in filter(asks_attention_interface, part.module.modules()):
                        codes.setdefault(module, []).append(code)
        self.probes.mark_count += 2 * sum(map(len, codes.values()))
        return {id(module): self._code(own, each.course) for module, own in codes.items()}


@dataclass(frozen=True)
class _Pass:
    """A pass through one stack: the module whose forward makes it, its layers, and how far it has come."""

    runner: nn.Module
    blocks: tuple[Block, ...]
    course: Course


def _phases(block: Block) -> tuple[tuple[Phase, tuple[Part, ...]], ...]:
    return (
        (Phase.ATTENTION, block.attention),
        (Phase.CROSS_ATTENTION, block.cross_attention),
        (Phase.MLP, block.mlp),
        (Phase.MIXER, block.mixer),
        (Phase.NORM, block.inner_norms),
    )
