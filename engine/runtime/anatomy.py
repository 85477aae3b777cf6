"""Finds the parts of a language model: embeddings, every layer's attention, cross-attention, MLP or mixer and
norms, and the head.

It works on any language model of transformers (decoder, encoder–decoder, encoder), by structure and by the
names that classes and attributes bear, not by a list of architectures. It only looks: nothing is run and
nothing is changed. What was not recognized is said in `Anatomy.warnings`, never guessed.
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from engine.runtime.roles import (
    Role,
    Roles,
    has_parameters,
    is_linear,
    is_loose,
    reads_text,
    says_mask_or_positions,
)


@dataclass(frozen=True)
class Part:
    """A module with a role, and its path.

    `until`: the part goes on until this other module returns (loose linears form one MLP).
    """

    name: str
    module: nn.Module
    until: nn.Module | None = None


@dataclass(frozen=True)
class Block:
    """One layer. `name` is its path in the model; names of parts are relative to it.

    `norms` are the layer's own; `inner_norms` are kept inside of its other parts (BERT).
    A layer that shares its module with another one has the same `module`: layers run in the order of `index`.
    """

    index: int
    name: str
    module: nn.Module
    attention: tuple[Part, ...] = ()
    cross_attention: tuple[Part, ...] = ()
    mlp: tuple[Part, ...] = ()
    mixer: tuple[Part, ...] = ()
    norms: tuple[Part, ...] = ()
    inner_norms: tuple[Part, ...] = ()

    def unclaimed(self) -> list[str]:
        """Names of parameters of this layer that belong to no part; their time is norm and residual."""
        parts = (*self.attention, *self.cross_attention, *self.mlp, *self.mixer, *self.norms)
        claimed = {id(p) for part in parts for m in (part.module, part.until) if m for p in m.parameters()}
        left = [(name, p) for name, p in self.module.named_parameters() if id(p) not in claimed]
        # vectors that the layer itself holds scale its residuals: they are where their time is counted
        return [name for name, p in left if "." in name or p.ndim > 1]


@dataclass(frozen=True)
class Preparation:
    """A function that makes masks or positions for the layers.

    It is attribute `name` of `holder`: of a Python module (then all models of the family share it) or of an
    nn.Module.
    """

    holder: Any
    name: str


@dataclass(frozen=True)
class Anatomy:
    """The parts of one model, in the order in which they stand in it.

    `encoder_layers`: how many of the blocks are the encoder's of an encoder–decoder; they come first.
    `encoder`: the module that runs them, None in a model of one stack (its blocks are run by the model itself).
    `core_missing` says why the attention core cannot be told apart, "" when it can (in at least one layer).
    `complete`: everything with parameters outside of the layers is an embedding or belongs to the head, so
    that what runs before the first layer only prepares its input, and what runs after the last one only makes
    logits.
    `beside`: paths of what reads images or sound and brings that into the text; with text alone, it never runs.
    """

    embeddings: tuple[Part, ...]
    preparations: tuple[Preparation, ...]
    blocks: tuple[Block, ...]
    head: tuple[Part, ...]
    core_missing: str
    complete: bool
    warnings: tuple[str, ...]
    encoder_layers: int = 0
    encoder: nn.Module | None = None
    beside: tuple[str, ...] = ()

    def describe(self) -> str:
        """The anatomy in words, a line a part (equal layers in one line)."""
        lines = [f"embed: {_names(self.embeddings)}"]
        lines += [f"prepared by: {', '.join(p.name for p in self.preparations)}"] if self.preparations else []
        kinds = Counter(_describe_block(block) for block in self.blocks)
        lines += [f"{count} layers: {kind}" for kind, count in kinds.items()]
        lines += [f"head: {_names(self.head)}"]
        lines += [f"beside the text: {', '.join(self.beside)}"] if self.beside else []
        lines += [f"attention core: not available: {self.core_missing}"] if self.core_missing else []
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a language model; of an encoder–decoder those of both sides.

    Never fails on an unknown architecture: what is not found is missing from the result, and its warnings say
    so.
    """
    roles = Roles(model)
    stacks = _find_stacks(model)
    blocks: list[Block] = []
    for stack in stacks:
        blocks += _blocks(stack, roles, len(blocks))
    path = _path(model, stacks)
    around = _around(model, path, stacks, roles)
    encoder = stacks[0].owner if len(stacks) > 1 else None
    return Anatomy(
        embeddings=tuple(around.embeddings),
        preparations=tuple(_preparations([owner for _, owner in path])),
        blocks=tuple(blocks),
        head=tuple(around.head),
        core_missing=_why_no_core(blocks),
        complete=all(stack.layers for stack in stacks) and not around.strangers,
        warnings=tuple(_warnings(model, stacks, blocks, around)),
        encoder_layers=len(stacks[0].order) if encoder is not None else 0,
        encoder=encoder,
        beside=tuple(around.beside),
    )


