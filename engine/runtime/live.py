"""The loaded model and all that a setting may change about it while it runs. State lives here and nowhere else."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import nn
from transformers import Cache, PreTrainedModel
from transformers.utils.generic import ModelOutput

from engine.protocol import ModelFacts
from engine.runtime.anatomy import Anatomy
from engine.runtime.clocks import StampRecorder
from engine.runtime.compiling import CompiledStep
from engine.runtime.models.progress import LoadReport
from engine.runtime.probes import Probes
from engine.runtime.replaying import ReplayedStep
from engine.runtime.weights.plan import WeightState
from engine.trace.phases import Detail

#: The mode of all that a step does. With gradients only the forward pass itself records (see `LiveModel.run`): what
#: keeps caches, proposes and chooses works in place, and nobody would differentiate it.
GRAD_MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "grad": torch.no_grad,
}


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a token is chosen from logits. Greedy, or sampling with its parameters (neutral values switch one off).

    `top_p_method`: how top-p finds its tokens: "sort" them all, or "first" look among the likeliest few.
    `sampling_place`: where all this is computed: on the "device" of the model, or on the "host".
    """

    strategy: str = "greedy"  # "greedy" or "sample"
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    top_p_method: str = "sort"
    sampling_place: str = "device"


@dataclass(frozen=True, slots=True)
class Loop:
    """How the loop goes from step to step: one token of one sequence, unless told otherwise.

    `speculation`: "off", "lookup", "draft", "exit"; `draft_length`: tokens proposed a step, 0 for as many as pay.
    `beams`: kept by beam search; `batch`: sequences continued together. `read_back`: "synchronous" waits for each token
    before the next step, "pipelined" does not.
    """

    speculation: str = "off"
    draft_length: int = 4
    beams: int = 1
    batch: int = 1
    read_back: str = "synchronous"


@dataclass(frozen=True, slots=True)
class Draft:
    """A small model that proposes tokens for the loaded one, and the name it was asked for by."""

    name: str
    model: PreTrainedModel
    context_limit: int


@dataclass
class Context:
    """The tokens of a generation and their cache. The first `cached` of `ids` are in the cache, the rest is pending.

    `capacity`: the most tokens this generation can reach (prompt + new), for caches of fixed size. In an
    encoder–decoder all of these are the decoder's (its start tokens + new), and `encoded` is what its encoder made of
    the prompt: the output of its forward pass, None before that.

    Where several sequences or beams are computed together, the cache has a row for each, all of them equally long;
    `rows` of them; `ids` are the first one's. `padding`: how many ids at the beginning of each row only fill it up, ()
    for none. `beside`: the context of a sequence that is to join these, or is just being prefilled for that: until it
    has joined, no setting changes.
    `follow`: brings a running generation into line with `LiveModel.loop` once that changed.

    `unread`: tokens behind `ids` that were chosen and are not on the host yet (see `pipelining`). `awaited`: whether
    somebody waits for the end of the step under way; then it leaves none. Whoever says no does not touch the
    generation, its settings or its cache before the next step.
    """

    ids: list[int]
    capacity: int
    cache: Cache | None = None
    cached: int = 0
    encoded: ModelOutput | None = None
    follow: Callable[[], None] | None = None
    padding: tuple[int, ...] = ()
    rows: int = 1
    beside: "Context | None" = None
    unread: int = 0
    awaited: Callable[[], bool] = lambda: True

    @property
    def length(self) -> int:
        """All tokens so far, the first row's."""
        return len(self.ids) + self.unread

    @property
    def pending(self) -> int:
        """Those that are not in the cache."""
        return self.length - self.cached

    @property
    def text_ids(self) -> list[int]:
        """The first row's ids without what only fills it up."""
        return self.ids[self.padding[0] if self.padding else 0 :]


