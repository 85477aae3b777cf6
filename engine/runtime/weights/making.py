"""From a plan to tensors and modules, always from the weights as they were loaded and always in the same order: dtype,
structured pruning, sparsity, quantization. So it does not matter by which way a plan was reached."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from engine.runtime.anatomy import Anatomy, Block
from engine.runtime.live import LiveModel
from engine.runtime.weights.backends import WIDTHS, quantized, takes
from engine.runtime.weights.linears import Linear, is_exact_linear, linears_in
from engine.runtime.weights.plan import Made, WeightPlan
from engine.runtime.weights.skipping import Skipped, kinds_of_layers
from engine.runtime.weights.sparse import SemiSparseLinear, half_zero, takes_two_of_four
from engine.runtime.weights.structure import Cut, Cuts, find_heads, find_mlps, skippable


@dataclass(frozen=True)
class Draft:
    """A plan, as far as sizes go: what is cut, which layers are left out, which products get modules of their own.

    `cuts`: by name of the parameter. `masked`: cut neurons and heads are zeros instead, in matrices of full size.
    """

    plan: WeightPlan
    cuts: dict[str, Cut]
    structure: Cuts
    skipped: dict[str, Block]
    products: dict[str, Linear]
    sparse: frozenset[str]  # names of the matrices whose smaller half becomes zeros
    masked: bool = False


def draft(
    live: LiveModel, plan: WeightPlan, blocks: Sequence[Block] | None = None, masked: bool = False
) -> Draft:
    """What a plan means for a model, which has to be as it was loaded. `blocks`: prune only in these.

    A part of the plan that finds nothing to take hold of in this model does nothing.
    """
    anatomy = live.anatomy
    inside = anatomy.blocks if blocks is None else blocks
    structure = _structure(plan, inside, anatomy.encoder_layers)
    names = {id(parameter): name for name, parameter in live.weights.parameters.items()}
    skipped = {block.name: block for block in left_out(live, plan.layers_skipped)}
    outside = tuple(f"{name}." for name in skipped)
    linears = {n: linear for n, linear in products(live) if not n.startswith(outside)}
    return Draft(
        plan=plan,
        cuts={names[id(cut.parameter)]: cut for cut in structure.cuts},
        structure=structure,
        skipped=skipped,
        products=_replaced(live, plan, linears, structure),
        sparse=frozenset(names[id(each)] for each in matrices(anatomy) if plan.sparsity == "unstructured"),
        masked=masked,
    )


def _structure(plan: WeightPlan, blocks: Sequence[Block], encoder_layers: int) -> Cuts:
    cuts = Cuts()
    if plan.mlp_pruned:
        for mlp in find_mlps(blocks):
            cuts += mlp.cut(plan.mlp_pruned)
    if plan.heads_pruned:
        for heads in find_heads(blocks, encoder_layers):
            cuts += heads.cut(plan.heads_pruned)
    return cuts


def left_out(live: LiveModel, count: int) -> list[Block]:
    """The layers that are skipped when so many are, as far as so many may be."""
    blocks = live.anatomy.blocks[live.anatomy.encoder_layers :]
    return [blocks[place] for place in skippable(blocks, kinds_of_layers(live, blocks))[:count]]


def products(live: LiveModel) -> Iterator[tuple[str, Linear]]:
    """The matrix products of attention, MLPs and head, by path; mixers read their matrices in ways of their own."""
    wanted = {id(module) for block in live.anatomy.blocks for module in block.module.modules()}
    wanted -= {id(m) for block in live.anatomy.blocks for part in block.mixer for m in part.module.modules()}
    wanted |= {id(module) for part in live.anatomy.head for module in part.module.modules()}
    for name, module in live.model.named_modules():
        if id(module) in wanted and is_exact_linear(module):
            yield name, Linear(module)


def _in_blocks(anatomy: Anatomy, linears: dict[str, Linear]) -> Iterator[Linear]:
    inside = {id(module) for block in anatomy.blocks for module in block.module.modules()}
    return (linear for linear in linears.values() if id(linear.module) in inside)


def matrices(anatomy: Anatomy) -> Iterator[nn.Parameter]:
    """The matrices of the layers: of all products, and those of experts that are kept in one tensor."""
    for block in anatomy.blocks:
        yield from (linear.weight for linear in linears_in(block.module))
        experts = (parameter for part in block.mlp for parameter in part.module.parameters())
        yield from (parameter for parameter in experts if parameter.ndim == 3)


def _replaced(
    live: LiveModel, plan: WeightPlan, linears: dict[str, Linear], structure: Cuts
) -> dict[str, Linear]:
    """The products that get a module of their own, by path: those whose size, after cutting, its kernel takes."""
    if plan.quantization == "none" and plan.sparsity != "2:4":
        return {}
    inside = {id(linear.module) for linear in _in_blocks(live.anatomy, linears)}
    chosen = {}
    for name, linear in linears.items():
        outputs, inputs = _cut_size(linear, structure)
        if plan.quantization != "none":
            fits = takes(plan.quantization, live.device, outputs, inputs)
        else:
            fits = id(linear.module) in inside and takes_two_of_four(outputs, inputs)
        if fits and linear.weight.is_floating_point():
            chosen[name] = linear
    return chosen


def _cut_size(linear: Linear, structure: Cuts) -> tuple[int, int]:
    size = [linear.outputs, linear.inputs]
    for cut in structure.cuts:
        if cut.parameter is linear.weight:
            size[0 if cut.dim == linear.output_dim else 1] = len(cut.kept)
    return size[0], size[1]


# ---------------------------------------------------------------- what it takes


def needed_bytes(live: LiveModel, drafted: Draft) -> int:
    """Memory that making a draft takes, in bytes; what is left as it was loaded takes none."""
    plan, state = drafted.plan, live.weights
    total = 0
    for name in _held(live, drafted):
        tensor = state.loaded[name]
        dtype = dtype_of(live, plan, name)
        cut = drafted.cuts.get(name)
        if cut is None and dtype == tensor.dtype and name not in drafted.sparse:
            continue
        share = 1.0 if cut is None or drafted.masked else len(cut.kept) / tensor.shape[cut.dim]
        total += int(tensor.numel() * share) * dtype.itemsize
    width = WIDTHS.get(plan.quantization, 1.2)  # two of four at 16 bit, and which two
    for linear in drafted.products.values():
        outputs, inputs = _cut_size(linear, drafted.structure)
        total += int(outputs * inputs * width) + outputs * 8
    return total


def dtype_of(live: LiveModel, plan: WeightPlan, name: str) -> torch.dtype:
    """The dtype that a plan gives to a parameter. What was loaded in another one than the model's was so on purpose."""
    loaded = live.weights.loaded[name].dtype
    own = live.weights.dtype
    if plan.dtype is None or loaded != own or any(part in name for part in _kept_wide(live, plan.dtype)):
        return loaded
    return plan.dtype


