"""What was measured or changed, in words: the same on screen and in files."""

from collections.abc import Collection, Sequence

from engine.protocol import Configuration, EngineReplaced, SequenceResult, SettingsChanged
from engine.trace import units
from engine.trace.metrics import Measured


def change_sentences(event: SettingsChanged) -> list[str]:
    """A change of settings, one line each, with the reason where another value is in force than was asked
    for.
    """
    lines = []
    for change in event.changes:
        line = f"{change.key} → {change.effective}"
        if change.requested != change.effective:
            line += f" (asked: {change.requested})"
        lines.append(line + (f": {change.reason}" if change.reason else ""))
    if event.cause:
        lines.append(f"chosen by itself, since {event.cause}")
    return [*lines, f"the switch took {units.duration(event.switch_ns)}"]


def difference_words(before: Configuration, now: Configuration, left_out: Collection[str] = ()) -> str:
    """What is in force now and was not before: "precision float32, placement cpu"; "" for nothing."""
    known = dict(before)
    return ", ".join(f"{k} {v}" for k, v in now if k not in left_out and known.get(k, v) != v)


def gap_sentences(event: EngineReplaced) -> list[str]:
    """How an engine was lost, and that another one took its place."""
    return [event.reason, f"another engine went on after {units.duration(event.gap_ns)}"]


def configuration_labels(configurations: Sequence[Configuration]) -> list[str]:
    """A label for each different configuration, in the order of their numbers: what differs from the first."""
    different = list(dict.fromkeys(configurations))
    if not different:
        return []
    base = dict(different[0])
    labels = ["as started"]
    for configuration in different[1:]:
        changed = [f"{k} {v}" for k, v in configuration if base.get(k) != v]
        labels.append(", ".join(changed) or "as started")
    return labels


def formatted(measured: Measured) -> str:
    """A metric's value with its unit."""
    value = measured.value
    match measured.metric.unit:
        case "ns":
            return units.duration(value)
        case "tokens/s":
            return units.rate(value)
        case "sequences/s":
            return units.rate(value, "seq")
        case "1":
            return units.share(value)
        case "J/token":
            return units.ABSENT if value is None else f"{units.energy(value)}/tok"
        case "W":
            return units.power(value)
        case "FLOP/byte":
            return units.ABSENT if value is None else f"{units.number(value)} FLOP/B"
    return units.ABSENT if value is None else f"{value:,.0f}"


def result_line(result: SequenceResult) -> str:
    """What a model made of an input, as a line of text: what it says of the whole, or of one of its masks."""
    which = f" [mask {result.mask + 1}]" if result.mask >= 0 else ""
    told = ", ".join(f"{label} {share:.1%}" for label, share in result.outputs)
    return f"{result.text}{which} → {told or f'{result.tokens:,} tokens read, nothing to tell'}"
