"""A window with an engine, real or scripted, as the program builds it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from PySide6.QtWidgets import QApplication

from engine.hosts import Host
from engine.protocol import Command, CountTokens, Event, Generate, Load
from gui.conductor import Conductor
from gui.engine_thread import EngineThread
from gui.main_window import MainWindow
from gui.settings_store import SettingsStore
from tests.gui.conftest import settle


@dataclass
class ScriptedHost:
    """A host that says what a test puts into it, and keeps what it is told; questions for lengths apart (`asked`)."""

    place: str = "process"
    sent: list[Command] = field(default_factory=list)
    asked: list[CountTokens] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    started: bool = False
    ended: str = ""

    def start(self) -> None:
        self.started = True

    def send(self, command: Command) -> None:
        if isinstance(command, CountTokens):
            self.asked.append(command)
        else:
            self.sent.append(command)

    def receive(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def stop(self, timeout_s: float = 5.0) -> None:
        self.ended = self.ended or "stopped"

    def kill(self) -> None:
        self.ended = "killed"


@dataclass
class Hosts:
    """Opens scripted hosts, and keeps them."""

    opened: list[ScriptedHost] = field(default_factory=list)

    def __call__(self, place: str = "process") -> ScriptedHost:
        self.opened.append(ScriptedHost(place))
        return self.opened[-1]


def build(
    host: Host,
    opener: Callable[[str], Host],
    store: SettingsStore | None = None,
    load: Load | None = None,
    autorun: Generate | None = None,
    theme: str = "dark",
) -> Conductor:
    """A window at work, not shown and not ticking."""
    store = store or SettingsStore.forgetful()
    window = MainWindow(store, theme)
    window.resize(1440, 900)
    engine = EngineThread(host, opener, parent=window)
    if load is not None:
        engine.adopt(load)
    return Conductor(window, engine, store, autorun)


def shown(made: Conductor, application: QApplication) -> Iterator[Conductor]:
    """For a fixture: the window on screen and drawing; afterwards it and its engine are gone."""
    made.window.show()
    made.start()
    yield made
    made.stop()
    made.engine.shut_down()
    made.window.close()
    made.window.deleteLater()
    settle(application)
