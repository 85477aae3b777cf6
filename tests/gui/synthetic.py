"""Traces made of real events with invented times, for charts to draw: no engine, no model, no clock."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from engine.protocol import (
    Calibrated,
    Configuration,
    Event,
    GenerationStarted,
    KernelsCaptured,
    LayoutDefined,
    ModelFacts,
    ModelLoaded,
    SettingChange,
    SettingsChanged,
    StepEnded,
    Token,
)
from engine.trace.calibration import Calibration
from engine.trace.device_ledger import NO_TIME
from engine.trace.floor import Costs, Fed
from engine.trace.ledger import END, Layout
from engine.trace.phases import HOST_PHASES, Phase, SpanName, StepKind
from engine.trace.shapes import AttentionShape, LayerShape, MlpShape, ModelShape, Weights
from engine.trace.store import Trace

WORDS = [
    "the",
    "instrument",
    "draws",
    "every",
    "step",
    "of",
    "a",
    "model",
    "while",
    "it",
    "runs",
    ",",
    "一",
    "二",
    "三",
    "and",
    "says",
    "where",
    "time",
    "went",
    "\n",
]
ATTENTION_KINDS = ("eager", "sdpa", "eager", "flex")
BASE: Configuration = (("attention", "eager"), ("cache", "dynamic"), ("precision", "float32"))


@dataclass(frozen=True)
class Shape:
    """What to invent: layers of a model, steps of a generation, prefill chunks at its begin, how often marks come;
    with `floors` also a calibration, and what each step had to move and to compute.
    """

    layers: int = 24
    generation_steps: int = 5_000
    chunks: int = 4
    mark_every: int = 0
    spike_every: int = 97
    seed: int = 7
    floors: bool = False


CALIBRATION = Calibration(
    processor="a processor",
    device="cpu",
    threads=1,
    mode="",
    at_s=1_764_100_000.0,
    rungs=((2**20, 40e9), (2**24, 20e9), (2**29, 10e9)),
    rates=(("bfloat16", 100e9), ("float32", 200e9)),
    spread=0.012,
    cache_bytes=2**25,
    took_ns=1_900_000_000,
)


def model_shape(layers: int) -> ModelShape:
    """What a model in float32 reads and multiplies whose attention takes less than its MLP."""
    layer = LayerShape(
        attention=AttentionShape(_weights(300_000), pair_products=1536, token_bytes=1024),
        mlp=MlpShape(_weights(600_000)),
        rest=Weights(6144, 0),
    )
    return ModelShape(((layers, layer),), head=_weights(5_000_000), embedded_bytes=3072)


def _weights(nbytes: int) -> Weights:
    return Weights(nbytes, nbytes // 4)


def loaded(layers: int, floors: bool = False) -> ModelLoaded:
    """A model of some layers, ready."""
    names = tuple(f"model.layers.{i}" for i in range(layers))
    facts = ModelFacts(
        "synthetic", "LlamaForCausalLM", 124_000_000, 248_000_000, "bfloat16", "cpu", names, 768, 32_000, 131_072,
        True, "bytes", 1_000_000, shape=model_shape(layers) if floors else None,
    )  # fmt: skip
    return ModelLoaded(0, facts, (), 0, BASE)


def layout(layers: int) -> LayoutDefined:
    """The spans of a step at detail `layer`."""
    names: list[SpanName] = []
    codes: list[int] = []

    def begin(phase: Phase, layer: int, name: str) -> None:
        names.append(SpanName(phase, layer, name))
        codes.append(len(names))

    def span(phase: Phase, layer: int, name: str) -> None:
        begin(phase, layer, name)
        codes.append(END)

    span(Phase.EMBED, -1, "embed_tokens")
    for i in range(layers):
        begin(Phase.NORM, i, "layer")
        span(Phase.ATTENTION, i, "self_attn")
        span(Phase.MLP, i, "mlp")
        codes.append(END)
    span(Phase.HEAD, -1, "lm_head")
    span(Phase.SAMPLE, -1, "choose token")
    span(Phase.TRANSFER, -1, "token to host")
    span(Phase.DETOKENIZE, -1, "id to text")
    span(Phase.STOP, -1, "stopping criteria")
    return LayoutDefined(1, tuple(names), tuple(codes))


def _gaps_ns(layers: int) -> np.ndarray:
    """Usual durations between neighbouring stamps of that layout: (stamps - 1,) ns."""
    layer = [4_000, 9_000, 78_000, 9_000, 120_000, 3_000]
    gaps = [1_000, 30_000]
    for i in range(layers):
        gaps += [1_500, *layer[1:5], 2_500] if i else [2_000, *layer[1:5], 2_500]
    head = [4_000, 900_000, 3_000, 160_000, 2_000, 12_000, 1_000, 22_000, 1_000, 9_000, 3_000]
    return np.array(gaps + head, np.float64)


def events(steps: int, shape: Shape | None = None) -> Iterator[Event]:
    """The events of `steps` steps: generations that begin with prefill chunks, spikes now and then, marks."""
    shape = shape or Shape()
    random = np.random.default_rng(shape.seed)
    plan = layout(shape.layers)
    gaps = _gaps_ns(shape.layers)
    assert len(gaps) == len(plan.codes) + 1
    attention = np.array([plan.codes[i - 1] > 0 and plan.names[plan.codes[i - 1] - 1].phase is Phase.ATTENTION
                          for i in range(1, len(gaps))], bool)  # fmt: skip
    yield plan
    costs = Costs(model_shape(shape.layers))
    if shape.floors:
        yield Calibrated(1_000, 0, CALIBRATION, "remembered")
    now, configuration, effective, context = 1_000_000_000, 0, BASE, 0
    speed = 1.0
    for index in range(steps):
        place = index % shape.generation_steps
        if place == 0:
            context = 0
            yield GenerationStarted(index // shape.generation_steps, now, 50_000, "a prompt", (1, 2, 3), 4096)
        if shape.mark_every and index and index % shape.mark_every == 0:
            kernel = ATTENTION_KINDS[(index // shape.mark_every) % len(ATTENTION_KINDS)]
            speed = {"eager": 1.0, "sdpa": 0.6, "flex": 0.8}[kernel]
            effective = (("attention", kernel), *BASE[1:])
            configuration += 1
            change = SettingChange("attention", kernel, kernel)
            yield SettingsChanged(now, index, (change,), 120_000, configuration, effective)
        prefill = place < shape.chunks
        row = gaps * random.normal(1.0, 0.03, len(gaps)).clip(0.8, 1.3)
        row[1:][attention] *= speed * (1 + context / 4000)
        row *= 9.0 if prefill else 1.0 + 0.05 * random.random()
        if shape.spike_every and index % shape.spike_every == shape.spike_every - 1:
            row[-4 if index % 2 else len(row) // 2] += 6_000_000
        stamps = now + np.concatenate([[0], np.cumsum(row.astype(np.int64))])
        now = int(stamps[-1]) + 5_000
        last_chunk = place == shape.chunks - 1
        tokens = (
            ()
            if prefill and not last_chunk
            else (Token(index % 997, WORDS[index % len(WORDS)] + " ", int(stamps[-2])),)
        )
        context += 256 if prefill else 1
        kind = StepKind.PREFILL if prefill else StepKind.DECODE
        past = context - len(tokens) - (256 if prefill else 1)
        fed = Fed(kind, positions=256 if prefill else 1, past=past)
        told = (*costs.told(fed, CALIBRATION), 0) if shape.floors else (0, 0, 0, -1)
        yield StepEnded(
            index, index // shape.generation_steps, kind, configuration, 1,
            stamps.tobytes(), 0, context, context * 1024, tokens, 256 if prefill else 0,
            moved_bytes=told[0], operations=told[1], floor_ns=told[2], calibration=told[3],
        )  # fmt: skip


def on_device(steps: int, launch_bound: bool = False, layers: int = 4) -> Trace:
    """A trace of a device: the host launches its work in a tenth of the time that it takes, or in ten times that."""
    facts, plan = loaded(layers), layout(layers)
    made = Trace(replace(facts, model=replace(facts.model, device="cuda:0")))
    made.extend([plan, GenerationStarted(0, 0, 50_000, "a prompt", (1, 2, 3), 4096)])
    gaps = _gaps_ns(layers).astype(np.int64)
    owners = Layout(plan.names, plan.codes).gap_owners
    alone = np.array([owner is not None and owner.phase in HOST_PHASES for owner in owners])
    launches = np.where(alone | launch_bound, gaps, gaps // 10)
    works = np.where(alone, 0, gaps // 10 if launch_bound else gaps)
    of_host = np.append(alone, True) | np.insert(alone, 0, False)
    wait = len(gaps) - 6  # the gap in which the host waits for the token
    now = 1_000_000_000
    for index in range(steps):
        host = now + np.insert(np.cumsum(launches), 0, 0)
        device = [now + 6_000]
        for launched, work in zip(host[1:].tolist(), works.tolist(), strict=True):
            device.append(max(device[-1] + work, launched + 6_000))
        told = np.where(of_host, NO_TIME, device)
        host[wait + 1 :] += max(0, int(told.max()) + 15_000 - int(host[wait + 1]))
        now = int(host[-1]) + 5_000
        tokens = (Token(index, "word ", int(host[-4])),)
        made.append(
            StepEnded(index, 0, StepKind.DECODE, 0, 1, host.tobytes(), 0, index, 1024, tokens,
                      device_stamps=told.astype(np.int64).tobytes())
        )  # fmt: skip
    return made


def trace(steps: int, shape: Shape | None = None) -> Trace:
    """A trace of `steps` invented steps."""
    shape = shape or Shape()
    made = Trace(loaded(shape.layers, shape.floors))
    made.extend(list(events(steps, shape)))
    return made


def capture(made: Trace, row: int, again: bool = False, device: bool = False) -> KernelsCaptured:
    """What a profiler would have seen of a step: in each span of a part one operation, and another one inside of it.

    With a `device`: a kernel for each of those, launched by it and run a little later.
    """
    stamps = made.stamps(row)
    spans = [span for span in made.spans(row) if span.name.phase in (Phase.ATTENTION, Phase.MLP, Phase.HEAD)]
    entries: list[tuple[int, int, int, int, int]] = []  # begin, duration, name, lane, launched by
    for span in spans:
        begin, took = span.begin_ns + span.duration_ns // 10, span.duration_ns * 8 // 10
        entries += [(begin, took, 0, 0, -1), (begin + took // 10, took // 2, 1, 0, -1)]
    if device:
        kernels = [
            (begin + 2_000, took, 2, 1, place)
            for place, (begin, took, name, _, _) in enumerate(entries)
            if name == 1
        ]
        order = sorted(range(len(entries) + len(kernels)), key=lambda i: ([*entries, *kernels][i][0], i))
        places = {old: new for new, old in enumerate(order)}
        entries = [[*entries, *kernels][i] for i in order]
        entries = [(*entry[:4], places.get(entry[4], -1)) for entry in entries]
    columns = np.array(entries, np.int64).T
    return KernelsCaptured(
        0, row, int(made.steps.layout[row]), stamps.tobytes(), (columns[0] + stamps[0]).tobytes(), columns[1].tobytes(),
        columns[2].astype(np.uint32).tobytes(), columns[3].astype(np.uint32).tobytes(),
        columns[4].astype(np.int32).tobytes(),
        ("aten::linear", "aten::mm", "void at::native::(anonymous namespace)::gemm<float>(int)")[: 2 + device],
        ("host", "cuda:0 stream 7")[: 1 + device], 1, 2_000, again, overhead_ns=30_000_000,
        notes=("Compiled code shows as a region.",),
    )  # fmt: skip
