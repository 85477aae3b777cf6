"""A window at work with a scripted engine: fixtures, and what such an engine says."""

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication

from engine.protocol import (
    Choice,
    EngineState,
    Load,
    ModelLoaded,
    SettingFacts,
    StateChanged,
)
from gui.conductor import Conductor
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost, build
from tests.gui.conftest import settle

ATTENTION = SettingFacts(
    "attention",
    "attention",
    "Attention kernel",
    "choice",
    "eager",
    (
        Choice("eager", "eager", "", "the reference"),
        Choice("sdpa", "SDPA"),
        Choice("flash", "Flash", "needs a GPU"),
    ),
    expected="the same text at another speed",
    turn_steps=1,
)


DECODING = SettingFacts(
    "decoding",
    "decoding",
    "Choice of token",
    "choice",
    "greedy",
    (Choice("greedy", "Greedy"), Choice("sample", "Sampling")),
)


TEMPERATURE = SettingFacts(
    "temperature", "decoding", "Temperature", "number", 1.0, minimum=0.1, maximum=2.0, increment=0.05
)


THREADS = SettingFacts("threads", "execution", "CPU threads", "integer", 1, minimum=1, maximum=4)


def loaded() -> ModelLoaded:
    made = synthetic.loaded(4)
    effective = (("attention", "eager"), ("decoding", "greedy"), ("temperature", 1.0), ("threads", 1))
    return ModelLoaded(0, made.model, (ATTENTION, DECODING, TEMPERATURE, THREADS), 0, effective)


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


def shown(made: Conductor, qapp: QApplication) -> Iterator[Conductor]:
    """For a fixture: the window is on screen, and gone afterwards."""
    made.window.show()
    yield made
    made.stop()
    made.window.close()
    made.window.deleteLater()
    settle(qapp)


@pytest.fixture
def conductor(qapp: QApplication, hosts: Hosts) -> Iterator[Conductor]:
    yield from shown(build(hosts("process"), hosts, load=Load("preset")), qapp)


@pytest.fixture
def host(conductor: Conductor, hosts: Hosts) -> ScriptedHost:
    return hosts.opened[0]


def say(conductor: Conductor, host: ScriptedHost, *events: object) -> None:
    host.events = list(events)  # type: ignore[arg-type]
    conductor.frame()
    conductor.show_numbers()


def ready(conductor: Conductor, host: ScriptedHost, steps: int = 60) -> None:
    events = synthetic.events(steps, synthetic.Shape(layers=4)) if steps else ()
    say(conductor, host, loaded(), *events, StateChanged(0, EngineState.READY))


def sentences(conductor: Conductor) -> list[str]:
    return [message.sentence for message in conductor.window.messages.messages()]
