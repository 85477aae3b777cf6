"""From requested to effective: the one place where it is decided what a change of settings comes to.

`resolve` is pure and judges by what probing found out and by which settings exclude each other; `apply_changes` carries
the result out on a live model, where the model or the machine may still refuse. Every refusal is one sentence, and
leaves the value in force as it was.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from engine.protocol import SettingChange, SettingFacts, SettingValue
from engine.runtime.live import LiveModel
from engine.runtime.settings import ALL
from engine.runtime.settings.adapting import adapted
from engine.runtime.settings.base import Setting, SettingRefused
from engine.runtime.settings.conflicts import CONFLICTS, EQUAL, PROMPTS, UNEQUAL, Conflict, settle
from engine.runtime.settings.trial import first_sentence
from engine.runtime.settings.values import read_value

_JOINING = "A sequence is just being read to join the others: change settings once it has."


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a request comes to: the value of every known setting, and a reason for each request refused."""

    effective: dict[str, SettingValue]
    reasons: dict[str, str]


def resolve(
    requested: Mapping[str, SettingValue],
    facts: Sequence[SettingFacts],
    current: Mapping[str, SettingValue] | None = None,
    conflicts: Sequence[Conflict] = CONFLICTS,
    generating: Mapping[str, SettingValue] | None = None,
) -> Resolution:
    """Decide what takes effect; what is refused keeps its current value, or its default. Never raises.

    `generating`: what the table of conflicts knows besides settings (see `generating`).
    """
    known = {fact.key: fact for fact in facts}
    in_force = {fact.key: fact.default for fact in facts} | {
        k: v for k, v in (current or {}).items() if k in known
    }
    effective, reasons = dict(in_force), {}
    for key, value in requested.items():
        if key not in known:
            reasons[key] = unknown_setting(key, known)
            continue
        read, reason = _judge(known[key], value, in_force[key])
        if read is None:
            reasons[key] = reason
        else:
            effective[key] = read
    given = dict(generating or {})
    settled, excluded = settle(effective | given, in_force | given, list(known), conflicts)
    return Resolution({key: settled[key] for key in known}, reasons | excluded)


def _judge(fact: SettingFacts, requested: object, in_force: SettingValue) -> tuple[SettingValue | None, str]:
    """The legal value that was meant, or why not. What is in force already is never refused."""
    if type(requested) is type(in_force) and requested == in_force:
        return in_force, ""
    read, reason = read_value(fact, requested)
    if read is not None and read == in_force:
        return in_force, ""
    if fact.reason and read != fact.default:
        return None, fact.reason
    return read, reason


def unknown_setting(key: str, known: Mapping[str, object]) -> str:
    """The sentence for a setting that does not exist."""
    near = difflib.get_close_matches(str(key), list(known), n=3)
    if near:
        return f"There is no setting '{key}'; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"There is no setting '{key}'; there are {', '.join(known)}."


def current_values(live: LiveModel) -> dict[str, SettingValue]:
    """The value in force of every setting, in on-screen order."""
    return {setting.key: setting.current(live) for setting in ALL}


def generating(live: LiveModel) -> dict[str, SettingValue]:
    """What is being generated, as far as it excludes settings."""
    padded = live.context is not None and bool(live.context.padding)
    return {PROMPTS: UNEQUAL if padded else EQUAL}


def apply_changes(
    live: LiveModel, requested: Mapping[str, SettingValue], facts: Sequence[SettingFacts]
) -> tuple[SettingChange, ...]:
    """Put the requested changes into force between two steps; one result a request.

    Only what differs is applied. A setting that the model or the machine refuses keeps its value, with the
    reason. An unknown setting has the effective value "".
    """
    if live.context is not None and live.context.beside is not None:
        now = current_values(live)
        return tuple(
            SettingChange(key, value, now.get(key, ""), _JOINING) for key, value in requested.items()
        )
    resolution = resolve(requested, facts, current_values(live), generating=generating(live))
    results = {
        key: SettingChange(key, value, resolution.effective.get(key, ""), resolution.reasons.get(key, ""))
        for key, value in requested.items()
    }
    defaults = {fact.key: fact.default for fact in facts}
    accepted = [s for s in ALL if s.key in requested and s.key not in resolution.reasons]
    # what goes back to its default goes first: it may be what excluded the others
    for setting in sorted(accepted, key=lambda s: resolution.effective[s.key] != defaults[s.key]):
        results[setting.key] = _apply(live, setting, results[setting.key])
    if accepted:
        results |= {change.key: change for change in adapted(live)}
    return tuple(results.values())


def _apply(live: LiveModel, setting: Setting, change: SettingChange) -> SettingChange:
    if setting.current(live) == change.effective:
        return change
    try:
        setting.apply(live, change.effective)
        reason = ""
    except SettingRefused as error:
        reason = str(error)
    except (torch.OutOfMemoryError, MemoryError):
        reason = f"There is too little memory to set {setting.key} to {change.effective}: it stays as it was."
    except (RuntimeError, ValueError, TypeError, NotImplementedError, ImportError) as error:
        reason = f"{setting.key} could not be set to {change.effective}: {first_sentence(error)}."
    return SettingChange(change.key, change.requested, setting.current(live), reason)


def apply_defaults(live: LiveModel, facts: Sequence[SettingFacts]) -> tuple[SettingChange, ...]:
    """Put every setting's default into force, as after loading; the changes that were made or refused."""
    differing = {
        fact.key: fact.default
        for fact, value in ((fact, current_values(live).get(fact.key)) for fact in facts)
        if value is not None and value != fact.default
    }
    return apply_changes(live, differing, facts)
