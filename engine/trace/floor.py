"""The floor of a step: bytes that have to move, operations that have to be done, and the least time for both.

For a step that computes n = rows · positions new positions, each row with p tokens in its cache before:

- Weights: every weight of the layers that run and of the head is read once; of an embedding table one row a position.
- Experts: of E experts, k for each position, E·(1 − (1 − k/E)^n) different ones are read where positions choose
  independently; as many as were really routed to where that is known. (Each expert is missed by one position with
  probability 1 − k/E.)
- Cache: each layer reads what it keeps of min(p, window − 1) earlier tokens and writes that of the new ones, of every
  row; `AttentionShape.token_bytes` a token. A static cache is read over all of its reserved length.
- State: a state-space layer reads and writes its state and the last inputs of its convolution, in every row.
- Operations: two for each weight and position (2·N, Kaplan et al. 2020, arXiv 2001.08361, section 2.1), k experts a
  position; two for each product of queries with keys and of their weights with values: 2·n_q·(d_k + d_v) for each pair
  of a query and a key that it may see. Six for each number of a state: a product and a sum for its decay, its input
  and the output. A convolution's are those of its weights.
- Training: forward, then twice as much backward (2·N and 4·N, ibid.). Each piece of the text reads its weights twice,
  forward and backward; gradients as wide as the weights are written by the first piece, read and written by each later
  one: 3·W + 4·W·(pieces − 1) bytes. What a pass reads has to stay for the next one, so that is the working set.
- Mixed precision (Micikevicius et al. 2018, arXiv 1710.03740, section 3.1) moves no less: weights stay as they are
  stored, and gradients are added up as wide. A copy of W/2 bytes written forward and read backward is what reading W
  again comes to. It multiplies in 16 bit, or as before: the faster counts.
- Layers on several devices run one after the other: the sum over devices of max(bytes / bandwidth, operations / rate),
  each by its own calibration. What passes from one to the next is not counted.
- Speculation: a verify step has one position more than were drafted; a draft model makes a decode step of its own for
  each drafted token, before.

Not counted: activations between the parts of a layer, which a machine may keep in its caches, and whatever an
implementation does beside (copies, masks, unpacking, expanding latent keys). So no step can be faster; how far it is
above says what could still be won.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from engine.trace.calibration import SECOND_NS, Calibration
from engine.trace.phases import StepKind
from engine.trace.shapes import CrossShape, Layers, LayerShape, MlpShape, ModelShape, expert_layers

STATE_OPERATIONS = 6
_KEPT = 256  # kinds of step that are kept prepared
_TRAINED = 3  # forward and twice as much backward
_FIRST_PIECE = 3  # weights read twice, gradients written;
_LATER_PIECE = 4  # and those before them read
MIXED = "bfloat16"  # what mixed precision multiplies in


class Part(StrEnum):
    """A part of the model that has a floor of its own."""

    ATTENTION = "attention"
    MLP = "MLP"  # or experts, or the mixer of a state-space layer
    HEAD = "head"
    REST = "rest"  # embedding, norms, and what has no other role
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes that have to move, at least, and operations that have to be done."""

    nbytes: float = 0.0
    operations: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.nbytes + other.nbytes, self.operations + other.operations)

    def times(self, count: float) -> "Work":
        """So much work `count` times."""
        return Work(self.nbytes * count, self.operations * count)

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity: operations for each byte that moves. None where nothing moves."""
        return self.operations / self.nbytes if self.nbytes > 0 else None


class Fed(NamedTuple):
    """What a step was given: `rows` sequences of `positions` new tokens, with `past` tokens of each in its cache.

    `logits`: positions of a row whose logits were asked for. `reserved`: length of a static cache. `source`: tokens
    that the encoder read, of a decoder that attends to them; `begins`: their keys and values are made by this step.
    `drafted`: tokens that were proposed before it. `routed`: different experts that were read, all layers together,
    None where that is not known. `pieces`, `mixed`: of a training step, in how many parts its positions went, and
    whether it multiplied in 16 bit.
    """

    kind: StepKind
    rows: int = 1
    positions: int = 1
    logits: int = 1
    reserved: int = 0
    source: int = 0
    begins: bool = False
    drafted: int = 0
    routed: float | None = None
    pieces: int = 1
    mixed: bool = False
    past: int = 0


def distinct_experts(experts: int, chosen: int, positions: int) -> float:
    """How many of E experts n positions are expected to need, k each: E·(1 − (1 − k/E)^n); exactly k for one."""
    if experts <= 0 or positions <= 0:
        return 0.0
    return float(experts * (1 - (1 - min(1.0, chosen / experts)) ** positions))


def attended_pairs(past: int, positions: int, window: int = 0, causal: bool = True) -> int:
    """Pairs of a query and a key that it may see, in one row: `positions` queries behind `past` tokens.

    Causal: the query at place j sees p + j + 1 keys, at most `window` of them: n·p + n·(n + 1)/2 without a window.
    """
    if not causal:
        return positions * (past + positions)
    growing = positions if not window else max(0, min(positions, window - 1 - past))
    return growing * past + growing * (growing + 1) // 2 + (positions - growing) * window


def moved_tokens(past: int, positions: int, window: int = 0) -> int:
    """Tokens of one row whose keys and values a layer reads from its cache, or writes to it."""
    if not window:
        return past + positions
    return min(past, window - 1) + min(positions, window)


@dataclass(frozen=True, slots=True)
class _Core:
    """What depends on how much is cached, of all layers with the same window: for each token moved, for each pair."""

    window: int
    causal: bool
    token_bytes: float
    pair_operations: float

    def work(self, past: int, positions: int) -> Work:
        return Work(
            self.token_bytes * moved_tokens(past, positions, self.window),
            self.pair_operations * attended_pairs(past, positions, self.window, self.causal),
        )


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind of step, ready to be told for any number of cached tokens: by part, and all together."""

    parts: dict[Part, Work]
    fixed: Work
    cores: tuple[_Core, ...]
    draft_steps: int = 0
    working_set: float = 0.0  # of what is fixed, where that is less than all that moves


