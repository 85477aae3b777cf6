"""What the window remembers from one run to the next. Whatever is stored is taken with care: it may be garbage."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QSettings

from engine.protocol import Prompt, Turn

VERSION = 3  # of the layout of docks: a saved layout of another version is not restored
RECENT = 8
LONGEST_PROMPT = 20_000  # characters; a longer one is not remembered
OWN = 50  # prompts of the user
LEAST_SESSION_BYTES = 2**26
FOLDS = 64  # families of settings
LONGEST_NAME = 80  # characters
ROLES = ("system", "user", "assistant")
THEMES = ("dark", "light", "system")
UNUSABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # what reading garbage raises


@dataclass(frozen=True, slots=True)
class OwnPrompt:
    """A prompt that the user saved under a name."""

    name: str
    prompt: Prompt


class SettingsStore:
    """Remembered things, each with a default where nothing usable is stored. Without a store nothing is remembered."""

    def __init__(self, settings: QSettings | None) -> None:
        self._settings = settings

    @classmethod
    def of_user(cls, name: str = "window") -> "SettingsStore":
        """The store of this user for a kind of window: "window", or "replay"."""
        return cls(QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "cyclograph", name))

    @classmethod
    def of_file(cls, path: Path) -> "SettingsStore":
        """A store in a file."""
        return cls(QSettings(str(path), QSettings.Format.IniFormat))

    @classmethod
    def forgetful(cls) -> "SettingsStore":
        """Remembers nothing, for pictures."""
        return cls(None)

    @property
    def theme(self) -> str:
        """ "dark", "light" or "system"."""
        stored = self._text("theme", "system")
        return stored if stored in THEMES else "system"

    @theme.setter
    def theme(self, name: str) -> None:
        self._keep("theme", name)

    @property
    def record(self) -> bool:
        """Whether sessions are written down."""
        return self._text("record", "yes") != "no"

    @record.setter
    def record(self, wanted: bool) -> None:
        self._keep("record", "yes" if wanted else "no")

    @property
    def session_bytes(self) -> int | None:
        """How much recorded sessions may take on the disk; None where the user has not said it."""
        stored = self._text("session_bytes", "")
        found = int(stored) if stored.isdecimal() and len(stored) < 20 else 0
        return found if found >= LEAST_SESSION_BYTES else None

    @session_bytes.setter
    def session_bytes(self, most: int) -> None:
        self._keep("session_bytes", str(most))

    @property
    def recent_models(self) -> list[str]:
        """Models loaded before, latest first."""
        stored = self._text("recent_models", "")
        return [name for name in stored.split("\n") if name][:RECENT]

    def remember_model(self, name: str) -> None:
        """A model was loaded."""
        others = [known for known in self.recent_models if known != name]
        self._keep("recent_models", "\n".join([name, *others][:RECENT]))

    @property
    def prompt(self) -> Prompt:
        """The last prompt, empty where there is none."""
        try:
            return _own_prompt(json.loads(self._text("last_prompt", ""))).prompt
        except UNUSABLE:
            return Prompt()

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        if _characters(prompt) <= LONGEST_PROMPT:
            self._keep("last_prompt", json.dumps(_stored(OwnPrompt("", prompt)), ensure_ascii=False))

    @property
    def own_prompts(self) -> list[OwnPrompt]:
        """The prompts that the user saved, by name."""
        try:
            stored = json.loads(self._text("own_prompts", "[]"))
            return [_own_prompt(entry) for entry in stored][:OWN]
        except UNUSABLE:
            return []

    def keep_own_prompt(self, own: OwnPrompt) -> None:
        """Save a prompt, in place of one of the same name. Raises ValueError where it is too long or one too many."""
        size = _characters(own.prompt)
        if size > LONGEST_PROMPT:
            raise ValueError(
                f"The prompt has {size:,} characters, and up to {LONGEST_PROMPT:,} are saved: keep it in a file, and"
                " drop the file on the prompt panel."
            )
        others = [known for known in self.own_prompts if known.name != own.name]
        if len(others) >= OWN:
            raise ValueError(f"There are {OWN} saved prompts already: delete one of them first.")
        self._keep_own([*others, own])

    def rename_own_prompt(self, name: str, new: str) -> None:
        """Give a saved prompt another name. Raises ValueError where another one has it."""
        known = self.own_prompts
        if new != name and any(own.name == new for own in known):
            raise ValueError(
                f"There is a saved prompt '{new}' already: choose another name, or delete that one."
            )
        self._keep_own([OwnPrompt(new, own.prompt) if own.name == name else own for own in known])

    def forget_own_prompt(self, name: str) -> None:
        """Drop a saved prompt."""
        self._keep_own([known for known in self.own_prompts if known.name != name])

    def _keep_own(self, prompts: list[OwnPrompt]) -> None:
        entries = [_stored(own) for own in sorted(prompts, key=lambda own: own.name.casefold())]
        self._keep("own_prompts", json.dumps(entries, ensure_ascii=False))

    @property
    def folds(self) -> dict[str, bool]:
        """The families of settings that the user unfolded (True) or folded (False)."""
        try:
            stored = json.loads(self._text("folds", "{}"))
            kept = {str(family): opened for family, opened in stored.items() if isinstance(opened, bool)}
        except UNUSABLE:
            return {}
        return kept if len(kept) <= FOLDS else {}

    def remember_fold(self, family: str, opened: bool) -> None:
        """The user unfolded a family of settings, or folded it."""
        self._keep("folds", json.dumps({**self.folds, family: opened}, ensure_ascii=False))

    @property
    def geometry(self) -> QByteArray | None:
        """Place and size of the window."""
        return self._bytes("geometry")

    @property
    def layout(self) -> QByteArray | None:
        """Where the docks are, if it was saved by this version."""
        return self._bytes("layout") if self._text("layout_version", "") == str(VERSION) else None

    @property
    def splitter(self) -> QByteArray | None:
        """How the charts share their column."""
        return self._bytes("splitter") if self._text("layout_version", "") == str(VERSION) else None

    def keep_layout(self, geometry: QByteArray, layout: QByteArray, splitter: QByteArray) -> None:
        """Remember how the window is arranged."""
        self._keep("layout_version", str(VERSION))
        self._keep("geometry", geometry)
        self._keep("layout", layout)
        self._keep("splitter", splitter)

    def forget_layout(self) -> None:
        """The window is arranged as at first."""
        if self._settings is not None:
            for key in ("geometry", "layout", "splitter", "layout_version"):
                self._settings.remove(key)

    def sync(self) -> None:
        """Write it down now."""
        if self._settings is not None:
            self._settings.sync()

    def _text(self, key: str, default: str) -> str:
        stored = self._settings.value(key, default) if self._settings is not None else default
        return stored if isinstance(stored, str) else default

    def _bytes(self, key: str) -> QByteArray | None:
        stored = self._settings.value(key) if self._settings is not None else None
        return stored if isinstance(stored, QByteArray) and not stored.isEmpty() else None

    def _keep(self, key: str, value: str | QByteArray) -> None:
        if self._settings is not None:
            self._settings.setValue(key, value)


def _characters(prompt: Prompt) -> int:
    return len(prompt.text) + sum(len(turn.content) for turn in prompt.turns)


def _stored(own: OwnPrompt) -> dict[str, Any]:
    """A prompt as it is stored; `_own_prompt` reads it."""
    return {
        "name": own.name,
        "text": own.prompt.text,
        "turns": [[turn.role, turn.content] for turn in own.prompt.turns],
        "thinking": own.prompt.thinking,
    }


def _own_prompt(entry: dict[str, Any]) -> OwnPrompt:
    """A saved prompt as it was stored. Raises KeyError, TypeError or ValueError for anything else."""
    turns = tuple(Turn(ROLES[ROLES.index(role)], str(content)) for role, content in entry["turns"])
    thinking = entry["thinking"] if isinstance(entry["thinking"], bool) else None
    return OwnPrompt(str(entry["name"]), Prompt(str(entry["text"])[:LONGEST_PROMPT], turns, thinking))
