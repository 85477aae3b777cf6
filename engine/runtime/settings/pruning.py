"""Less of the model: fewer MLP neurons, attention heads and layers, and zeros in matrices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.anatomy import Block
from engine.runtime.live import LiveModel
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.replanning import replan
from engine.runtime.settings.trial import agree, first_layers, first_sentence, run_trial
from engine.runtime.settings.values import read_value
from engine.runtime.weights.making import draft, left_out, make
from engine.runtime.weights.plan import WeightPlan
from engine.runtime.weights.realizing import as_loaded, holding
from engine.runtime.weights.sparse import SPARSE_DTYPES, why_not_two_of_four
from engine.runtime.weights.structure import Heads, Mlp, find_heads, find_mlps

_MOST_PERCENT = 90
_TRIED_PERCENT = 50
_TRIAL_SIZES = (3, 1)


@dataclass
class Structured:
    """A share of equal parts removed by magnitude, so that matrices become smaller: MLP neurons, or attention heads.

    `field`: of the plan. `find`: the places in some layers where such parts are. `what`: such parts, in words;
    `none_found`: why there is nothing to cut where no such place was found.
    """

    key: str
    label: str
    field: str
    what: str
    none_found: str
    expected: str
    find: Callable[[LiveModel, tuple[Block, ...]], "list[Mlp] | list[Heads]"]

    def probe(self, live: LiveModel) -> SettingFacts:
        """Tried on the first layers: cut, they have to give what zeros in place of what is cut would give."""
        with as_loaded(live):
            places = len(self.find(live, live.anatomy.blocks))
            with first_layers(live):
                reason = self._why_not(live)
        limited = f" It applies to {places} of {len(live.anatomy.blocks)} layers."
        return SettingFacts(
            key=self.key,
            family="pruning",
            label=self.label,
            kind="integer",
            default=0,
            minimum=0,
            maximum=_MOST_PERCENT,
            increment=10,
            unit="%",
            expected=self.expected + (limited if 0 < places < len(live.anatomy.blocks) else ""),
            lossless=False,
            reason=reason,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The share that was asked for, in percent; at least one part always stays."""
        return int(getattr(live.weights.plan, self.field))

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Cut the loaded weights to this share; see `replan`."""
        number, reason = read_value(self._range(), value)
        if number is None:
            raise SettingRefused(reason)
        if number == self.current(live):
            return
        with as_loaded(live):
            found = self.find(live, live.anatomy.blocks)
        if number and not found:
            raise SettingRefused(self.none_found)
        replan(live, f"run with fewer {self.what}", **{self.field: int(number)})

    def _range(self) -> SettingFacts:
        return SettingFacts(self.key, "pruning", self.label, "integer", 0, maximum=_MOST_PERCENT)

    def _why_not(self, live: LiveModel) -> str:
        """Why this model cannot be cut, after trying it; "" when it can. The model is as loaded, with few layers."""
        here = {id(module) for module in live.model.modules()}
        blocks = tuple(block for block in live.anatomy.blocks if id(block.module) in here)
        if not self.find(live, live.anatomy.blocks):
            return self.none_found
        changes: dict[str, Any] = {self.field: _TRIED_PERCENT}
        plan = replace(WeightPlan(), **changes)
        try:
            results = []
            for masked in (True, False):
                with holding(live, make(live, draft(live, plan, blocks, masked))):
                    results.append(run_trial(live, _TRIAL_SIZES, _kind(live)))
        except Exception as error:  # whatever a model raises is the reason
            return f"This model does not run with fewer {self.what}: {first_sentence(error)}."
        if agree(live, *results):
            return ""
        return f"Cutting {self.what} gives other results on this model than zeros in their place would."


def _kind(live: LiveModel) -> str:
    return "dynamic" if live.cache_argument else "none"


MLP_PRUNING = Structured(
    key="mlp_pruning",
    label="MLP neurons removed",
    field="mlp_pruned",
    what="MLP neurons",
    none_found="No MLP was found in this model whose neurons can be told apart (experts in one tensor stay whole).",
    expected="Removes the neurons with the least weights: MLP matrices, and the time to read them, shrink by this"
    " share; the text suffers.",
    find=lambda live, blocks: find_mlps(blocks),
)
HEAD_PRUNING = Structured(
    key="head_pruning",
    label="Attention heads removed",
    field="heads_pruned",
    what="attention heads",
    none_found="No attention was found in this model whose heads can be told apart by its projections.",
    expected="Removes the heads with the least weights, whole groups where heads share keys and values: attention's"
    " matrices and the KV cache shrink by this share; the text suffers.",
    find=lambda live, blocks: find_heads(blocks, live.anatomy.encoder_layers),
)


class LayerSkipping:
    """How many layers in the middle are left out: nobody runs them, their weights are not read."""

    key = "layer_skipping"

    def probe(self, live: LiveModel) -> SettingFacts:
        """With all layers left out that may be, a step with a cache has to give what it gives without one."""
        most, reason = 0, ""
        with as_loaded(live):
            blocks = left_out(live, len(live.anatomy.blocks))
            most = len(blocks)
            if blocks:
                reason = _why_not_skipping(live, blocks)
        if not most:
            reason = (
                "None of this model's layers can be left out: the first, the last and one of each kind stay."
            )
        depth = len(live.anatomy.blocks) - live.anatomy.encoder_layers
        return SettingFacts(
            key=self.key,
            family="pruning",
            label="Layers skipped",
            kind="integer",
            default=0,
            minimum=0,
            maximum=0 if reason else most,
            unit="layers",
            expected=f"Each layer that is left out saves 1/{depth} of the time that all layers take; the text"
            " suffers, least from the middle (Gromov et al. 2024, arXiv 2403.17887).",
            lossless=False,
            reason=reason,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """How many are left out."""
        return live.weights.plan.layers_skipped

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Leave layers out, from the middle on; those that come back need the context again: one prefill."""
        with as_loaded(live):
            most = len(left_out(live, len(live.anatomy.blocks)))
        facts = SettingFacts(self.key, "pruning", "Layers skipped", "integer", 0, maximum=most)
        number, reason = read_value(facts, value)
        if number is None:
            raise SettingRefused(reason)
        if number == self.current(live):
            return
        if not self.current(live):
            with as_loaded(live):
                live.weights.tuple_length = _tuple_length(live, left_out(live, 1)[0])
        replan(live, "run with fewer layers", layers_skipped=int(number))