# ---------------------------------------------------------------- layers


@dataclass(frozen=True)
class _Stack:
    """Modules that run one after another as layers: their owner's path, and which module runs as which layer.

    `promised`: layers that the configuration promises, None where it does not say.
    """

    name: str
    layers: tuple[nn.Module, ...]
    order: tuple[int, ...]
    owner: nn.Module
    promised: int | None


def _find_stacks(model: PreTrainedModel) -> tuple[_Stack, ...]:
    """The encoder's stack and the decoder's, or the one that there is; a stack that is not found has no layers."""
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    if not model.config.is_encoder_decoder:
        return (_find_stack(model, decoder, model, "decoder"),)
    encoder: nn.Module = model.get_encoder()
    return (
        _find_stack(model, encoder, encoder, "encoder"),
        _find_stack(model, decoder, decoder, "decoder"),
    )


def _find_stack(model: PreTrainedModel, place: nn.Module, owner: nn.Module, side: str) -> _Stack:
    """The layers inside of the module `place`, if they are there, else anywhere in the model."""
    own = getattr(owner, "config", model.config)
    config = own if model.config.is_encoder_decoder else own.get_text_config(decoder=True)
    wanted = _promised(config, side)
    inside = next((f"{n}." for n, m in model.named_modules() if m is place and n), "")
    for fits in (_all_checkpointing, _several_sizeable, _all_sizeable):
        found = list(_outermost_lists(model, "", fits))
        if any(name.startswith(inside) for name, _ in found):
            found = [(name, layers) for name, layers in found if name.startswith(inside)]
        if found:
            name, layers = max(found, key=lambda item: (len(item[1]) == wanted, _parameter_count(item[1])))
            return _Stack(name, tuple(layers), _call_order(config, len(layers), wanted), owner, wanted)
    return _Stack("", (), (), owner, wanted)


def _outermost_lists(module: nn.Module, path: str, fits: Any) -> Iterator[tuple[str, list[nn.Module]]]:
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
        if not reads_text(child):
            continue
        if isinstance(child, nn.ModuleList) and len(child) and fits(child):
            yield place, list(child)
        else:
            yield from _outermost_lists(child, place, fits)


def _all_checkpointing(layers: nn.ModuleList) -> bool:
    return all(isinstance(layer, GradientCheckpointingLayer) for layer in layers)


def _several_sizeable(layers: nn.ModuleList) -> bool:
    return len(layers) >= 2 and _all_sizeable(layers)


def _all_sizeable(layers: nn.ModuleList) -> bool:
    return all(len(list(layer.parameters())) >= 3 for layer in layers)


def _parameter_count(layers: list[nn.Module]) -> int:
    return sum(p.numel() for layer in layers for p in layer.parameters())


def _promised(config: Any, side: str = "decoder") -> int | None:
    """The number of layers that the configuration of a side promises."""
    # LongCat-Flash counts attentions as hidden layers, two of which are in a layer
    names = (f"{side}_layers", f"num_{side}_layers", "num_layers", "num_hidden_layers")
    counts = (getattr(config, name, None) for name in names)
    return next((count for count in counts if isinstance(count, int) and count > 0), None)


def _blocks(stack: _Stack, roles: Roles, first: int) -> Iterator[Block]:
    """The stack's blocks, numbered from `first`."""
    for index, place in enumerate(stack.order, first):
        yield _block(index, f"{stack.name}.{place}", stack.layers[place], roles)