class Costs:
    """Tells the work of steps of one shape. What does not depend on the context is computed once a kind of step."""

    def __init__(self, shape: ModelShape) -> None:
        self.shape = shape
        self._forms: dict[tuple[object, ...], _Form] = {}
        self._draft = (
            Costs(replace(shape.draft.alone(), computes=shape.computes)) if shape.draft is not None else None
        )
        self._has_experts = expert_layers((*shape.encoder, *shape.decoder)) > 0
        self._stages = {device: Costs(shape.on(device)) for device in shape.devices}

    def parts(self, fed: Fed) -> dict[Part, Work]:
        """The work of each part of the model; they add up to `work`."""
        form = self._form(fed)
        parts = dict(form.parts)
        for core in form.cores:
            parts[Part.ATTENTION] += core.work(fed.past, fed.positions)
        if self._draft is not None and form.draft_steps:
            parts[Part.DRAFT] = self._draft.work(_draft_step(fed)).times(form.draft_steps)
        return parts

    def work(self, fed: Fed) -> Work:
        """All that a step has to move and to compute."""
        own = Work(*self._own(self._form(fed), fed))
        if self._draft is None or not fed.drafted:
            return own
        return own + self._draft.work(_draft_step(fed)).times(fed.drafted)

    def is_certain(self, fed: Fed) -> bool:
        """Whether no step can have had less to do: not where only so many experts are expected to be read."""
        return not self._has_experts or fed.routed is not None or fed.rows * fed.positions == 1

    def told(self, fed: Fed, calibration: Calibration | None) -> tuple[int, int, int]:
        """Bytes, operations and floor (ns; 0 without a calibration of what it computes) of a step, for its event.

        A draft model's steps come one after the other, before: their floors add up.
        """
        form = self._form(fed)
        nbytes, operations = self._own(form, fed)
        floor_ns = 0
        if calibration is not None and (rate := calibration.rate(self.computes(fed))):
            floor_ns = calibration.floor_ns(nbytes, operations, rate, form.working_set)
        if self._draft is not None and fed.drafted:
            each, more, draft_ns = self._draft.told(_draft_step(fed), calibration)
            nbytes += fed.drafted * each
            operations += fed.drafted * more
            floor_ns += fed.drafted * draft_ns
        return int(nbytes), int(operations), floor_ns

    def told_apart(self, fed: Fed, calibrations: Mapping[str, Calibration]) -> tuple[int, int, int]:
        """The same of a model that is split, whose devices have a calibration each, by their names.

        No floor where one of them is missing: what is left would look like the whole.
        """
        nbytes, operations, _ = self.told(fed, None)
        floors = [
            stage.told(self._of_stage(fed, stage), calibrations.get(device))[2]
            for device, stage in self._stages.items()
        ]
        return nbytes, operations, sum(floors) if all(floors) else 0

    def _of_stage(self, fed: Fed, stage: "Costs") -> Fed:
        """Experts that were read are told of all layers together: a stage has its share of them."""
        if fed.routed is None:
            return fed
        own, every = (expert_layers(_side(shape, fed)) for shape in (stage.shape, self.shape))
        return fed._replace(routed=fed.routed * own / max(1, every))

    def computes(self, fed: Fed) -> tuple[str, ...]:
        """What the products of a step are of: the fastest counts."""
        return (*self.shape.computes, MIXED) if fed.mixed else self.shape.computes

    def working_set(self, fed: Fed) -> float:
        """Bytes that a step reads before it comes to the first of them again: these tell the level of memory."""
        form = self._form(fed)
        return form.working_set or self._own(form, fed)[0]

    def _own(self, form: _Form, fed: Fed) -> tuple[float, float]:
        """Bytes and operations without those of drafts: what is told of every step."""
        nbytes, operations = form.fixed.nbytes, form.fixed.operations
        for core in form.cores:
            nbytes += core.token_bytes * moved_tokens(fed.past, fed.positions, core.window)
            operations += core.pair_operations * attended_pairs(
                fed.past, fed.positions, core.window, core.causal
            )
        return nbytes, operations

    def _form(self, fed: Fed) -> _Form:
        key = fed[:-1]  # all but how much is cached
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= _KEPT:
                self._forms.clear()
            form = self._forms[key] = _form(self.shape, fed)
        return form


