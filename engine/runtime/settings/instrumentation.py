"""How deep a step is measured, and who chooses that."""

from engine.protocol import Choice, Configuration, SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.probing import put_in
from engine.runtime.settings.base import SettingRefused
from engine.trace.phases import Detail

_LABELS = {
    Detail.STEP: "Step",
    Detail.PHASE: "Phases",
    Detail.LAYER: "Layers",
    Detail.CORE: "Layers + attention core",
}
_EXPECTED = {
    Detail.STEP: "Nothing inside the forward pass is told apart: no cost.",
    Detail.PHASE: "Attention, MLP and the rest, summed over all layers.",
    Detail.LAYER: "Attention, MLP and the rest of every layer; costs under a microsecond a part.",
    Detail.CORE: "Also tells softmax(QK^T)V apart from the projections around it.",
}


class DetailLevel:
    """The level of detail: applying it puts the probes of that level into the model."""

    key = "detail"

    def probe(self, live: LiveModel) -> SettingFacts:
        """By what was found in the model: nothing needs to be tried."""
        reasons = {level: _reason(live, level) for level in Detail}
        return SettingFacts(
            key=self.key,
            family="measurement",
            label="Detail",
            kind="choice",
            default=str(Detail.STEP if reasons[Detail.LAYER] else Detail.LAYER),
            choices=tuple(Choice(str(d), _LABELS[d], reasons[d], _EXPECTED[d]) for d in Detail),
            expected="Deeper levels stamp more places of a step; the observer meter shows what that costs."
            + _no_device_clock(live),
        )

    def current(self, live: LiveModel) -> SettingValue:
        """The level in force."""
        return str(live.detail)

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Replace the probes. Also installs the first ones, when asked for the level that is set already."""
        if value not in list(Detail):
            raise SettingRefused(f"There is no level of detail '{value}': choose {', '.join(Detail)}.")
        detail = Detail(str(value))
        if reason := _reason(live, detail):
            raise SettingRefused(reason)
        before = live.detail if live.probes is not None else None
        try:
            put_in(live, detail)
        except Exception:
            if before is not None:
                put_in(live, before)
            raise


class AutoDetail:
    """Whether the level follows what it costs. Choosing a level by hand switches this off."""

    key = "auto_detail"

    def probe(self, live: LiveModel) -> SettingFacts:
        """Nothing needs to be tried."""
        return SettingFacts(
            key=self.key,
            family="measurement",
            label="Choose detail by cost",
            kind="choice",
            default="on",
            choices=(
                Choice("on", "On", "", "The level becomes less deep while marks take over 1 % of a step."),
                Choice("off", "Off", "", "The level stays as it was chosen, whatever it costs."),
            ),
            expected="Keeps what marks cost under 1 % of a step, and says on the trace when the level changes for it."
            " With compiled or captured code the level stays, since its marks are in that code.",
        )

    def current(self, live: LiveModel) -> SettingValue:
        """Whether it does."""
        return "on" if live.auto_detail else "off"

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Counts from the next step on."""
        if value not in ("on", "off"):
            raise SettingRefused(f"Detail is chosen by its cost or it is not: on or off, not '{value}'.")
        live.auto_detail = value == "on"


def as_chosen(live: LiveModel, settings: Configuration) -> Configuration:
    """Settings that somebody asks for: who chooses a level of detail does not want it to be chosen otherwise."""
    keys = {key for key, _ in settings}
    if live.auto_detail and DetailLevel.key in keys and AutoDetail.key not in keys:
        return (*settings, (AutoDetail.key, "off"))
    return settings


def _no_device_clock(live: LiveModel) -> str:
    if not live.no_device_clock:
        return ""
    return f" Phases are told by when the host launched them: {live.no_device_clock}"


def _reason(live: LiveModel, detail: Detail) -> str:
    if detail in (Detail.STEP, Detail.PHASE):
        return ""
    if not live.anatomy.blocks:
        return "No layers were found in this model, so they cannot be told apart."
    if detail is Detail.CORE and live.anatomy.core_missing:
        return f"The attention core is not available: {live.anatomy.core_missing.rstrip('.')}."
    return ""
