"""Reading a requested value: whatever was typed or sent, it becomes a legal value of a setting or a sentence
why not."""

import math

from engine.protocol import SettingFacts, SettingValue

LONGEST_TEXT = 1_000


def read_value(facts: SettingFacts, requested: object) -> tuple[SettingValue | None, str]:
    """The value of this setting that was meant, and ""; or None and one sentence. Never raises.

    Numbers may come as text ("8", "0.7"), a whole number as float (8.0); choices in any case ("EAGER").
    """
    if facts.kind == "choice":
        return _read_choice(facts, requested)
    if facts.kind == "text":
        return _read_text(facts, requested)
    return _read_number(facts, requested)


def _read_choice(facts: SettingFacts, requested: object) -> tuple[SettingValue | None, str]:
    wanted = str(requested).strip().lower()
    for choice in facts.choices:
        if str(choice.value).lower() == wanted:
            return (None, choice.reason) if choice.reason else (choice.value, "")
    possible = ", ".join(str(choice.value) for choice in facts.choices if not choice.reason)
    return None, f"{facts.label} has no choice {_shown(requested)}: choose {possible or 'nothing else here'}."


def _read_text(facts: SettingFacts, requested: object) -> tuple[SettingValue | None, str]:
    if isinstance(requested, str) and len(requested) <= LONGEST_TEXT and requested.isprintable():
        return requested.strip(), ""
    return None, f"{facts.label} takes a text of up to {LONGEST_TEXT} characters, not {_shown(requested)}."


def _read_number(facts: SettingFacts, requested: object) -> tuple[SettingValue | None, str]:
    number = _number(requested)
    if number is None:
        return None, f"{facts.label} takes a number, not {_shown(requested)}: give one {_range(facts)}."
    if facts.kind == "integer" and not _is_whole(number):
        return None, f"{facts.label} takes a whole number, not {_shown(requested)}: give one {_range(facts)}."
    if not facts.minimum <= number <= facts.maximum:
        return None, f"{facts.label} cannot be {_shown(requested)}: give a number {_range(facts)}."
    return (int(number) if facts.kind == "integer" else float(number)), ""


def _number(requested: object) -> int | float | None:
    """The finite number that was meant. Booleans are not numbers here, though Python says so."""
    if isinstance(requested, bool) or not isinstance(requested, (str, int, float)):
        return None
    if isinstance(requested, int):
        return requested
    try:
        number = float(requested)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_whole(number: float) -> bool:
    return isinstance(number, int) or number.is_integer()


def _range(facts: SettingFacts) -> str:
    return f"from {facts.minimum:,.10g} to {facts.maximum:,.10g}"


def _shown(requested: object) -> str:
    text = str(requested)
    return f"'{text if len(text) <= 60 else text[:59] + '…'}'"
