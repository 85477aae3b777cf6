"""Finds the parts of a language model: embeddings, every layer's attention, MLP or mixer and norms, and the
head.

It works on any causal language model of transformers, by structure and by the names that classes and
attributes bear, not by a list of architectures. It only looks: nothing is run and nothing is changed. What
was not recognized is said in `Anatomy.warnings`, never guessed.
"""

import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from engine.runtime.roles import Role, Roles, has_parameters, is_loose, says_mask_or_positions


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

    A layer that shares its module with another one has the same `module`: layers run in the order of `index`.
    """

    index: int
    name: str
    module: nn.Module
    attention: tuple[Part, ...] = ()
    mlp: tuple[Part, ...] = ()
    mixer: tuple[Part, ...] = ()
    norms: tuple[Part, ...] = ()

    def unclaimed(self) -> list[str]:
        """Names of parameters of this layer that belong to no part; their time is norm and residual."""
        parts = (*self.attention, *self.mlp, *self.mixer, *self.norms)
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

    `core_missing` says why the attention core cannot be told apart, "" when it can (in at least one layer).
    `complete`: everything with parameters outside of the layers is an embedding or belongs to the head, so
    that what runs before the first layer only prepares its input, and what runs after the last one only makes
    logits.
    """

    embeddings: tuple[Part, ...]
    preparations: tuple[Preparation, ...]
    blocks: tuple[Block, ...]
    head: tuple[Part, ...]
    core_missing: str
    complete: bool
    warnings: tuple[str, ...]

    def describe(self) -> str:
        """The anatomy in words, a line a part (equal layers in one line)."""
        lines = [f"embed: {_names(self.embeddings)}"]
        lines += [f"prepared by: {', '.join(p.name for p in self.preparations)}"] if self.preparations else []
        kinds = Counter(_describe_block(block) for block in self.blocks)
        lines += [f"{count} layers: {kind}" for kind, count in kinds.items()]
        lines += [f"head: {_names(self.head)}"]
        lines += [f"attention core: not available: {self.core_missing}"] if self.core_missing else []
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a causal language model (the decoder's, where there is an encoder too).

    Never fails on an unknown architecture: what is not found is missing from the result, and its warnings say
    so.
    """
    roles = Roles(model)
    stack_name, stack = _find_stack(model)
    blocks = _blocks(model, stack_name, stack, roles)
    path = _path(model, stack_name)
    embeddings, head, strangers = _around(model, path, stack, roles)
    return Anatomy(
        embeddings=embeddings,
        preparations=tuple(_preparations([owner for _, owner in path])),
        blocks=blocks,
        head=head,
        core_missing=_why_no_core(blocks),
        complete=bool(blocks) and not strangers and not model.config.is_encoder_decoder,
        warnings=tuple(_warnings(model, blocks, embeddings, head, strangers)),
    )


# ---------------------------------------------------------------- layers


def _find_stack(model: PreTrainedModel) -> tuple[str, list[nn.Module]]:
    """Path and layers of the decoder stack; ("", []) if there is none."""
    wanted = _layer_count(model)
    decoder: object = model.get_decoder()  # type: ignore[no-untyped-call]
    inside = [n for n, m in model.named_modules() if m is decoder]
    for fits in (_all_checkpointing, _several_sizeable, _all_sizeable):
        found = list(_outermost_lists(model, "", fits))
        if inside and any(name.startswith(inside[0]) for name, _ in found):
            found = [(name, layers) for name, layers in found if name.startswith(inside[0])]
        if found:
            return max(found, key=lambda item: (len(item[1]) == wanted, _parameter_count(item[1])))
    return "", []


def _outermost_lists(module: nn.Module, path: str, fits: Any) -> Iterator[tuple[str, list[nn.Module]]]:
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
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


def _layer_count(model: PreTrainedModel) -> int | None:
    """The number of layers that the configuration promises."""
    config = model.config.get_text_config(decoder=True)
    count = getattr(config, "decoder_layers", None) or getattr(config, "num_hidden_layers", None)
    return count if isinstance(count, int) else None


def _blocks(model: PreTrainedModel, path: str, stack: list[nn.Module], roles: Roles) -> tuple[Block, ...]:
    return tuple(
        _block(index, f"{path}.{place}", stack[place], roles)
        for index, place in enumerate(_call_order(model, len(stack)))
    )


def _call_order(model: PreTrainedModel, module_count: int) -> list[int]:
    """Which module runs as which layer: a few groups may be called again and again (ALBERT)."""
    config = model.config.get_text_config(decoder=True)
    wanted = _layer_count(model)
    if wanted and module_count == getattr(config, "num_hidden_groups", None):
        return [layer * module_count // wanted for layer in range(wanted)]
    return list(range(module_count))


def _block(index: int, name: str, module: nn.Module, roles: Roles) -> Block:
    found: dict[Role, list[Part]] = {role: [] for role in Role}
    _sort(module, "", roles, found)
    return Block(
        index,
        name,
        module,
        attention=tuple(found[Role.ATTENTION]),
        mlp=tuple(found[Role.MLP]),
        mixer=tuple(found[Role.MIXER]),
        norms=tuple(found[Role.NORM]),
    )


def _sort(module: nn.Module, path: str, roles: Roles, found: dict[Role, list[Part]]) -> None:
    """Sort the children of a layer, or of a thin wrapper inside one, by their role."""
    loose: list[Part] = []
    for name, child in module.named_children():
        place = f"{path}.{name}" if path else name
        role = roles.of(name, child)
        if role is not None:
            found[role].append(Part(place, child))
        elif is_loose(child):
            loose.append(Part(place, child))
        elif has_parameters(child):
            _sort(child, place, roles, found)
    if len(loose) >= 2 and not found[Role.MLP]:
        first, last = loose[0], loose[-1]
        found[Role.MLP].append(Part(f"{first.name}…{last.name}", first.module, until=last.module))
        _claim_between(loose, found)


def _claim_between(loose: list[Part], found: dict[Role, list[Part]]) -> None:
    """Linears between the first and the last of a loose MLP need no mark, but they are claimed."""
    found[Role.NORM].extend(loose[1:-1])


# ---------------------------------------------------------------- around the layers


def _path(model: nn.Module, stack_name: str) -> list[tuple[str, nn.Module]]:
    """The modules on the way from the model down to the one that holds the stack, with their paths."""
    steps = [("", model)]
    for name in stack_name.split(".")[:-1]:
        path, module = steps[-1]
        steps.append((f"{path}.{name}" if path else name, module.get_submodule(name)))
    return steps


def _around(
    model: PreTrainedModel, path: list[tuple[str, nn.Module]], stack: list[nn.Module], roles: Roles
) -> tuple[tuple[Part, ...], tuple[Part, ...], list[str]]:
    """Parts before the layers, parts behind them, and names of modules with parameters that are neither."""
    on_path = {id(module) for _, module in path}
    layers = {id(layer) for layer in stack}
    output: object = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    embeddings: list[Part] = []
    head: list[Part] = []
    strangers: list[str] = []
    for owner_path, owner in path:
        behind = False
        for name, child in _children(owner):
            place = f"{owner_path}.{name}" if owner_path else name
            if id(child) in on_path or id(child) in layers:
                behind = True
            elif _holds(child, output) or roles.closes(name, child, behind):
                head.append(Part(place, child))
            elif roles.opens(name, child):
                embeddings.append(Part(place, child))
            elif has_parameters(child):
                strangers.append(place)
    head.sort(key=lambda part: _holds(part.module, output))
    return tuple(embeddings), tuple(head), strangers


def _holds(module: nn.Module, wanted: object) -> bool:
    return any(inner is wanted for inner in module.modules())


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


def _why_no_core(blocks: tuple[Block, ...]) -> str:
    attention = [part.module for block in blocks for part in block.attention]
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
    roles = {"attention": block.attention, "mixer": block.mixer, "MLP": block.mlp, "norms": block.norms}
    return "; ".join(f"{role} {_names(parts)}" for role, parts in roles.items() if parts) or "no part found"


def _warnings(
    model: PreTrainedModel,
    blocks: tuple[Block, ...],
    embeddings: tuple[Part, ...],
    head: tuple[Part, ...],
    strangers: list[str],
) -> Iterator[str]:
    wanted = _layer_count(model)
    if not blocks:
        yield f"no stack of layers was found in {type(model).__name__}"
    elif wanted is not None and wanted != len(blocks):
        yield f"the configuration promises {wanted} layers, {len(blocks)} were found"
    for block in blocks:
        if not (block.attention or block.mixer or block.mlp):
            yield f"{block.name}: neither attention, mixer nor MLP was found"
        elif unclaimed := block.unclaimed():
            yield f"{block.name}: counted as norm and residual: {', '.join(unclaimed)}"
    if not embeddings:
        yield "no embedding was found"
    if not head:
        yield "no head was found"
    if strangers:
        yield f"outside of the layers, with no phase: {', '.join(strangers)}"