def _why_not_skipping(live: LiveModel, blocks: list[Block]) -> str:
    kept = live.weights.tuple_length
    try:
        live.weights.tuple_length = _tuple_length(live, blocks[0])
        with holding(live, make(live, draft(live, WeightPlan(layers_skipped=len(blocks))))):
            whole = run_trial(live, _TRIAL_SIZES, "none")
            stepwise = run_trial(live, _TRIAL_SIZES, _kind(live))
    except Exception as error:  # whatever a model raises is the reason
        return f"This model does not run with fewer layers: {first_sentence(error)}."
    finally:
        live.weights.tuple_length = kept
    if agree(live, whole[-1:], stepwise[-1:]):
        return ""
    return "With layers left out this model computes other results from its cache than without one."


def _tuple_length(live: LiveModel, block: Block) -> int:
    """Items of the tuple that a layer returns; 0: it returns a tensor. Found by running a token."""
    seen: list[object] = []
    handle = block.module.register_forward_hook(lambda module, given, output: seen.append(output))
    try:
        run_trial(live, (1,), _kind(live))
    finally:
        handle.remove()
    output = seen[-1] if seen else None
    return len(output) if isinstance(output, tuple) else 0


class Sparsity:
    """Zeros in the matrices of the layers: half of them anywhere, or two in every four where hardware skips those."""

    key = "sparsity"

    def probe(self, live: LiveModel) -> SettingFacts:
        """By what the device says of itself; tried on the model when it is switched."""
        return SettingFacts(
            key=self.key,
            family="pruning",
            label="Sparsity",
            kind="choice",
            default="none",
            choices=(
                Choice("none", "None", "", "All weights as they are."),
                Choice(
                    "unstructured",
                    "Half zero, anywhere",
                    "",
                    "Buys no time: a dense matrix product reads and multiplies zeros like all other numbers.",
                ),
                Choice(
                    "2:4",
                    "Two of every four zero (2:4)",
                    why_not_two_of_four(live.device),
                    "Sparse tensor cores skip the zeros: layers read 0.56 × the bytes, prefill computes up to twice as"
                    " fast.",
                ),
            ),
            expected="Sets the smaller half of the weights of all layers to zero; the text suffers.",
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The pattern of zeros in force."""
        return live.weights.plan.sparsity

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Set the smaller half of the loaded weights to zero; see `replan`."""
        if value not in ("none", "unstructured", "2:4"):
            raise SettingRefused(f"There is no sparsity '{value}': choose none, unstructured, 2:4.")
        if value == "2:4":
            if reason := why_not_two_of_four(live.device):
                raise SettingRefused(reason)
            if live.model.dtype not in SPARSE_DTYPES:
                raise SettingRefused(
                    "Sparse products (2:4) are for 16 bit: set the precision to bfloat16 first."
                )
        if value != self.current(live):
            replan(live, "run with zeros", sparsity=str(value))
