"""Settings that are carried out by who started the engine: where it lives, and on what the model lies.

An engine cannot move itself, and a loaded model stays where it is. A front end changes them by starting the engine or
loading the model anew; both are settings all the same, so that they are listed, marked and compared like the others.
"""

from engine.protocol import Choice, Configuration, SettingChange, SettingFacts, SettingValue
from engine.runtime.models.memory import SPLIT, accelerators
from engine.runtime.settings.values import read_value

ENGINE, MODEL = "engine_place", "placement"
KEYS = (ENGINE, MODEL)
_NEEDS = {
    ENGINE: "An engine cannot move itself: the window restarts it elsewhere.",
    MODEL: "A loaded model stays where it is: load it anew there (the window does, and `--device` says where).",
}
_ONE_PLACE = "This machine has no accelerator, so there is nothing to split layers over."
_NOT_BUILT = (
    "Each matrix split over several accelerators is not built into this program: split whole layers instead."
)


def engine_facts() -> SettingFacts:
    """Where the engine lives."""
    return SettingFacts(
        key=ENGINE,
        family="execution",
        label="Engine lives in",
        kind="choice",
        default="process",
        choices=(
            Choice("process", "its own process", expected="the window cannot slow the model down"),
            Choice(
                "thread",
                "this process",
                expected="shares Python's interpreter lock with the window: slower tokens",
            ),
        ),
        expected="restarts the engine",
    )


def model_facts() -> SettingFacts:
    """On which device the model lies, or over which it is split."""
    here = (*accelerators(), "cpu")
    split = "" if len(here) > 1 else _ONE_PLACE
    return SettingFacts(
        key=MODEL,
        family="placement",
        label="Model lies on",
        kind="choice",
        default=here[0],
        choices=(
            *(Choice(device, device.upper(), expected="All layers on one device.") for device in here),
            Choice(
                SPLIT,
                "split by layers",
                split,
                "For models too large for one device, the rest on the CPU: each crossing costs time.",
            ),
            Choice("tensor_parallel", "tensor parallel", _NOT_BUILT),
        ),
        expected="Loads the model anew; the generation begins again.",
    )


def change(facts: SettingFacts, requested: SettingValue, now: SettingValue) -> SettingChange:
    """What comes of asking an engine for such a change: nothing, with the reason, unless it is so already."""
    wanted, reason = read_value(facts, requested)
    return SettingChange(facts.key, requested, now, "" if wanted == now else reason or _NEEDS[facts.key])


def apart(settings: Configuration) -> tuple[Configuration, dict[str, SettingValue]]:
    """Of a configuration the settings of this room, and the others."""
    return tuple(pair for pair in settings if pair[0] in KEYS), {k: v for k, v in settings if k not in KEYS}
