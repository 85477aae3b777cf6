"""Whether the forward pass keeps what a backward pass would need: the price of forgetting to say that it will not."""

import copy

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.caches import restart
from engine.runtime.live import GRAD_MODES, LiveModel
from engine.runtime.settings.base import SettingRefused

_LABELS = {"inference": "Inference mode", "no_grad": "No gradients", "grad": "With gradients"}
_EXPECTED = {
    "inference": "Tensors carry no version counters and no history: the least overhead of an operation.",
    "no_grad": "Keeps no history, but counts versions: a little slower where a step is mostly Python.",
    "grad": "Records a graph for a backward pass that never comes, then drops it: slower, more memory.",
}


class GradMode:
    """The autograd mode of the forward pass."""

    key = "grad_mode"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Every model runs in every mode, so nothing is tried."""
        return SettingFacts(
            key=self.key,
            family="execution",
            label="Autograd",
            kind="choice",
            default="inference",
            choices=tuple(Choice(mode, label, "", _EXPECTED[mode]) for mode, label in _LABELS.items()),
            expected="The same numbers with or without bookkeeping for gradients: shows what that bookkeeping costs.",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The mode in force."""
        return live.grad_mode

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Copy the cache into tensors of the new mode; what no copy is known of is prefilled again."""
        if value not in GRAD_MODES:
            raise SettingRefused(f"There is no autograd mode '{value}': choose {', '.join(GRAD_MODES)}.")
        before, live.grad_mode = live.grad_mode, str(value)
        try:
            _carry_over(live)
        except Exception:
            live.grad_mode = before
            raise
        for parameter in (*live.model.parameters(), *live.weights.parameters.values()):
            parameter.requires_grad_(live.grad_mode == "grad" and parameter.is_floating_point())


def _carry_over(live: LiveModel) -> None:
    """Copy what the running generation keeps: tensors of inference mode cannot be written to outside of it."""
    context = live.context
    if context is None:
        return
    with live.forward_mode():
        encoded = copy.deepcopy(context.encoded)
        try:
            cache = copy.deepcopy(context.cache)
        except (TypeError, RuntimeError):  # it holds more than tensors (streams)
            cache = None
    context.encoded = encoded
    if cache is None:
        restart(live, context, live.cache_kind)
    else:
        context.cache = cache
