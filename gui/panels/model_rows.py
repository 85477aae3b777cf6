"""What the model picker lists, as words: one row a model that could be loaded. No Qt."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from engine.protocol import CatalogueEntry, Family, LookedUp
from gui import units

AUTO = "auto"  # the device that the engine chooses
HUB, DIRECTORY = "hub id", "directory"  # what typed text is taken for
RECENT_SHOWN = 4
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[\w.-]{1,96})?", re.ASCII)
HUB_ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([^/?#\s]+/[^/?#\s]+)")
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
MINUTE, HOUR, DAY = 60, 3600, 86400
AGES = (
    (365 * DAY, "year"),
    (30 * DAY, "month"),
    (7 * DAY, "week"),
    (DAY, "day"),
    (HOUR, "hour"),
    (MINUTE, "minute"),
)
#: What transformers adds to the name of a family of architectures.
CLASS_ENDINGS = re.compile(
    r"(For[A-Z]\w+|LMHeadModel|DoubleHeadsModel|WithLMHead\w*|MTModel|PreTrainedModel|Model)$"
)


class Group(StrEnum):
    """Where a model comes from: the title of its rows."""

    RECENT = "Recent"
    DEMO = "Demo"
    CACHED = "On this computer"
    PRESET = "Built-in presets"
    TYPED = "As typed"


MEANINGS = {
    Group.RECENT: "loaded before",
    Group.DEMO: "comes with Cyclograph, trained, no download",
    Group.CACHED: "in the local Hugging Face cache, no download",
    Group.PRESET: "real architectures and sizes, random weights: honest for timing, no download",
    Group.TYPED: "what the search field says",
}
KINDS = {"demo": Group.DEMO, "preset": Group.PRESET, "cached": Group.CACHED}
FAMILIES = {
    Family.DECODER: "decoder",
    Family.ENCODER_DECODER: "encoder–decoder",
    Family.ENCODER: "encoder",
}


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model that could be loaded. `model`: what a load is given. `reason`: why it will not work, a sentence or ""."""

    model: str
    group: Group
    name: str
    what: str = units.ABSENT
    parameters: str = units.ABSENT
    weights: str = units.ABSENT
    context: str = units.ABSENT
    disk: str = units.ABSENT
    used: str = units.ABSENT
    verdict: str = ""
    reason: str = ""
    remark: str = ""
    is_certain: bool = False  # whether `verdict` was found out, or only a load will tell
    is_doubtful: bool = False  # whether finding out was tried and failed
    again: bool = False  # among the recent ones, and listed below as well

    @property
    def cells(self) -> tuple[str, ...]:
        """Its texts, one a column of `COLUMNS`."""
        sign = "✗ " if self.reason else "✓ " if self.is_certain else ""
        return (
            *(self.name, self.what, self.parameters, self.weights, self.context, self.disk, self.used),
            sign + self.verdict,
        )

    def matches(self, words: Iterable[str]) -> bool:
        """Whether each of these words, in lower case, is somewhere in it."""
        text = " ".join((self.model, self.name, self.what, self.group, self.remark)).lower()
        return all(word in text for word in words)


COLUMNS = (
    "model",
    "what it is",
    "parameters",
    "weights",
    "context",
    "on disk",
    "last used",
    "on this machine",
)


def rows_of(
    entries: Sequence[CatalogueEntry], recent: Sequence[str], now_s: float, device: str = AUTO
) -> list[ModelRow]:
    """Rows of a catalogue, in groups. Recent models come first, and again where they belong if they are listed.

    `device`: the one whose verdict counts.
    """
    listed = [row_of(entry, now_s, device) for entry in entries]
    known = {row.model: row for row in listed}
    again = [
        replace(known[name], group=Group.RECENT, again=True) if name in known else _recent_row(name)
        for name in recent[:RECENT_SHOWN]
    ]
    order = list(Group)
    return sorted((*again, *listed), key=lambda row: order.index(row.group))


def row_of(entry: CatalogueEntry, now_s: float, device: str = AUTO) -> ModelRow:
    """The row of one model of the catalogue, as a device sees it."""
    family = FAMILIES[entry.family] if entry.architecture else ""
    fit = entry.fit_on(device)
    reason = entry.reason or fit.reason
    return ModelRow(
        model=entry.name,
        group=KINDS.get(entry.kind, Group.CACHED),
        name=entry.name,
        what=" · ".join(filter(None, (short_architecture(entry.architecture), family))) or units.ABSENT,
        parameters=units.count(entry.parameters or None),
        weights=units.size(fit.weight_bytes or None),
        context=f"{entry.context:,}" if entry.context else units.ABSENT,
        disk=units.size(entry.disk_bytes or None),
        used=ago(now_s - entry.used_s) if entry.used_s else units.ABSENT,
        verdict=short_reason(reason) or ("fits" if fit.weight_bytes else "can be loaded"),
        reason=reason,
        remark="; ".join(filter(None, (entry.remark, fit.remark))),
        is_certain=True,
    )


