"""Putting a plan into force on a live model between two steps, and taking it out again, bit-exact.

Never `model.to(dtype)`: that rounds buffers, rotary frequencies among them, for good. Only what parameters hold is
exchanged, modules for modules, and attributes that state sizes; what was loaded is kept. Tied weights are one
parameter: they stay tied, except that a quantized head has narrow weights of its own while the embedding keeps the
wide ones, of which a step reads one row.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from engine.runtime.anatomy import Anatomy, Block, Part
from engine.runtime.live import LiveModel
from engine.runtime.models.memory import available_bytes
from engine.runtime.probing import without_probes
from engine.runtime.weights.making import draft, make, needed_bytes
from engine.runtime.weights.plan import Made, WeightPlan
from engine.runtime.weights.quantized import QuantizedLinear

_SPARE = 0.9  # the share of free memory that new weights may take
_KEPT_PLANS = 4  # how many are kept made, the newest first: more than any comparison goes to and fro between


class TooLittleMemory(Exception):
    """New weights do not fit beside the loaded ones. `needed`, `free`: bytes."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(needed, free)
        self.needed, self.free = needed, free


def realize(live: LiveModel, plan: WeightPlan) -> None:
    """Put a plan into force; what has been made before is exchanged only.

    Raises TooLittleMemory, and what torch raises; the plan before is in force again then.
    """
    _remember(live)
    state, before = live.weights, live.weights.plan
    if plan == before:
        return
    with without_probes(live):
        try:
            if plan not in state.made:
                _take_out(live)
                drafted = draft(live, plan)
                _make_room(live, needed_bytes(live, drafted), keep=before)
                state.made[plan] = make(live, drafted)
            _put(live, state.made[plan])
        except BaseException:
            _put(live, state.made[before])
            state.made.pop(plan, None)
            raise
    state.plan = plan
    state.made[plan] = state.made.pop(plan)  # the newest is the last
    for old in [each for each in state.made if each != WeightPlan()][:-_KEPT_PLANS]:
        del state.made[old]
    state.nbytes = parameter_bytes(live.model)


def forget(live: LiveModel, plan: WeightPlan) -> None:
    """Let what was made for a plan go, unless it is in force or nothing but what was loaded."""
    if plan not in (WeightPlan(), live.weights.plan):
        live.weights.made.pop(plan, None)


@contextmanager
def as_loaded(live: LiveModel) -> Iterator[None]:
    """Inside, the model holds what was loaded, so that its structure can be looked at and tried."""
    _remember(live)
    with without_probes(live):
        _take_out(live)
        try:
            yield
        finally:
            _put(live, live.weights.in_force)


@contextmanager
def holding(live: LiveModel, made: Made) -> Iterator[None]:
    """Inside `as_loaded`: for a trial, what was made is in place."""
    _put(live, made)
    try:
        yield
    finally:
        _take_out(live)


def parameter_bytes(model: nn.Module) -> int:
    """Bytes of all parameters, each once, as they are stored, with the scales of quantized ones."""
    scales = (module.scale for module in model.modules() if isinstance(module, QuantizedLinear))
    return sum(stored_bytes(tensor) for tensor in (*model.parameters(), *scales))


def stored_bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor as it is stored."""
    flatten = getattr(tensor, "__tensor_flatten__", None)  # torchao's tensors are made of several
    if flatten is None:
        return tensor.numel() * tensor.element_size()
    return sum(stored_bytes(getattr(tensor, name)) for name in flatten()[0])


# ---------------------------------------------------------------- exchanging


def _remember(live: LiveModel) -> None:
    """What was loaded, at the first time."""
    state = live.weights
    if state.loaded:
        return
    state.dtype = live.model.dtype
    state.parameters = dict(live.model.named_parameters())
    state.loaded = {name: parameter.data for name, parameter in state.parameters.items()}
    state.made[WeightPlan()] = Made()


@torch.no_grad()
def _put(live: LiveModel, made: Made) -> None:
    _take_out(live)
    state, model = live.weights, live.model
    for name, tensor in made.tensors.items():
        state.parameters[name].data = tensor
    for module, name, value in made.attributes:
        _set(live, module, name, value)
    exchanged = {}
    for path, module in made.modules.items():
        parent, _, name = path.rpartition(".")
        exchanged[model.get_submodule(path)] = module
        _set(live, model.get_submodule(parent), name, module)
    if exchanged:
        _set(live, live, "anatomy", _exchange(live.anatomy, exchanged))


def _set(live: LiveModel, holder: object, name: str, value: object) -> None:
    live.weights.undo.append((holder, name, getattr(holder, name)))
    setattr(holder, name, value)


@torch.no_grad()
def _take_out(live: LiveModel) -> None:
    """Everything is again as it was loaded."""
    state = live.weights
    while state.undo:
        setattr(*state.undo.pop())
    for name, tensor in state.loaded.items():
        state.parameters[name].data = tensor


def _exchange(anatomy: Anatomy, exchanged: Mapping[nn.Module, nn.Module]) -> Anatomy:
    """The same anatomy with other modules in the place of some."""

    def parts(old: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(
            replace(
                part,
                module=exchanged.get(part.module, part.module),
                until=None if part.until is None else exchanged.get(part.until, part.until),
            )
            for part in old
        )

    def block(old: Block) -> Block:
        return replace(
            old,
            module=exchanged.get(old.module, old.module),
            attention=parts(old.attention),
            cross_attention=parts(old.cross_attention),
            mlp=parts(old.mlp),
            mixer=parts(old.mixer),
            norms=parts(old.norms),
            inner_norms=parts(old.inner_norms),
        )

    return replace(
        anatomy,
        embeddings=parts(anatomy.embeddings),
        blocks=tuple(block(each) for each in anatomy.blocks),
        head=parts(anatomy.head),
    )


# ---------------------------------------------------------------- memory


def _make_room(live: LiveModel, needed: int, keep: WeightPlan) -> None:
    """Forget weights that can be made again, if need be. Raises TooLittleMemory when that is not enough."""
    for plan in [plan for plan in live.weights.made if plan not in (WeightPlan(), keep)]:
        if _fits(live, needed):
            return
        del live.weights.made[plan]
    if not _fits(live, needed):
        raise TooLittleMemory(needed, available_bytes(str(live.device)))


def _fits(live: LiveModel, needed: int) -> bool:
    return needed <= _SPARE * available_bytes(str(live.device))