@dataclass
class LiveModel:
    """A model on its device, its tokenizer, and the settings in force, as the loop reads them at each step.

    `auto_detail`: the level of detail follows what it costs.
    `cache_argument`: the name under which `forward` takes the cache; `keeps_logits`: it takes `logits_to_keep`, so that
    a prefill projects its last position only. `cache_kind`: one of engine.runtime.caches.KINDS; `kv_window`: how many
    tokens attention sees with a sliding one.
    `grad_mode`: "inference", "no_grad" or "grad", how the forward pass runs (see `forward_mode`). `compiled`: the
    decode step as compiled code, None while it runs as it is; `compilations`: what has been compiled in each mode, to
    be switched on again at once. `replayed`: the decode step as a captured graph, None while there is none.
    `tell`: says what goes on while a switch takes long; `notice`: a sentence about what is measured, and what it is
    about; `new_report`: makes what hears of a load that one waits for.
    `own_decoding`: as the checkpoint's own configuration would have it, the default of `decoding`.
    `untried`: settings some of whose choices have not been tried yet, since that takes long.
    `draft_name`: the model that is to propose tokens ("": none); `draft`: that model, loaded when it is first needed.
    `no_device_clock`: why an accelerator keeps no time that can be read, "" where it does (or there is none).
    `context`: the running generation's, None between generations. `weights`: what the parameters hold, and held.
    """

    model: PreTrainedModel
    tokenizer: Any
    facts: ModelFacts
    device: torch.device
    anatomy: Anatomy
    recorder: StampRecorder
    detail: Detail = Detail.LAYER
    auto_detail: bool = True
    probes: Probes | None = None
    cache_argument: str = "past_key_values"
    keeps_logits: bool = True
    cache_kind: str = "dynamic"
    kv_window: int = 256
    grad_mode: str = "inference"
    compiled: CompiledStep | None = None
    compilations: dict[str, CompiledStep] = field(default_factory=dict)
    replayed: ReplayedStep | None = None
    tell: Callable[[str], None] = lambda activity: None
    notice: Callable[[str, str], None] = lambda sentence, about: None
    new_report: Callable[[], LoadReport] = LoadReport
    attention: str = "sdpa"
    prefill_chunk: int = 512
    decoding: Decoding = field(default_factory=Decoding)
    own_decoding: Decoding = field(default_factory=Decoding)
    loop: Loop = field(default_factory=Loop)
    draft: Draft | None = None
    draft_name: str = ""
    no_device_clock: str = ""
    context: Context | None = None
    untried: set[str] = field(default_factory=set)
    weights: WeightState = field(default_factory=WeightState)

    @cached_property
    def padded_positions(self) -> nn.Embedding | None:
        """The table of positions where it has a place for padding: then positions are counted from behind that."""
        for name, module in self.model.named_modules():
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                return cast(nn.Embedding, module)
        return None

    @cached_property
    def input_limit(self) -> int:
        """The most tokens that one input may have, special ones included.

        Models like RoBERTa never use those of their embeddings of positions that come up to their padding's.
        """
        table, limit = self.padded_positions, self.facts.context_limit
        if table is None or table.padding_idx is None:
            return limit
        return min(limit, len(table.weight) - table.padding_idx - 1)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that the model runs with now, without what is only kept to go back."""
        return self.weights.nbytes or self.facts.weight_bytes

    def forward_mode(self) -> AbstractContextManager[Any]:
        """The mode in which steps are made and caches are kept, as a context; `run` records inside of it."""
        return GRAD_MODES[self.grad_mode]()

    def uncompiled(self) -> AbstractContextManager[None]:
        """A context in which no compiled code runs: for passes through a part of the model."""
        return nullcontext() if self.compiled is None else self.compiled.aside()

    def run(self, module: nn.Module, code: int, arguments: dict[str, Any]) -> Any:
        """The output of a forward pass; at the least level of detail it is one span, of this code."""
        whole = self.detail is Detail.STEP
        if whole:
            self.recorder.begin(code)
        if self.grad_mode == "grad" and not torch.is_grad_enabled():
            output = _recorded(module, arguments, arguments.get(self.cache_argument))
        else:
            output = module(**arguments)
        if whole:
            self.recorder.end()
        return output


def _recorded(module: nn.Module, arguments: dict[str, Any], cache: Any) -> ModelOutput:
    """The output of a forward pass that records a graph for a backward pass; the graph is dropped with it."""
    # ids that were chosen before the mode changed cannot be kept for a backward pass, their copies can
    given = {name: value.clone() if _is_inference(value) else value for name, value in arguments.items()}
    with torch.enable_grad():
        output: ModelOutput = module(**given)
    detach(cache)
    for name, value in output.items():
        output[name] = _detached(value)
    return output


def detach(cache: Any) -> None:
    """Cut a cache from the graph that made it: else a step would keep all steps before it."""
    layers = cache.layers if hasattr(cache, "layers") else ()
    for part in (getattr(cache, "self_attention_cache", None), getattr(cache, "cross_attention_cache", None)):
        layers = (*layers, *(part.layers if part is not None else ()))
    for layer in layers:
        for name, value in vars(layer).items():
            setattr(layer, name, _detached(value))


def _is_inference(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_inference()


def _detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, dict):
        return {key: _detached(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_detached(inner) for inner in value)
    return value
