"""Traces of models that only read, made of real events with invented times."""

from dataclasses import replace

from engine.protocol import (
    Event,
    Family,
    GenerationEnded,
    GenerationStarted,
    ModelFacts,
    ModelLoaded,
    SequenceResult,
    SequencesEncoded,
    StepEnded,
)
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from tests.gui import synthetic

SPECIAL = ((0, "[PAD]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]"))
LAYERS = 2


def facts(task: str = "fill-mask") -> ModelFacts:
    """A small BERT."""
    model = synthetic.loaded(LAYERS).model
    return replace(
        model, name="bert", architecture="BertForMaskedLM", family=Family.ENCODER, task=task, special_tokens=SPECIAL,
        context_limit=512, random_weights=False, encoder_layers=LAYERS,
    )  # fmt: skip


def loaded(task: str = "fill-mask") -> ModelLoaded:
    """That model, ready."""
    return replace(synthetic.loaded(LAYERS), model=facts(task))


def step(index: int, lengths: tuple[int, ...], wall_ns: int = 8_000_000) -> StepEnded:
    """One batch of inputs of these lengths in tokens, padded to the longest."""
    count = len(synthetic.layout(LAYERS).codes) + 2
    begin = index * 10_000_000
    stamps = [begin + wall_ns * place // (count - 1) for place in range(count)]
    raw = b"".join(stamp.to_bytes(8, "little", signed=True) for stamp in stamps)
    padding = max(lengths) * len(lengths) - sum(lengths)
    return StepEnded(
        index, 0, StepKind.ENCODE, 0, 1, raw, 0, 0, 0, (), sum(lengths), len(lengths), padding
    )  # fmt: skip


def results(index: int, *inputs: SequenceResult) -> SequencesEncoded:
    """What that step made of its inputs."""
    return SequencesEncoded(index, 0, inputs)


def events() -> list[Event]:
    """Two steps over three inputs: one without a mask, one with two."""
    capital = (("paris", 0.62), ("lyon", 0.113))
    return [
        synthetic.layout(LAYERS),
        GenerationStarted(0, 0, 0, "one\nParis is in [MASK]\n[MASK] and [MASK]", (101, 7, 102), 0),
        step(0, (3, 7)),
        results(0, SequenceResult("one", 3), SequenceResult("Paris is in [MASK]", 7, (("france", 0.9),), 0)),
        step(1, (5,)),
        results(
            1,
            SequenceResult("[MASK] and [MASK]", 5, capital, 0),
            SequenceResult("[MASK] and [MASK]", 5, (("rome", 0.5),), 1),
        ),
        GenerationEnded(0, 30_000_000, "inputs done"),
    ]


def trace() -> Trace:
    """All of it, folded."""
    made = Trace(loaded())
    made.extend(events())
    return made
