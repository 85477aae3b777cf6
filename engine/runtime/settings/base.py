"""What a setting is to the engine: whether it is possible here, how it is applied, what it is now."""

from typing import Protocol

from engine.protocol import SettingFacts, SettingValue
from engine.runtime.live import LiveModel


class SettingRefused(Exception):
    """A setting cannot take this value here. The message is one sentence for people; nothing was changed."""


class Setting(Protocol):
    """One switchable thing. All of its state is in the LiveModel (or in torch), none in the setting itself."""

    key: str

    def probe(self, live: LiveModel) -> SettingFacts:
        """What is possible on this model and machine, tried for real where that is cheap, with reasons where not.

        Leaves the live model as it was. Called after loading, with no generation running. While its key is in
        `live.untried`, what takes long to try may be left to `apply`, and to a second call once the engine is idle.
        """
        ...

    def current(self, live: LiveModel) -> SettingValue:
        """The value in force."""
        ...

    def apply(self, live: LiveModel, value: SettingValue) -> None:
        """Put a value into force between two steps, keeping the context of a running generation.

        Raises SettingRefused, leaving everything as it was, where that is impossible.
        """
        ...
