"""The named parts of a step's time, the kinds of step, and the levels of detail: one meaning each, everywhere."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Phase(IntEnum):
    """A named part of a step's time. The value is the column in which the phase is stored."""

    FORWARD = 0  # the forward pass in one piece: only at detail `step`, where nothing inside it is told apart
    EMBED = 1
    ATTENTION = 2
    ATTENTION_CORE = 3
    CROSS_ATTENTION = 4
    MIXER = 5
    MLP = 6
    NORM = 7
    HEAD = 8
    COMMUNICATE = 9
    DRAFT = 10
    SAMPLE = 11
    TRANSFER = 12
    DETOKENIZE = 13
    STOP = 14
    BACKWARD = 15
    UNATTRIBUTED = 16


PHASE_COUNT = len(Phase)

#: The three groups that the instrument is named for; `UNATTRIBUTED` belongs to none of them.
GROUPS: dict[str, tuple[Phase, ...]] = {
    "forward": (
        Phase.FORWARD,
        Phase.EMBED,
        Phase.MIXER,
        Phase.MLP,
        Phase.NORM,
        Phase.HEAD,
        Phase.COMMUNICATE,
    ),
    "attention": (Phase.ATTENTION, Phase.ATTENTION_CORE, Phase.CROSS_ATTENTION),
    "decode": (Phase.DRAFT, Phase.SAMPLE, Phase.TRANSFER, Phase.DETOKENIZE, Phase.STOP),
}

#: Phases of the host alone: an accelerator runs nothing in them that is measured.
HOST_PHASES = frozenset((Phase.TRANSFER, Phase.DETOKENIZE, Phase.STOP))

#: How a phase is called on screen.
LABELS: dict[Phase, str] = {
    Phase.FORWARD: "forward (whole)",
    Phase.EMBED: "embed",
    Phase.ATTENTION: "attention",
    Phase.ATTENTION_CORE: "attention core",
    Phase.CROSS_ATTENTION: "cross-attention",
    Phase.MIXER: "mixer",
    Phase.MLP: "MLP",
    Phase.NORM: "norm + residual",
    Phase.HEAD: "head",
    Phase.COMMUNICATE: "communicate",
    Phase.DRAFT: "draft",
    Phase.SAMPLE: "sample",
    Phase.TRANSFER: "transfer",
    Phase.DETOKENIZE: "detokenize",
    Phase.STOP: "stop",
    Phase.BACKWARD: "backward",
    Phase.UNATTRIBUTED: "unattributed",
}

#: What a phase holds, in one sentence.
MEANINGS: dict[Phase, str] = {
    Phase.FORWARD: "the forward pass of the model, not told apart (detail level step)",
    Phase.EMBED: "what comes before the first layer: ids, positions and cache put together, token and position"
    " embedding, mask",
    Phase.ATTENTION: "the layers' attention blocks: projections, rotary, cache update, output projection"
    " (and the core, unless it is measured apart)",
    Phase.ATTENTION_CORE: "softmax(QK^T / sqrt(d)) V alone",
    Phase.CROSS_ATTENTION: "the decoder layers' attention to what the encoder made of the prompt",
    Phase.MIXER: "the layers' state-space or linear-attention mixers",
    Phase.MLP: "the layers' feed-forward blocks or experts",
    Phase.NORM: "norms and residual additions: what of a layer is neither attention nor MLP",
    Phase.HEAD: "what the forward pass does after its last layer: final norm, projection to the vocabulary",
    Phase.COMMUNICATE: "collectives between devices that share the model",
    Phase.DRAFT: "proposing tokens that the model then verifies",
    Phase.SAMPLE: "from logits to the chosen token: logits processors and the choice",
    Phase.TRANSFER: "waiting for the token to reach the host",
    Phase.DETOKENIZE: "from token id to text, complete characters only",
    Phase.STOP: "stopping criteria and handing the step over",
    Phase.BACKWARD: "the backward pass of the training-step probe",
    Phase.UNATTRIBUTED: "wall time of the step that is in none of the other phases",
}


class Role(IntEnum):
    """What a layer's time is split into; the value is the column in which it is stored."""

    ATTENTION = 0
    MLP = 1  # or the mixer of a state-space layer
    REST = 2


#: In which role of its layer a phase is counted.
ROLE_OF: dict[Phase, Role] = {
    Phase.ATTENTION: Role.ATTENTION,
    Phase.ATTENTION_CORE: Role.ATTENTION,
    Phase.CROSS_ATTENTION: Role.ATTENTION,
    Phase.MLP: Role.MLP,
    Phase.MIXER: Role.MLP,
    Phase.NORM: Role.REST,
}


@dataclass(frozen=True, slots=True)
class SpanName:
    """What a span is: its phase, its layer (-1 for none), and the name of the module or action it covers."""

    phase: Phase
    layer: int
    name: str


class StepKind(StrEnum):
    """What a step was for."""

    PREFILL = "prefill"  # one chunk of the prompt
    DECODE = "decode"  # one new token per sequence
    VERIFY = "verify"  # several drafted tokens checked at once
    ENCODE = "encode"  # an encoder pass
    BACKWARD = "backward"  # the training-step probe


class Detail(StrEnum):
    """How deep a step is measured. Each level costs a little more than the one before."""

    STEP = "step"  # nothing inside the forward pass
    PHASE = "phase"  # attention, MLP and the rest, summed over layers
    LAYER = "layer"  # the same for every layer
    CORE = "core"  # and the attention core apart from its projections
