"""The shape of a live model, for its floor: read off its modules and parameters, and held against its configuration.

Parameters are what runs, so they are what is counted: quantized, pruned and skipped parts as they are now. The
configuration says what parameters do not: how many experts a token is sent to, and how far a window reaches. Where both
speak and disagree, parameters win and a remark says so. What cannot be told is counted by its parameters alone, and a
remark says that.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.protocol import Family
from engine.runtime.anatomy import Anatomy, Block, Part, find_anatomy
from engine.runtime.drafting import exit_layers
from engine.runtime.live import Draft, LiveModel
from engine.runtime.placement import place_of, places_of, why_no_floor
from engine.runtime.routing import holds_experts
from engine.runtime.stacks import layer_stacks
from engine.runtime.weights.quantized import QuantizedLinear
from engine.runtime.weights.realizing import stored_bytes
from engine.runtime.weights.skipping import Skipped
from engine.runtime.weights.sparse import SemiSparseLinear
from engine.runtime.weights.torchao_linears import TorchaoLinear
from engine.trace.shapes import (
    AttentionShape,
    CrossShape,
    DraftShape,
    LayerShape,
    MixerShape,
    MlpShape,
    ModelShape,
    Weights,
    gathered,
)

_KEYS = ("k_proj", "key", "k", "k_lin", "key_proj", "k_linear")
_VALUES = ("v_proj", "value", "v", "v_lin", "value_proj", "v_linear")
_QUERIES = ("q_proj", "query", "q", "q_lin", "query_proj", "q_linear", "q_b_proj")
_FUSED = ("c_attn", "qkv_proj", "Wqkv", "query_key_value", "qkv", "att_proj", "W_pack", "in_proj")
_LATENT = ("kv_a_proj_with_mqa", "kv_a_proj")
_CHOSEN = (
    *("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "moe_top_k"),
    *("num_selected_experts", "experts_per_token", "num_experts_topk"),
)
#: Attention that looks at some pairs only, by rules of its own.
_SPARSE = re.compile("local|sparse|longformer|big_?bird|reformer|lsh|nystrom|performer|fnet", re.IGNORECASE)
#: Matrices that no position is multiplied with.
_NO_PRODUCTS = ("A_log",)


def shape_of(live: LiveModel) -> ModelShape:
    """The shape of a live model with the settings in force."""
    model = live.model
    reads_only = live.facts.family is Family.ENCODER
    pruned = bool(live.weights.plan.mlp_pruned or live.weights.plan.heads_pruned)
    kept = _Kept(_windows(model, live.anatomy), live.cache_kind, live.kv_window)
    shape = model_shape(model, live.anatomy, kept, reads_only=reads_only, as_configured=not pruned)
    draft = _draft_shape(live, shape, kept)
    no_floor = why_no_floor(shape.devices)
    if shape.devices and draft is not None:
        no_floor = no_floor or "where a draft of a model runs that is split over devices is not known"
    remarks = (*shape.remarks, f"there is none, since {no_floor}") if no_floor else shape.remarks
    return replace(
        shape,
        cache=live.cache_kind,
        computes=_computes(live),
        draft=draft,
        remarks=remarks,
        no_floor=no_floor,
    )


def _computes(live: LiveModel) -> tuple[str, ...]:
    """What the products of a model are of. Kernels of narrow weights widen them, or round their inputs."""
    own = str(live.weights.plan.dtype or live.weights.dtype or live.model.dtype).removeprefix("torch.")
    quantization = live.weights.plan.quantization
    if quantization in ("int8", "int4"):
        return tuple(dict.fromkeys((own, "float32", "bfloat16")))
    if quantization == "int8_dynamic":
        return own, "int8"
    return (own,) if quantization == "none" else (quantization,)


@dataclass(frozen=True)
class _Kept:
    """How layers keep tokens: `windows` of the cache's layers (0: all tokens), by the layer's number."""

    windows: tuple[int, ...] = ()
    kind: str = "dynamic"
    width: int = 0  # of a sliding cache

    def window(self, layer: int) -> int:
        """Tokens that a layer of the decoder sees; 0: all."""
        own = self.windows[layer] if 0 <= layer < len(self.windows) else 0
        return self.width if self.kind == "sliding" and not own else own

    def number_bytes(self, layer: int, dtype: torch.dtype) -> int:
        """Of a number in its cache: layers with windows of their own are never quantized."""
        own = self.windows[layer] if 0 <= layer < len(self.windows) else 0
        return 1 if self.kind == "quantized" and not own else dtype.itemsize


def model_shape(
    model: PreTrainedModel,
    anatomy: Anatomy,
    kept: _Kept | None = None,
    *,
    reads_only: bool = False,
    as_configured: bool = True,
) -> ModelShape:
    """The shape of a model by its modules. `reads_only`: it has no decoder; `as_configured`: nothing was pruned."""
    counting = _Counting(model, kept or _Kept(_windows(model, anatomy)), as_configured)
    encoders = len(anatomy.blocks) if reads_only else anatomy.encoder_layers
    encoder = [counting.layer(block, -1) for block in anatomy.blocks[:encoders]]
    decoder = [counting.layer(block, block.index - encoders) for block in anatomy.blocks[encoders:]]
    embeddings = _unique(part.module for part in anatomy.embeddings)
    ends = [
        next((counting.place(part.name) for part in parts), "")
        for parts in (anatomy.embeddings, anatomy.head)
    ]
    tables = _tables(embeddings)
    if anatomy.encoder is not None:  # each side has some of them; the words' is in both
        tables = sorted(tables, key=lambda table: -table.num_embeddings)[:1]
    return ModelShape(
        decoder=gathered(decoder),
        encoder=gathered(encoder),
        head=counting.weights([part.module for part in anatomy.head]),
        embed=counting.weights(embeddings),
        embedded_bytes=sum(table.embedding_dim * table.weight.element_size() for table in tables),
        remarks=tuple(dict.fromkeys(counting.remarks)),
        embed_device=ends[0],
        head_device=ends[1],
    )


def _tables(embeddings: Sequence[nn.Module]) -> list[nn.Embedding]:
    """Embedding tables, each once, however many modules share its weights."""
    found = {}
    for module in (inner for outer in embeddings for inner in outer.modules()):
        if isinstance(module, nn.Embedding):
            found[id(module.weight)] = module
    return list(found.values())


def _windows(model: PreTrainedModel, anatomy: Anatomy) -> tuple[int, ...]:
    """The window of each layer of the decoder, 0 for none, as its own cache would keep it."""
    decoder: Any = model if anatomy.encoder is None else model.get_decoder()  # type: ignore[no-untyped-call]
    config = getattr(decoder, "config", model.config).get_text_config(decoder=True)
    try:
        layers = DynamicCache(config=config).layers
    except Exception:  # a model that has no cache of this kind has no windows in it either
        return ()
    return tuple(int(getattr(layer, "sliding_window", 0) or 0) for layer in layers)


def _draft_shape(live: LiveModel, shape: ModelShape, kept: _Kept) -> DraftShape | None:
    """What proposes tokens, where that is a model or a part of this one."""
    if live.loop.speculation == "draft" and live.draft is not None:
        return _of_draft(live.draft)
    if live.loop.speculation != "exit":
        return None
    anatomy = live.anatomy
    _, _, layers = next(layer_stacks(live))
    count = exit_layers(live, layers)
    first = replace(anatomy, blocks=anatomy.blocks[anatomy.encoder_layers :][:count], encoder_layers=0)
    early = model_shape(live.model, first, kept)
    return DraftShape(early.decoder, early.head, early.embed, early.embedded_bytes)


def _of_draft(draft: Draft) -> DraftShape:
    whole = model_shape(draft.model, find_anatomy(draft.model))
    return DraftShape(whole.decoder, whole.head, whole.embed, whole.embedded_bytes)


# ---------------------------------------------------------------- weights


def _unique(modules: Iterable[nn.Module]) -> list[Any]:
    return list({id(module): module for module in modules}.values())


def _matrix(module: nn.Module) -> tuple[int, int] | None:
    """(outputs, inputs) of a module that is one matrix product, however its weights are stored."""
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
        return int(outputs), int(inputs)
    if isinstance(module, nn.Linear | QuantizedLinear | TorchaoLinear | SemiSparseLinear):
        return int(module.out_features), int(module.in_features)
    return None


@dataclass
class _Counting:
    """Counts one model. Weights that several layers share are read once; they multiply each time."""

    model: PreTrainedModel
    kept: _Kept
    as_configured: bool
    remarks: list[str] = field(default_factory=list)
    _read: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._places = places_of(self.model)

    @property
    def _config(self) -> Any:
        return self.model.config.get_text_config(decoder=True)

    @property
    def _dtype(self) -> torch.dtype:
        """Of activations, and with them of what is cached."""
        return self.model.dtype

    def place(self, path: str) -> str:
        """The device of a module, "" where all of the model is in one place."""
        return place_of(self._places, path) if self._places else ""

    def weights(self, modules: Sequence[nn.Module], without: Iterable[nn.Module] = ()) -> Weights:
        """What these modules read and multiply, each of their parameters once; embeddings look up and do not count."""
        left_out = {id(inner) for module in without for inner in module.modules()}
        nbytes = products = 0
        counted: set[int] = set()
        for module in _unique(inner for outer in modules for inner in outer.modules()):
            if id(module) in left_out or isinstance(module, nn.Embedding):
                continue
            for name, tensor in _own_tensors(module):
                if id(tensor) in counted:
                    continue
                counted.add(id(tensor))
                products += _products(module, name, tensor)
                if id(tensor) not in self._read:
                    self._read.add(id(tensor))
                    nbytes += stored_bytes(tensor)
        return Weights(nbytes, products)

    # ------------------------------------------------------------ layers

    def layer(self, block: Block, number: int) -> LayerShape:
        """A layer; `number`: of the decoder's, -1 for one of an encoder."""
        if isinstance(block.module, Skipped):
            return LayerShape(device=self.place(block.name))
        claimed = [m for part in _parts(block) for m in _modules(part)]
        return LayerShape(
            attention=self._attention(block, number),
            cross=self._cross(block),
            mlp=self._mlp(block),
            mixer=self._mixer(block),
            rest=self.weights([block.module], without=claimed),
            device=self.place(block.name),
        )

    def _attention(self, block: Block, number: int) -> AttentionShape | None:
        if not block.attention:
            return None
        modules = [m for part in block.attention for m in _modules(part)]
        found = self._heads(modules, block.name, keeps=number >= 0)
        return AttentionShape(
            self.weights(modules),
            found.pair_products,
            found.kept * self.kept.number_bytes(number, self._dtype) if number >= 0 else 0,
            self.kept.window(number),
            causal=number >= 0,
        )

    def _cross(self, block: Block) -> CrossShape | None:
        if not block.cross_attention:
            return None
        modules = [m for part in block.cross_attention for m in _modules(part)]
        found = self._heads(modules, block.name, keeps=True)
        linears = _named(modules)
        source = [module for name, module in linears if name in (*_KEYS, *_VALUES)]
        if not source:
            self.remarks.append(f"{block.name}: keys and values of its cross-attention were not told apart")
        return CrossShape(
            self.weights(modules, without=source),
            self.weights(source),
            found.pair_products,
            found.kept * self._dtype.itemsize,
        )

    def _heads(self, modules: Sequence[nn.Module], layer: str, keeps: bool) -> "_Heads":
        """What the projections say of an attention block, held against the configuration. `keeps`: it has a cache."""
        names = {type(inner).__name__ for module in modules for inner in module.modules()}
        if odd := next((name for name in sorted(names) if _SPARSE.search(name)), ""):
            self.remarks.append(
                f"{odd} looks at pairs by rules of its own: it is counted by its parameters only"
            )
            return _Heads(0, 0)
        told = _told_by_projections(_named(modules))
        promised = _told_by_config(self._config)
        if told is None:
            if promised is None:
                kind = type(modules[0]).__name__
                self.remarks.append(
                    f"the heads of {kind} could not be told: it is counted by its parameters only"
                )
                return _Heads(0, 0)
            self.remarks.append(
                f"the heads of {type(modules[0]).__name__} are those that the configuration promises"
            )
            return promised
        if promised is not None and not keeps:
            promised = replace(promised, kept=told.kept)
        if promised is not None and self.as_configured and not told.is_latent and told != promised:
            self.remarks.append(
                f"{layer}: the configuration promises {promised.kept:,} numbers a token in the cache and"
                f" {promised.pair_products:,} products a pair, the projections make {told.kept:,} and"
                f" {told.pair_products:,}: these are counted"
            )
        return told

    # ------------------------------------------------------------ MLPs and mixers

    def _mlp(self, block: Block) -> MlpShape | None:
        if not block.mlp:
            return None
        modules = [m for part in block.mlp for m in _modules(part)]
        experts = _experts(modules)
        if experts is None:
            return MlpShape(self.weights(modules))
        holders, count = experts
        every = self.weights(holders)
        return MlpShape(
            self.weights(modules, without=holders),
            count,
            self._chosen(modules, count, block.name),
            Weights(every.nbytes // count, every.products // count),
        )

    def _chosen(self, modules: Sequence[nn.Module], count: int, layer: str) -> int:
        inner = [m for module in modules for m in module.modules()]
        told = [k for m in inner if isinstance(k := getattr(m, "top_k", None), int)]
        promised = [k for name in _CHOSEN if isinstance(k := getattr(self._config, name, None), int)]
        if told and promised and told[0] != promised[0]:
            self.remarks.append(
                f"{layer}: the configuration sends a token to {promised[0]} experts, its router to {told[0]}:"
                " these are counted"
            )
        chosen = next((k for k in (*told, *promised) if 0 < k <= count), 0)
        if not chosen:
            self.remarks.append(f"{layer}: how many experts a token is sent to is not known: one is counted")
        return chosen or 1

    def _mixer(self, block: Block) -> MixerShape | None:
        if not block.mixer:
            return None
        modules = [m for part in block.mixer for m in _modules(part)]
        states = [_state(module) for module in modules]
        for module, state in zip(modules, states, strict=True):
            if state is None:
                kind = type(module).__name__
                self.remarks.append(f"the state of {kind} is not known: it is counted by its parameters only")
        known = [state for state in states if state is not None]
        numbers, inputs = (sum(state[place] for state in known) for place in (0, 1))
        return MixerShape(self.weights(modules), numbers, inputs, self._dtype.itemsize)


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(recurse=False)
    if isinstance(module, QuantizedLinear):
        yield "scale", module.scale


def _products(module: nn.Module, name: str, tensor: torch.Tensor) -> int:
    """Multiplications a position that a tensor stands for."""
    if name == "scale" or name in _NO_PRODUCTS:
        return 0
    size = _matrix(module)
    if size is not None:
        products = size[0] * size[1] if name == "weight" else 0
        return products // 2 if isinstance(module, SemiSparseLinear) else products
    return tensor.numel() if tensor.ndim >= 2 else 0


def _parts(block: Block) -> tuple[Part, ...]:
    return (*block.attention, *block.cross_attention, *block.mlp, *block.mixer)


def _modules(part: Part) -> list[nn.Module]:
    return [part.module] if part.until is None else [part.module, part.until]


# ---------------------------------------------------------------- heads


@dataclass(frozen=True)
class _Heads:
    """`kept`: numbers of each token in the cache; `pair_products`: for one query and one key. See AttentionShape."""

    kept: int
    pair_products: int
    is_latent: bool = False


def _named(modules: Sequence[nn.Module]) -> list[tuple[str, nn.Module]]:
    """The matrix products in some modules, by the last part of their names."""
    found = []
    for module in modules:
        for path, inner in module.named_modules():
            if _matrix(inner) is not None:
                found.append((path.rpartition(".")[2], inner))
    return found


def _told_by_projections(linears: Sequence[tuple[str, nn.Module]]) -> _Heads | None:
    """What is read off the sizes of projections; None where they are not recognized.

    Keys and values are what their projections make; of fused ones, what they make beyond as much as the output reads.
    """
    sizes = {name: size for name, module in linears if (size := _matrix(module)) is not None}

    def made(names: Sequence[str]) -> int:
        return next((sizes[name][0] for name in names if name in sizes), 0)

    queries, keys, values, fused = (made(names) for names in (_QUERIES, _KEYS, _VALUES, _FUSED))
    latent = made(_LATENT)
    known = (*_QUERIES, *_KEYS, *_VALUES, *_FUSED, *_LATENT, "kv_b_proj", "q_a_proj")
    others = [size for name, size in sizes.items() if name not in known]
    read = others[-1][1] if others else 0
    if not read:
        return None
    if latent and queries:
        return _Heads(latent, queries + read, is_latent=True)
    if keys and values and queries:
        return _Heads(keys + values, 2 * read if keys == values else queries + read)
    if fused > read:
        return _Heads(fused - read, 2 * read)
    return None


def _told_by_config(config: Any) -> _Heads | None:
    """What the configuration says of grouped attention; None where it does not, or differs from layer to layer."""
    heads = _number(config, "num_attention_heads", "n_head", "num_heads", "n_heads")
    hidden = _number(config, "hidden_size", "n_embd", "d_model")
    if not heads or not hidden:
        return None
    groups = _number(config, "num_key_value_heads") or heads
    if hasattr(config, "multi_query"):  # Falcon, and those that share all keys
        groups = 1 if config.multi_query else heads
        if getattr(config, "new_decoder_architecture", False):
            groups = _number(config, "num_kv_heads") or heads
    width = _number(config, "head_dim", "d_kv") or hidden // heads
    return _Heads(2 * groups * width, 2 * heads * width)


def _number(config: Any, *names: str) -> int:
    return next((v for name in names if isinstance(v := getattr(config, name, None), int) and v > 0), 0)


# ---------------------------------------------------------------- experts and states


def _experts(modules: Sequence[nn.Module]) -> tuple[list[nn.Module], int] | None:
    """What holds the routed experts, and how many they are; None for a dense MLP."""
    for module in (inner for each in modules for inner in each.modules()):
        if holds_experts(module):
            return [module], len(next(p for p in module.parameters(recurse=False) if p.ndim == 3))
        for name, child in module.named_children():
            if name == "experts" and isinstance(child, nn.ModuleList) and len(child) > 1:
                return [child], len(child)
    return None


def _state(mixer: nn.Module) -> tuple[int, int] | None:
    """Numbers that a mixer keeps of each sequence: its state, and inputs that its convolution looks back at.

    Mamba: d_inner·n_state and d_inner·d_conv (Gu and Dao 2023, arXiv 2312.00752, section 3); Mamba-2: heads · width ·
    n_state (Dao and Gu 2024, arXiv 2405.21060, section 7); gated delta rule: heads · d_k · d_v (arXiv 2412.06464,
    section 2).
    """
    kernel = _number(mixer, "conv_kernel_size", "conv_kernel", "L_cache")
    back = _number(mixer, "conv_dim") * kernel
    states, heads, width = (_number(mixer, name) for name in ("ssm_state_size", "num_heads", "head_dim"))
    if states and heads and width:
        return heads * width * states, back
    if states and (inner := _number(mixer, "intermediate_size")):
        return inner * states, inner * kernel
    heads, keys, values = (_number(mixer, name) for name in ("num_v_heads", "head_k_dim", "head_v_dim"))
    if heads and keys and values:
        return heads * keys * values, back
    if rwkv := _number(
        mixer, "attention_hidden_size"
    ):  # sums, their weights, a maximum, last inputs of both parts
        return 5 * rwkv, 0
    if kernel and isinstance(convolution := getattr(mixer, "conv", None), nn.Conv1d):
        return 0, convolution.in_channels * kernel
    return None
