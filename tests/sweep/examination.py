"""What is asked of one architecture: is it built, does it run, are all of its parts found and stamped, and does the
engine's loop choose the tokens that `generate()` chooses (of an encoder: the words that a plain forward pass says)?"""

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from time import perf_counter
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from engine.protocol import Family
from engine.runtime.anatomy import find_anatomy
from engine.runtime.caches import new_cache
from engine.runtime.clocks import StampRecorder
from engine.runtime.encoding import TOLD, Encoding, encode_inputs
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.live import LiveModel
from engine.runtime.models.kinds import CAUSAL, MASKED, SEQ2SEQ, Kind, kind_of
from engine.runtime.models.loading import LoadedModel
from engine.runtime.probes import install
from engine.runtime.settings.kv_cache import KvCache
from engine.runtime.workbench import CACHE_ARGUMENTS
from engine.trace.ledger import Layout
from engine.trace.phases import Phase
from tests.engine.runtime.small_encoders import SPECIAL, VOCABULARY, marked_tokenizer
from tests.engine.runtime.small_models import SEED
from tests.sweep.shrinking import small_config

#: What is asked, in order. A type that is not built or does not run is not asked the rest.
STAGES = ("build", "run", "phases", "tokens")
NEW_TOKENS = 14
PROMPT_TOKENS = 12
LARGEST_PARAMETERS = 5_000_000  # 20 MB of float32
#: Matrices are drawn as widely as in the engine's presets: greedy tokens then differ from step to step.
GAIN = 1.5
EMBEDDING_STD = 0.3
INPUTS = "The <mask> of a token\nall that it <mask> is <mask>, no more"
#: Tokens; of an encoder, the shares of the likeliest words for each mask.
Answers = list[float]
TOLERANCE = 1e-4  # of a share; tokens are whole numbers

_NAMES: dict[Family, dict[str, Any]] = {
    Family.DECODER: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    Family.ENCODER_DECODER: modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    Family.ENCODER: modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
}
_KINDS: dict[Family, Kind] = {
    Family.DECODER: CAUSAL,
    Family.ENCODER_DECODER: SEQ2SEQ,
    Family.ENCODER: MASKED,
}


def model_types(family: Family) -> list[str]:
    """The model types that transformers has a head of this family for, in alphabetical order."""
    return sorted(_NAMES[family])


@dataclass
class Outcome:
    """What came of one model type. `failures`: the reason by stage. `unattributed`: share of wall time in no phase."""

    family: Family
    model_type: str
    failures: dict[str, str] = field(default_factory=dict)
    parameters: int = 0
    unattributed: float = 0.0
    distinct_answers: int = 0
    seconds: float = 0.0

    def passed(self, stage: str) -> bool:
        """Whether this stage, and those without which it is not asked, went well."""
        return not any(
            each in self.failures for each in {"build", *(["run"] if stage != "build" else []), stage}
        )


class Failed(Exception):
    """A stage does not hold, for a reason of the sweep's own."""


def examine(family: Family, model_type: str) -> Outcome:
    """Ask one model type everything. Never raises; a crash of the process or a hang is the caller's to catch."""
    outcome = Outcome(family, model_type)
    begin = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _ask(outcome)
    outcome.seconds = perf_counter() - begin
    return outcome


def _ask(outcome: Outcome) -> None:
    family = outcome.family
    try:
        model = build(family, outcome.model_type)
    except Exception as error:
        outcome.failures["build"] = _words(error)
        return
    outcome.parameters = sum(p.numel() for p in model.parameters())
    try:
        expected = _expected(family, model)
    except Exception as error:
        outcome.failures["run"] = _words(error)
        return
    live = _live(family, model)
    gaps = list(_gaps_in_anatomy(live))
    try:
        steps, told = _run(family, live)
    except Exception as error:
        outcome.failures["tokens"] = _words(error)
    else:
        outcome.distinct_answers = len(set(told))
        alike = _alike(told, expected)
        if not len(told) == len(expected) == alike:
            outcome.failures["tokens"] = f"{alike} of {len(expected)} are the same ({len(told)} told)"
        gaps += _gaps_in_steps(live, steps)
        outcome.unattributed = _unattributed(live, steps)
    if gaps:
        outcome.failures["phases"] = "; ".join(dict.fromkeys(gaps))