def _recent_row(model: str) -> ModelRow:
    """One that was loaded before and that the catalogue does not list: a directory, or gone from the cache."""
    found = typed_row(model)
    if found is None or _is_path(model):
        found = found or ModelRow(model, Group.RECENT, model)
        return replace(found, group=Group.RECENT, name=Path(model).name or model, remark=model)
    return replace(found, group=Group.RECENT)


def typed_row(text: str) -> ModelRow | None:
    """What typed text would load: a directory where it looks like a path, else a hub id; None for no text."""
    text = text.strip().removeprefix("file://")
    if not text:
        return None
    if address := HUB_ADDRESS.match(text):
        return _hub_row(address[1])
    if _is_path(text):
        return _directory_row(text)
    if HUB_ID.fullmatch(text):
        return _hub_row(text)
    reason = f"“{_cut(text)}” is neither a directory nor a hub id: type a path, or an id such as Qwen/Qwen2.5-0.5B."
    return ModelRow("", Group.TYPED, _cut(text), verdict="neither a directory nor a hub id", reason=reason)


def _hub_row(model: str) -> ModelRow:
    remark = "Taken as a hub id: what of it is not in the local cache is downloaded; safetensors only."
    return ModelRow(model, Group.TYPED, model, HUB, verdict="looked up when loaded", remark=remark)


def can_be_looked_up(row: ModelRow) -> bool:
    """Whether the engine may be asked what it is before it is loaded.

    Of hub ids only whole ones, with their owner: one word may be meant for the search, and is not told to anybody.
    """
    return not row.reason and (row.what == DIRECTORY or (row.what == HUB and "/" in row.model))


def asking_row(row: ModelRow) -> ModelRow:
    """What was typed, while it is being looked up."""
    if row.what == DIRECTORY:
        return replace(row, verdict="being looked at …")
    remark = (
        "The engine asks the hub about this id as soon as it is up. Loading it need not wait for the answer."
    )
    return replace(row, verdict="asking the hub …", remark=remark)


def looked_up_row(row: ModelRow, answer: LookedUp, device: str) -> ModelRow:
    """What was typed, with what was found out about it."""
    if answer.problem:
        return replace(row, verdict="the hub does not say", remark=answer.problem, is_doubtful=True)
    found = row_of(answer.entry, 0.0, device)
    return replace(found, model=row.model, group=Group.TYPED, name=row.name)


def _directory_row(text: str) -> ModelRow:
    path = os.path.abspath(os.path.expanduser(text))
    row = ModelRow(path, Group.TYPED, path, DIRECTORY, verdict="can be tried", remark="Taken as a directory.")
    if not os.path.isdir(path):
        reason = f"There is no directory {path}: check its spelling, or browse for it."
        return replace(row, verdict="no such directory", reason=reason)
    if not os.path.isfile(os.path.join(path, "config.json")):
        reason = f"{path} has no config.json: choose a directory in Hugging Face form."
        return replace(row, verdict="has no config.json", reason=reason)
    return row


def _is_path(text: str) -> bool:
    begins = text.startswith(("/", "./", "../", "~", "\\", ".\\", "..\\")) or DRIVE.match(text) is not None
    several = text.count("/") > 1 or text.endswith("/") or text in (".", "..")
    return begins or several or ("/" in text and os.path.isdir(text))


def as_remembered(model: str) -> str:
    """A model as it can be loaded from anywhere: a directory by its whole path."""
    return os.path.abspath(os.path.expanduser(model)) if _is_path(model) else model


def short_architecture(name: str) -> str:
    """The name of a model class without what it says of its head: "LlamaForCausalLM" is "Llama"."""
    return CLASS_ENDINGS.sub("", name) or name


def short_reason(reason: str) -> str:
    """What happened, of a sentence that goes on with what to do."""
    return reason.partition(": ")[0].rstrip(".")


def ago(seconds: float) -> str:
    """How long ago something was: "just now", "3 days ago"."""
    for size, unit in AGES:
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def _cut(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