def _draft_step(fed: Fed) -> Fed:
    return Fed(StepKind.DECODE, past=fed.past + 1)


def _side(shape: ModelShape, fed: Fed) -> Layers:
    return shape.encoder if fed.kind is StepKind.ENCODE else shape.decoder


def _form(shape: ModelShape, fed: Fed) -> _Form:
    if fed.kind is StepKind.BACKWARD:
        return _trained(shape, fed)
    encodes = fed.kind is StepKind.ENCODE
    layers = _side(shape, fed)
    moe_layers = expert_layers(layers)
    count = fed.rows * fed.positions
    parts = dict.fromkeys(Part, Work())
    for number, layer in layers:
        for part, work in _layer(layer, shape, fed, count, moe_layers):
            parts[part] += work.times(number)
    parts[Part.REST] += Work(
        shape.embed.nbytes + shape.embedded_bytes * count, 2.0 * shape.embed.products * count
    )
    if not (encodes and shape.decoder):  # an encoder–decoder's head belongs to its decoder
        parts[Part.HEAD] += Work(shape.head.nbytes, 2.0 * shape.head.products * fed.rows * fed.logits)
    cores = _cores(layers, shape, fed)
    if fed.reserved:  # whatever is in it, all of it is read
        kept = sum(c.token_bytes * min(fed.reserved, c.window or fed.reserved) for c in cores)
        parts[Part.ATTENTION] += Work(kept)
        cores = tuple(_Core(c.window, c.causal, 0.0, c.pair_operations) for c in cores)
    return _Form(parts, _total(parts), cores, fed.drafted if shape.draft is not None else 0)


def _total(parts: Mapping[Part, Work]) -> Work:
    total = Work()
    for work in parts.values():
        total += work
    return total


def _trained(shape: ModelShape, fed: Fed) -> _Form:
    """A training step: each piece of its text is a prompt that is read, by both sides where there are two."""
    plain = replace(shape, cache="none", draft=None)
    total, reads = dict.fromkeys(Part, Work()), 0.0
    for place in range(fed.pieces):
        positions = fed.positions // fed.pieces + (place < fed.positions % fed.pieces)
        read = Fed(
            StepKind.PREFILL, positions=positions, logits=positions, source=fed.source, begins=fed.begins
        )
        passes = [read] if not shape.encoder else [Fed(StepKind.ENCODE, positions=fed.source), read]
        moves = _LATER_PIECE if place else _FIRST_PIECE
        for each in passes:
            form = _form(plain, each)
            reads += form.fixed.nbytes
            for part, work in form.parts.items():
                total[part] += Work(moves * work.nbytes, _TRAINED * work.operations)
            for core in form.cores:
                total[Part.ATTENTION] += core.work(0, each.positions).times(_TRAINED)
    return _Form(total, _total(total), (), working_set=reads / fed.pieces)


