"""What can be cut out of a model so that its matrices become smaller: neurons of MLPs and attention heads.

Found by structure: which matrix makes what another one reads. Whether a model runs as before without what was cut is
not decided here, but by trying it. The least are cut by magnitude: the L2 norm of all weights that belong to a neuron
or a head (Han et al. 2015, arXiv 1506.02626; for whole structures Li et al. 2016, arXiv 1608.08710).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine.runtime.anatomy import Block, Part
from engine.runtime.weights.linears import Linear, linears_in

#: Kept neurons are rounded up to a multiple of this where there are many: kernels take such sizes only.
ALIGNMENT = 64
_MANY = 8 * ALIGNMENT


@dataclass(frozen=True)
class Cut:
    """What is left of one parameter: `kept` indices (int64, ascending) along `dim`.

    `closes`: this matrix reads what is cut, so that zeros in it have the same effect as the cut.
    """

    parameter: nn.Parameter
    dim: int
    kept: torch.Tensor
    closes: bool = False

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The smaller tensor, a copy."""
        return tensor.index_select(self.dim, self.kept).contiguous()

    def masked(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the same size with zeros for what is cut."""
        result = torch.zeros_like(tensor)
        return result.index_copy_(self.dim, self.kept, self.of(tensor))


@dataclass(frozen=True)
class Cuts:
    """All that is cut at once, and the attributes of modules that state sizes, with their new values.

    `kept_heads`: key-value heads that are left, by layer of the cache.
    """

    cuts: tuple[Cut, ...] = ()
    attributes: tuple[tuple[nn.Module, str, Any], ...] = ()
    kept_heads: tuple[tuple[int, torch.Tensor], ...] = ()

    def __add__(self, other: "Cuts") -> "Cuts":
        return Cuts(
            self.cuts + other.cuts, self.attributes + other.attributes, self.kept_heads + other.kept_heads
        )


# ---------------------------------------------------------------- MLPs


@dataclass(frozen=True)
class Mlp:
    """An MLP: matrices that make its neurons (two where it is gated), and the one that reads them.

    `halves`: the one matrix that makes them has gates first, then neurons.
    """

    ups: tuple[Linear, ...]
    down: Linear
    halves: bool

    @property
    def neurons(self) -> int:
        """How many it has."""
        return self.down.inputs

    def cut(self, percent: int) -> Cuts:
        """Without its least neurons."""
        count = _left(self.neurons, percent)
        rows = [self.down.weight.movedim(1 - self.down.output_dim, 0)]
        for up in self.ups:
            made = up.weight.movedim(up.output_dim, 0)
            rows += list(made.chunk(2)) if self.halves else [made]
        kept = _largest(_norms(rows), count)
        both = torch.cat([kept, kept + self.neurons]) if self.halves else kept
        cuts = [Cut(self.down.weight, 1 - self.down.output_dim, kept, closes=True)]
        attributes = list(self.down.sizes(self.down.outputs, count))
        for up in self.ups:
            cuts += _output_cuts(up, both)
            attributes += up.sizes(len(both), up.inputs)
        return Cuts(tuple(cuts), tuple(attributes))


def find_mlps(blocks: Iterable[Block]) -> list[Mlp]:
    """The MLPs that can be cut, each once; experts and what has more than two matrices side by side are none."""
    found = {}
    for part in (part for block in blocks for part in block.mlp):
        mlp = _mlp(part)
        if mlp is not None:
            found[id(mlp.down.module)] = mlp
    return list(found.values())


def _mlp(part: Part) -> Mlp | None:
    modules = [part.module] if part.until is None else [part.module, part.until]
    linears = [linear for module in modules for linear in linears_in(module)]
    for down in reversed(linears):
        ups = tuple(linear for linear in linears if linear is not down)
        if not ups or any(up.inputs != down.outputs for up in ups):
            continue
        if len(ups) <= 2 and all(up.outputs == down.inputs for up in ups):
            return Mlp(ups, down, halves=False)
        if len(ups) == 1 and ups[0].outputs == 2 * down.inputs:
            return Mlp(ups, down, halves=True)
    return None


# ---------------------------------------------------------------- heads

_QKV = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("q", "k", "v"),
    ("q_lin", "k_lin", "v_lin"),
)
_STACKED = ("c_attn", "qkv_proj", "Wqkv")
_INTERLEAVED = ("query_key_value",)
_HEAD_SIZES = ("head_dim", "attention_head_size", "head_size", "key_value_proj_dim", "dim_per_head")
_HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
_GROUP_COUNTS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
_WIDTHS = ("split_size", "all_head_size", "inner_dim", "embed_dim", "hidden_size", "dim")


@dataclass(frozen=True)
class Heads:
    """An attention block whose heads can be told apart: its projections, and where each head is in them.

    `size`: features of a head. `groups`: key-value heads, `queries`: query heads of each. A unit of pruning is a whole
    group (with its query heads), or a query head where all of them share the only key-value head.
    """

    holder: nn.Module
    layer: int
    query: Linear
    key_value: tuple[Linear, ...]
    output: Linear
    size: int
    groups: int
    queries: int
    layout: str  # "split", "stacked" (all queries, then keys, then values), "interleaved" (head by head)

    @property
    def _shares_all(self) -> bool:
        return self.groups == 1 and self.queries > 1

    @property
    def units(self) -> int:
        """How many could be cut, but one."""
        return self.queries if self._shares_all else self.groups

    def cut(self, percent: int) -> Cuts:
        """Without its least heads."""
        count = max(1, self.units - self.units * percent // 100)
        kept = _largest(self._magnitudes(), count)
        width = self.output.inputs // self.units  # features of a unit that the output projection reads
        read = _ranges(kept, width)
        cuts = [Cut(self.output.weight, 1 - self.output.output_dim, read, closes=True)]
        attributes = list(self.output.sizes(self.output.outputs, len(read)))
        for linear, index in self._made(kept):
            cuts += _output_cuts(linear, index)
            attributes += linear.sizes(len(index), linear.inputs)
        cuts += self._vectors(kept)
        heads = () if self._shares_all else ((self.layer, kept),)
        return Cuts(tuple(cuts), (*attributes, *self._counts(count, len(read))), heads)

    def _made(self, kept: torch.Tensor) -> Iterator[tuple[Linear, torch.Tensor]]:
        """The projections that make heads, and which of their outputs are left."""
        width = self.output.inputs // self.units
        if self.layout == "interleaved":
            yield self.query, _ranges(kept, 3 * width)
        elif self.layout == "stacked":
            part = self.groups * self.size
            yield self.query, torch.cat([_ranges(kept, width) + part * place for place in range(3)])
        else:
            yield self.query, _ranges(kept, width)
            for linear in () if self._shares_all else self.key_value:
                yield linear, _ranges(kept, self.size)

    def _magnitudes(self) -> torch.Tensor:
        """The L2 norm of all weights of a unit, float32 of shape (units,)."""
        every = torch.arange(self.units, device=self.output.weight.device)
        rows = [self.output.weight.movedim(1 - self.output.output_dim, 0)]
        for linear, index in self._made(every):
            made = linear.weight.movedim(linear.output_dim, 0)
            parts = made.chunk(3) if self.layout == "stacked" else [made[: len(index)]]
            rows += list(parts)
        return _norms([row.reshape(self.units, -1) for row in rows])

    def _vectors(self, kept: torch.Tensor) -> Iterator[Cut]:
        """Vectors of the attention block itself with an entry for each query head (GPT-OSS' sinks)."""
        index = _ranges(kept, 1 if self._shares_all else self.queries)
        for parameter in self.holder.parameters(recurse=False):
            if parameter.shape == (self.groups * self.queries,):
                yield Cut(parameter, 0, index)

    def _counts(self, count: int, width: int) -> Iterator[tuple[nn.Module, str, Any]]:
        heads = self.groups * self.queries
        wanted = dict.fromkeys(_HEAD_COUNTS, (heads, width // self.size))
        wanted |= dict.fromkeys(_WIDTHS, (heads * self.size, width))
        if self._shares_all:
            wanted["num_key_value_groups"] = (self.queries, count)
        else:
            wanted |= dict.fromkeys(_GROUP_COUNTS, (self.groups, count))
        for name, (before, after) in wanted.items():
            if getattr(self.holder, name, None) == before:
                yield self.holder, name, after


def find_heads(blocks: Sequence[Block], encoder_layers: int = 0) -> list[Heads]:
    """The attention blocks whose heads can be told apart, each once; cross-attention is left alone."""
    found = {}
    for block in blocks:
        for part in block.attention:
            heads = _heads(part.module, block.index - encoder_layers)
            if heads is not None:
                found[id(heads.holder)] = heads
    return list(found.values())


def _heads(attention: nn.Module, layer: int) -> Heads | None:
    for holder in attention.modules():
        projections, layout = _projections(holder)
        size = next((s for name in _HEAD_SIZES if isinstance(s := getattr(holder, name, None), int)), 0)
        others = [
            linear
            for linear in linears_in(attention)
            if all(linear.module is not each.module for each in projections)
        ]
        if not projections or size < 1 or len(others) != 1:
            continue
        heads = others[0].inputs // size
        groups = heads if layout != "split" else projections[1].outputs // size
        if _fits(projections, layout, heads, groups, size):
            return Heads(
                holder,
                layer if layer >= 0 else -1,
                projections[0],
                tuple(projections[1:]),
                others[0],
                size,
                groups,
                heads // groups,
                layout,
            )
    return None


def _projections(holder: nn.Module) -> tuple[list[Linear], str]:
    children = dict(holder.named_children())
    for names in _QKV:
        if all(name in children for name in names):
            linears = [linears_in(children[name]) for name in names]
            return ([each[0] for each in linears], "split") if all(map(len, linears)) else ([], "")
    for layout, fused in (("stacked", _STACKED), ("interleaved", _INTERLEAVED)):
        for name in fused:
            if name in children and linears_in(children[name]):
                return linears_in(children[name])[:1], layout
    return [], ""


def _fits(linears: list[Linear], layout: str, heads: int, groups: int, size: int) -> bool:
    if not heads or not groups or heads % groups:
        return False
    if layout != "split":
        return linears[0].outputs == 3 * heads * size
    return linears[0].outputs == heads * size and linears[1].outputs == linears[2].outputs == groups * size


# ---------------------------------------------------------------- layers


def skippable(blocks: Sequence[Block], kinds: Sequence[str]) -> list[int]:
    """Positions of the layers that may be left out, those nearest to the middle first.

    The first and the last layer stay, and the first of each kind: lengths and masks are read from their caches.
    """
    count = len(blocks)
    if len({id(block.module) for block in blocks}) < count:
        return []  # layers that are one module cannot be told apart
    firsts = {list(kinds).index(kind) for kind in kinds}
    middle = (count - 1) / 2
    inner = (place for place in range(1, count - 1) if place not in firsts)
    return sorted(inner, key=lambda place: (abs(place - middle), place))


# ---------------------------------------------------------------- arithmetic


def _left(count: int, percent: int) -> int:
    left = max(1, count - count * percent // 100)
    return min(count, -(-left // ALIGNMENT) * ALIGNMENT) if count >= _MANY else left


@torch.no_grad()
def _norms(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """The L2 norm over several matrices with the same first dimension, float32."""
    each = [torch.linalg.vector_norm(row.flatten(1), dim=1, dtype=torch.float32) for row in rows]
    return torch.stack(each).square().sum(dim=0).sqrt()


def _largest(magnitudes: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the largest, ascending. Of equal ones the earlier stays, so that more cut is always a part of less."""
    return magnitudes.argsort(descending=True, stable=True)[:count].sort().values


def _ranges(units: torch.Tensor, width: int) -> torch.Tensor:
    """The indices of units of so many entries each."""
    return (units[:, None] * width + torch.arange(width, device=units.device)).flatten()


def _output_cuts(linear: Linear, kept: torch.Tensor) -> Iterator[Cut]:
    yield Cut(linear.weight, linear.output_dim, kept)
    if linear.bias is not None:
        yield Cut(linear.bias, 0, kept)