def _call_order(config: Any, module_count: int, wanted: int | None) -> tuple[int, ...]:
    """Which module runs as which layer: a few groups may be called again and again (ALBERT)."""
    if wanted and module_count == getattr(config, "num_hidden_groups", None):
        return tuple(layer * module_count // wanted for layer in range(wanted))
    return tuple(range(module_count))


def _block(index: int, name: str, module: nn.Module, roles: Roles) -> Block:
    found: dict[Role, list[Part]] = {role: [] for role in Role}
    _sort(module, "", roles, found)
    return Block(
        index,
        name,
        module,
        attention=tuple(found[Role.ATTENTION]),
        cross_attention=tuple(found[Role.CROSS_ATTENTION]),
        mlp=tuple(found[Role.MLP]),
        mixer=tuple(found[Role.MIXER]),
        norms=tuple(found[Role.NORM]),
        inner_norms=tuple(_inner_norms(found, roles)),
    )


def _inner_norms(found: dict[Role, list[Part]], roles: Roles) -> Iterator[Part]:
    for part in (part for role, parts in found.items() if role is not Role.NORM for part in parts):
        for module in filter(None, (part.module, part.until)):
            for path, norm in roles.norms_inside(module):
                yield Part(f"{part.name}.{path}", norm)


def _sort(module: nn.Module, path: str, roles: Roles, found: dict[Role, list[Part]]) -> None:
    """Sort the children of a layer, or of a thin wrapper inside one, by their role."""
    loose: list[Part] = []
    for name, child in _children(module):
        place = f"{path}.{name}" if path else name
        role = roles.of(name.partition(".")[0], child)
        if role is not None:
            found[role].append(Part(place, child))
        elif is_loose(child):
            loose.append(Part(place, child))
        elif has_parameters(child):
            _sort(child, place, roles, found)
    if len(loose) >= 2 and not (found[Role.MLP] and any(is_linear(part.module) for part in loose)):
        first, last = loose[0], loose[-1]
        found[Role.MLP].append(Part(f"{first.name}…{last.name}", first.module, until=last.module))
        _claim_between(loose, found)


def _claim_between(loose: list[Part], found: dict[Role, list[Part]]) -> None:
    """Linears between the first and the last of a loose MLP need no mark, but they are claimed."""
    found[Role.NORM].extend(loose[1:-1])


# ---------------------------------------------------------------- around the layers


def _path(model: nn.Module, stacks: tuple[_Stack, ...]) -> list[tuple[str, nn.Module]]:
    """The modules on the ways from the model down to those that hold the stacks, with their paths."""
    paths = dict.fromkeys([""])
    for stack in stacks:
        names = stack.name.split(".")
        paths |= dict.fromkeys(".".join(names[:depth]) for depth in range(1, len(names)))
    return [(path, model.get_submodule(path)) for path in paths]


@dataclass
class _Around:
    """Parts before the layers, parts behind them, and paths of modules with parameters that are neither."""

    embeddings: list[Part] = field(default_factory=list)
    head: list[Part] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


def _around(
    model: PreTrainedModel, path: list[tuple[str, nn.Module]], stacks: tuple[_Stack, ...], roles: Roles
) -> _Around:
    """What stands around the layers, in the modules on the ways to them."""
    seen = {id(module) for _, module in path}
    through = seen | {id(layer) for stack in stacks for layer in stack.layers}
    output: object = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    around = _Around()
    for owner_path, owner in path:
        order = _order_of_use(owner, [name for name, child in _children(owner) if id(child) in through])
        has_tower = not all(reads_text(child) for _, child in _children(owner))
        passed = False
        for name, child in _children(owner):
            place = f"{owner_path}.{name}" if owner_path else name
            behind = order.get(name, passed)
            if id(child) in through:
                passed = True
            elif id(child) in seen:
                continue
            elif not reads_text(child) or (has_tower and roles.joins(name, child)):
                around.beside.append(place)
            elif _makes_logits(child, output) or roles.closes(name, child, behind):
                around.head.append(Part(place, child))
            elif roles.opens(name, child):
                around.embeddings.append(Part(place, child))
            elif has_parameters(child):
                around.strangers.append(place)
            seen.add(id(child))
    around.head.sort(key=lambda part: _makes_logits(part.module, output))
    return around


def _order_of_use(owner: nn.Module, layers: list[str]) -> dict[str, bool]:
    """Whether the owner's forward uses a child after its layers, by the child's name; {} if it does not name them.

    (The order in which modules were made tells less: BART makes the norm of its embeddings last.)
    """
    forward = inspect.unwrap(type(owner).forward)
    used = list(dict.fromkeys(_names_used(forward.__code__)))
    lists = {name.split(".")[0] for name in layers}
    places = [place for place, name in enumerate(used) if name in lists]
    return {name: place > places[0] for place, name in enumerate(used)} if places else {}


def _makes_logits(module: nn.Module, output: object) -> bool:
    """Whether a module is or holds the output embeddings (FSMT names a lookup table so: that one only looks up)."""
    return (
        output is not None
        and not isinstance(module, nn.Embedding)
        and any(m is output for m in module.modules())
    )


def _children(owner: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children, with those of lists and dictionaries of modules in place of them."""
    for name, child in owner.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from ((f"{name}.{inner}", module) for inner, module in child.named_children())
        else:
            yield name, child


def _preparations(owners: list[nn.Module]) -> Iterator[Preparation]:
    """Functions and methods that the owners' forward calls by name and that make masks or positions."""
    seen: set[tuple[int, str]] = set()
    for owner in owners:
        forward = inspect.unwrap(type(owner).forward)
        for name in filter(says_mask_or_positions, _names_used(forward.__code__)):
            holder = _holder(owner, forward, name)
            if holder is not None and (id(holder), name) not in seen:
                seen.add((id(holder), name))
                yield Preparation(holder, name)


def _holder(owner: nn.Module, forward: Any, name: str) -> Any:
    if isinstance(forward.__globals__.get(name), FunctionType):
        return inspect.getmodule(forward)
    return owner if inspect.isfunction(getattr(type(owner), name, None)) else None


def _names_used(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_used(constant)


# ---------------------------------------------------------------- attention core


def asks_attention_interface(module: nn.Module) -> bool:
    """Whether this module's forward asks transformers' AttentionInterface for its attention core."""
    forward = inspect.unwrap(type(module).forward)
    return inspect.isfunction(forward) and "get_interface" in _names_used(forward.__code__)


def _why_no_core(blocks: Sequence[Block]) -> str:
    attention = [part.module for block in blocks for part in (*block.attention, *block.cross_attention)]
    if not attention:
        return "this model has no attention layers"
    if not any(asks_attention_interface(inner) for module in attention for inner in module.modules()):
        kind = type(attention[0]).__name__
        return f"{kind} computes its attention itself, not through the attention interface of transformers"
    return ""


# ---------------------------------------------------------------- words


def _names(parts: tuple[Part, ...]) -> str:
    return ", ".join(part.name for part in parts) or "nothing found"


def _describe_block(block: Block) -> str:
    roles = {
        "attention": block.attention,
        "cross-attention": block.cross_attention,
        "mixer": block.mixer,
        "MLP": block.mlp,
        "norms": (*block.norms, *block.inner_norms),
    }
    return "; ".join(f"{role} {_names(parts)}" for role, parts in roles.items() if parts) or "no part found"


def _warnings(
    model: PreTrainedModel,
    stacks: tuple[_Stack, ...],
    blocks: Sequence[Block],
    around: _Around,
) -> Iterator[str]:
    for stack in stacks:
        if not stack.layers:
            yield f"no stack of layers was found in {type(stack.owner).__name__}"
        elif stack.promised is not None and stack.promised != len(stack.order):
            yield f"the configuration promises {stack.promised} layers, {len(stack.order)} were found"
    for block in blocks:
        if not (block.attention or block.mixer or block.mlp):
            yield f"{block.name}: neither attention, mixer nor MLP was found"
        elif unclaimed := block.unclaimed():
            yield f"{block.name}: counted as norm and residual: {', '.join(unclaimed)}"
    if not around.embeddings:
        yield "no embedding was found"
    if not around.head and model.base_model is not model:
        yield "no head was found"
    if around.strangers:
        yield f"outside of the layers, with no phase: {', '.join(around.strangers)}"
