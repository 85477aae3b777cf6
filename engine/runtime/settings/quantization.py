"""Narrow weights: matrix products that read int8, int4 or float8 instead of the precision that is set."""

import torch

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.processor import cpu_computes
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.replanning import replan
from engine.runtime.weights.backends import WIDTHS, takes, why_not
from engine.runtime.weights.kernels import sizes_taken
from engine.runtime.weights.making import products
from engine.runtime.weights.realizing import as_loaded

_LABELS = {
    "none": "None",
    "int8": "int8, weights only",
    "int4": "int4, weights only (groups of 32)",
    "int8_dynamic": "int8, weights and inputs",
    "float8": "float8, weights and inputs",
}


class Quantization:
    """How the matrices of attention, MLP and head are stored. Experts in one tensor and embeddings stay as they are.

    A tied head gets narrow weights of its own; the embedding keeps the wide ones, of which a step reads one row.
    """

    key = "quantization"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Each kernel multiplies once on this machine, and the model's matrices have to be of sizes that it takes."""
        shares = {kind: _share(live, kind) for kind in WIDTHS}
        reasons = {kind: _why_not(live, kind, shares[kind]) for kind in WIDTHS}
        now = str(self.current(live))
        return SettingFacts(
            key=self.key,
            family="quantization",
            label="Quantization",
            kind="choice",
            default="none",
            choices=(
                Choice("none", _LABELS["none"], "", "Weights as wide as the precision says."),
                *(
                    Choice(
                        kind,
                        _LABELS[kind],
                        "" if kind == now else reasons[kind],
                        _expected(live, kind, shares[kind]),
                    )
                    for kind in WIDTHS
                ),
            ),
            expected="A decode step mostly reads weights, so narrower ones shorten it; the text may change.",
            lossless=False,
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The kind in force."""
        return live.weights.plan.quantization

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Exchange the matrix products by narrow ones, rounded from the loaded weights; see `replan`."""
        if value not in _LABELS:
            raise SettingRefused(f"There is no quantization '{value}': choose {', '.join(_LABELS)}.")
        kind = str(value)
        if kind == self.current(live):
            return
        if kind != "none" and (reason := _why_not(live, kind, _share(live, kind))):
            raise SettingRefused(reason)
        replan(live, "run quantized" if kind != "none" else "run without quantization", quantization=kind)


def _share(live: LiveModel, kind: str) -> float:
    """The share, of the bytes that a decode step reads (all but what is looked up), that the kernel takes."""
    with as_loaded(live):
        looked_up = {
            id(parameter)
            for part in live.anatomy.embeddings
            if isinstance(part.module, torch.nn.Embedding)
            for parameter in part.module.parameters()
        }
        matrices = {id(linear.weight): linear for _, linear in products(live)}
        read = sum(p.nbytes for p in live.model.parameters() if id(p) in matrices or id(p) not in looked_up)
        taken = sum(
            linear.weight.nbytes
            for linear in matrices.values()
            if takes(kind, live.device, linear.outputs, linear.inputs)
        )
    return taken / read if read else 0.0


def _why_not(live: LiveModel, kind: str, share: float) -> str:
    """Why a kind is impossible on this model and machine; "" when it may be tried."""
    if reason := why_not(kind, live.device):
        return reason
    if share:
        return ""
    return f"The kernel takes {sizes_taken(kind)}, and this model has none of these."


def _expected(live: LiveModel, kind: str, share: float) -> str:
    """What theory says of a decode step, from the bytes that it reads; and what prefill pays, where it is known."""
    wide = live.model.dtype.itemsize
    reads = 1 - share + share * WIDTHS[kind] / wide
    text = f"A decode step reads {reads:.2f} × the weight bytes of {live.facts.dtype}"
    if live.device.type != "cpu":
        at_one = "; at batch 1 torchao's kernel for it is made for more rows and may be slower"
        return text + (at_one if kind == "int8_dynamic" else "") + "."
    if kind == "int4":
        return text + "; long prompts gain little, since its kernel unpacks the weights for every few rows."
    if kind == "int8_dynamic" and not cpu_computes("int8"):
        return text + "; this processor has no int8 products (VNNI), so it may well be slower."
    if kind == "int8_dynamic":
        return text + "; long prompts are faster too, since int8 products are; inputs are rounded as well."
    return text + ("; the kernel computes in bfloat16." if kind == "int8" else ".")