def _kept_wide(live: LiveModel, dtype: torch.dtype) -> set[str]:
    """Parts of names of parameters that stay in float32, as transformers' loading would leave them."""
    if live.weights.dtype != torch.float32 or dtype == torch.float32:
        return set()
    names = set(live.model._keep_in_fp32_modules_strict or ())
    if dtype == torch.float16:
        names |= set(live.model._keep_in_fp32_modules or ())
    return names


def _held(live: LiveModel, drafted: Draft) -> Iterator[str]:
    """Names of the parameters that the model still holds itself, outside of skipped layers and replaced products."""
    gone = tuple(f"{path}." for path in (*drafted.skipped, *drafted.products))
    seen = set()
    names = {id(parameter): name for name, parameter in live.weights.parameters.items()}
    for path, parameter in live.model.named_parameters(remove_duplicate=False):
        if not path.startswith(gone) and id(parameter) not in seen:
            seen.add(id(parameter))
            yield names[id(parameter)]


# ---------------------------------------------------------------- making it


@torch.no_grad()
def make(live: LiveModel, drafted: Draft) -> Made:
    """Make what a draft describes. Nothing of the model is changed. Raises what torch raises when memory runs out."""
    names = {id(parameter): name for name, parameter in live.weights.parameters.items()}
    maker = _Maker(live, drafted)
    made = Made(
        attributes=() if drafted.masked else drafted.structure.attributes,
        kept_heads={} if drafted.masked else dict(drafted.structure.kept_heads),
        skipped=frozenset(block.index - live.anatomy.encoder_layers for block in drafted.skipped.values()),
    )
    for path, block in drafted.skipped.items():
        made.modules[path] = Skipped(block.module, live.weights.tuple_length)
    for path, linear in drafted.products.items():
        matrix = linear.upright(maker.tensor(names[id(linear.weight)]))
        bias = None if linear.bias is None else maker.tensor(names[id(linear.bias)])
        if drafted.plan.quantization != "none":
            made.modules[path] = quantized(drafted.plan.quantization, matrix, bias)
        else:
            made.modules[path] = SemiSparseLinear(matrix, bias)
    made.tensors = {name: maker.tensor(name) for name in _held(live, drafted)}
    return made


class _Maker:
    """Makes single tensors of a draft; what has been made in the same dtype before is taken from there."""

    def __init__(self, live: LiveModel, drafted: Draft) -> None:
        self._live = live
        self._draft = drafted
        plain = live.weights.made.get(WeightPlan(dtype=drafted.plan.dtype))
        self._cast = {} if plain is None else plain.tensors

    def tensor(self, name: str) -> torch.Tensor:
        """What a parameter holds under the plan, before its rows are stored narrower."""
        plan, cut = self._draft.plan, self._draft.cuts.get(name)
        tensor = self._cast.get(name, self._live.weights.loaded[name])
        if cut is not None and not self._draft.masked:
            tensor = cut.of(tensor)
        elif cut is not None and cut.closes:
            tensor = cut.masked(tensor)
        tensor = tensor.to(dtype_of(self._live, plan, name))
        return half_zero(tensor) if name in self._draft.sparse else tensor