def _layer(
    layer: LayerShape, shape: ModelShape, fed: Fed, count: int, moe_layers: int
) -> list[tuple[Part, Work]]:
    """What of a layer does not depend on how much is cached."""
    found = [(Part.REST, Work(layer.rest.nbytes, 2.0 * layer.rest.products * count))]
    if layer.attention is not None:
        weights = layer.attention.weights
        found.append((Part.ATTENTION, Work(weights.nbytes, 2.0 * weights.products * count)))
    if layer.cross is not None:
        found.append((Part.ATTENTION, _cross(layer.cross, fed, count)))
    if layer.mlp is not None:
        found.append((Part.MLP, _mlp(layer.mlp, fed, count, moe_layers)))
    if layer.mixer is not None:
        mixer = layer.mixer
        # a state is kept between steps: read once (unless there is none yet) and written once, in each row
        moved = 2 if fed.past else 1
        state = 0 if shape.cache == "none" else mixer.kept_bytes * fed.rows * moved
        operations = 2.0 * mixer.weights.products * count + STATE_OPERATIONS * mixer.state * count
        found.append((Part.MLP, Work(mixer.weights.nbytes + state, operations)))
    return found


def _cross(cross: CrossShape, fed: Fed, count: int) -> Work:
    keys = fed.rows * fed.source
    nbytes = cross.weights.nbytes + cross.token_bytes * keys
    operations = 2.0 * (cross.weights.products + cross.pair_products * fed.source) * count
    if not fed.begins:
        return Work(nbytes, operations)
    made = cross.source_weights
    return Work(nbytes + made.nbytes, operations + 2.0 * made.products * keys)


def _mlp(mlp: MlpShape, fed: Fed, count: int, moe_layers: int) -> Work:
    work = Work(mlp.weights.nbytes, 2.0 * mlp.weights.products * count)
    if not mlp.experts:
        return work
    if fed.routed is None:
        read = distinct_experts(mlp.experts, mlp.chosen, count)
    else:
        read = fed.routed / moe_layers
    return work + Work(read * mlp.expert.nbytes, 2.0 * mlp.chosen * mlp.expert.products * count)


def _cores(layers: Layers, shape: ModelShape, fed: Fed) -> tuple[_Core, ...]:
    """What depends on the context, once for each window."""
    keeps = shape.cache != "none" and fed.kind is not StepKind.ENCODE
    found: dict[tuple[int, bool], tuple[float, float]] = {}
    for number, layer in layers:
        attention = layer.attention
        if attention is None:
            continue
        key = (attention.window, attention.causal)
        before = found.get(key, (0.0, 0.0))
        kept = float(number * attention.token_bytes * fed.rows) if keeps else 0.0
        found[key] = before[0] + kept, before[1] + 2.0 * number * attention.pair_products * fed.rows
    return tuple(
        _Core(window, causal, token_bytes, pair_operations)
        for (window, causal), (token_bytes, pair_operations) in found.items()
    )


# ---------------------------------------------------------------- shares


def share_of_floor(floor_ns: int, wall_ns: int) -> float | None:
    """floor / wall: 1 would be the physical limit. None where one of them is not known."""
    return floor_ns / wall_ns if floor_ns > 0 and wall_ns > 0 else None


def bandwidth_utilization(nbytes: float, wall_ns: int, calibration: Calibration) -> float | None:
    """MBU: bytes that have to move / wall time / measured bandwidth of the level of memory that they come from.

    (Databricks 2023, "LLM inference performance engineering", with the measured bandwidth in place of the datasheet's.)
    None where nothing moves or no time passed.
    """
    if nbytes <= 0 or wall_ns <= 0:
        return None
    return nbytes * SECOND_NS / wall_ns / calibration.bandwidth(nbytes)
