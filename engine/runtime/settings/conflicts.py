"""Which values of two settings exclude each other: the one table of illegal combinations, and who gives way.

Some exclude what is being generated instead of another setting: that stands in the table like a setting that stays.

What one setting cannot do on this model or machine is found out by probing it. Here stands what two of them cannot do
together, whatever the model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.protocol import SettingValue

Values = Callable[[SettingValue], bool]


def one_of(*values: SettingValue) -> Values:
    """Exactly these values."""
    return lambda value: value in values


def all_but(*values: SettingValue) -> Values:
    """Every value except these."""
    return lambda value: value not in values


@dataclass(frozen=True, slots=True)
class Conflict:
    """`key` cannot have one of `values` while `other` has one of `other_values`.

    `reason`: one sentence that names both and says what to do; it stands beside whichever of them was refused.
    """

    key: str
    values: Values
    other: str
    other_values: Values
    reason: str

    def holds(self, configuration: Mapping[str, SettingValue]) -> bool:
        """Whether a configuration has both. A setting that it does not know is in no conflict."""
        if self.key not in configuration or self.other not in configuration:
            return False
        return self.values(configuration[self.key]) and self.other_values(configuration[self.other])


_SPECULATES = all_but("off")
_PIPELINES = one_of("pipelined")
#: Not a setting: whether a running generation continues prompts of unequal length together. Nobody can change it.
PROMPTS, EQUAL, UNEQUAL = "prompts", "equally long", "of unequal length"

CONFLICTS: tuple[Conflict, ...] = (
    Conflict(
        "speculation",
        _SPECULATES,
        "kv_cache",
        all_but("dynamic", "none"),
        "Speculation takes tokens out of the KV cache again, which only the dynamic one allows: set kv_cache to dynamic"
        " first, or speculation to off.",
    ),
    Conflict(
        "speculation",
        one_of("exit"),
        "kv_cache",
        all_but("dynamic"),
        "An early exit proposes with the keys and values of the first layers: set kv_cache to dynamic, or take another"
        " speculation.",
    ),
    Conflict(
        "speculation",
        _SPECULATES,
        "beams",
        all_but(1),
        "Speculation follows one sequence, beam search several: set beams to 1, or speculation to off.",
    ),
    Conflict(
        "speculation",
        _SPECULATES,
        "batch",
        all_but(1),
        "Speculation follows one sequence, and those of a batch would accept differently many tokens: set batch to 1,"
        " or speculation to off.",
    ),
    Conflict(
        "beams",
        all_but(1),
        "batch",
        all_but(1),
        "The rows of a step are either beams of one sequence or a batch of several: set beams or batch to 1.",
    ),
    Conflict(
        "beams",
        all_but(1),
        "decoding",
        one_of("sample"),
        "Beam search keeps the likeliest sequences and draws nothing: set decoding to greedy, or beams to 1.",
    ),
    Conflict(
        "kv_cache",
        one_of("sliding"),
        PROMPTS,
        one_of(UNEQUAL),
        "A sliding window would take the padding of shorter prompts for their text: set kv_cache to dynamic, or give"
        " prompts of equally many tokens.",
    ),
    Conflict(
        "cuda_graphs",
        one_of("on"),
        PROMPTS,
        one_of(UNEQUAL),
        "A captured step leaves no padding out, which prompts of unequal length need: set cuda_graphs to off, or give"
        " prompts of equally many tokens.",
    ),
    Conflict(
        "attention",
        one_of("flex"),
        "kv_cache",
        one_of("sliding"),
        "FlexAttention takes masks of its own form, and a sliding window brings another: set attention to sdpa or"
        " eager, or kv_cache to dynamic.",
    ),
    Conflict(
        "attention",
        one_of("flash_attention_2", "flash_attention_3"),
        "precision",
        one_of("float32"),
        "FlashAttention computes in 16 bit only: set precision to bfloat16 or float16 first, or attention to sdpa.",
    ),
    Conflict(
        "sparsity",
        one_of("2:4"),
        "quantization",
        all_but("none"),
        "Sparse products (2:4) take plain 16-bit weights: set quantization to none, or sparsity to another pattern.",
    ),
    Conflict(
        "sparsity",
        one_of("2:4"),
        "precision",
        one_of("float32"),
        "Sparse products (2:4) take 16-bit weights: set precision to bfloat16, or sparsity to another pattern.",
    ),
    Conflict(
        "compile",
        all_but("off"),
        "attention",
        one_of("flex"),
        "FlexAttention as it is offered here runs uncompiled: choose another attention kernel or no compilation.",
    ),
    Conflict(
        "compile",
        all_but("off"),
        "kv_cache",
        one_of("none"),
        "Steps are compiled that add to a KV cache, and without one none does: choose a KV cache or no compilation.",
    ),
    Conflict(
        "compile",
        all_but("off"),
        "kv_cache",
        one_of("offloaded"),
        "An offloaded KV cache waits for copies in mid-step, which one compiled graph cannot: choose one or the other.",
    ),
    Conflict(
        "compile",
        all_but("off"),
        "grad_mode",
        one_of("grad"),
        "A compiled step is marked by changing tensors in place, which gradients forbid: choose another autograd mode.",
    ),
    Conflict(
        "compile",
        one_of("reduce-overhead"),
        "detail",
        all_but("step"),
        "A replayed CUDA graph stamps nothing on the host: choose detail 'step', or plain compilation.",
    ),
    Conflict(
        "compile",
        all_but("off"),
        "draft_length",
        one_of(0),
        "Steps that check drafts of an adaptive length have another shape each time, and each would have to be"
        " compiled: set draft_length to a number, or compile to off.",
    ),
    Conflict(
        "attention",
        one_of("flex"),
        "grad_mode",
        one_of("grad"),
        "FlexAttention has no backward pass on every device to record for: choose another attention kernel, or another"
        " autograd mode.",
    ),
    Conflict(
        "grad_mode",
        one_of("grad"),
        "quantization",
        all_but("none"),
        "Products of quantized weights have no derivative to record: set quantization to none, or choose another"
        " autograd mode.",
    ),
    Conflict(
        "cuda_graphs",
        one_of("on"),
        "kv_cache",
        all_but("static"),
        "A captured step writes to the same memory each time: CUDA graphs need the static KV cache.",
    ),
    Conflict(
        "cuda_graphs",
        one_of("on"),
        "compile",
        all_but("off"),
        "The step is either captured as it is or compiled: choose 'reduce-overhead' to have compiled graphs captured.",
    ),
    Conflict(
        "cuda_graphs",
        one_of("on"),
        "grad_mode",
        one_of("grad"),
        "A replayed step records nothing for a backward pass: choose another autograd mode or no CUDA graphs.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "speculation",
        _SPECULATES,
        "Speculation proposes by the tokens that are on the host: set speculation to off, or read_back to synchronous.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "beams",
        all_but(1),
        "Beams are compared on the host at every step: set beams to 1, or read_back to synchronous.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "batch",
        all_but(1),
        "Sequences of a batch end one by one, which has to be known before the next step: set batch to 1, or read_back"
        " to synchronous.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "kv_cache",
        all_but("dynamic"),
        "A step beyond an end token is taken out of the KV cache again, which only the dynamic one allows: set kv_cache"
        " to dynamic, or read_back to synchronous.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "cuda_graphs",
        one_of("on"),
        "A replayed step is waited for to read its clock, so nothing would be hidden: set cuda_graphs to off, or"
        " read_back to synchronous.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "repetition_penalty",
        all_but(1),
        "A repetition penalty looks at every token on the host before it chooses the next: set repetition_penalty to"
        " 1, or read_back to synchronous.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "sampling_place",
        one_of("host"),
        "Tokens chosen on the host are waited for anyway: set sampling_place to device, or read_back to synchronous.",
    ),
    Conflict(
        "read_back",
        _PIPELINES,
        "top_p_method",
        one_of("first"),
        "Looking at the likeliest tokens first waits for an answer whether they suffice: set top_p_method to sort, or"
        " read_back to synchronous.",
    ),
)


def why_excluded(configuration: Mapping[str, SettingValue]) -> str:
    """The reason for which a configuration cannot be in force; "" when it can."""
    return next((conflict.reason for conflict in CONFLICTS if conflict.holds(configuration)), "")


def settle(
    wanted: Mapping[str, SettingValue],
    in_force: Mapping[str, SettingValue],
    order: Sequence[str],
    conflicts: Iterable[Conflict] = CONFLICTS,
) -> tuple[dict[str, SettingValue], dict[str, str]]:
    """The wanted configuration without conflicts, and the reason for each setting that keeps its value instead.

    What is in force stays: of two that exclude each other the one that was to change gives way; of two that were both
    to change, the one that comes later in `order`. `in_force` must be free of conflicts, so that this ends.
    """
    settled, reasons = dict(wanted), {}
    table = tuple(conflicts)
    while (conflict := next((each for each in table if each.holds(settled)), None)) is not None:
        changed = [key for key in (conflict.key, conflict.other) if settled[key] != in_force[key]]
        loser = max(changed, key=order.index)
        settled[loser] = in_force[loser]
        reasons[loser] = conflict.reason
    return settled, reasons