def _words(error: Exception) -> str:
    """The beginning of what an error says, in one line."""
    said = " ".join(str(error).split())[:240]
    return said if isinstance(error, Failed) else f"{type(error).__name__}: {said}"


def _alike(told: Answers, expected: Answers) -> int:
    """How many answers are the same until the first that is not."""
    pairs = zip(told, expected, strict=False)
    return sum(1 for _ in takewhile(lambda pair: abs(pair[0] - pair[1]) < TOLERANCE, pairs))


# ---------------------------------------------------------------- the model


def build(family: Family, model_type: str) -> PreTrainedModel:
    """The small seeded model of a type in evaluation mode, float32, on the CPU.

    Raises Failed where the engine does not take the type as this family, and whatever transformers raises.
    """
    kind = _KINDS[family]
    config = small_config(model_type, **_as_family(family, model_type))
    taken = kind_of(model_type, config.to_dict())
    if taken != kind:
        raise Failed(f"the engine takes its checkpoints as {taken.family}, {taken.task}")
    auto: Any = getattr(transformers, kind.auto_class)
    _check_size(auto, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model: PreTrainedModel = auto.from_config(config, dtype=torch.float32)
        _spread(model)
    _never_end(model)
    return model.eval()


def _as_family(family: Family, model_type: str) -> dict[str, Any]:
    """Types with several heads say in their configuration which one a checkpoint has."""
    if family is not Family.DECODER:
        return {}
    if model_type in _NAMES[Family.ENCODER] or model_type in _NAMES[Family.ENCODER_DECODER]:
        return {"is_decoder": True, "is_encoder_decoder": False}
    return {}


def _check_size(auto: Any, config: PreTrainedConfig) -> None:
    with torch.device("meta"):
        parameters = sum(p.numel() for p in auto.from_config(config).parameters())
    if parameters > LARGEST_PARAMETERS:
        raise Failed(f"no small configuration is known: {parameters:,} parameters")


@torch.no_grad()
def _spread(model: PreTrainedModel) -> None:
    """Draw matrices widely, and biases and scales around what they are: nothing that can be left out is 0 or 1."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        if parameter.ndim < 2:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        else:
            narrow = id(parameter) in embeddings
            parameter.normal_(0.0, EMBEDDING_STD if narrow else GAIN / parameter.shape[-1] ** 0.5)


def _never_end(model: PreTrainedModel) -> None:
    """Take away what ends a generation early or forces a token."""
    settings = getattr(model, "generation_config", None)
    if settings is None:  # an encoder
        return
    for name in (
        "eos_token_id",
        "forced_eos_token_id",
        "forced_bos_token_id",
        "suppress_tokens",
        "max_length",
    ):
        setattr(settings, name, None)
    settings.num_beams = 1
    settings.do_sample = False


@cache
def _tokenizer() -> Any:
    return marked_tokenizer()


def _live(family: Family, model: PreTrainedModel) -> LiveModel:
    """The model as a workbench would have it, measured at detail `layer`."""
    anatomy = find_anatomy(model)
    loaded = LoadedModel(
        model, _tokenizer(), torch.device("cpu"), model.config.model_type, True, "bytes", kind=_KINDS[family]
    )
    parameters = inspect.signature(model.forward).parameters
    live = LiveModel(
        model=model,
        tokenizer=loaded.tokenizer,
        facts=loaded.facts(anatomy),
        device=loaded.device,
        anatomy=anatomy,
        recorder=StampRecorder(),
        cache_argument=next((name for name in CACHE_ARGUMENTS if name in parameters), ""),
        keeps_logits="logits_to_keep" in parameters,
    )
    if family is not Family.ENCODER:
        live.cache_kind = str(KvCache().probe(live).default)
    return live


# ---------------------------------------------------------------- what it says


def _prompt() -> list[int]:
    """Different-looking ids without special tokens."""
    first = len(SPECIAL)
    return [first + (37 * place + 11) % (VOCABULARY - first - 1) for place in range(PROMPT_TOKENS)]


def _expected(family: Family, model: PreTrainedModel) -> Answers:
    """What transformers makes of the prompt."""
    if family is Family.ENCODER:
        return _expected_words(model)
    generate: Any = model.generate
    made = generate(
        torch.tensor([_prompt()]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    if len(made.logits) != NEW_TOKENS:
        raise Failed(f"generate() made {len(made.logits)} tokens instead of {NEW_TOKENS}")
    if not all(logits.isfinite().all() for logits in made.logits):
        raise Failed("its logits are not finite")
    answers: Answers = made.sequences[0, -NEW_TOKENS:].tolist()
    return answers


@torch.inference_mode()
def _expected_words(model: PreTrainedModel) -> Answers:
    shares: Answers = []
    mask = _tokenizer().mask_token_id
    for text in INPUTS.splitlines():
        ids = _tokenizer()(text, return_tensors="pt")["input_ids"]
        logits = model(input_ids=ids).logits
        if not logits.isfinite().all():
            raise Failed("its logits are not finite")
        shares += logits[ids == mask].softmax(-1).topk(TOLD).values.flatten().tolist()
    return shares


def _run(family: Family, live: LiveModel) -> tuple[list[Stepped], Answers]:
    """The same by the engine: its steps, and what it chose."""
    probes = install(live.model, live.anatomy, live.recorder, live.detail)
    try:
        if family is Family.ENCODER:
            steps = list(Encoding(live, encode_inputs(live, INPUTS), 1))
            return steps, [share for step in steps for result in step.results for _, share in result.outputs]
        generation = Generation(live, _prompt(), Limits(NEW_TOKENS))
        generation.context.cache = new_cache(live, live.cache_kind, generation.context.capacity)
        steps = list(generation)
        return steps, [token.id for step in steps for token in step.tokens]
    finally:
        probes.remove()


# ---------------------------------------------------------------- its phases


def _gaps_in_anatomy(live: LiveModel) -> Iterator[str]:
    """What of the model was not recognized."""
    anatomy = live.anatomy
    yield from anatomy.warnings
    for block in anatomy.blocks:
        if left := block.unclaimed():
            yield f"{block.name}: counted as norm and residual: {', '.join(left)}"
    if not anatomy.complete and not anatomy.warnings:
        yield "what surrounds the layers is not complete"


def _gaps_in_steps(live: LiveModel, steps: list[Stepped]) -> Iterator[str]:
    """What was found and never stamped, over all steps. (A decoder alone has nothing to cross-attend to.)"""
    names = live.recorder.names
    stamped = {
        (name.layer, name.phase)
        for step in steps
        for name in (names[code - 1] for code in np.frombuffer(step.codes, np.uint16).tolist() if code)
    }
    for block in live.anatomy.blocks:
        for phase, parts in (
            (Phase.ATTENTION, block.attention),
            (Phase.CROSS_ATTENTION, block.cross_attention if live.anatomy.encoder else ()),
            (Phase.MIXER, block.mixer),
            (Phase.MLP, block.mlp),
            (Phase.NORM, (block,)),
        ):
            if parts and (block.index, phase) not in stamped:
                yield f"{block.name}: its {phase.name.lower().replace('_', '-')} is never stamped"
    for phase in (Phase.EMBED, Phase.HEAD):
        if not any(each is phase for _, each in stamped):
            yield f"nothing is stamped as {phase.name.lower()}"


def _unattributed(live: LiveModel, steps: list[Stepped]) -> float:
    """The share of all steps' wall time that is in no phase."""
    total = np.zeros(len(Phase), np.int64)
    for step in steps:
        layout = Layout(live.recorder.names, tuple(np.frombuffer(step.codes, np.uint16).tolist()))
        total += layout.phases_ns(np.frombuffer(step.stamps, np.int64)[None])[0]
    return float(total[Phase.UNATTRIBUTED] / total.sum())
